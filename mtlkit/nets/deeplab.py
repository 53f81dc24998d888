"""DeepLabV3: a dilated ResNet and one ASPP head per task."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtlkit.errors import MtlkitError, one_of
from mtlkit.nets.base import SharedEncoder
from mtlkit.nets.imagenet import load_imagenet

BACKBONES = ("resnet18", "resnet50")

STRIDE = 8
"""Pixels of the image, in each direction, per place of a dilated ResNet's last feature map."""


def deeplab(outputs: Sequence[int], *, backbone: str = "resnet50", pretrained: str = "auto") -> SharedEncoder:
    """DeepLabV3 (Chen et al. 2017, arXiv 1706.05587) with hard parameter sharing, "DMTL" in the RLW release.

    The encoder is a dilated ResNet, a head is `aspp_head`. With ResNet-50 and NYUv2's outputs (13, 1, 3) it has the
    release's 71,888,721 parameters. Departure: predictions are logits, depths and normals of any length; the losses do
    what the release's network does with them (log-softmax, normalisation).

    Args:
        outputs: Channels of the T predictions. For images `(B, 3, H, W)`, prediction t is `(B, outputs[t], H, W)`.
        backbone: `resnet18` or `resnet50`.
        pretrained: `auto`, `imagenet` or `none`, see `load_imagenet`.

    Raises:
        MtlkitError: Unknown backbone, missing weights; when called, sides of the images that are no multiples of 8.
    """
    encoder = DilatedResNet(backbone)
    network = SharedEncoder(encoder, [aspp_head(encoder.channels[-1], channels) for channels in outputs])
    network.initialisation = load_imagenet([encoder], backbone, pretrained)
    return network


class DilatedResNet(nn.Module):
    """torchvision's ResNet without its classifier, at output stride 8 instead of 32.

    The last two stages keep the size of their input, and their 3 x 3 convolutions reach 2 and 4 times as far instead:
    with the same weights and statistics, every fourth row and column of the features is what the undilated network
    gives (Yu et al. 2017, arXiv 1705.09914, section 2). Parameters have torchvision's names and shapes.

    Args:
        backbone: `resnet18` or `resnet50`.

    Attributes:
        channels: Of the four residual stages' outputs.
    """

    def __init__(self, backbone: str) -> None:
        one_of("backbone", backbone, BACKBONES)
        from torchvision import models

        super().__init__()
        network = getattr(models, backbone)(weights=None)
        for name, layer in network.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)
        _dilate(self.layer3, 2)
        _dilate(self.layer4, 4)
        self.channels = [(64 << stage) * self.layer1[0].expansion for stage in range(4)]

    def stem(self, images: Tensor) -> Tensor:
        """What comes before the first residual stage: images `(B, 3, H, W)` to features `(B, 64, H / 4, W / 4)`."""
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise MtlkitError(f"images of {height} x {width} do not fit a dilated ResNet: crop or resize them so that "
                              f"both sides are multiples of {STRIDE}.")  # fmt: skip
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))

    def stages(self) -> list[nn.Sequential]:
        """The four residual stages, each a sequence of blocks."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, images: Tensor) -> Tensor:
        """Features `(B, channels[-1], H / 8, W / 8)`."""
        features = self.stem(images)
        for stage in self.stages():
            features = stage(features)
        return features


def aspp_head(channels: int, outputs: int) -> nn.Module:
    """The last layers of one task: torchvision's DeepLabV3 head and upsampling to the size of the image.

    Five views of the features (1 x 1 convolution, three 3 x 3 with dilation 12, 24 and 36, average over the image), 256
    channels each, are projected to 256 (dropout 0.5); a 3 x 3 convolution and the classifier follow. Upsampling is
    bilinear with aligned corners, as in the RLW release. The average over the image is batch-normalised, so training
    needs two images or more.

    Args:
        channels: Of the features `(B, channels, H / 8, W / 8)`.
        outputs: Of the prediction `(B, outputs, H, W)`.
    """
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead

    upsampling = nn.Upsample(scale_factor=STRIDE, mode="bilinear", align_corners=True)
    return nn.Sequential(DeepLabHead(channels, outputs), upsampling)


def _dilate(stage: nn.Sequential, rate: int) -> None:
    """Takes a stage's stride away. Its 3 x 3 convolutions skip the places that they did not get before: they reach
    `rate` steps far, and half as far where the stride was, because the input of that convolution is what it was."""
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            reach = rate if layer.stride == (1, 1) else rate // 2
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (reach, reach)
