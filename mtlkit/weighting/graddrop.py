"""Gradient sign dropout."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GRADIENTS, Direction


class GradDrop(Direction):
    """Where tasks disagree on the sign of a gradient, one sign is drawn and the other dropped (Chen et al. 2020, arXiv
    2010.06808, Algorithm 1).

    With `G_t = sign(z) g_t`, summed over the batch, and purity `P = (1 + sum G_t / sum |G_t|) / 2`, an element keeps
    the tasks with positive G where `P > U`, the others where `P < U`, U uniform. `leak` of every gradient passes
    anyway. The result is divided by T.

    Departure: with `gradients="shared"` the same on the shared parameters, without `sign(z)`, as LibMTL and TorchJD do.

    Args:
        tasks: T >= 1.
        gradients: `representation`, as in the paper, one backward pass through the encoder in all; or `shared`.
        leak: In [0, 1].
        seed: Of the draws, which are made on the device.
    """

    def __init__(self, tasks: int, *, gradients: str = "representation", leak: float = 0.0, seed: int = 0) -> None:
        super().__init__(tasks)
        one_of("gradients", gradients, GRADIENTS)
        if not 0 <= leak <= 1:
            raise MtlkitError(f"leak is {leak!r}, which is not in [0, 1].")
        self.gradients, self.leak, self._seed = gradients, leak, seed
        self._generator: torch.Generator | None = None
        self._state: Tensor | None = None  # taken up from a saved run, for the generator still to be made

    def forward(self, gradients: Tensor, signal: Signal, representation: Tensor | None) -> Tensor:
        signed = gradients if representation is None else (gradients * representation.sign()).sum(1)
        size = signed.abs().sum(0)
        purity = (1 + signed.sum(0) / torch.where(size > 0, size, 1)) / 2
        draw = torch.rand(purity.shape, generator=self._draws(purity.device), device=purity.device, dtype=purity.dtype)
        keep = ((purity > draw) & (signed > 0)) | ((purity < draw) & (signed < 0))
        mask = self.leak + (1 - self.leak) * keep.to(gradients.dtype)
        return (gradients * (mask if representation is None else mask[:, None])).sum(0) / self.tasks

    def _draws(self, device: torch.device) -> torch.Generator | None:
        if device.type == "meta":
            return None
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
            if self._state is not None:
                self._generator.set_state(self._state)
        return self._generator

    def get_extra_state(self) -> Tensor | None:
        return self._state if self._generator is None else self._generator.get_state()

    def set_extra_state(self, state: Tensor | None) -> None:
        self._generator, self._state = None, None if state is None else state.cpu()
