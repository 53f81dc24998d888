"""Gradient normalisation."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule


class GradNorm(GradientRule):
    """Weights that give all tasks gradients of similar length, longer for tasks that learn slowly (Chen et al. 2018,
    arXiv 1711.02257, eq. 1, 2 and Algorithm 1).

    With `n_t = |g_t|`, `w_t n_t` should be `mean_s(w_s n_s) r_t^a`, where `r_t` is task t's loss relative to its first
    one, divided by the mean of that over tasks. A gradient step on the sum of the absolute differences (the target held
    fixed) gives `w <- w - rate sign(w_t n_t - target_t) n_t`, which is then scaled to total T. The update uses the
    weights of before; heads are weighted as well. Weights total 1 (the paper's total T).

    Departures: all shared parameters in place of the last shared layer; weights are kept at 1e-3 at least.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        restoring: `a`, the strength of the pull towards equal training rates, at least 0.
        weight_rate: Step size of the weights, above 0; 0.025 as in the paper.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", restoring: float = 1.5,
                 weight_rate: float = 0.025) -> None:  # fmt: skip
        super().__init__(tasks, gradients=gradients)
        if restoring < 0:
            raise MtlkitError(f"restoring is {restoring!r}, which is not at least 0.")
        if weight_rate <= 0:
            raise MtlkitError(f"weight_rate is {weight_rate!r}, which is not above 0.")
        self.restoring, self.weight_rate = restoring, weight_rate
        self.register_buffer("weights", torch.ones(tasks))
        self.register_buffer("first", torch.zeros(tasks))

    def forward(self, signal: Signal) -> Tensor:
        weights, losses = self.weights, signal.by_task(signal.losses).float().clamp_min(1e-8)
        self.first = torch.where(self.first > 0, self.first, losses)
        lengths = signal.gram.diagonal().float().clamp_min(0).sqrt()
        size = weights * lengths
        progress = losses / self.first
        target = size.mean() * (progress / progress.mean()) ** self.restoring
        moved = weights - self.weight_rate * (size - target).sign() * lengths
        moved = torch.where(torch.isfinite(moved), moved, weights).clamp_min(1e-3)
        self.weights = moved * (self.tasks / moved.sum())
        return (weights / self.tasks).to(signal.gram.dtype)

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        return weights
