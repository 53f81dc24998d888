"""Drawn domains: scikit-learn's digits as if seen by four cameras, the stand-in for Office-31, Office-Home and PACS.

No two domains share a digit. All of it is the same on every call.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlkit.data.base import checksum, generator
from mtlkit.data.stored import Maps

VARIANT = "digits-domains"


def draw(size: int, count: int = 4) -> Maps:
    """The first `count` of the domains plain, negative, slanted and outline: `image` (M, 3, size, size) uint8 and
    `class` (M,), M about 450, with every digit about 45 times."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    strokes = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(digits)
    turn = torch.zeros_like(labels)  # which of the four domains a digit is in
    for digit in labels.unique():
        members = (labels == digit).nonzero()[:, 0]
        turn[members] = torch.arange(len(members)) % len(DRAWN)
    of = {}
    for place, (name, paint) in enumerate(list(DRAWN.items())[:count]):
        mine = turn == place
        images = paint(strokes[mine], size, generator(0, f"domain {name}"))
        of[name] = {"image": (images.clamp(0, 1) * 255).round().byte(), "class": labels[mine]}
    return Maps(VARIANT, checksum(pixels, digits), of)


def _plain(strokes: Tensor, size: int, random: torch.Generator) -> Tensor:
    """White on black, enlarged."""
    return _enlarged(strokes, size).expand(-1, 3, -1, -1)


def _negative(strokes: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Dark on light paper of changing brightness, with grain."""
    paper = 0.7 + 0.3 * torch.rand(len(strokes), 3, 1, 1, generator=random)
    grain = torch.randn(len(strokes), 3, size, size, generator=random)
    return paper - 0.7 * _enlarged(strokes, size) + 0.12 * grain


def _slanted(strokes: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Bright strokes of any colour on a dark one, turned by up to 30 degrees, sheared and shifted."""
    count = len(strokes)
    draws = 2 * torch.rand(count, 4, generator=random) - 1
    angle, shear, shift = 0.52 * draws[:, 0], 0.5 * draws[:, 1], 0.15 * draws[:, 2:]
    cosine, sine = angle.cos(), angle.sin()
    affine = torch.stack([cosine, shear * cosine - sine, shift[:, 0], sine, shear * sine + cosine, shift[:, 1]], 1)
    grid = F.affine_grid(affine.view(count, 2, 3), [count, 1, size, size], align_corners=False)
    moved = F.grid_sample(_enlarged(strokes, size), grid, align_corners=False)
    ink, ground = torch.rand(2, count, 3, 1, 1, generator=random)
    return 0.35 * ground + moved * (0.5 + 0.5 * ink - 0.35 * ground)


def _outline(strokes: Tensor, size: int, random: torch.Generator) -> Tensor:
    """The edges of the strokes, drawn in a dark colour on white."""
    enlarged = F.pad(_enlarged(strokes, size), (1, 1, 1, 1))
    across = enlarged[..., 1:-1, 2:] - enlarged[..., 1:-1, :-2]
    down = enlarged[..., 2:, 1:-1] - enlarged[..., :-2, 1:-1]
    edges = (across.square() + down.square()).sqrt()
    ink = 0.6 * torch.rand(len(strokes), 3, 1, 1, generator=random)
    return 1 - (edges / edges.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)) * (1 - ink)


def _enlarged(strokes: Tensor, size: int) -> Tensor:
    return F.interpolate(strokes, size=(size, size), mode="bilinear", align_corners=False)


DRAWN: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "plain": _plain,
    "negative": _negative,
    "slanted": _slanted,
    "outline": _outline,
}
"""By name, how strokes (M, 1, 8, 8) in [0, 1] become images (M, 3, size, size) in about [0, 1]."""
