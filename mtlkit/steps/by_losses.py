"""The step of rules that look at losses, or at nothing: one forward and one backward pass."""

from functools import partial

import torch
from torch import Tensor

from mtlkit.data.base import Samples
from mtlkit.steps.base import Step


class ByLosses(Step):
    """The gradient of `(W * L).sum()`, and of the rule's own term where it learns parameters."""

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        kept = 1 - self.reference_share
        foreseen = self.accumulate == 1 or self.rule.sees_losses
        losses, backward = self.forward(batch) if foreseen else self._unseen(batch)
        signal = self.signal(batch, losses)
        weights = self.weights(signal)
        found = backward(self.together.mine(weights.detach() * kept))
        if not foreseen:
            signal.losses = self.together.gather(found)
        penalty = self.rule.penalty(signal)
        if weights.requires_grad or penalty is not None:  # the rule learns: the same in all processes
            own = (weights * kept * signal.losses).sum()
            (own if penalty is None else own + penalty * kept).backward()
        self.reference_update(reference)
        return signal.losses, weights.detach()

    def _unseen(self, batch: Samples) -> tuple[Tensor, partial]:
        """Zeros in place of losses that the rule does not look at, so that micro-batches are passed once."""
        dtype = next(self.network.parameters()).dtype
        return torch.zeros_like(batch.mass, dtype=dtype), partial(self.backward, batch)
