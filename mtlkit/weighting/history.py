"""What rules keep from step to step."""

import torch
from torch import Tensor, nn

from mtlkit.weighting.base import Signal


def present(signal: Signal) -> Tensor:
    """`(T,)` bool: tasks of which the batch has a label."""
    return signal.mass.sum(1) > 0


class EpochMean(nn.Module):
    """The mean loss of every task over the steps of an epoch in which it had labels."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.float64))

    def add(self, signal: Signal) -> None:
        """Take in a step."""
        self.total = self.total + signal.by_task(signal.losses)
        self.steps = self.steps + present(signal)

    def take(self) -> Tensor:
        """The means `(T,)`, 0 for a task that was never there; the next epoch starts from nothing."""
        mean = self.total / self.steps.clamp_min(1)
        self.total, self.steps = torch.zeros_like(self.total), torch.zeros_like(self.steps)
        return mean


class Adam(nn.Module):
    """The step of Adam (Kingma & Ba 2015) for a vector that a rule learns by itself; its state is saved with the rule.

    Args:
        size: Of the vector.
        rate: Learning rate.
        betas: Of the running means.
    """

    def __init__(self, size: int, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__()
        self.rate, self.betas = rate, betas
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, gradient: Tensor) -> Tensor:
        """What to add to the vector."""
        first, second = self.betas
        self.steps = self.steps + 1
        self.mean = first * self.mean + (1 - first) * gradient
        self.square = second * self.square + (1 - second) * gradient**2
        mean, square = self.mean / (1 - first**self.steps), self.square / (1 - second**self.steps)
        return -self.rate * mean / (square.sqrt() + 1e-8)
