"""Uncertainty weighting."""

import torch
from torch import Tensor, nn

from mtlkit.weighting.base import Rule, Signal


class UncertaintyWeighting(Rule):
    """Weights from learnt task uncertainties (Kendall et al. 2018, arXiv 1705.07115, eq. 7 with log variances).

    Minimises the mean over tasks of `L_t / (2 exp(s_t)) + s_t / 2`; `s` `(T,)`, the log variances, are learnt by the
    same optimizer as the network. Weights total about 1/2 sum(exp(-s)) / T: their length is part of the method.

    Departures: one form for regression and classification, as in LibMTL (the paper has 1 in place of 1/2 for the
    latter); the mean in place of the sum over tasks.

    Args:
        tasks: T >= 1.
        initial: Every s_t at the start; -0.5 as in LibMTL.
    """

    sees_losses = False

    def __init__(self, tasks: int, *, initial: float = -0.5) -> None:
        super().__init__(tasks)
        self.log_variance = nn.Parameter(torch.full((tasks,), float(initial)))

    def forward(self, signal: Signal) -> Tensor:
        return (-self.log_variance).exp() / (2 * self.tasks)

    def penalty(self, signal: Signal) -> Tensor:
        return self.log_variance.mean() / 2
