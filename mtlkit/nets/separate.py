"""Hard parameter sharing where every task has inputs of its own."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from mtlkit.nets.base import MultiTaskNetwork

Inputs = Tensor | Sequence[Tensor]
"""`(B, ...)` for all tasks, or T tensors `(B_t, ...)`, one for each."""


class SeparateInputs(MultiTaskNetwork):
    """One backbone for all tasks, one head for each, and, where every task has a batch of its own, one pass for each.

    Predictions are T tensors, `(B_t, ...)` each. Batch normalisation in the backbone sees the batch of one task at a
    time, in the order of the tasks, and its running statistics move once per pass: with separate inputs T times a step.

    There is no single representation that all heads see, so the backbone is not called `encoder` and the engine takes
    the network as a whole. That costs nothing: the gradient of a task goes through the pass of that task alone.

    Args:
        backbone: Maps inputs `(B, ...)` to a representation `(B, ...)`.
        heads: One module per task, each maps its representation to that task's prediction. Task 0 is the main task.
    """

    shared = ("backbone",)

    def __init__(self, backbone: nn.Module, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)

    def common(self, inputs: Inputs) -> Inputs:
        """The representation, or that of every task's inputs."""
        return self.backbone(inputs) if isinstance(inputs, Tensor) else [self.backbone(one) for one in inputs]

    def predict(self, common: Inputs, task: int) -> Tensor:
        """What a task's head makes of its representation."""
        return self.heads[task](common if isinstance(common, Tensor) else common[task])

    def main(self, inputs: Inputs) -> Tensor:
        """The main task's prediction, from its own inputs alone."""
        return super().main(inputs if isinstance(inputs, Tensor) else inputs[:1])
