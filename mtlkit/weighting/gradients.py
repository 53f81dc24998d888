"""The contracts of methods that look at task gradients."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mtlkit.errors import one_of
from mtlkit.weighting.base import Rule, Signal, Weighting

GRADIENTS = ("shared", "representation")


class GradientRule(Rule):
    """Maps the Gram matrix of the task gradients to weights `(T,)` of these gradients.

    The weights apply to the gradients of the shared parameters; every head gets its own task's gradient, times what
    `heads` says. They keep the method's published ratio to the **mean** of the gradients.

    Args:
        tasks: T >= 1.
        gradients: Of the `shared` parameters, or, as an approximation that costs no backward pass through the encoder
            per task, at the `representation` that the encoder gives.
    """

    needs = "gradients"

    uses_gram: ClassVar[bool] = True
    """Whether `signal.gram` is computed."""

    def __init__(self, tasks: int, *, gradients: str = "shared") -> None:
        super().__init__(tasks)
        one_of("gradients", gradients, GRADIENTS)
        self.gradients = gradients

    def heads(self, signal: Signal, weights: Tensor) -> Tensor:
        """`(T,)`, what the gradients of the heads are multiplied by: 1/T, as equal weighting does."""
        return torch.full_like(weights, 1 / self.tasks)


class Direction(Weighting):
    """Maps task gradients to one gradient that is no weighted sum of them.

    Attributes:
        gradients: `shared`: what `forward` sees and returns are gradients of the shared parameters; `representation`:
            gradients at the representation, of which the shared parameters get what a backward pass makes of it.
    """

    needs = "direction"
    gradients = "shared"

    def attach(self, network: nn.Module, inputs: Tensor) -> None:
        """Puts into the network what the method adds to it; called once, before the optimizer is made.

        Args:
            network: With `encoder` and `heads`.
            inputs: `(B, ...)`, any.
        """

    def forward(self, gradients: Tensor, signal: Signal, representation: Tensor | None) -> Tensor:
        """One gradient out of T.

        Args:
            gradients: `(T, P)`, or `(T, B, ...)` at the representation.
            signal: The losses.
            representation: `(B, ...)`, or None.
        """
        raise NotImplementedError

    def heads(self, signal: Signal) -> Tensor:
        """`(T,)`, what the gradients of the heads are multiplied by."""
        return torch.full_like(signal.by_task(signal.losses), 1 / self.tasks)


def unit_rows(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines `(T, T)` and lengths `(T,)`; rows of length zero have cosine zero with all others, and one with
    themselves."""
    length = gram.diagonal().clamp_min(0).sqrt()
    safe = torch.where(length > 0, length, 1)
    cosines = (gram / safe[:, None] / safe).clamp(-1, 1)
    return torch.where(torch.eye(len(gram), dtype=torch.bool, device=gram.device), 1, cosines), length


def normalised(weights: Tensor) -> Tensor:
    """Weights divided by their sum; equal ones where the sum is zero."""
    total = weights.sum()
    return torch.where(total.abs() > 0, weights / torch.where(total.abs() > 0, total, 1), 1 / len(weights))
