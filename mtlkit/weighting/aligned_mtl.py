"""Independent component alignment."""

import torch
from torch import Tensor

from mtlkit.errors import one_of
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import symmetric_eigen

SCALES = ("min", "median", "rmse")


class AlignedMTL(GradientRule):
    """The mean of the gradients after their matrix was made orthogonal (Senushkin et al. 2023, arXiv 2305.19000, eq. 11
    and Algorithm 1).

    With eigenvalues `l` and eigenvectors `V` of the Gram matrix, over its rank: `w = s V diag(1 / sqrt(l)) V' 1 / T`.
    The condition number of the aligned gradients is one.

    Departure: the mean in place of the sum over tasks, which is the paper's equal preference.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        scale: `s`: root of the smallest eigenvalue (`min`), of their `median`, or of their mean (`rmse`).
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", scale: str = "min") -> None:
        super().__init__(tasks, gradients=gradients)
        one_of("scale", scale, SCALES)
        self.scale = scale

    def forward(self, signal: Signal) -> Tensor:
        values, vectors = symmetric_eigen(signal.gram.double())
        # Where the gradients come in float32, products carry its rounding: smaller eigenvalues than that are none.
        precision = torch.finfo(signal.gram.dtype).eps if signal.gram.dtype != torch.float64 else 2.3e-16
        within = (values > values[-1] * self.tasks * precision) & (values > 0)
        rank = within.sum().clamp_min(1)
        roots = torch.where(within, values, 1).sqrt()
        place = torch.arange(self.tasks, device=values.device) - (self.tasks - rank)  # position within the rank
        if self.scale == "rmse":
            size = (torch.where(within, values, 0).sum() / rank).sqrt()
        else:
            chosen = place == (0 if self.scale == "min" else (rank - 1) // 2)
            size = torch.where(chosen, roots, 0).sum()
        balance = vectors * torch.where(within, 1 / roots, 0) @ (vectors.T @ torch.ones_like(values))
        return (size * balance / self.tasks).to(signal.gram.dtype)
