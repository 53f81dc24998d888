"""Geometric loss strategy."""

import torch
from torch import Tensor

from mtlkit.weighting.base import Rule, Signal
from mtlkit.weighting.history import present


class GeometricLoss(Rule):
    """The gradient of the geometric mean of the losses (Chennupati et al. 2019, arXiv 1904.08492, eq. 4).

    `w_t = (prod_s L_s)^(1/T) / (T L_t)`, which is 1/T for equal losses and shrinks with the losses: the length is part
    of the method. Losses below 1e-8 count as 1e-8; tasks without a label in the batch do not count.
    """

    def forward(self, signal: Signal) -> Tensor:
        there = present(signal)
        logs = torch.where(there, signal.by_task(signal.losses).double().clamp_min(1e-8).log(), 0)
        count = there.sum().clamp_min(1)
        return torch.where(there, (logs.sum() / count - logs).exp() / count, 0).to(signal.losses.dtype)
