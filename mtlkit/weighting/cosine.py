"""Gradient cosine similarity."""

import torch
from torch import Tensor

from mtlkit.weighting.base import AlignmentRule, Signal
from mtlkit.weighting.gradients import GradientRule, unit_rows


class CosineSimilarity(AlignmentRule):
    """Auxiliary tasks count while their gradient does not oppose the main task's (Du et al. 2018, arXiv 1812.02224,
    section 3, the unweighted version).

    `w_t = 1/T` where `<g_t, g_main> >= 0` on the shared parameters, else 0; the main task always counts. Only signs are
    needed: one backward and one tangent pass, whatever T. The auxiliary tasks' heads learn with their tasks.
    """

    direction = "batch"

    def forward(self, signal: Signal) -> Tensor:
        agrees = signal.by_task(signal.alignment) >= 0
        agrees[0] = True
        return agrees.to(signal.losses.dtype) / self.tasks


class WeightedCosineSimilarity(GradientRule):
    """Auxiliary tasks count in proportion to the cosine of their gradient with the main task's (Du et al. 2018, arXiv
    1812.02224, section 3, the weighted version).

    `w_t = max(0, cos(g_t, g_main)) / T`, `w_main = 1/T`. The length of every task's gradient is needed, and so a
    backward pass through the encoder for each; heads are weighted as the unweighted version does.
    """

    def forward(self, signal: Signal) -> Tensor:
        cosines = unit_rows(signal.gram.double())[0][0].clamp_min(0)
        return (torch.cat([torch.ones_like(cosines[:1]), cosines[1:]]) / self.tasks).to(signal.gram.dtype)

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        return weights
