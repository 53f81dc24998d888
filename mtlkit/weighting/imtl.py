"""Impartial multi-task learning."""

import torch
from torch import Tensor, nn

from mtlkit.weighting.base import Rule, Signal
from mtlkit.weighting.gradients import GradientRule, normalised, unit_rows

RIDGE = 1e-10


class IMTLLoss(Rule):
    """IMTL-L: learnt scales that bring all losses to the same size (Liu et al. 2021, ICLR, section 3.2).

    Minimises the mean over tasks of `exp(s_t) L_t - s_t`, `s` `(T,)`, learnt by the same optimizer as the network: at
    the optimum `exp(s_t) = 1 / L_t`. The length of the weights `exp(s_t) / T` is part of the method.

    Departure: the mean in place of the sum over tasks.
    """

    sees_losses = False

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.scale = nn.Parameter(torch.zeros(tasks))

    def forward(self, signal: Signal) -> Tensor:
        return self.scale.exp() / self.tasks

    def penalty(self, signal: Signal) -> Tensor:
        return -self.scale.mean()


class IMTLGradient(GradientRule):
    """IMTL-G: the combination whose projections on all task gradients are equal (Liu et al. 2021, ICLR, section 3.1).

    With `U = (g_t / |g_t|)`, weights `w` `(T,)` total 1 and solve `<sum_s w_s g_s, U_t> = const`. Weights may be
    negative. In terms of cosines C: `w_t |g_t|` is proportional to `C^-1 1`, with a ridge of 1e-10 where C is singular.

    Departure: none but the ridge; the paper's inverse fails there.
    """

    def forward(self, signal: Signal) -> Tensor:
        return equal_projections(signal.gram).to(signal.gram.dtype)


class IMTL(GradientRule):
    """IMTL: IMTL-L's scaled losses, and IMTL-G on their gradients (Liu et al. 2021, ICLR, Algorithm 1).

    The scale `exp(s_t)` multiplies loss t for the heads and for the gradients that IMTL-G combines.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared") -> None:
        super().__init__(tasks, gradients=gradients)
        self.scale = nn.Parameter(torch.zeros(tasks))

    def forward(self, signal: Signal) -> Tensor:
        scale = self.scale.detach().exp().double()
        weights = equal_projections(signal.gram.double() * scale[:, None] * scale)
        return (weights * scale).to(signal.gram.dtype)

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        return (self.scale.detach().exp() / self.tasks).to(weights.dtype)

    def penalty(self, signal: Signal) -> Tensor:
        """The losses as well: the scales see them here, the network elsewhere."""
        return (self.scale.exp() * signal.by_task(signal.losses) - self.scale).mean()


def equal_projections(gram: Tensor) -> Tensor:
    """Weights `(T,)`, total 1, of which `gram @ w` is proportional to the lengths; float64."""
    cosines, length = unit_rows(gram.double())
    there = length > 0
    ridge = torch.eye(len(gram), dtype=torch.float64, device=gram.device) * RIDGE
    projected, _ = torch.linalg.solve_ex(cosines + ridge, there.double())
    return normalised(torch.where(there, projected / torch.where(there, length, 1), 0))
