"""The network of CelebA: its layers, that the heads' one product changes nothing, and what forty tasks cost."""

import pytest
import torch
from torch import nn

from mtlkit.engine.forward_mode import slots, split, tangents
from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.errors import MtlkitError
from mtlkit.nets import SharedEncoder
from mtlkit.nets.celeba import celeba
from mtlkit.tasks import binary_loss
from tests import zoo
from tests.engine.test_alignment import check
from tests.engine.test_cost import count


def small(tasks: int = 3, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return celeba(tasks, outputs, size=32, width=2)


def problem(path: str) -> zoo.Problem:
    network = small().double().train()
    targets = (torch.rand(3, 4) > 0.5).double()
    return zoo.Problem(network, [binary_loss] * 3, torch.randn(4, 3, 32, 32).double(), targets, path)


def test_layers_as_published():
    network = celeba()
    assert sum(p.numel() for p in network.shared_parameters()) == 11_168_832
    assert [(head.in_features, head.out_features) for head in network.heads] == [(2048, 1)] * 40
    shapes = []
    with torch.no_grad():
        features = torch.randn(1, 3, 64, 64)
        for layer in network.eval().encoder:
            features = layer(features)
            shapes.append(tuple(features.shape[1:]))
    assert shapes == [(64, 64, 64)] * 5 + [(128, 32, 32)] * 2 + [(256, 16, 16)] * 2 + [(512, 8, 8)] * 2 + [
        (512, 2, 2), (2048,)]  # fmt: skip
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 17 + 3 and not any(m.bias is not None for m in convolutions)


@pytest.mark.parametrize(("size", "width", "features"), [(32, 2, 16), (64, 2, 64), (96, 1, 72)])
def test_other_sizes(size, width, features):
    network = celeba(2, 3, size=size, width=width)
    assert network.heads[1].in_features == features
    assert network(torch.randn(2, 3, size, size)).shape == (2, 2, 3)


@pytest.mark.parametrize("size", [0, 48, 65])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(MtlkitError, match=f"size is {size}, which is not a multiple of 32"):
        celeba(size=size)


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_product_gives_what_the_heads_give(outputs):
    network = small(5, outputs).double()
    plain = SharedEncoder(network.encoder, network.heads)
    inputs, weights = torch.randn(3, 3, 32, 32).double(), torch.randn(5, 3, outputs).double()
    found = []
    for one in (network, plain):
        one.zero_grad()
        predictions = torch.stack(list(one(inputs)))
        (weights * predictions).sum().backward()
        found.append([predictions.detach(), one.main(inputs).detach(), *(p.grad for p in network.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", ["representation", "network"])
@pytest.mark.parametrize("main_head", [False, True])
def test_alignments_are_exact(path, main_head):
    check(problem(path), main_head=main_head, path=path)


def test_task_gradients_are_exact():
    one = problem("representation")
    within = torch.rand(3, 4, dtype=torch.float64)
    found = TaskGradients(one.network, one.losses)(one.inputs, one.targets, within)
    losses = (within * zoo.matrix(one)).sum(1)
    for task in range(3):
        expected = torch.autograd.grad(losses[task], one.network.shared_parameters(), retain_graph=True)
        size = torch.stack([g.norm() for g in expected]).norm()
        assert all((a - b).norm() < 1e-10 * size for a, b in zip(found.row(task), expected, strict=True))


def kernels(tasks: int, aligned: bool) -> int:
    """Kernels of an equally weighted step without the optimizer, or of one with the alignments of all samples."""
    network = small(tasks)
    inputs, targets = torch.randn(4, 3, 32, 32), (torch.rand(tasks, 4) > 0.5).float()
    shared = network.shared_parameters()
    places, direction = slots(network, shared), [torch.randn_like(p) for p in shared]

    def step() -> None:
        if aligned:
            with tangents(places, shared, direction):
                losses, scores = split(binary_loss(network(inputs), targets))
            weights = scores.detach()
        else:
            losses = binary_loss(network(inputs), targets)
            weights = torch.full_like(targets, 1 / targets.numel())
        network.zero_grad()
        (weights * losses).sum().backward()

    return count(step).kernels.total()


@pytest.mark.parametrize("aligned", [False, True])
def test_forty_tasks_take_as_many_kernels_as_two(aligned):
    assert kernels(40, aligned) <= 1.02 * kernels(2, aligned)
