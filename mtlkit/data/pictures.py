"""Images with labels of the whole image: how they are read and taken.

They are prepared as those with maps for labels are; only their labels are few enough to stay in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.base import Samples
from mtlkit.data.sources import Field, Size
from mtlkit.data.stored import MEAN, RESIDENT, STD, Stored
from mtlkit.errors import MtlkitError

SMALLEST = 8
"""Pixels in each direction."""


@dataclass(frozen=True)
class WholeImage(Field):
    """A number, or `channels` of them, that say something about the whole image."""

    def check(self, array: np.ndarray, size: Size, where: object) -> None:
        """Nothing: labels are checked where they are read, before there is any image."""

    def fit(self, array: np.ndarray, size: Size) -> np.ndarray:
        """As stored, whatever the size of the image."""
        return array.astype(self.dtype)


@dataclass
class Pictures(Stored):
    """One of the four sets, N samples of T tasks, whose images lie on disk or, where they fit, on the device.

    The labels that training sees are the label groups; targets are these as `dtype`.
    """

    dtype: torch.dtype = torch.int64

    @classmethod
    def labelled(cls, images: Tensor, rows: Tensor, labels: Tensor, *, resident: int = RESIDENT,
                 dtype: torch.dtype = torch.int64) -> "Pictures":  # fmt: skip
        """The samples at `rows` (N,) of images (M, 3, H, W) uint8, with clean labels (T, N) int64."""
        return cls({"image": images}, rows, (), rows.new_empty(0, len(rows)), labels,
                   torch.zeros_like(labels, dtype=torch.bool), torch.ones(labels.shape),
                   torch.tensor([MEAN, STD])[..., None, None], resident, dtype)  # fmt: skip

    def take(self, index: Tensor) -> Samples:
        """The samples at `index` (B,) int64: images (B, 3, H, W) float32, standardised per channel by the statistics
        of ImageNet; targets (T, B)."""
        batch = super().take(index)
        batch.targets = batch.groups.to(self.dtype)
        return batch

    def spoilt(self, share: float, tasks: Sequence[int], random: torch.Generator, classes: int = 2) -> "Pictures":
        """The same set, in which a share of the samples, other ones for each of these tasks, has another one of the
        classes, drawn evenly. With equally seeded generators those that are wrong at a small share are so at larger
        ones too."""
        groups = self.groups.clone()
        for task in tasks:
            chosen = torch.randperm(len(self), generator=random)[: round(share * len(self))]
            shift = torch.randint(1, classes, (len(self),), generator=random)
            groups[task, chosen] = (groups[task, chosen] + shift[chosen]) % classes
        return replace(self, groups=groups, flipped=groups != self.groups)


def square(size: int) -> Size:
    """Height and width. Raises `MtlkitError` where they are too small."""
    if size < SMALLEST:
        raise MtlkitError(f"size is {size!r}; expected are pixels in each direction, at least {SMALLEST}.")
    return size, size


def rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 from an image file of any kind."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises nearly anything for a file of another kind
        raise MtlkitError(f"{path} cannot be read as an image ({type(error).__name__}): it is damaged or not what its "
                          "name says.") from error  # fmt: skip
