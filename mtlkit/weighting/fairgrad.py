"""Fair resource allocation."""

from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import bargaining


class FairGrad(GradientRule):
    """The update whose products with the task gradients are alpha-fair (Ban & Ji 2024, arXiv 2402.15638, eq. 6).

    Positive `w` `(T,)` with `G w = w^(-1/alpha)`: alpha 1 is proportional fairness (Nash-MTL without its scaling),
    large alpha tends to max-min fairness. The length is part of the method. Heads get 1/T.

    Departures: the authors solve by least squares on the host; here Newton's method on the convex form. The mean in
    place of the sum over tasks.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        alpha: In [0.5, 3], where the solver is accurate; 1 and 2 are the published ones.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", alpha: float = 1.0) -> None:
        super().__init__(tasks, gradients=gradients)
        if not 0.5 <= alpha <= 3:
            raise MtlkitError(f"alpha is {alpha!r}, which is not in [0.5, 3].")
        self.alpha = alpha

    def forward(self, signal: Signal) -> Tensor:
        return (bargaining(signal.gram.double(), 1 / self.alpha)[0] / self.tasks).to(signal.gram.dtype)
