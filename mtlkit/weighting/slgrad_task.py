"""SLGrad on whole tasks: an ablation."""

from torch import Tensor

from mtlkit.errors import one_of
from mtlkit.weighting.base import AlignmentRule, Signal
from mtlkit.weighting.slgrad import REFERENCE_LOSS


class TaskLevelSLGrad(AlignmentRule):
    """SLGrad's rule for tasks instead of samples: what is left when the sample level is taken away.

    `a_t = max(0, <g_t, v>)`, `w = a / sum(a)`, with g_t the gradient of task t's mean loss and v the main task's
    gradient on the reference batch. Weights total 1, or 0 where no task is aligned.

    Args:
        tasks: T >= 1.
        reference_loss: As for `SLGrad`.
    """

    def __init__(self, tasks: int, *, reference_loss: str = "mean") -> None:
        super().__init__(tasks)
        one_of("reference_loss", reference_loss, REFERENCE_LOSS)
        self.reference_loss = reference_loss

    def forward(self, signal: Signal) -> Tensor:
        positive = signal.by_task(signal.alignment).clamp_min(0)
        total = positive.sum()
        return positive / total.where(total > 0, total.new_ones(()))
