"""Multi-task learning as a bargaining game."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.solvers import bargaining


class NashMTL(GradientRule):
    """The Nash bargaining solution over update directions (Navon et al. 2022, arXiv 2202.01017, eq. 2 and Algorithm 1).

    Positive `a` `(T,)` with `G a = 1 / a`, found as the minimum of the convex `1/2 a'Ga - sum log a`. The update is
    `sum_t a_t g_t`, whose length is sqrt(T), shortened to `max_norm`, divided by T; heads get `a_t / T`. Where no
    solution exists (at Pareto-stationary points) a small ridge on G gives a finite one.

    Departures: the authors linearise and call a convex solver a few times; here Newton's method, on the device. The
    mean in place of the sum over tasks, after the shortening.

    Args:
        tasks: T >= 1.
        gradients: See `GradientRule`.
        every: The weights are computed every so many steps.
        max_norm: Greatest length of `sum_t a_t g_t`; 0 for none.
    """

    def __init__(self, tasks: int, *, gradients: str = "shared", every: int = 1, max_norm: float = 1.0) -> None:
        super().__init__(tasks, gradients=gradients)
        if every < 1:
            raise MtlkitError(f"every is {every!r}, which is not at least 1.")
        if max_norm < 0:
            raise MtlkitError(f"max_norm is {max_norm!r}, which is not at least 0.")
        self.every, self.max_norm, self._count = every, max_norm, 0
        self.register_buffer("alpha", torch.ones(tasks, dtype=torch.float64))

    @property
    def uses_gram(self) -> bool:
        """Between two solutions only the length is still to be known, and only if it is limited."""
        return self.max_norm > 0 or self._count % self.every == 0

    def forward(self, signal: Signal) -> Tensor:
        if self._count % self.every == 0:
            self.alpha = bargaining(signal.gram)[0]
        self._count += 1
        weights = self.alpha
        if self.max_norm > 0:
            length = (weights @ signal.gram.double() @ weights).clamp_min(0).sqrt()
            weights = weights * (self.max_norm / length.clamp_min(self.max_norm))
        return (weights / self.tasks).to(signal.losses.dtype)

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        return (self.alpha / self.tasks).to(weights.dtype)

    def get_extra_state(self) -> int:
        return self._count

    def set_extra_state(self, state: int) -> None:
        self._count = state
