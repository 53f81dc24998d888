"""Cross-stitch networks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlkit.nets.branches import Branches, Unit


def cross_stitch(outputs: Sequence[int], *, backbone: str = "resnet50", pretrained: str = "auto") -> Branches:
    """Cross-stitch networks (Misra et al. 2016, arXiv 1604.03539) of dilated ResNets with ASPP heads.

    After each of the four residual stages, branch t goes on with `sum_s A[t, s] x_s`, a linear combination of the
    features of all branches. Its weights `A (T, T)` are learnt with the rest; at first, a branch's own features count
    0.9, and 0.1 is shared out among the others (a convex combination, as the paper wants it; it has two tasks).

    Departures: the paper starts from branches that were trained alone, gives A a higher learning rate, and places the
    units of its AlexNet after pooling and fully connected layers. The RLW release has one stem for all branches, no
    unit after the last stage, ones as first weights, and the same combination for all branches; we follow the paper.

    Arguments, predictions and errors are those of `deeplab`.
    """
    return Branches(outputs, CrossStitch, backbone, pretrained)


class CrossStitch(Unit):
    """Linear combinations of the branches' features.

    Args:
        tasks: T >= 1.
        channels: Of the features; all are combined with the same weights.
    """

    def __init__(self, tasks: int, channels: int) -> None:
        super().__init__()
        others = 0.1 / (tasks - 1) if tasks > 1 else 0.0
        weight = torch.full((tasks, tasks), others).fill_diagonal_(0.9 if tasks > 1 else 1.0)
        self.weight = nn.Parameter(weight)
        """`A (T, T)`."""

    def join(self, features: list[Tensor]) -> Tensor:
        """`(T, B, C, H, W)`."""
        return torch.stack(features)

    def forward(self, joined: Tensor, task: int) -> Tensor:
        """`sum_s A[task, s] x_s`."""
        return torch.tensordot(self.weight[task], joined, dims=1)
