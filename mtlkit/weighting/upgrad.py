"""Jacobian descent without conflict."""

from torch import Tensor

from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import dual_cone


class UPGrad(GradientRule):
    """The mean of the gradients, each projected onto the dual cone of all (Quinton & Rey 2024, arXiv 2406.16232, eq. 7
    and proposition 1).

    Row i of `V` `(T, T)` minimises `v'Gv` over `v >= e_i`; the weights are the mean of the rows. The update conflicts
    with no task, and is the mean gradient where none conflict.
    """

    def forward(self, signal: Signal) -> Tensor:
        return dual_cone(signal.gram).mean(0).to(signal.gram.dtype)
