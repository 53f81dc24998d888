"""Equal weighting."""

import torch
from torch import Tensor

from mtlkit.weighting.base import Rule, Signal


class EqualWeighting(Rule):
    """The mean of the task losses: `w_t = 1/T`.

    Departure: the release of RLW sums the losses, T times this; the paper divides, as here.
    """

    sees_losses = False

    def forward(self, signal: Signal) -> Tensor:
        return torch.full_like(signal.losses[:, 0], 1 / self.tasks)
