"""What all networks with a prediction for every pixel promise, and the engine on them."""

import copy
import functools
from itertools import pairwise

import pytest
import torch
from torch import nn

from mtlkit import nets
from mtlkit.engine import SampleAlignment, reference_pass
from mtlkit.engine.task_gradients import TaskGradients
from tests import zoo
from tests.engine.test_alignment import check, relative
from tests.engine.test_task_gradients import flat, obvious

RESNET = {"backbone": "resnet18", "pretrained": "none"}

MASKS = {"mtan": ["attention"], "segnet_mtan": ["down_attention", "up_attention"]}
"""What tasks own besides their heads."""

SPLIT = ["deeplab", "segnet"]
"""Networks with one representation."""


def narrow(network: nn.Module, by: int = 8) -> nn.Module:
    """The same layers with an eighth of the channels (three stay three), drawn anew: nothing here takes long."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            for key, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
                part = tensor.data.new_zeros([n if n % by else n // by for n in tensor.shape])
                setattr(layer, key, nn.Parameter(part) if isinstance(tensor, nn.Parameter) else part)
            layer.reset_parameters()
    return network


@functools.cache
def built(name: str, outputs: tuple[int, ...]) -> nets.MultiTaskNetwork:
    return narrow(nets.DENSE[name](outputs, **({} if "segnet" in name else RESNET)))


def build(name: str, outputs: tuple[int, ...] = (3, 1)) -> nets.MultiTaskNetwork:
    torch.manual_seed(0)
    return copy.deepcopy(built(name, outputs))


def problem(name: str, batch: int = 3, size: tuple[int, int] = (32, 64)) -> zoo.Problem:
    outputs = (3, 1)
    network = build(name, outputs).double().train()
    targets = [torch.randn(batch, channels, *size).double() for channels in outputs]
    path = "representation" if name == "segnet" else "network"  # an ASPP head mixes samples by batch normalisation
    return zoo.Problem(network, [zoo.pixel_loss] * len(outputs), torch.randn(batch, 3, *size).double(), targets, path)


def own(network: nets.MultiTaskNetwork, name: str, task: int) -> set[str]:
    parts = ["heads", *MASKS.get(name, [])]
    return {key for key, _ in network.named_parameters() for part in parts if key.startswith(f"{part}.{task}.")}


def shared(network: nets.MultiTaskNetwork) -> set[str]:
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    return {names[id(parameter)] for parameter in network.shared_parameters()}


@pytest.mark.parametrize("name", nets.DENSE)
@pytest.mark.parametrize("outputs", [(13, 1, 3), (2,)])
def test_predictions_have_the_size_of_the_images(name: str, outputs: tuple[int, ...]) -> None:
    network = build(name, outputs).eval()
    images = torch.randn(1, 3, 32, 64)
    predictions = network(images)
    assert [tuple(p.shape) for p in predictions] == [(1, channels, 32, 64) for channels in outputs]
    assert torch.equal(network.main(images), predictions[0])


@pytest.mark.parametrize("name", nets.DENSE)
def test_main_leaves_out_what_only_other_tasks_need(name: str) -> None:
    network = build(name)
    used: set[str] = set()
    for key, module in network.named_modules():
        module.register_forward_hook(lambda *_, key=key: used.add(key))
    network.main(torch.randn(2, 3, 32, 32))
    for part in ["heads", *MASKS.get(name, []), *(["units.3.reductions"] if name == "nddr" else [])]:
        assert any(key.startswith(f"{part}.0") for key in used)
        assert not any(key.startswith(f"{part}.1") for key in used)


@pytest.mark.parametrize("name", nets.DENSE)
def test_a_loss_reaches_its_own_and_the_shared_parameters(name: str) -> None:
    network = build(name)
    names = [key for key, _ in network.named_parameters()]
    assert shared(network).isdisjoint(own(network, name, 0) | own(network, name, 1))
    assert shared(network) | own(network, name, 0) | own(network, name, 1) == set(names)
    predictions = network(torch.randn(2, 3, 32, 32))
    for task, prediction in enumerate(predictions):
        gradients = torch.autograd.grad(prediction.square().mean(), network.parameters(), retain_graph=True,
                                        allow_unused=True)  # fmt: skip
        reached = {key for key, gradient in zip(names, gradients, strict=True) if gradient is not None}
        mixture_of_other = {key for key in names if key.startswith(f"units.3.reductions.{1 - task}.")}
        assert reached == (shared(network) | own(network, name, task)) - mixture_of_other


@pytest.mark.parametrize("name", nets.DENSE)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build(name)
    sum(p.square().mean() for p in network(torch.randn(3, 3, 32, 64))).backward()
    idle = {id(a.bias) for layers in network.modules() if isinstance(layers, nn.Sequential)
            for a, b in pairwise(layers) if isinstance(b, nn.BatchNorm2d)}  # fmt: skip
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert id(parameter) in idle or parameter.grad.any(), key


@pytest.mark.parametrize("name", nets.DENSE)
def test_only_one_representation_is_called_an_encoder(name: str) -> None:
    assert hasattr(build(name), "encoder") == (name in SPLIT)


@pytest.mark.parametrize("name", nets.DENSE)
def test_alignment_is_exact(name: str) -> None:
    check(problem(name))


@pytest.mark.parametrize("name", nets.DENSE)
def test_alignment_takes_the_cheapest_exact_path(name: str) -> None:
    case = problem(name)
    align = SampleAlignment(case.network, case.losses)
    align(case.inputs, case.targets, [torch.randn_like(p) for p in align.parameters])
    assert align.path() == case.path


@pytest.mark.parametrize(("name", "batched"), [*((n, False) for n in nets.DENSE), *((n, True) for n in SPLIT)])
def test_task_gradients_are_exact(name: str, batched: bool) -> None:
    """`batched` is what a GPU does for networks with one representation."""
    case = problem(name)
    weights = torch.rand(2, 3, dtype=torch.float64)
    torch.manual_seed(1)  # dropout
    rows, heads = obvious(case, weights)
    torch.manual_seed(1)
    found = TaskGradients(case.network, case.losses, batched=batched)(case.inputs, case.targets, weights)
    assert relative(found.rows(), torch.stack([flat(row) for row in rows])) < 1e-10
    for ours, theirs in zip(found.head_gradients(), heads, strict=True):
        filled = [torch.zeros_like(b) if a is None else a for a, b in zip(ours, theirs, strict=True)]
        assert relative(flat(filled), flat(theirs)) < 1e-10


@pytest.mark.parametrize("name", nets.DENSE)
def test_reference_gradient_leaves_running_statistics_alone(name: str) -> None:
    case = problem(name)
    parameters = list(case.network.shared_parameters())
    before = [buffer.clone() for buffer in case.network.buffers()]
    weights = torch.rand(3, dtype=torch.float64)
    torch.manual_seed(1)
    gradient = reference_pass(case.network, case.losses, case.inputs, case.targets, parameters, weights)
    assert all(torch.equal(a, b) for a, b in zip(before, case.network.buffers(), strict=True))
    torch.manual_seed(1)
    loss = (weights * zoo.pixel_loss(case.network.main(case.inputs), case.targets[0])).sum()
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    expected = [torch.zeros_like(p) if g is None else g for g, p in zip(expected, parameters, strict=True)]
    assert relative(flat(gradient), flat(expected)) < 1e-10
