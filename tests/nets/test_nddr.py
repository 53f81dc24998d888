"""NDDR-CNN."""

import pytest
import torch

from mtlkit import nets
from mtlkit.nets.nddr import Reduction
from tests.nets.test_deeplab import BACKBONE, conv, head, randomised
from tests.nets.test_nets import count


@pytest.mark.parametrize(("backbone", "expansion"), [("resnet18", 1), ("resnet50", 4)])
def test_parameters(backbone: str, expansion: int) -> None:
    with torch.device("meta"):
        network = nets.nddr((13, 1, 3), backbone=backbone, pretrained="none")
    widths = [64, *(expansion * (64 << stage) for stage in range(4))]
    shared = 3 * BACKBONE[backbone] + 3 * sum(conv(3 * c, c) for c in widths)
    assert count(network.shared_parameters()) == shared
    assert count(network.parameters()) == shared + sum(head(widths[-1], outputs) for outputs in (13, 1, 3))


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_first_reduction_is_a_weighted_sum(tasks: int) -> None:
    unit = Reduction(tasks, 4).eval()  # fresh statistics: mean 0, variance 1
    features = [torch.randn(2, 4, 3, 5) for _ in range(tasks)]
    for task, reduced in enumerate(unit.mix(features)):
        mixture = sum((0.9 if source == task else 0.1) * x for source, x in enumerate(features))
        assert torch.allclose(reduced, mixture.relu() / (1 + 1e-5) ** 0.5, atol=1e-6)


def test_features_are_fused_after_the_stem_and_every_stage() -> None:
    torch.manual_seed(0)
    network = randomised(nets.nddr((2, 5), backbone="resnet18", pretrained="none"))
    images = torch.randn(1, 3, 32, 64)
    features = [branch.stem(images) for branch in network.branches]
    for number, unit in enumerate([network.stem_unit, *network.units]):
        if number:
            stages = [branch.stages()[number - 1] for branch in network.branches]
            features = [stage(x) for stage, x in zip(stages, features, strict=True)]
        features = [reduction(torch.cat(features, 1)) for reduction in unit.reductions]
    expected = [top(x) for top, x in zip(network.heads, features, strict=True)]
    assert all(torch.allclose(a, b) for a, b in zip(network(images), expected, strict=True))
