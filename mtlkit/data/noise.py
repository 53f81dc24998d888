"""Label noise of the SLGrad release, drawn from a generator that the caller seeds."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError, one_of

KINDS = ("uniform", "background")


def check_rate(p: float) -> None:
    """Raise `MtlkitError` unless `p` lies in [0, 1]."""
    if not 0 <= p <= 1:
        raise MtlkitError(f"noise is {p}, but it is a fraction of the labels and has to lie between 0 and 1.")


def flip(labels: Tensor, p: float, kind: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip binary labels at random.

    Args:
        labels: (N,) with values 0 and 1, any dtype.
        p: Probability in [0, 1].
        kind: `uniform`, every label flips with probability p; `background`, every 0 becomes 1 with probability p and a
            1 stays. One draw is spent per label whatever p and kind are, so with equally seeded generators the labels
            that flip at a small p also flip at any larger one.

    Returns:
        The new labels (N,), in the dtype given, and the mask (N,) of the flipped ones.

    Raises:
        MtlkitError: p outside [0, 1] or an unknown kind.
    """
    check_rate(p)
    one_of("noise_kind", kind, KINDS)
    flipped = torch.rand(labels.shape, generator=generator, dtype=torch.float64) < p
    if kind == "background":
        flipped &= labels == 0
    return torch.where(flipped, 1 - labels, labels), flipped
