"""SegNet and SegNet-MTAN."""

import pytest
import torch
from torch.nn import functional as F

from mtlkit import nets
from mtlkit.errors import MtlkitError
from mtlkit.nets.segnet import FILTERS, SegNet
from tests.nets.test_deeplab import randomised
from tests.nets.test_mtan import mask
from tests.nets.test_nets import count

SMALL = (4, 6, 8, 10, 10)


def conv(channels: int, outputs: int) -> int:
    """Parameters of a 3 x 3 convolution with biases and its batch normalisation."""
    return 9 * channels * outputs + 3 * outputs


def backbone() -> int:
    """Of VGG-16's thirteen convolutions and of their mirror image, which steps down at the start of a stage."""
    down = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512), *5 * [(512, 512)]]
    up = [*3 * [(512, 512)], (512, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 128), (128, 64),
          (64, 64), (64, 64), (64, 64)]  # fmt: skip
    return sum(conv(*layer) for layer in down + up)


def head(outputs: int) -> int:
    return 9 * 64 * 64 + 64 + 65 * outputs


def test_parameters_of_the_single_task_network() -> None:
    with torch.device("meta"):
        assert count(nets.segnet((13,)).parameters()) == 24_981_069


def test_parameters() -> None:
    with torch.device("meta"):
        network = nets.segnet((13, 1, 3))
    assert count(network.shared_parameters()) == backbone()
    assert count(network.parameters()) == backbone() + head(13) + head(1) + head(3)


def test_parameters_with_attention() -> None:
    with torch.device("meta"):
        network = nets.segnet_mtan((13, 1, 3))
    down = [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    up = [(512, 512), (512, 256), (256, 128), (128, 64), (64, 64)]
    shared = backbone() + sum(conv(*layer) for layer in down + up)
    masks = mask(64, 64, 64) + sum(mask(2 * c, c, c) for c in FILTERS[1:]) + sum(mask(a + b, b, b) for a, b in up)
    assert count(network.shared_parameters()) == shared
    assert count(network.parameters()) == shared + 3 * masks + head(13) + head(1) + head(3)


def test_decoder_puts_maxima_back() -> None:
    network = SegNet(SMALL).eval()
    down, up = network.taps(torch.randn(2, 3, 32, 64))
    pooled, unpooled = F.max_pool2d(down[-1][1], 2), up[0][0]
    there = unpooled != 0
    assert torch.equal(unpooled[there], down[-1][1][there])
    assert torch.equal(F.max_pool2d(unpooled, 2), pooled)
    assert there.sum() == (pooled != 0).sum()


@pytest.mark.parametrize("name", ["segnet", "segnet_mtan"])
@pytest.mark.parametrize("size", [(32, 32), (37, 51), (63, 65)])
def test_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    network = nets.DENSE[name]((2, 1), filters=SMALL)
    assert [tuple(p.shape) for p in network(torch.randn(2, 3, *size))] == [(2, 2, *size), (2, 1, *size)]


@pytest.mark.parametrize("name", ["segnet", "segnet_mtan"])
def test_images_that_are_too_small(name: str) -> None:
    with pytest.raises(MtlkitError, match="images of 31 x 64 are too small"):
        nets.DENSE[name]((1,), filters=SMALL)(torch.randn(1, 3, 31, 64))


def test_attended_features_by_hand() -> None:
    torch.manual_seed(0)
    network = randomised(nets.segnet_mtan((2, 5), filters=SMALL))
    images = torch.randn(1, 3, 32, 64)
    down, up = network.backbone.taps(images)
    attended = None
    for number, (first, last) in enumerate(down):
        merged = first if attended is None else torch.cat([first, attended], 1)
        attended = F.max_pool2d(network.down_blocks[number](network.down_attention[1][number](merged) * last), 2)
    for number, (unpooled, last) in enumerate(up):
        larger = F.interpolate(attended, scale_factor=2, mode="bilinear", align_corners=True)
        merged = torch.cat([unpooled, network.up_blocks[number](larger)], 1)
        attended = network.up_attention[1][number](merged) * last
    assert torch.allclose(network(images)[1], network.heads[1](attended), atol=1e-6)


def test_open_masks_of_the_last_stage_are_hard_sharing() -> None:
    network = nets.segnet_mtan((2, 5), filters=SMALL).eval()
    for masks in network.up_attention:
        masks[-1][-2].bias.data.fill_(50.0)  # a sigmoid of 50 is one
    images = torch.randn(1, 3, 32, 32)
    expected = [top(network.backbone(images)) for top in network.heads]
    assert all(torch.allclose(a, b) for a, b in zip(network(images), expected, strict=True))
