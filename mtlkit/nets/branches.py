"""One network per task, with an exchange of features after every stage: what Cross-stitch and NDDR-CNN share."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mtlkit.nets.base import MultiTaskNetwork
from mtlkit.nets.deeplab import DilatedResNet, aspp_head
from mtlkit.nets.imagenet import load_imagenet


class Unit(nn.Module):
    """The exchange after one stage: each branch goes on with its own mixture of the features of all.

    Called with what `join` gives and a task, it gives that task's mixture `(B, C, H, W)`.
    """

    def join(self, features: list[Tensor]) -> Tensor:
        """The features of T branches, `(B, C, H, W)` each, as one tensor."""
        raise NotImplementedError

    def mix(self, features: list[Tensor]) -> list[Tensor]:
        """The mixtures of all T tasks."""
        joined = self.join(features)
        return [self(joined, task) for task in range(len(features))]


class Branches(MultiTaskNetwork):
    """One dilated ResNet and one ASPP head per task, and a unit after each of the four residual stages.

    All branches see the same images. Every task's loss reaches all branches and units, except for the parts of the last
    unit that make other tasks' mixtures; all of them count as shared parameters, as in the RLW release.

    Args:
        outputs: Channels of the T predictions.
        unit: `unit(T, channels)` gives the exchange of T branches.
        backbone: `resnet18` or `resnet50`.
        pretrained: See `load_imagenet`; all branches start from the same weights, or each from its own random ones.
    """

    shared: tuple[str, ...] = ("branches", "units")

    def __init__(self, outputs: Sequence[int], unit: Callable[[int, int], Unit], backbone: str,
                 pretrained: str) -> None:  # fmt: skip
        super().__init__()
        self.branches = nn.ModuleList(DilatedResNet(backbone) for _ in outputs)
        self.initialisation = load_imagenet(self.branches, backbone, pretrained)
        widths = self.branches[0].channels
        self.units = nn.ModuleList(unit(len(outputs), channels) for channels in widths)
        self.heads = nn.ModuleList(aspp_head(widths[-1], channels) for channels in outputs)

    def stem(self, images: Tensor) -> list[Tensor]:
        """What every branch's first stage is given."""
        return [branch.stem(images) for branch in self.branches]

    def common(self, inputs: Tensor) -> Tensor:
        """The features of all branches after the last stage, joined."""
        *units, last = self.units
        *stages, final = zip(*(branch.stages() for branch in self.branches), strict=True)
        features = self.stem(inputs)
        for parts, unit in zip(stages, units, strict=True):
            features = unit.mix([part(x) for part, x in zip(parts, features, strict=True)])
        return last.join([part(x) for part, x in zip(final, features, strict=True)])

    def predict(self, common: Tensor, task: int) -> Tensor:
        """What a task's head makes of its last mixture."""
        return self.heads[task](self.units[-1](common, task))
