"""Learning to reweight examples."""

import torch
from torch import Tensor

from mtlkit.weighting.base import AlignmentRule, Signal


class L2RW(AlignmentRule):
    """The main task's samples alone, weighted by how much each would lower the reference loss (Ren et al. 2018, arXiv
    1803.09050, Algorithm 1): the single-task ancestor of SLGrad.

    The release looks ahead from example weights of zero, so that its meta-gradient is taken at the current parameters:
    it is the alignment of every sample with the reference gradient, over the shared parameters and the main head.
    `w_i = max(0, a_i) / sum(max(0, a))`; no sample aligned gives no step. Auxiliary tasks get no weight.
    """

    align = "shared_and_main_head"
    adds_up = True

    def raw(self, signal: Signal) -> Tensor:
        main = signal.alignment[:1].clamp_min(0) * signal.mass[:1]
        return torch.cat([main, torch.zeros_like(signal.alignment[1:])])

    def forward(self, signal: Signal) -> Tensor:
        raw = self.raw(signal)
        total = raw[0].sum()
        return (raw / total.where(total > 0, total.new_ones(()))).to(signal.losses.dtype)
