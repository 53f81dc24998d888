"""Smooth Tchebycheff scalarisation."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Rule, Signal
from mtlkit.weighting.history import EpochMean, present

EPS = 1e-8


class SmoothTchebycheff(Rule):
    """A smooth maximum of the tasks' log losses (Lin et al. 2024, arXiv 2402.19078, eq. 9 and section 5).

    Minimises `mu log sum_t exp(log(L_t / n_t) / mu)`, `n_t` the mean training loss of task t in the last warm-up epoch:
    `w_t = softmax(log(L / n) / mu)_t / L_t`. During the warm-up the mean of the log losses, `w_t = 1 / (T L_t)`. The
    length of the weights is part of the method.

    Args:
        tasks: T >= 1.
        mu: Above 0; small values look at the worst task only.
        warmup: Epochs, at least 1; 4 in the authors' code.
    """

    def __init__(self, tasks: int, *, mu: float = 1.0, warmup: int = 4) -> None:
        super().__init__(tasks)
        if mu <= 0:
            raise MtlkitError(f"mu is {mu!r}, which is not above 0.")
        if warmup < 1:
            raise MtlkitError(f"warmup is {warmup!r}, which is not at least 1.")
        self.mu, self.warmup = mu, warmup
        self.mean = EpochMean(tasks)
        self.register_buffer("nadir", torch.ones(tasks, dtype=torch.float64))
        self.register_buffer("ended", torch.zeros((), dtype=torch.int64))

    def forward(self, signal: Signal) -> Tensor:
        losses = signal.by_task(signal.losses).double().clamp_min(EPS)
        self.mean.add(signal)
        shares = ((losses / self.nadir).log() / self.mu).softmax(0)
        shares = torch.where(self.ended >= self.warmup, shares, 1 / self.tasks)
        return (torch.where(present(signal), shares / losses, 0)).to(signal.losses.dtype)

    def end_of_epoch(self) -> None:
        self.ended += 1
        self.nadir = torch.where(self.ended == self.warmup, self.mean.take().clamp_min(EPS), self.nadir)
