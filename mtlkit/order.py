"""In which order a run sees its samples."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Order:
    """Batches of indices, cut from an endless chain of permutations: each sample comes up equally often.

    Args:
        size: Number of samples N.
        batch: Indices per batch.
        random: The generator that shuffles.
        strata: `(N,)` labels. Each permutation then spreads every label evenly, so that each batch has the labels of
            the whole set, to about one sample.
    """

    def __init__(self, size: int, batch: int, random: torch.Generator, strata: Tensor | None = None) -> None:
        self.size, self.batch, self.random, self.strata = size, batch, random, strata
        self.left = torch.empty(0, dtype=torch.int64)

    def take(self, steps: int) -> Tensor:
        """The next `steps` batches, `(steps, batch)` int64 on the CPU."""
        parts, have, want = [self.left], len(self.left), steps * self.batch
        while have < want:
            parts.append(self._permutation())
            have += self.size
        chain = torch.cat(parts)
        self.left = chain[want:].clone()
        return chain[:want].view(steps, self.batch)

    def _permutation(self) -> Tensor:
        shuffled = torch.randperm(self.size, generator=self.random)
        if self.strata is None:
            return shuffled
        position = torch.empty(self.size, dtype=torch.float64)
        for label in self.strata.unique():
            members = shuffled[self.strata[shuffled] == label]
            offset = torch.rand((), generator=self.random, dtype=torch.float64)
            position[members] = (torch.arange(len(members), dtype=torch.float64) + offset) / len(members)
        return position.argsort()

    def state(self) -> dict[str, Tensor]:
        return {"left": self.left, "random": self.random.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.left = state["left"].cpu()
        self.random.set_state(state["random"].cpu())


class Orders:
    """One order for each of T tasks that have samples of their own; what is shorter is gone through more often.

    Args:
        each: Orders of one batch size.
    """

    def __init__(self, each: Sequence[Order]) -> None:
        self.each = list(each)

    def take(self, steps: int) -> Tensor:
        """The next `steps` batches of every task, `(steps, T, batch)`."""
        return torch.stack([order.take(steps) for order in self.each], 1)

    def state(self) -> list[dict[str, Tensor]]:
        return [order.state() for order in self.each]

    def restore(self, state: list[dict[str, Tensor]]) -> None:
        for order, of_one in zip(self.each, state, strict=True):
            order.restore(of_one)
