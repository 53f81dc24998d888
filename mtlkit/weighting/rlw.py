"""Random loss weighting."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting.base import Draws, Rule, Signal

LAWS = ("normal", "uniform", "random_normal", "dirichlet", "bernoulli", "bernoulli_k")


class RandomLossWeighting(Rule):
    """Task weights drawn anew in every step (Lin et al., arXiv 2111.10603, section 3).

    `w = f(u)`, `u ~ p`, on the simplex, with mean 1/T for every law that treats tasks alike:

    - `normal`: softmax of T standard normal draws; the paper's default.
    - `uniform`: softmax of T draws from U(0, 1).
    - `random_normal`: softmax of N(m_t, s_t^2) draws; m_t and s_t ~ U(0, 1) once, at construction.
    - `dirichlet`: Dirichlet(1, ..., 1), uniform on the simplex.
    - `bernoulli`: T fair coins, drawn again while all are 0, divided by their sum.
    - `bernoulli_k`: k tasks at random with 1/k each ("constrained Bernoulli" for k = 1).

    Departure: the release leaves the two Bernoulli laws unnormalised; the paper divides by the sum, as here.

    Args:
        tasks: T >= 1.
        law: One of the six.
        k: Number of chosen tasks, 1 to T, for `bernoulli_k`.
        seed: Of the draws.
    """

    sees_losses = False

    def __init__(self, tasks: int, *, law: str = "normal", k: int = 1, seed: int = 0) -> None:
        super().__init__(tasks)
        law = law.lower()  # the releases write Bernoulli and Dirichlet
        one_of("law", law, LAWS)
        if not 1 <= k <= tasks:
            raise MtlkitError(f"k is {k!r}, which is not between 1 and the number of tasks, {tasks}.")
        self.law, self.k = law, k
        once = torch.Generator().manual_seed(seed + 1)
        self.mean, self.std = torch.rand(2, tasks, generator=once)
        self.draws = Draws(self._draw, seed)

    def forward(self, signal: Signal) -> Tensor:
        return self.draws.next(signal.losses)

    def get_extra_state(self) -> Tensor:
        return torch.stack([self.mean, self.std])

    def set_extra_state(self, state: Tensor) -> None:
        self.mean, self.std = state.cpu()

    def _draw(self, rows: int, generator: torch.Generator) -> Tensor:
        shape = (rows, self.tasks)
        if self.law == "uniform":
            return torch.rand(shape, generator=generator).softmax(1)
        if self.law == "dirichlet":
            exponential = -torch.log1p(-torch.rand(shape, generator=generator, dtype=torch.float64))
            return exponential / exponential.sum(1, keepdim=True)
        if self.law == "bernoulli":
            # Uniform among the 2^T - 1 outcomes that are not all zero, which is what redrawing gives.
            coins = torch.randint(0, 2, shape, generator=generator)
            while (coins.sum(1) == 0).any():
                again = torch.randint(0, 2, shape, generator=generator)
                coins = torch.where(coins.sum(1, keepdim=True) == 0, again, coins)
            return coins / coins.sum(1, keepdim=True)
        if self.law == "bernoulli_k":
            ranks = torch.rand(shape, generator=generator).argsort(1).argsort(1)
            return (ranks < self.k) / self.k
        normal = torch.randn(shape, generator=generator)
        return (self.mean + self.std * normal if self.law == "random_normal" else normal).softmax(1)
