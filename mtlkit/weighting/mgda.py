"""Multiple-gradient descent."""

import torch
from torch import Tensor

from mtlkit.errors import one_of
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import minimum_norm

SCALINGS = ("none", "l2", "loss", "loss+")


class MGDA(GradientRule):
    """The shortest convex combination of the task gradients (Sener & Koltun 2018, arXiv 1810.04650, eq. 3).

    `w = argmin |sum_t w_t g_t|` over the simplex; its negative is a direction in which no loss rises, or zero where the
    parameters are Pareto-stationary. With `gradients="representation"` it is the upper bound MGDA-UB (section 3.3).
    Weights total 1. Heads get 1/T.

    Args:
        tasks: T >= 1.
        gradients: `shared`, or `representation` for MGDA-UB.
        scaling: What every gradient is divided by while the weights are sought: `none`, its length (`l2`), its `loss`
            in this step, or both (`loss+`). The weights then apply to the gradients as they are, as in the authors'
            code.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", scaling: str = "none") -> None:
        super().__init__(tasks, gradients=gradients)
        one_of("scaling", scaling, SCALINGS)
        self.scaling = scaling

    def forward(self, signal: Signal) -> Tensor:
        gram = signal.gram.double()
        scale = torch.ones_like(gram[0])
        if "loss" in self.scaling:
            scale = scale * signal.by_task(signal.losses).double()
        if self.scaling in ("l2", "loss+"):
            scale = scale * gram.diagonal().clamp_min(0).sqrt()
        scale = torch.where(scale > 0, scale, 1)
        return minimum_norm(gram / scale[:, None] / scale).to(signal.gram.dtype)
