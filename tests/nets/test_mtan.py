"""MTAN, layer by layer."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from mtlkit import nets
from tests.nets.test_deeplab import BACKBONE, conv, head, randomised
from tests.nets.test_nets import count


def mask(channels: int, hidden: int, outputs: int) -> int:
    """Parameters of two 1 x 1 convolutions, here with biases, and their batch normalisation."""
    return conv(channels, hidden) + hidden + conv(hidden, outputs) + outputs


def block(channels: int, outputs: int) -> int:
    """Of a bottleneck block: 1 x 1, 3 x 3, 1 x 1, and the projection beside them."""
    inside = outputs // 4
    return conv(channels, inside) + conv(inside, inside, 3) + conv(inside, outputs) + conv(channels, outputs)


@pytest.mark.parametrize("backbone", BACKBONE)
def test_parameters(backbone: str) -> None:
    with torch.device("meta"):
        network = nets.mtan((13, 1, 3), backbone=backbone, pretrained="none")
    widths = [(64 << stage) * (4 if backbone == "resnet50" else 1) for stage in range(4)]
    masks = sum(mask(c if c == widths[0] else 2 * c, c // 4, c) for c in widths)
    blocks = sum(block(a, b) for a, b in pairwise(widths))
    heads = sum(head(widths[-1], outputs) for outputs in (13, 1, 3))
    assert count(network.shared_parameters()) == BACKBONE[backbone] + blocks
    assert count(network.parameters()) == BACKBONE[backbone] + blocks + 3 * masks + heads


def test_attended_features_by_hand() -> None:
    torch.manual_seed(0)
    network = randomised(nets.mtan((2, 5), backbone="resnet18", pretrained="none"))
    images = torch.randn(1, 3, 32, 64)
    features, attended = network.backbone.stem(images), None
    for number, stage in enumerate(network.backbone.stages()):
        before = stage[0](features)
        features = stage[1](before)
        merged = before if attended is None else torch.cat([before, attended], 1)
        attended = network.attention[1][number](merged) * features
        if number < 3:
            attended = network.blocks[number][0](attended)
        if number == 0:
            attended = F.max_pool2d(attended, 2)
    assert torch.allclose(network(images)[1], network.heads[1](attended))


def test_open_masks_are_hard_sharing() -> None:
    network = nets.mtan((2, 5), backbone="resnet18", pretrained="none").eval()
    for masks in network.attention:
        masks[-1][-2].bias.data.fill_(50.0)  # a sigmoid of 50 is one
    images = torch.randn(1, 3, 32, 32)
    expected = [head(network.backbone(images)) for head in network.heads]
    assert all(torch.allclose(a, b) for a, b in zip(network(images), expected, strict=True))
