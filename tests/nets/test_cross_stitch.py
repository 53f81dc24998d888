"""Cross-stitch networks."""

import pytest
import torch

from mtlkit import nets
from mtlkit.nets.cross_stitch import CrossStitch
from tests.nets.test_deeplab import BACKBONE, head, randomised
from tests.nets.test_nets import count


@pytest.mark.parametrize(("backbone", "width"), [("resnet18", 512), ("resnet50", 2048)])
def test_parameters(backbone: str, width: int) -> None:
    with torch.device("meta"):
        network = nets.cross_stitch((13, 1, 3), backbone=backbone, pretrained="none")
    shared = 3 * BACKBONE[backbone] + 4 * 3**2
    assert count(network.shared_parameters()) == shared
    assert count(network.parameters()) == shared + sum(head(width, outputs) for outputs in (13, 1, 3))


def test_first_mixture() -> None:
    assert torch.allclose(CrossStitch(2, 8).weight, torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    assert torch.allclose(CrossStitch(3, 8).weight, 0.05 + 0.85 * torch.eye(3))
    assert torch.equal(CrossStitch(1, 8).weight, torch.ones(1, 1))


def test_mixture() -> None:
    unit = CrossStitch(3, 4)
    unit.weight.data.normal_()
    features = [torch.randn(2, 4, 3, 5) for _ in range(3)]
    for task, mixture in enumerate(unit.mix(features)):
        assert torch.allclose(mixture, sum(w * x for w, x in zip(unit.weight[task], features, strict=True)), atol=1e-6)


def test_without_exchange_it_is_one_network_per_task() -> None:
    torch.manual_seed(0)
    network = randomised(nets.cross_stitch((2, 5), backbone="resnet18", pretrained="none"))
    images = torch.randn(1, 3, 32, 64)
    alone = [top(branch(images)) for top, branch in zip(network.heads, network.branches, strict=True)]
    assert not torch.allclose(network(images)[0], alone[0])
    for unit in network.units:
        unit.weight.data.copy_(torch.eye(2))
    assert all(torch.allclose(a, b) for a, b in zip(network(images), alone, strict=True))


def test_branches_start_apart() -> None:
    first, second = nets.cross_stitch((1, 1), backbone="resnet18", pretrained="none").branches
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
