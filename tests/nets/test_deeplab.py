"""DeepLabV3: layout, output stride, sizes."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter

from mtlkit import nets
from mtlkit.errors import MtlkitError
from mtlkit.nets.deeplab import BACKBONES, DilatedResNet, aspp_head
from tests.nets.test_nets import count

BACKBONE = {"resnet18": 11_689_512 - 513 * 1000, "resnet50": 25_557_032 - 2049 * 1000}
"""Parameters that torchvision reports, without the classifier of 1000 classes."""


def conv(channels: int, outputs: int, kernel: int = 1) -> int:
    """Parameters of a convolution without biases and its batch normalisation."""
    return channels * outputs * kernel**2 + 2 * outputs


def head(channels: int, outputs: int) -> int:
    """Of an ASPP head: two views by 1 x 1, three by 3 x 3, projection, 3 x 3 and classifier."""
    views = 2 * conv(channels, 256) + 3 * conv(channels, 256, 3)
    return views + conv(5 * 256, 256) + conv(256, 256, 3) + 257 * outputs


def randomised(network: nn.Module) -> nn.Module:
    """Statistics and scales that differ from channel to channel, in evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return network.eval()


def test_parameters_of_the_release() -> None:
    with torch.device("meta"):
        network = nets.deeplab((13, 1, 3), pretrained="none")
    assert count(network.parameters()) == 71_888_721
    assert count(network.shared_parameters()) == BACKBONE["resnet50"]


@pytest.mark.parametrize(("backbone", "width"), [("resnet18", 512), ("resnet50", 2048)])
def test_parameters(backbone: str, width: int) -> None:
    with torch.device("meta"):
        network = nets.deeplab((21, 7, 1, 3), backbone=backbone, pretrained="none")
    assert count(network.encoder.parameters()) == BACKBONE[backbone]
    assert [count(h.parameters()) for h in network.heads] == [head(width, outputs) for outputs in (21, 7, 1, 3)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_fourth_place_is_what_the_undilated_network_gives(backbone: str) -> None:
    torch.manual_seed(0)
    plain = randomised(getattr(models, backbone)(weights=None)).double()
    dilated = DilatedResNet(backbone).double().eval()
    dilated.load_state_dict({k: v for k, v in plain.state_dict().items() if not k.startswith("fc.")})
    images = torch.randn(1, 3, 64, 96).double()
    features = dilated(images)
    assert features.shape == (1, dilated.channels[-1], 8, 12)
    expected = IntermediateLayerGetter(plain, {"layer4": "features"})(images)["features"]
    assert torch.allclose(features[:, :, ::4, ::4], expected, rtol=1e-10)


def test_dilation_is_torchvisions_where_it_has_one() -> None:
    network = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    ours = dict(DilatedResNet("resnet50").named_modules())
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert all(getattr(layer, what) == getattr(ours[name], what) for what in ("stride", "dilation", "padding"))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameters_are_named_as_in_torchvision(backbone: str) -> None:
    with torch.device("meta"):
        ours, theirs = DilatedResNet(backbone), getattr(models, backbone)(weights=None)
    shapes = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes


def test_channels_of_the_stages() -> None:
    network = DilatedResNet("resnet18")
    features = network.stem(torch.randn(2, 3, 32, 64))
    shapes = [(64, 8, 16)]
    for stage in network.stages():
        features = stage(features)
        shapes.append(tuple(features.shape[1:]))
    assert shapes == [(64, 8, 16), (64, 8, 16), (128, 4, 8), (256, 4, 8), (512, 4, 8)]
    assert network.channels == [64, 128, 256, 512]


def test_upsampling_aligns_corners() -> None:
    """A ramp from corner to corner stays one, without flat margins."""
    ramp = torch.linspace(0, 1, 5).expand(1, 2, 3, 5)
    assert torch.allclose(aspp_head(16, 2)[1](ramp), torch.linspace(0, 1, 40).expand(1, 2, 24, 40), atol=1e-6)


def test_normals_have_any_length() -> None:
    normals = nets.deeplab((3,), backbone="resnet18", pretrained="none").eval()(torch.randn(1, 3, 32, 32))[0]
    assert (normals.norm(dim=1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("name", ["deeplab", "mtan", "cross_stitch", "nddr"])
def test_sides_that_are_no_multiple_of_eight(name: str) -> None:
    network = nets.DENSE[name]((1,), backbone="resnet18", pretrained="none").eval()
    with pytest.raises(MtlkitError, match=r"images of 36 x 64 do not fit a dilated ResNet.*multiples of 8"):
        network(torch.randn(1, 3, 36, 64))


def test_unknown_backbone() -> None:
    with pytest.raises(MtlkitError, match="did you mean 'resnet50'"):
        nets.deeplab((1,), backbone="resnet5")


def test_heads_are_each_tasks_own() -> None:
    network = nets.deeplab((2, 2), backbone="resnet18", pretrained="none").eval()
    images = torch.randn(1, 3, 32, 32)
    changed = copy.deepcopy(network)
    changed.heads[1][0][-1].bias.data += 1

    def predictions(of: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return of(images)

    first, second = zip(predictions(network), predictions(changed), strict=True)
    assert torch.equal(*first)
    assert torch.allclose(second[0] + 1, second[1], atol=1e-5)
