"""What the steps of methods with one weight per task share."""

from torch import Tensor, ones_like

from mtlkit.data.base import Samples
from mtlkit.steps.base import Step
from mtlkit.weighting.base import share_out, spread


class PerTask(Step):
    """A step whose method weighs tasks; `within` says how the samples of a task share its weight."""

    def within(self, batch: Samples) -> Tensor:
        """`(T, B)` of the whole batch, by mass and, if `use_class_shares`, by the class shares; rows total 1, or 0
        without labels."""
        whole = self.together.labels(batch)
        within = spread(ones_like(whole.mass[:, 0]), whole.mass)
        return share_out(within, whole.groups, self.class_shares) if self.use_class_shares else within
