"""The network of CelebA: a ResNet-18 for small images, and forty heads in one product."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlkit.errors import MtlkitError
from mtlkit.nets.base import SharedEncoder

REDUCTION = 32
"""Pixels of the image, in each direction, per place of the representation."""


def celeba(tasks: int = 40, outputs: int = 1, *, size: int = 64, width: int = 64) -> "LinearHeads":
    """ResNet-18 from scratch for small images and one linear head per attribute (Sener & Koltun 2018, arXiv 1810.04650;
    also RLW, Lin et al. 2022).

    A 3 x 3 convolution without stride or pooling is the stem; four stages of two residual blocks have 64, 128, 256 and
    512 channels and halve the image three times; 4 x 4 averages follow. From 64 x 64 pixels that leaves 2 x 2 places of
    512 channels, the published 2048 numbers. 11,168,832 parameters are shared. Departure: a head gives one logit, for
    the binary cross-entropy, instead of two for the cross-entropy; their difference is that logit.

    Args:
        tasks: Attributes T.
        outputs: Numbers per prediction.
        size: Pixels of the image in each direction, a multiple of 32.
        width: Channels of the first stage; the published 64, or fewer for quick runs.

    Raises:
        MtlkitError: A size that is not a multiple of 32.
    """
    from torchvision.models.resnet import BasicBlock

    if size < REDUCTION or size % REDUCTION:
        raise MtlkitError(f"size is {size!r}, which is not a multiple of {REDUCTION} pixels.")
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for channels, more in pairwise([width, *(width << stage for stage in range(4))]):
        shortcut = None
        if more != channels:
            shortcut = nn.Sequential(nn.Conv2d(channels, more, 1, 2, bias=False), nn.BatchNorm2d(more))
        layers += [BasicBlock(channels, more, 1 if shortcut is None else 2, shortcut), BasicBlock(more, more)]
    features = (width << 3) * (size // REDUCTION) ** 2
    encoder = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten())
    return LinearHeads(encoder, [nn.Linear(features, outputs) for _ in range(tasks)])


class LinearHeads(SharedEncoder):
    """Linear heads of one shape, which are one matrix product in the prediction of all tasks: few kernels for any T."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions of all tasks as one tensor `(T, B, C)`."""
        weight, bias = (torch.cat([getattr(head, name) for head in self.heads]) for name in ("weight", "bias"))
        return F.linear(self.common(inputs), weight, bias).unflatten(1, (len(self.heads), -1)).transpose(0, 1)
