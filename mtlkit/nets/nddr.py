"""NDDR-CNN."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlkit.nets.branches import Branches, Unit


def nddr(outputs: Sequence[int], *, backbone: str = "resnet50", pretrained: str = "auto") -> "NDDR":
    """NDDR-CNN (Gao et al. 2019, arXiv 1801.08297) of dilated ResNets with ASPP heads, without the paper's shortcuts.

    Arguments, predictions and errors are those of `deeplab`.
    """
    return NDDR(outputs, backbone, pretrained)


class NDDR(Branches):
    """Branches whose features are fused after every stage; after the stem as well, as in the RLW release."""

    shared = ("branches", "stem_unit", "units")

    def __init__(self, outputs: Sequence[int], backbone: str, pretrained: str) -> None:
        super().__init__(outputs, Reduction, backbone, pretrained)
        self.stem_unit = Reduction(len(outputs), self.branches[0].conv1.out_channels)

    def stem(self, images: Tensor) -> list[Tensor]:
        """The mixtures of what the stems of all branches give."""
        return self.stem_unit.mix(super().stem(images))


class Reduction(Unit):
    """Neural discriminative dimensionality reduction: for every task, a 1 x 1 convolution from the features of all
    branches back to the size of one, then batch normalisation and ReLU.

    The convolution starts as 0.9 times the task's own features and 0.1 times those of every other (the paper's alpha
    and beta for two tasks; the RLW release keeps them for three, and the batch normalisation makes up for the sum).
    Batch normalisation averages with momentum 0.05, as in the authors' code.

    Args:
        tasks: T >= 1.
        channels: C, of the features.
    """

    def __init__(self, tasks: int, channels: int) -> None:
        super().__init__()
        identity = torch.eye(channels)
        self.reductions = nn.ModuleList()
        for task in range(tasks):
            convolution = nn.Conv2d(tasks * channels, channels, 1, bias=False)
            weight = torch.cat([(0.9 if source == task else 0.1) * identity for source in range(tasks)], 1)
            convolution.weight = nn.Parameter(weight[:, :, None, None])
            normalisation = nn.BatchNorm2d(channels, momentum=0.05)
            self.reductions.append(nn.Sequential(convolution, normalisation, nn.ReLU(inplace=True)))

    def join(self, features: list[Tensor]) -> Tensor:
        """`(B, T C, H, W)`."""
        return torch.cat(features, 1)

    def forward(self, joined: Tensor, task: int) -> Tensor:
        """The task's reduction."""
        return self.reductions[task](joined)
