"""Hard parameter sharing."""

from collections.abc import Iterable

from torch import Tensor, nn


class SharedEncoder(nn.Module):
    """One encoder for all tasks and one head for each (hard parameter sharing).

    The engine uses the split: it differentiates the heads once and goes through the encoder only as often as it must.
    Heads may be any modules that treat samples independently, or mix them (batch normalisation): the engine finds out.

    Args:
        encoder: Maps inputs `(B, ...)` to a representation `(B, ...)`.
        heads: One module per task, each maps the representation to that task's prediction. Task 0 is the main task.
    """

    def __init__(self, encoder: nn.Module, heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Predictions of all tasks, in order."""
        representation = self.encoder(inputs)
        return [head(representation) for head in self.heads]

    def main(self, inputs: Tensor) -> Tensor:
        """Prediction of the main task alone."""
        return self.heads[0](self.encoder(inputs))

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that all tasks share."""
        return [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
