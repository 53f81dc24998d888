"""SegNet with hard parameter sharing, and SegNet-MTAN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlkit.errors import MtlkitError
from mtlkit.nets.base import MultiTaskNetwork, SharedEncoder
from mtlkit.nets.mtan import attention

FILTERS = (64, 128, 256, 512, 512)

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of the five stages, as in VGG-16."""

Taps = list[tuple[Tensor, Tensor]]


def segnet(outputs: Sequence[int], *, filters: Sequence[int] = FILTERS) -> SharedEncoder:
    """SegNet (Badrinarayanan et al. 2017, arXiv 1511.00561) with hard parameter sharing, the "Split" baseline of the
    MTAN paper (Liu et al. 2019, arXiv 1803.10704): the tasks share all of SegNet but its last two convolutions.

    With one task of 13 outputs it has the 24,981,069 parameters to which the MTAN authors' code relates all others.
    Predictions are logits, depths and normals of any length, see `deeplab`.

    Args:
        outputs: Channels of the T predictions. For images `(B, 3, H, W)`, prediction t is `(B, outputs[t], H, W)`.
        filters: Channels of the five stages.

    Raises:
        MtlkitError: When called, images with sides below 32.
    """
    network = SharedEncoder(SegNet(filters), [_head(filters[0], channels) for channels in outputs])
    _initialise(network)
    return network


def segnet_mtan(outputs: Sequence[int], *, filters: Sequence[int] = FILTERS) -> "SegNetMTAN":
    """MTAN on SegNet (Liu et al. 2019, arXiv 1803.10704, section 3); arguments and predictions as for `segnet`."""
    return SegNetMTAN(outputs, filters)


class SegNet(nn.Module):
    """Encoder and decoder of five stages each, joined by the places of the maxima (pooling indices).

    An encoder stage is 2 or 3 x (3 x 3 convolution, batch normalisation, ReLU) and 2 x 2 max pooling. A decoder stage
    puts its input back to the places that the maxima of its mirror image came from, zeros elsewhere, and convolves as
    often as that does.

    Args:
        filters: Channels of the five encoder stages.
    """

    def __init__(self, filters: Sequence[int]) -> None:
        super().__init__()
        lower = [filters[0], *filters[:-1]]
        self.down = nn.ModuleList(map(_stage, [3, *filters[:-1]], filters, CONVOLUTIONS))
        self.up = nn.ModuleList(list(map(_stage, filters, lower, CONVOLUTIONS))[::-1])

    def stages(self) -> list[nn.Sequential]:
        """The five encoder and the five decoder stages, each a sequence of convolutions."""
        return [*self.down, *self.up]

    def taps(self, images: Tensor) -> tuple[Taps, Taps]:
        """Features in the order in which they are computed: of every encoder stage, after its first convolution and
        after its last; of every decoder stage, before its first and after its last."""
        height, width = images.shape[-2:]
        if min(height, width) < 32:
            raise MtlkitError(f"images of {height} x {width} are too small: SegNet halves them five times, so both "
                              "sides must be at least 32.")  # fmt: skip
        down, up, places = [], [], []
        features = images
        for stage in self.down:
            first = stage[0](features)
            last = stage[1:](first)
            down.append((first, last))
            features, indices = F.max_pool2d(last, 2, return_indices=True)
            places.append((indices, last.shape[-2:]))
        for stage in self.up:
            indices, size = places.pop()
            unpooled = F.max_unpool2d(features, indices, 2, output_size=size)
            features = stage(unpooled)
            up.append((unpooled, features))
        return down, up

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, filters[0], H, W)`."""
        return self.taps(images)[1][-1][1]


class SegNetMTAN(MultiTaskNetwork):
    """One SegNet; every task picks its own features from it, stage by stage.

    Task t attends to `a_t = mask_t([u, b_t]) * p` with `p` the features at the end of a stage. In the encoder, `u` are
    those after its first convolution, and `b_t` is what a shared 3 x 3 convolution and max pooling make of the attended
    features one stage earlier (none in the first); in the decoder, `u` are the unpooled features, and `b_t` comes from
    bilinear upsampling (aligned corners) and a shared convolution. As in `MTAN`, what all tasks go through counts as
    shared: SegNet and these convolutions.
    """

    shared = ("backbone", "down_blocks", "up_blocks")

    def __init__(self, outputs: Sequence[int], filters: Sequence[int]) -> None:
        super().__init__()
        lower, higher = [filters[0], *filters[:-1]], [*filters[1:], filters[-1]]
        down = [filters[0], *(2 * f for f in filters[1:])]  # channels of [u, b_t]
        up = [f + g for f, g in zip(filters, lower, strict=True)]
        self.backbone = SegNet(filters)
        self.down_blocks = nn.ModuleList(map(_convolution, filters, higher))
        self.up_blocks = nn.ModuleList(list(map(_convolution, filters, lower))[::-1])
        self.down_attention = nn.ModuleList(nn.ModuleList(map(attention, down, filters, filters)) for _ in outputs)
        self.up_attention = nn.ModuleList(nn.ModuleList(list(map(attention, up, lower, lower))[::-1])
                                          for _ in outputs)  # fmt: skip
        self.heads = nn.ModuleList(_head(filters[0], channels) for channels in outputs)
        _initialise(self)

    def common(self, inputs: Tensor) -> tuple[Taps, Taps]:
        """`(u, p)` of every stage."""
        return self.backbone.taps(inputs)

    def predict(self, common: tuple[Taps, Taps], task: int) -> Tensor:
        """The way of one task through all stages."""
        down, up = common
        handed: list[Tensor] = []  # what the stage before hands on
        for (first, last), mask, block in zip(down, self.down_attention[task], self.down_blocks, strict=True):
            handed = [F.max_pool2d(block(mask(torch.cat([first, *handed], 1)) * last), 2)]
        attended = handed[0]
        for (unpooled, last), mask, block in zip(up, self.up_attention[task], self.up_blocks, strict=True):
            size = unpooled.shape[-2:]
            enlarged = block(F.interpolate(attended, size=size, mode="bilinear", align_corners=True))
            attended = mask(torch.cat([unpooled, enlarged], 1)) * last
        return self.heads[task](attended)


def _convolution(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _stage(channels: int, outputs: int, convolutions: int) -> nn.Sequential:
    return nn.Sequential(*(_convolution(channels if k == 0 else outputs, outputs) for k in range(convolutions)))


def _head(channels: int, outputs: int) -> nn.Sequential:
    """Two convolutions with nothing between them, as in the MTAN authors' code."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, outputs, 1))


def _initialise(network: nn.Module) -> None:
    """Xavier-normal weights and no biases at first, as in the MTAN authors' code."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
