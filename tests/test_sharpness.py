"""Sharpness: what is measured, that measuring changes nothing, and its way into a record."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlkit import nets, sharpness
from mtlkit.batched import Batched
from mtlkit.data.base import Samples
from mtlkit.sharpness import PAIRS, RADIUS, Measured
from mtlkit.tasks import Task
from mtlkit.training import Run
from tests.batched.problems import SEEDS, made, toys
from tests.batched.test_training import assert_close


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction[:, 0] - target) ** 2


SQUARES = [Task(name, squared, meter=lambda: None) for name in "ab"]


class Outputs(nn.Module):
    """Two linear tasks on one input."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(5, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [head(x) for head in self.heads]


def samples(size: int = 30) -> Samples:
    return Samples(torch.randn(size, 5).double(), torch.randn(2, size).double())


def test_rise_of_a_quadratic_loss_is_that_of_its_curvature() -> None:
    torch.manual_seed(0)
    network, data = Outputs().double(), samples()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = sharpness.sharpness(network, SQUARES, data, batch=7)
    random, rises = torch.Generator().manual_seed(0), []
    for _ in range(PAIRS):
        for head in network.heads:
            noise = torch.randn(1, 5, generator=random).double()
            step = RADIUS * head.weight.detach().norm() * noise / noise.norm()
            rises.append(((data.inputs @ step.T) ** 2).mean())
    with torch.no_grad():
        pairs = zip(network(data.inputs), data.targets, strict=True)
        losses = [squared(prediction, target).mean() for prediction, target in pairs]
    assert found["sharpness"] == pytest.approx(float(torch.stack(rises).mean()), rel=1e-9)
    assert found["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-9)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_missing_labels_and_samples_beyond_the_limit_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, data = Outputs().double(), samples()
    data.mass[1, 20:] = 0
    some = sharpness.sharpness(network, SQUARES, data)
    data.targets[1, 20:] = 1e3
    assert sharpness.sharpness(network, SQUARES, data) == some
    monkeypatch.setattr(sharpness, "SAMPLES", 20)
    first = sharpness.sharpness(network, SQUARES, data)
    assert first == pytest.approx(sharpness.sharpness(network, SQUARES, data.take(torch.arange(20))))
    assert first != some


def test_scaling_a_layer_up_and_the_next_one_down_changes_nothing() -> None:
    torch.manual_seed(0)
    data, network = samples(), nets.mlp(2, 5, shared_layers=2, shared_width=8, head_width=5).double()
    first, second = (layer for layer in network.encoder.modules() if isinstance(layer, nn.Linear))
    here = sharpness.sharpness(network, SQUARES, data)
    with torch.no_grad():
        first.weight *= 50
        first.bias *= 50
        second.weight /= 50
    assert sharpness.sharpness(network, SQUARES, data) == pytest.approx(here, rel=1e-9)


def test_dropout_is_off_and_the_mode_stays() -> None:
    torch.manual_seed(0)
    network = nets.SharedEncoder(nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5)), [nn.Linear(16, 1) for _ in "ab"])
    network, data = network.double().train(), samples()
    assert sharpness.sharpness(network, SQUARES, data) == sharpness.sharpness(network, SQUARES, data)
    assert network.training


@pytest.mark.parametrize("rule", ["rlw", "slgrad"])
def test_measuring_changes_nothing_else(rule: str) -> None:
    runs = [made(toys, 0, rule, kind_of_run=kind) for kind in (Run, Measured)]
    histories: list[dict[str, Any]] = [run.fit() | {"epoch_seconds": 0} for run in runs]
    loss = partial(F.binary_cross_entropy_with_logits, reduction="none")
    data = runs[1].train
    with torch.no_grad():
        parts = zip(runs[1].network(data.inputs), data.targets, data.mass, strict=True)
        means = [(loss(p.squeeze(-1), target) * mass).sum() / mass.sum() for p, target, mass in parts]
    last = [one.pop("training") for one in histories[1]["evaluations"]][-1]
    assert last["loss"] == pytest.approx(float(torch.stack(means).mean()), rel=1e-6)
    assert histories[0] == histories[1]


def test_seeds_trained_as_one_measure_what_they_measure_alone() -> None:
    alone, together = ([made(toys, seed, "rlw", kind_of_run=Measured) for seed in SEEDS] for _ in range(2))
    histories = Batched(together).fit()
    for run, theirs in zip(alone, histories, strict=True):
        assert_close(*([one["training"] for one in history["evaluations"]] for history in (run.fit(), theirs)))
