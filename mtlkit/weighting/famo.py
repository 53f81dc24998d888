"""Fast adaptive multi-task optimization."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Rule, Signal
from mtlkit.weighting.gradients import normalised
from mtlkit.weighting.history import Adam, present

EPS = 1e-8


class FAMO(Rule):
    """Weights that make all losses fall at the same relative speed (Liu et al. 2023, arXiv 2306.03792, Algorithm 1).

    `w_t = z_t / (L_t c)`, `z = softmax(xi)`, `c = sum_t z_t / L_t`. After the update the losses of the same batch show
    how much each fell; `xi` `(T,)` moves along `J' (log L_before - log L_after)`, J the Jacobian of the softmax, by
    Adam with weight decay. Weights total 1. The look after the step is one more forward pass.

    Args:
        tasks: T >= 1.
        gamma: Weight decay of `xi`, at least 0.
        weight_rate: Adam's learning rate for `xi`, above 0.
    """

    looks_after = True

    def __init__(self, tasks: int, *, gamma: float = 0.01, weight_rate: float = 0.025) -> None:
        super().__init__(tasks)
        if gamma < 0 or weight_rate <= 0:
            raise MtlkitError(f"gamma is {gamma!r} and weight_rate {weight_rate!r}; they must be at least and above 0.")
        self.gamma, self.adam = gamma, Adam(tasks, weight_rate)
        self.register_buffer("logits", torch.zeros(tasks))
        self.register_buffer("before", torch.ones(tasks))

    def forward(self, signal: Signal) -> Tensor:
        self.before = _positive(signal)
        ratio = torch.where(present(signal), self.logits.softmax(0) / self.before, 0)
        return normalised(ratio).to(signal.losses.dtype)

    def after(self, signal: Signal) -> None:
        fall = self.before.log() - _positive(signal).log()
        fall = torch.where(torch.isfinite(fall) & present(signal), fall, 0)
        shares = self.logits.softmax(0)
        gradient = shares * (fall - (shares * fall).sum())
        self.logits = self.logits + self.adam(gradient + self.gamma * self.logits)


def _positive(signal: Signal) -> Tensor:
    return signal.by_task(signal.losses).float().clamp_min(EPS)
