"""Conflict-averse gradient descent."""

from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import conflict_averse

RESCALE = (0, 1, 2)


class CAGrad(GradientRule):
    """The direction in a ball around the mean gradient that helps the worst task most (Liu et al. 2021, arXiv
    2110.14048, eq. 3 and Algorithm 1).

    `g = g0 + c |g0| / |g_w| g_w`, with g0 the mean gradient, `g_w = sum_t w_t g_t` and `w` the minimiser of
    `<g_w, g0> + c |g0| |g_w|` over the simplex. `c = 0` is the mean gradient; for c >= 1 it goes toward MGDA. Where g_w
    is zero (zero gradients, Pareto-stationary points) the direction is the solver's dual one, which solves eq. 3 there
    too.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        c: Radius of the ball relative to |g0|, at least 0.
        rescale: The result is divided by 1 (0), by 1 + c^2 (1, the authors' default), or by 1 + c (2).
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", c: float = 0.5, rescale: int = 1) -> None:
        super().__init__(tasks, gradients=gradients)
        if c < 0:
            raise MtlkitError(f"c is {c!r}, which is not at least 0.")
        if rescale not in RESCALE:
            raise MtlkitError(f"rescale is {rescale!r}, which is not one of 0, 1, 2.")
        self.c, self.divisor = c, {0: 1, 1: 1 + c**2, 2: 1 + c}[rescale]

    def forward(self, signal: Signal) -> Tensor:
        towards = conflict_averse(signal.gram, self.c)[1]
        return ((1 / self.tasks + self.c * towards) / self.divisor).to(signal.gram.dtype)
