"""The network of Office-31, Office-Home and PACS: its layers, its weights, and the engine on it."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.errors import MtlkitError
from mtlkit.nets import imagenet
from mtlkit.nets.office import office
from mtlkit.tasks import multiclass_loss


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def test_layers_as_published():
    network = office(4, 65, pretrained="none")
    resnet, *bottleneck = network.backbone
    assert count(resnet.parameters()) == 11_176_512
    assert [type(layer) for layer in bottleneck] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert bottleneck[0].weight.shape == (512, 512) and bottleneck[3].p == 0.5
    assert (bottleneck[0].bias == 0.1).all()
    assert float(bottleneck[0].weight.detach().std()) == pytest.approx(0.005, rel=0.02)
    assert bottleneck[0].weight.mean().abs() < 1e-4
    assert [tuple(head.weight.shape) for head in network.heads] == [(65, 512)] * 4
    assert count(network.shared_parameters()) == 11_440_192
    assert count(office(1, pretrained="none").heads[0].parameters()) == 15_903


def test_domains_with_batches_of_their_own():
    network = office(3, 7, pretrained="none").eval()
    inputs = [torch.randn(size, 3, 32, 32) for size in (2, 1, 3)]
    with torch.no_grad():
        predictions, main = network(inputs), network.main(inputs)
        alone = [head(network.backbone(x)) for head, x in zip(network.heads, inputs, strict=True)]
    assert [tuple(one.shape) for one in predictions] == [(2, 7), (1, 7), (3, 7)]
    assert all(torch.equal(a, b) for a, b in zip(predictions, alone, strict=True)) and torch.equal(main, alone[0])


def test_imagenet_weights_where_they_are(hub, monkeypatch, capsys):
    torch.manual_seed(5)
    state = models.resnet18(weights=None).state_dict()
    hub.mkdir(parents=True)
    torch.save(state, hub / "new")
    digest = hashlib.sha256((hub / "new").read_bytes()).hexdigest()[:8]
    (hub / "new").rename(hub / f"resnet18-{digest}.pth")
    monkeypatch.setitem(imagenet.WEIGHTS, "resnet18", f"https://example.org/resnet18-{digest}.pth")
    network = office(2)
    own = network.backbone[0].state_dict()
    assert network.initialisation == "imagenet" and capsys.readouterr().err == ""
    assert all(torch.equal(own[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_scratch_where_they_are_not(capsys):
    assert office(2).initialisation == "scratch"
    assert "starting from SCRATCH" in capsys.readouterr().err
    with pytest.raises(MtlkitError, match="ImageNet weights of resnet18 are not at"):
        office(2, pretrained="imagenet")


def test_task_gradients_of_two_domains():
    """In float64 and evaluation mode, so that dropout leaves nothing to chance; against a plain backward pass each."""
    torch.manual_seed(0)
    network = office(2, 5, pretrained="none").double().eval()
    inputs = tuple(torch.randn(2, 3, 32, 32, dtype=torch.float64) for _ in range(2))
    targets = tuple(torch.randint(5, (2,)) for _ in range(2))
    within = torch.rand(2, 2, dtype=torch.float64)
    found = TaskGradients(network, [multiclass_loss] * 2)(inputs, targets, within)
    for task in range(2):
        losses = multiclass_loss(network.heads[task](network.backbone(inputs[task])), targets[task])
        expected = torch.autograd.grad((within[task] * losses).sum(), network.shared_parameters())
        size = torch.stack([g.norm() for g in expected]).norm()
        for ours, plain in zip(found.row(task), expected, strict=True):
            assert (ours - plain).norm() < 1e-10 * size
