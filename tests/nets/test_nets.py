"""The published networks, layer by layer, and what importing the package costs."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mtlkit import nets


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def layers(module: nn.Module, inputs: torch.Tensor) -> list[tuple]:
    """Name, number of parameters and output shape of every layer, without the batch."""
    rows = []
    for layer in module:
        inputs = layer(inputs)
        rows.append((type(layer).__name__, count(layer.parameters()), tuple(inputs.shape[1:])))
    return rows


CONVOLUTIONS = [
    ("Conv2d", 168, (6, 34, 34)),  # 3 x 3, padding 2
    ("ReLU", 0, (6, 34, 34)),
    ("MaxPool2d", 0, (6, 17, 17)),
    ("Conv2d", 2416, (16, 13, 13)),
    ("ReLU", 0, (16, 13, 13)),
    ("MaxPool2d", 0, (16, 6, 6)),
]
TRUNK = [
    ("Conv2d", 51328, (128, 2, 2)),
    ("ReLU", 0, (128, 2, 2)),
    ("Flatten", 0, (512,)),
    ("Linear", 43092, (84,)),
    ("ReLU", 0, (84,)),
]
HIDDEN = [("Linear", 7140, (84,)), ("ReLU", 0, (84,))]


@pytest.mark.parametrize("head_layers", [1, 2, 3])
def test_lenet_as_published(head_layers: int) -> None:
    network = nets.lenet(10, head_layers=head_layers)
    images = torch.randn(2, 3, 32, 32)
    assert layers(network.encoder, images) == CONVOLUTIONS
    for head in network.heads:
        assert layers(head, network.encoder(images)) == [*TRUNK, *HIDDEN * (head_layers - 1), ("Linear", 85, (1,))]


def test_lenet_has_the_published_number_of_parameters() -> None:
    network = nets.lenet(10)
    assert count(network.shared_parameters()) == 2584
    assert count(network.parameters()) == 1_019_034


@pytest.mark.parametrize("head_layers", [1, 2])
def test_light_lenet_shares_all_but_the_top(head_layers: int) -> None:
    network = nets.light_lenet(10, head_layers=head_layers)
    images = torch.randn(2, 3, 32, 32)
    assert layers(network.encoder, images) == CONVOLUTIONS + TRUNK
    assert layers(network.heads[9], network.encoder(images)) == [*HIDDEN * (head_layers - 1), ("Linear", 85, (1,))]


def test_mlp_as_published() -> None:
    network = nets.mlp(2)
    inputs = torch.randn(5, 250)
    wide = [("Linear", 64 * 65, (64,)), ("ReLU", 0, (64,))]
    assert layers(network.encoder, inputs) == [("Linear", 64 * 251, (64,)), ("ReLU", 0, (64,)), *wide, *wide]
    for head in network.heads:
        assert layers(head, network.encoder(inputs)) == [("Linear", 65, (1,)), ("ReLU", 0, (1,)), ("Linear", 2, (1,))]


@pytest.mark.parametrize(
    ("options", "encoder", "head"),
    [
        ({"shared_layers": 0, "head_layers": 2, "head_width": 5}, [], [(7, 5), (5, 5), (5, 3)]),
        ({"shared_layers": 1, "shared_width": 4, "head_width": 6}, [(7, 4)], [(4, 6), (6, 3)]),
        ({"shared_layers": 2, "shared_width": 4, "head_layers": 0}, [(7, 4), (4, 4)], [(4, 3)]),
    ],
)
def test_mlp_of_any_depth(options: dict, encoder: list, head: list) -> None:
    network = nets.mlp(3, 7, 3, **options)

    def sizes(module: nn.Module) -> list[tuple]:
        return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]

    assert sizes(network.encoder) == encoder
    assert [sizes(h) for h in network.heads] == [head] * 3


def test_resnet18() -> None:
    network = nets.resnet18(4, 3)
    assert count(network.shared_parameters()) == 11_176_512  # torchvision's 11,689,512 without its 1000-class layer
    assert [count(head.parameters()) for head in network.heads] == [3 * 513] * 4
    assert network.encoder(torch.randn(2, 3, 32, 32)).shape == (2, 512)


@pytest.mark.parametrize("name", nets.NETWORKS)
@pytest.mark.parametrize("tasks", [1, 3])
def test_contract(name: str, tasks: int) -> None:
    """One prediction per task, logits, and every parameter is either shared or of one head and has a gradient."""
    torch.manual_seed(0)
    network = nets.NETWORKS[name](tasks)
    shape, outputs = {
        "mlp": ((250,), 1),
        "multi_lenet": ((1, 28, 28), 10),
        "celeba": ((3, 64, 64), 1),
        "office": ((3, 32, 32), 31),
    }.get(name, ((3, 32, 32), 1))
    predictions = network(torch.randn(4, *shape))
    assert [tuple(p.shape) for p in predictions] == [(4, outputs)] * tasks
    shared = {id(p) for p in network.shared_parameters()}
    own = [{id(p) for p in head.parameters()} for head in network.heads]
    assert len(shared) + sum(map(len, own)) == len(list(network.parameters())) == len(shared.union(*own))
    if name != "mlp":  # the published head is one unit wide, and may be off
        sum(p.sum() for p in predictions).backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_frozen_parameters_are_not_shared_ones() -> None:
    network = nets.mlp(2)
    network.encoder[0].weight.requires_grad_(False)
    assert count(network.shared_parameters()) == 64 + 2 * 64 * 65


def test_import_is_light() -> None:
    """What is slow to import is imported where it is used."""
    heavy = ["torchvision", "papermill", "matplotlib", "pandas", "sklearn", "scipy", "torchmetrics", "IPython"]
    script = f"""
import sys
import mtlkit
first = [m for m in {["torch", *heavy]} if m in sys.modules]
import mtlkit.training, mtlkit.experiment, mtlkit.nets, mtlkit.cli
second = [m for m in {heavy} if m in sys.modules]
print(first, second)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
