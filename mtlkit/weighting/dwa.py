"""Dynamic weight average."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Rule, Signal
from mtlkit.weighting.history import EpochMean


class DynamicWeightAverage(Rule):
    """Weights from how fast each loss falls (Liu et al. 2019, arXiv 1803.10704, eq. 7).

    `w = softmax(r / temperature)`, `r_t` the ratio of task t's mean training loss over the last two epochs; equal
    weights in the first two. Weights total 1 (the paper's total T).

    Args:
        tasks: T >= 1.
        temperature: Above 0; the larger, the more even.
    """

    def __init__(self, tasks: int, *, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        if temperature <= 0:
            raise MtlkitError(f"temperature is {temperature!r}, which is not above 0.")
        self.temperature = temperature
        self.mean = EpochMean(tasks)
        self.register_buffer("epochs", torch.zeros(2, tasks, dtype=torch.float64))  # the last one first
        self.register_buffer("ended", torch.zeros((), dtype=torch.int64))

    def forward(self, signal: Signal) -> Tensor:
        self.mean.add(signal)
        last, before = self.epochs
        ratio = last / torch.where(before > 0, before, 1)
        ratio = torch.where((self.ended >= 2) & (before > 0), ratio, 1)
        return (ratio / self.temperature).softmax(0).to(signal.losses.dtype)

    def end_of_epoch(self) -> None:
        self.epochs = torch.stack([self.mean.take(), self.epochs[0]])
        self.ended += 1
