"""Dual-balancing multi-task learning."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import Direction


class DBMTL(Direction):
    """Log losses, and gradients of one length (Lin et al. 2023, arXiv 2308.12029, Algorithm 1).

    Gradients of `log L_t` are smoothed, `m_t <- b_k m_t + (1 - b_k) g_t` with `b_k = beta / k^decay` in step k, and the
    update is `max_s |m_s| sum_t m_t / |m_t|`, divided by T. Heads get the gradient of their own log loss over T. The
    smoothed gradients, T times the shared parameters, are kept between steps.

    Departure: the mean in place of the sum over tasks.

    Args:
        tasks: T >= 1.
        beta: In [0, 1).
        decay: At least 0.
    """

    def __init__(self, tasks: int, *, beta: float = 0.9, decay: float = 0.0) -> None:
        super().__init__(tasks)
        if not 0 <= beta < 1:
            raise MtlkitError(f"beta is {beta!r}, which is not in [0, 1).")
        if decay < 0:
            raise MtlkitError(f"decay is {decay!r}, which is not at least 0.")
        self.beta, self.decay, self._count = beta, decay, 0
        self._smoothed: Tensor | None = None

    def forward(self, gradients: Tensor, signal: Signal, representation: Tensor | None) -> Tensor:
        gradients = gradients * self._slopes(signal)[:, None].to(gradients.dtype)
        self._count += 1
        if self._smoothed is None:
            self._smoothed = torch.zeros_like(gradients)
        keep = self.beta / self._count**self.decay
        self._smoothed = keep * self._smoothed + (1 - keep) * gradients
        lengths = torch.linalg.vector_norm(self._smoothed, dim=1)
        scale = torch.where(lengths > 0, lengths.max() / torch.where(lengths > 0, lengths, 1), 0)
        return scale @ self._smoothed / self.tasks

    def heads(self, signal: Signal) -> Tensor:
        return self._slopes(signal) / self.tasks

    def _slopes(self, signal: Signal) -> Tensor:
        """`1 / L_t`, what the logarithm multiplies a gradient by."""
        return 1 / signal.by_task(signal.losses).clamp_min(1e-8)

    def get_extra_state(self) -> dict:
        return {"count": self._count, "smoothed": self._smoothed}

    def set_extra_state(self, state: dict) -> None:
        self._count, self._smoothed = state["count"], state["smoothed"]
