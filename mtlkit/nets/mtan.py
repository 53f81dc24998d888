"""The Multi-Task Attention Network on a dilated ResNet."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mtlkit.nets.base import MultiTaskNetwork
from mtlkit.nets.deeplab import DilatedResNet, aspp_head
from mtlkit.nets.imagenet import load_imagenet


def mtan(outputs: Sequence[int], *, backbone: str = "resnet50", pretrained: str = "auto") -> "MTAN":
    """MTAN (Liu et al. 2019, arXiv 1803.10704) in its authors' version for residual networks, which the RLW paper uses.

    Arguments, predictions and errors are those of `deeplab`.
    """
    return MTAN(outputs, backbone, pretrained)


class MTAN(MultiTaskNetwork):
    """One dilated ResNet; every task picks its own features from it, stage by stage, and has its own ASPP head.

    In each of the four residual stages, `u` are the features before the last block and `p` those after it. Task t
    attends to `a_t = mask_t([u, b_t]) * p`, where `b_t` is what an output block makes of its attended features one
    stage earlier (none in the first). The head gets the last `a_t`. The output blocks, after each of the first three
    stages, are bottleneck residual blocks; the first is followed by max pooling, as the second stage halves the size.

    All tasks go through the same output blocks, as in the authors' code. So the loss of every task reaches them, and
    they count as shared parameters beside the backbone; masks and heads are each task's own. Departures: the RLW
    release counts the masks as shared too; LibMTL has one mask for all tasks and counts the backbone alone as shared.
    """

    shared = ("backbone", "blocks")

    def __init__(self, outputs: Sequence[int], backbone: str, pretrained: str) -> None:
        super().__init__()
        self.backbone = DilatedResNet(backbone)
        self.initialisation = load_imagenet([self.backbone], backbone, pretrained)
        widths = self.backbone.channels
        self.blocks = nn.ModuleList(_output_block(a, b) for a, b in pairwise(widths))
        self.blocks[0].append(nn.MaxPool2d(2))
        self.attention = nn.ModuleList(
            nn.ModuleList(attention((1 if stage == 0 else 2) * c, c // 4, c) for stage, c in enumerate(widths))
            for _ in outputs
        )
        self.heads = nn.ModuleList(aspp_head(widths[-1], channels) for channels in outputs)

    def common(self, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """`(u, p)` of every stage."""
        features, found = self.backbone.stem(inputs), []
        for stage in self.backbone.stages():
            *blocks, last = stage
            for block in blocks:
                features = block(features)
            before, features = features, last(features)
            found.append((before, features))
        return found

    def predict(self, common: list[tuple[Tensor, Tensor]], task: int) -> Tensor:
        """The way of one task through all stages."""
        handed: list[Tensor] = []  # what the stage before hands on
        blocks = [*self.blocks, nn.Identity()]
        for (before, after), mask, block in zip(common, self.attention[task], blocks, strict=True):
            handed = [block(mask(torch.cat([before, *handed], 1)) * after)]
        return self.heads[task](handed[0])


def attention(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    """The mask of one task and stage, in (0, 1) for every channel and place: two normalised 1 x 1 convolutions."""
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 1), nn.BatchNorm2d(outputs), nn.Sigmoid(),
    )  # fmt: skip


def _output_block(channels: int, outputs: int) -> nn.Sequential:
    """A bottleneck residual block with `outputs // 4` channels inside and a projection beside it."""
    from torchvision.models.resnet import Bottleneck

    projection = nn.Sequential(nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(Bottleneck(channels, outputs // 4, downsample=projection))
