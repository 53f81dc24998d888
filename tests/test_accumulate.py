"""Micro-batches: the update of the whole batch, in the memory of a part of it."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlkit import nets
from mtlkit.bench.steps import PROBLEMS
from mtlkit.data.base import Samples
from mtlkit.errors import MtlkitError
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.steps import make_step
from mtlkit.tasks import binary_loss
from mtlkit.training import Settings
from mtlkit.weighting import METHODS, Signal, build
from tests import zoo
from tests.engine.test_cost import count
from tests.test_training import problem, run

SHARES = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)


def batches(network: str, seed: int, size: int = 12) -> Samples:
    """A batch of a problem of the zoo, some of its labels missing, one task's in a whole micro-batch."""
    made = zoo.problem(network, 3, size, seed)
    mass = torch.rand(3, size, dtype=torch.float64)
    mass[1, :4] = 0
    return Samples(made.inputs, made.targets, made.targets.long(), made.targets > 0.5, mass, torch.arange(size))


def trained(name: str, options: dict[str, Any], network: str = "group_norm", **how: Any) -> tuple[nn.Module, list]:
    """A network after three steps with momentum, and the outcomes, in float64."""
    made = zoo.problem(network, 3)
    rule = zoo.step_of(name, made.network, made.losses, made.inputs, options).rule.double()
    optimizer = make_optimizer("sgd", made.network.parameters(), learning_rate=0.05, momentum=0.9,
                               of_the_rule=list(rule.parameters()))  # fmt: skip
    step = make_step(made.network, made.losses, rule, optimizer=optimizer, class_shares=SHARES, **how)
    outcomes = []
    for k in range(3):
        batch, reference = batches(network, 10 + k), batches(network, 20 + k, 8)
        optimizer.zero_grad()
        outcomes.append(step(batch, reference))
        guarded_step(optimizer, outcomes[-1].skip)
        step.after(batch)
    return made.network, outcomes


VARIANTS = [
    *((name, {}) for name in [*METHODS, "rlw+cagrad"]),
    ("graddrop", {"gradients": "shared"}),
    ("mgda", {"gradients": "representation"}),
    ("slgrad", {"align": "shared_and_main_head", "strength": "sign"}),
    ("slgrad", {"normalisation": "task_label"}),
    ("slgrad", {"reference_loss": "class_balanced", "refresh": 2}),
    ("slgrad", {"update": "look_ahead"}),
    ("slgrad", {"update": "published"}),
    ("slgrad", {"shuffle": True}),
]


@pytest.mark.parametrize("more", [{}, {"use_class_shares": True, "reference_share": 0.3}], ids=["", "shares"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_the_update_is_that_of_the_whole_batch(name: str, options: dict, more: dict) -> None:
    """Every method, with labels missing unevenly."""
    whole, expected = trained(name, options, **more)
    parts, found = trained(name, options, accumulate=3, **more)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.skip == theirs.skip
        for a, b in ((ours.losses, theirs.losses), (ours.weights, theirs.weights)):
            assert a.shape == (3, 12) and torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["ew", "slgrad", "cosine", "pcgrad", "cagrad", "db_mtl", "moml"])
def test_networks_without_encoder_and_heads(name: str) -> None:
    whole, _ = trained(name, {}, "unsplit")
    parts, _ = trained(name, {}, "unsplit", accumulate=4)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_nothing_aligned_in_any_micro_batch_is_no_step() -> None:
    torch.manual_seed(0)
    network = nets.mlp(1, 6, shared_width=8, head_width=8).double()
    inputs = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(4, 6)
    batch, reference = (Samples(inputs, torch.full((1, 4), one).double()) for one in (0, 1))
    step = make_step(network, [binary_loss], build("slgrad", 1), accumulate=2)
    outcome = step(batch, reference)
    assert outcome.skip and (outcome.weights == 0).all()
    assert all((p.grad == 0).all() for p in network.parameters())
    batch.targets[0, 3] = 1  # of the second micro-batch
    network.zero_grad()
    outcome = step(batch, reference)
    assert not outcome.skip and (outcome.weights == torch.tensor([[0, 0, 0, 1]])).all()


def test_rules_that_draw_draw_once() -> None:
    seen = Signal(torch.zeros(3, 2), torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.int64))
    _, outcomes = trained("rlw", {}, accumulate=3)
    assert torch.allclose(outcomes[0].weights.sum(1), build("rlw", 3)(seen).double())


def step_with(name: str, accumulate: int) -> Callable[[], None]:
    made = PROBLEMS["light_lenet"]
    network, batch, reference = made.network(3), made.batch(3, 32), made.batch(3, 32, seed=1)
    step = zoo.step_of(name, network, [made.loss] * 3, batch.inputs, accumulate=accumulate)

    def whole() -> None:
        network.zero_grad()
        step(batch, reference)

    return whole


@pytest.mark.parametrize("name", ["ew", "gls", "slgrad", "cosine", "pcgrad", "db_mtl", "auto_lambda"])
def test_activations_take_the_memory_of_a_micro_batch(name: str) -> None:
    """What is saved for a backward pass and still alive, at its highest."""
    assert peak(step_with(name, 8)) < 0.25 * peak(step_with(name, 1))


def peak(step: Callable[[], None]) -> int:
    """Bytes of saved activations that are alive at once, parameters aside."""
    step()
    alive, highest = 0, 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, highest
            self.tensor = tensor.detach()  # an output would hold its own graph, and with it this
            size = 0 if isinstance(tensor, nn.Parameter) or tensor._is_view() else tensor.nbytes
            alive += size
            highest = max(highest, alive)
            weakref.finalize(self, self.gone, size)

        @staticmethod
        def gone(size: int) -> None:
            nonlocal alive
            alive -= size

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        step()
    return highest


@pytest.mark.parametrize(("name", "limit"), [("ew", 1.0), ("gls", 1.37), ("slgrad", 1.0), ("pcgrad", 1.0)])
def test_what_it_costs(name: str, limit: float) -> None:
    """A second forward pass where weights depend on the losses of the whole batch, else nothing."""
    assert count(step_with(name, 4)).flops <= limit * count(step_with(name, 1)).flops


@pytest.mark.parametrize("name", ["ew", "slgrad", "famo", "pcgrad"])
def test_a_run_sees_whole_batches(name: str) -> None:
    """The record of a run with micro-batches is that of one without; the network draws nothing."""
    data, network = problem()
    network.encoder[2] = nn.Identity()
    histories = []
    for accumulate in (1, 4):
        made = run((copy.deepcopy(data), copy.deepcopy(network)), name, accumulate=accumulate)
        histories.append(made.fit())
    whole, parts = histories
    assert parts["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-4)
    assert parts["weights"]["histogram"] == whole["weights"]["histogram"]
    assert parts["weights"]["task"][-1] == pytest.approx(whole["weights"]["task"][-1], abs=1e-4)


def test_refusals() -> None:
    with pytest.raises(MtlkitError, match="accumulate is 3, which does not divide batch_size, 64"):
        Settings(1, accumulate=3)
    with pytest.raises(MtlkitError, match="accumulate is 0, which is not at least 1"):
        Settings(1, accumulate=0)
    made = zoo.problem("mlp")
    with pytest.raises(MtlkitError, match="use one of them"):
        make_step(made.network, made.losses, build("pcgrad", 3), keep=2, accumulate=2)
