"""Projecting conflicting gradients."""

import torch
from torch import Tensor

from mtlkit.weighting.base import Draws, Signal
from mtlkit.weighting.gradients import GradientRule


class PCGrad(GradientRule):
    """Every gradient is projected off those it conflicts with (Yu et al. 2020, arXiv 2001.06782, Algorithm 1).

    For each task i, `g_i <- g_i - <g_i, g_j> / |g_j|^2 g_j` for all j != i with `<g_i, g_j> < 0`, one after the other
    in random order; then the mean. All of it happens on the coefficients of the gradients. Without conflict it is the
    mean.

    Departure: the mean in place of the sum over tasks.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        seed: Of the orders.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", seed: int = 0) -> None:
        super().__init__(tasks, gradients=gradients)
        self.orders = Draws(lambda rows, random: torch.rand(rows, tasks, tasks, generator=random), seed)

    def forward(self, signal: Signal) -> Tensor:
        gram = signal.gram.double()
        order = self.orders.next(gram).argsort(1)  # row i: the order in which task i meets the others
        rows = torch.arange(self.tasks, device=gram.device)
        weights = torch.eye(self.tasks, dtype=gram.dtype, device=gram.device)
        square = gram.diagonal()
        safe = torch.where(square > 0, square, 1)
        for k in range(self.tasks):
            other = order[:, k]
            product = (weights * gram[other]).sum(1)  # <g_i as it is now, g_other>
            clash = (product < 0) & (other != rows) & (square[other] > 0)
            step = torch.where(clash, product / safe[other], 0)
            weights = weights.scatter_add(1, other[:, None], -step[:, None])
        return weights.mean(0).to(signal.gram.dtype)
