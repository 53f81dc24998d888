"""The step of rules that look at losses, or at nothing: one forward and one backward pass."""

from torch import Tensor

from mtlkit.data.base import Samples
from mtlkit.steps.base import Step


class ByLosses(Step):
    """The gradient of `(W * L).sum()`, and of the rule's own term where it learns parameters."""

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        matrix = self.matrix(batch)
        signal = self.signal(batch, matrix.detach())
        weights = self.weights(signal)
        total = (weights * (1 - self.reference_share) * matrix).sum()
        penalty = self.rule.penalty(signal)
        (total if penalty is None else total + penalty * (1 - self.reference_share)).backward()
        self.reference_update(reference)
        return matrix.detach(), weights.detach()
