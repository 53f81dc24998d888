"""What the steps of methods with one weight per task share."""

from torch import Tensor, ones_like

from mtlkit.data.base import Samples
from mtlkit.steps.base import Step
from mtlkit.weighting.base import share_out, spread


class PerTask(Step):
    """A step whose method weighs tasks; `within` says how the samples of a task share its weight."""

    def within(self, batch: Samples) -> Tensor:
        """`(T, B)`, by mass and, if `use_class_shares`, by the class shares; rows total 1, or 0 without labels."""
        within = spread(ones_like(batch.mass[:, 0]), batch.mass)
        return share_out(within, batch.groups, self.class_shares) if self.use_class_shares else within
