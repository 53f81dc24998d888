"""Gradient vaccine."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Draws, Signal
from mtlkit.weighting.gradients import GradientRule, unit_rows


class GradVac(GradientRule):
    """Gradients are turned toward each other until they are as similar as they usually are (Wang et al. 2021, arXiv
    2010.05874, Algorithm 1).

    For each task i and all j != i in random order: where the cosine `c` of g_i, as it is now, and g_j is below its
    running mean `m`, `g_i <- g_i + |g_i| (m sqrt(1 - c^2) - c sqrt(1 - m^2)) / (|g_j| sqrt(1 - m^2)) g_j`, which makes
    it `m`; then `m <- (1 - beta) m + beta c`. Then the mean over tasks.

    Departures: one cosine for all shared parameters (the paper also has one per layer); the mean in place of the sum
    over tasks; running means are kept below 0.99, where the formula divides by zero.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        beta: In [0, 1], how fast the running means follow; 0.01 in the paper, 0.5 in LibMTL.
        seed: Of the orders.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", beta: float = 0.01, seed: int = 0) -> None:
        super().__init__(tasks, gradients=gradients)
        if not 0 <= beta <= 1:
            raise MtlkitError(f"beta is {beta!r}, which is not in [0, 1].")
        self.beta = beta
        self.orders = Draws(lambda rows, random: torch.rand(rows, tasks, tasks, generator=random), seed)
        self.register_buffer("target", torch.zeros(tasks, tasks, dtype=torch.float64))

    def forward(self, signal: Signal) -> Tensor:
        gram = signal.gram.double()
        order = self.orders.next(gram).argsort(1)
        rows = torch.arange(self.tasks, device=gram.device)
        lengths = unit_rows(gram)[1]
        weights, target = torch.eye(self.tasks, dtype=gram.dtype, device=gram.device), self.target
        for k in range(self.tasks):
            other = order[:, k]
            product = (weights * gram[other]).sum(1)
            mine = torch.einsum("is,st,it->i", weights, gram, weights).clamp_min(0).sqrt()
            size = mine * lengths[other]
            usable = (other != rows) & (size > 0)
            cosine = torch.where(usable, product / torch.where(usable, size, 1), 0).clamp(-1, 1)
            wanted = target[rows, other].clamp(-0.99, 0.99)
            height = (1 - wanted**2).sqrt()
            step = mine * (wanted * (1 - cosine**2).sqrt() - cosine * height)
            step = step / torch.where(usable, lengths[other] * height, 1)
            step = torch.where(usable & (cosine < wanted), step, 0)
            weights = weights.scatter_add(1, other[:, None], step[:, None])
            change = torch.where(usable, self.beta * (cosine - target[rows, other]), 0)
            target = target.scatter_add(1, other[:, None], change[:, None])
        self.target = target
        return weights.mean(0).to(signal.gram.dtype)
