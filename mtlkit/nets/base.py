"""What every network has in common, and hard parameter sharing."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class MultiTaskNetwork(nn.Module):
    """T tasks: what they have in common is computed once, and then the prediction of each, or of the main task alone.

    A subclass gives `common` and `predict`, the attribute `heads` (T modules, the last layers of every task; task 0 is
    the main task) and the names of its `shared` parts. Only one with a single representation that all heads see calls
    it `encoder` (`SharedEncoder`): the engine takes `encoder` and `heads` together for that promise.
    """

    shared: tuple[str, ...]
    """The submodules whose parameters all tasks share."""

    initialisation = "scratch"
    """`imagenet` where the encoders started from ImageNet weights."""

    heads: nn.ModuleList

    def common(self, inputs: Tensor) -> Any:
        """What the predictions of all tasks are made from."""
        raise NotImplementedError

    def predict(self, common: Any, task: int) -> Tensor:
        """The prediction of one task."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Predictions of all tasks, in order."""
        common = self.common(inputs)
        return [self.predict(common, task) for task in range(len(self.heads))]

    def main(self, inputs: Tensor) -> Tensor:
        """The main task's prediction, without the parts that only other tasks need."""
        return self.predict(self.common(inputs), 0)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that all tasks share."""
        return [p for name in self.shared for p in getattr(self, name).parameters() if p.requires_grad]


class SharedEncoder(MultiTaskNetwork):
    """One encoder for all tasks and one head for each (hard parameter sharing).

    The engine uses the split: it differentiates the heads once and goes through the encoder only as often as it must.
    Heads may be any modules that treat samples independently, or mix them (batch normalisation): the engine finds out.

    Args:
        encoder: Maps inputs `(B, ...)` to a representation `(B, ...)`.
        heads: One module per task, each maps the representation to that task's prediction. Task 0 is the main task.
    """

    shared = ("encoder",)

    def __init__(self, encoder: nn.Module, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(heads)

    def common(self, inputs: Tensor) -> Tensor:
        """The representation."""
        return self.encoder(inputs)

    def predict(self, common: Tensor, task: int) -> Tensor:
        """What a task's head makes of the representation."""
        return self.heads[task](common)
