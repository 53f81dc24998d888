"""Number format, memory format and activations of the forward pass: what changes, and what must not."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlkit import nets
from mtlkit.data.base import Samples
from mtlkit.engine import SampleAlignment, frozen_statistics
from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.errors import MtlkitError
from mtlkit.forward import prepared
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.steps import make_step
from mtlkit.tasks import binary_loss
from mtlkit.weighting import METHODS
from tests import zoo
from tests.test_training import problem, run

BFLOAT16 = {"precision": "bfloat16"}
LAST = {"channels_last": True}


def test_nothing_asked_for_is_the_network_itself() -> None:
    network = nets.lenet(2)
    assert prepared(network) is network


def convolutional(seed: int = 0) -> tuple[nn.Module, Samples, Samples]:
    """Convolutions with both kinds of normalisation, and two batches; float32."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2),
                            nn.GroupNorm(2, 8), nn.ReLU(inplace=True), nn.Flatten())  # fmt: skip
    network = nets.SharedEncoder(encoder, [nn.Linear(200, 1) for _ in range(3)])
    labels = (torch.rand(2, 3, 12) > 0.5).float()
    return network, *(Samples(torch.randn(12, 3, 13, 13), one, one.long()) for one in labels)


def steps(name: str, how: dict, count: int = 3) -> tuple[nn.Module, list, Tensor]:
    """A network after some steps of a method, the outcomes, and the last gradient."""
    network, batch, reference = convolutional()
    rule = zoo.step_of(name, network, [binary_loss] * 3, batch.inputs).rule
    optimizer = make_optimizer("sgd", network.parameters(), learning_rate=0.02, of_the_rule=list(rule.parameters()))
    step = make_step(prepared(network, **how), [binary_loss] * 3, rule, optimizer=optimizer)
    outcomes = []
    for _ in range(count):
        optimizer.zero_grad()
        outcomes.append(step(batch, reference))
        guarded_step(optimizer, outcomes[-1].skip)
        step.after(batch)
    return network, outcomes, torch.cat([p.grad.reshape(-1) for p in network.parameters()])


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_stays_inside_the_network(name: str) -> None:
    """Every method takes steps; losses and weights are float32 and near those of float32."""
    network, found, gradient = steps(name, BFLOAT16)
    _, expected, _ = steps(name, {})
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert torch.isfinite(gradient).all() and all(torch.isfinite(p).all() for p in network.parameters())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.losses.dtype == ours.weights.dtype == torch.float32 and not ours.skip
        assert torch.allclose(ours.losses, theirs.losses, atol=0.05)
    first, other = found[0].weights, expected[0].weights
    assert (first - other).norm() < 0.1 * other.norm()


def test_scores_and_gram_matrices_are_those_of_the_bfloat16_network_in_float32() -> None:
    network, batch, _ = convolutional()
    called = prepared(network, **BFLOAT16)
    seen = []
    network.encoder[0].register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    alignment, alone = (SampleAlignment(one, [binary_loss] * 3) for one in (called, network))
    direction = [torch.randn_like(p) for p in alignment.parameters]
    scores = alignment(batch.inputs, batch.targets, direction).scores
    assert set(seen) == {torch.bfloat16} and scores.dtype == torch.float32
    exact = alone(batch.inputs, batch.targets, direction).scores
    assert 0 < (scores - exact).norm() < 0.05 * exact.norm()
    assert alignment.path() == alone.path() == "representation"
    within = torch.full((3, 12), 1 / 12)
    gram = TaskGradients(called, [binary_loss] * 3)(batch.inputs, batch.targets, within).gram()
    assert gram.dtype == torch.float32


@pytest.mark.parametrize("name", ["ew", "slgrad", "pcgrad", "db_mtl", "auto_lambda"])
def test_channels_last_changes_the_order_in_memory_only(name: str) -> None:
    network, found, gradient = steps(name, LAST)
    other, expected, wanted = steps(name, {})
    assert network.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(p.grad.stride() == p.stride() for p in network.parameters())
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.weights, theirs.weights, atol=1e-5)
    assert (gradient - wanted).norm() < 1e-4 * wanted.norm()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_channels_last_reaches_the_convolutions() -> None:
    network, batch, _ = convolutional()
    seen = []
    network.encoder[3].register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    prepared(network, **LAST)(batch.inputs)
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in seen)


@pytest.mark.parametrize("how", [BFLOAT16, LAST, BFLOAT16 | LAST], ids=str)
@pytest.mark.parametrize("name", ["encoder_decoder", "unsplit"])
def test_networks_of_any_structure(name: str, how: dict) -> None:
    made = zoo.problem(name)
    network = made.network.float()
    plain = copy.deepcopy(network)
    called = prepared(network, **how)
    with frozen_statistics(called):
        found, expected = called(made.inputs.float()), plain(made.inputs.float())
    assert all(a.dtype == torch.float32 and (a - b).norm() < 0.05 * b.norm()
               for a, b in zip(found, expected, strict=True))  # fmt: skip
    assert all(a is b for a, b in zip(called.parameters(), network.parameters(), strict=True))
    called.eval()
    assert not network.training and not any(m.training for m in network.modules())


@pytest.mark.parametrize("how", [BFLOAT16, LAST], ids=str)
def test_a_run_is_trained_and_evaluated_this_way(how: dict) -> None:
    made, plain = run(problem(), "slgrad", **how), run(problem(), "slgrad")
    found, expected = made.fit(), plain.fit()
    assert found["train_loss"][0] == pytest.approx(expected["train_loss"][0], rel=0.05)
    ours, theirs = (one["evaluations"][-1]["test"]["loss"] for one in (found, expected))
    assert ours == pytest.approx(theirs, rel=0.1)


RECOMPUTED = {"checkpoint": True}
SPLIT = [name for name in zoo.NETWORKS if name != "unsplit"]


def gradients(name: str, method: str, how: dict, **options: Any) -> tuple[list[Tensor], Any, list[Tensor]]:
    """Gradients, outcome and buffers after two steps, in float64; the same draws whatever the network."""
    made = zoo.problem(name, batch=6)
    labels = made.targets.long() if made.targets.ndim == 2 else None
    batch = Samples(made.inputs, made.targets, labels, mass=torch.ones(made.targets.shape[:2]).double())
    step = zoo.step_of(method, prepared(made.network, **how), made.losses, made.inputs, **options)
    for seed in (1, 2):  # the first one looks for the path
        made.network.zero_grad()
        torch.manual_seed(seed)
        outcome = step(batch, batch)
    return [p.grad for p in made.network.parameters() if p.grad is not None], outcome, list(made.network.buffers())


CASES = [(name, "slgrad") for name in SPLIT]
CASES += [(name, method) for name in ("dropout", "encoder_decoder", "no_forward_mode")
          for method in ("ew", "pcgrad", "db_mtl", "graddrop", "auto_lambda")]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), CASES)
def test_what_is_computed_anew_is_what_it_was(name: str, method: str) -> None:
    """Gradients, weights, dropout masks and running statistics, by all kinds of steps."""
    (ours, outcome, buffers), (theirs, expected, kept) = (gradients(name, method, how) for how in (RECOMPUTED, {}))
    size = torch.cat([g.reshape(-1) for g in theirs]).norm()
    assert all((a - b).norm() <= 1e-11 * size for a, b in zip(ours, theirs, strict=True))
    assert torch.allclose(outcome.weights, expected.weights, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(buffers, kept, strict=True)), "running statistics"


def test_the_reference_batch_and_micro_batches_leave_running_statistics_alone() -> None:
    options = {"accumulate": 3, "reference_share": 0.3}
    for method in ("gls", "slgrad"):
        ours, theirs = (gradients("encoder_decoder", method, how, **options)[2] for how in (RECOMPUTED, {}))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batched_rows_of_what_is_computed_anew() -> None:
    made = zoo.problem("lenet")
    within = torch.full((3, 5), 1 / 5).double()
    plain = TaskGradients(made.network, made.losses, batched=True)(made.inputs, made.targets, within).gram()
    again = TaskGradients(prepared(made.network, **RECOMPUTED), made.losses, batched=True)
    assert torch.allclose(again(made.inputs, made.targets, within).gram(), plain)


def test_forward_mode_is_left_where_it_does_not_fit() -> None:
    """Its rules keep other tensors than the forward pass that is repeated without them."""
    for name, path in (
        ("lenet", "double_backward"),
        ("encoder_decoder", "double_backward"),
        ("mlp", "double_backward"),
    ):
        made = zoo.problem(name)
        alignment = SampleAlignment(prepared(made.network, **RECOMPUTED), made.losses)
        made.network.encoder[0].weight.grad = kept = torch.ones_like(made.network.encoder[0].weight)
        alignment._find_path(made.inputs, made.targets, [torch.randn_like(p) for p in alignment.parameters])
        assert made.network.encoder[0].weight.grad is kept and (kept == 1).all()
        alignment(made.inputs, made.targets, [torch.randn_like(p) for p in alignment.parameters])
        assert alignment.path() == path


def saved(network: nn.Module, inputs: Tensor) -> int:
    """Bytes that a forward pass keeps, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        network(inputs)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own)


def test_blocks_of_stages_are_computed_anew() -> None:
    """What lies between blocks is kept, a small part of all; copies compute their own blocks anew."""
    network = nets.deeplab([3, 1], backbone="resnet18", pretrained="none")
    inputs = torch.randn(2, 3, 32, 32)
    plain = saved(network.encoder, inputs)
    called = prepared(network, **RECOMPUTED)
    assert called is network and saved(network.encoder, inputs) < 0.6 * plain
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.encoder.layer1.parameters():
            parameter.zero_()
    assert not torch.equal(twin.encoder.layer1[0].forward(torch.ones(2, 64, 8, 8)),
                           network.encoder.layer1[0].forward(torch.ones(2, 64, 8, 8)))  # fmt: skip
    assert (
        network.state_dict().keys() == nets.deeplab([3, 1], backbone="resnet18", pretrained="none").state_dict().keys()
    )


def test_a_run_computes_activations_anew() -> None:
    found, expected = (run(problem(), "slgrad", checkpoint=how) for how in (True, False))
    torch.manual_seed(5)
    ours = found.fit()
    torch.manual_seed(5)
    assert ours["train_loss"] == pytest.approx(expected.fit()["train_loss"], rel=1e-5)
    with pytest.raises(MtlkitError, match="checkpoint needs a network with an `encoder`, or with `stages"):
        prepared(zoo.problem("unsplit").network, **RECOMPUTED)
