"""Random gradient weighting, and random loss weighting before another method."""

import torch
from torch import Tensor

from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import GradientRule
from mtlkit.weighting.rlw import RandomLossWeighting


class RandomGradientWeighting(GradientRule):
    """Random weights for the gradients of the shared parameters (Lin et al., arXiv 2111.10603, section 3.2).

    The same laws as for random loss weighting, drawn anew in every step; heads get 1/T times their own task's gradient.
    No Gram matrix is needed, and one backward pass through the encoder serves all tasks.

    Args:
        tasks: T >= 1.
        law: As for `RandomLossWeighting`.
        k: As there.
        seed: Of the draws.
    """

    uses_gram = False

    def __init__(self, tasks: int, *, law: str = "normal", k: int = 1, seed: int = 0) -> None:
        super().__init__(tasks)
        self.random = RandomLossWeighting(tasks, law=law, k=k, seed=seed)

    def forward(self, signal: Signal) -> Tensor:
        return self.random(signal)


class RandomLossesBefore(GradientRule):
    """Random loss weights first, another gradient method on the gradients of these losses (RLW's tables: RLW + CAGrad
    and so on; arXiv 2111.10603, section 5).

    Loss t is multiplied by `T u_t`, `u` a draw of random loss weighting: so is its gradient, for heads as well. The
    other method sees these losses and gradients.

    Args:
        random: Random loss weighting.
        then: The other method.
    """

    def __init__(self, random: RandomLossWeighting, then: GradientRule) -> None:
        super().__init__(random.tasks, gradients=then.gradients)
        self.random, self.then = random, then
        self._scale: Tensor | None = None

    @property
    def uses_gram(self) -> bool:
        return self.then.uses_gram

    def forward(self, signal: Signal) -> Tensor:
        self._scale = scale = self.random(signal) * self.tasks
        self._seen = seen = Signal(signal.losses * scale[:, None].to(signal.losses.dtype), signal.mass, signal.groups,
                                   signal.class_shares, signal.flipped)  # fmt: skip
        if signal.gram is not None:
            seen.gram = signal.gram * scale[:, None] * scale
        return self.then(seen) * scale

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        safe = torch.where(self._scale != 0, self._scale, 1)
        return self.then.heads(self._seen, weights / safe) * self._scale

    def penalty(self, signal: Signal) -> Tensor | None:
        return self.then.penalty(self._seen)

    def end_of_epoch(self) -> None:
        self.then.end_of_epoch()
