"""SLGrad's step against the slow and obvious one: a backward pass per sample, weights by plain loops, float64."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.optimizers import make_optimizer
from mtlkit.steps import make_step
from mtlkit.weighting import build
from mtlkit.weighting.slgrad import ALIGN, NORMALISATION, REFERENCE_LOSS, STRENGTH
from tests import zoo

TASKS = 3
SHARES = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
DEFAULTS = {"align": "shared", "normalisation": "joint", "group_shares": "reference", "strength": "proportional",
            "reference_loss": "mean"}  # fmt: skip


def problem(batch: int = 6, seed: int = 0) -> tuple[zoo.Problem, Samples]:
    """A problem of the zoo, some of its labels missing."""
    made = zoo.problem("mlp", TASKS, batch, seed)
    mass = torch.ones(TASKS, batch, dtype=torch.float64)
    mass[0, 1], mass[1, 0], mass[2, 2:4] = 0, 0, 0.5
    return made, Samples(made.inputs, made.targets, made.targets.long(), mass=mass)


def obvious_row(weights: list, spare: list, groups: list, shares: list) -> list:
    """A row whose groups total their shares; a group without weight takes its spare weights, or else is left out."""
    members = [[i for i, g in enumerate(groups) if g == c] for c in range(len(shares))]
    weights = list(weights)
    for member in members:
        if sum(weights[i] for i in member) == 0:
            for i in member:
                weights[i] = spare[i]
    present = [c for c in range(len(shares)) if sum(weights[i] for i in members[c]) > 0]
    row = [0.0] * len(weights)
    for c in present:
        for i in members[c]:
            share = shares[c] / sum(shares[d] for d in present)
            row[i] = share * weights[i] / sum(weights[j] for j in members[c])
    return row


def obvious_weights(scores: Tensor, batch: Samples, options: dict[str, Any]) -> Tensor:
    mass, groups = batch.mass.tolist(), batch.groups.tolist()
    positive = [[(max(0.0, s) if options["strength"] == "proportional" else float(s > 0)) * m
                 for s, m in zip(*row, strict=True)] for row in zip(scores.tolist(), mass, strict=True)]  # fmt: skip
    if options["normalisation"] == "joint":
        total = sum(map(sum, positive)) or 1.0
        return torch.tensor([[p / total for p in row] for row in positive], dtype=torch.float64)
    rows = []
    for t in range(TASKS):
        shares = SHARES[t].tolist()
        if options["group_shares"] == "batch":
            shares = [sum(m for m, g in zip(mass[t], groups[t], strict=True) if g == c) for c in (0, 1)]
        if options["normalisation"] == "task":
            groups[t], shares = [0] * len(mass[t]), [1.0]
        rows.append([w / TASKS for w in obvious_row(positive[t], mass[t], groups[t], shares)])
    return torch.tensor(rows, dtype=torch.float64)


def obvious_reference(
    made: zoo.Problem, held_out: Samples, options: dict[str, Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """What is aligned, and the gradient of the main task on the reference batch."""
    network, mass, labels = made.network, held_out.mass[0], held_out.groups[0]
    parameters = list(network.encoder.parameters())
    if options["align"] == "shared_and_main_head":
        parameters += list(network.heads[0].parameters())
    losses = made.losses[0](network(held_out.inputs)[0], held_out.targets[0])
    parts = [torch.ones(len(labels), dtype=torch.bool)]
    if options["reference_loss"] == "class_balanced":
        parts = [labels == 0, labels == 1]
    mean = sum((mass * losses)[part].sum() / mass[part].sum() for part in parts) / len(parts)
    return parameters, list(torch.autograd.grad(mean, parameters))


def obvious_alignment(made: zoo.Problem, held_out: Samples, batch: Samples, options: dict[str, Any]) -> Tensor:
    return obvious_weights(zoo.loop_scores(made, *obvious_reference(made, held_out, options)), batch, options)


def mean_losses(made: zoo.Problem, of: Samples) -> Tensor:
    """Equal weighting: the mean over tasks of each one's mean over the labels that are there."""
    matrix = zoo.matrix(zoo.Problem(made.network, made.losses, of.inputs, of.targets, ""))
    return ((of.mass * matrix).sum(1) / of.mass.sum(1)).mean()


def gradients(network: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def agree(a: list[Tensor], b: list[Tensor]) -> bool:
    size = torch.cat([x.flatten() for x in b]).norm()
    return all((x - y).norm() < 1e-10 * size for x, y in zip(a, b, strict=True))


COMBINATIONS = [
    *(dict(zip(("align", "normalisation", "strength", "reference_loss"), c, strict=True))
      for c in itertools.product(ALIGN, NORMALISATION, STRENGTH, REFERENCE_LOSS)),
    *({"normalisation": "task_label", "group_shares": "batch", "strength": s} for s in STRENGTH),
]  # fmt: skip


@pytest.mark.parametrize(("class_shares", "share"), [(False, 0.0), (True, 0.0), (False, 0.3), (True, 0.3)])
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: " ".join(o.values()))
def test_exact(options: dict, class_shares: bool, share: float) -> None:
    (made, batch), (_, held_out), options = problem(), problem(8, seed=1), DEFAULTS | options
    step = make_step(made.network, made.losses, build("slgrad", TASKS, options), class_shares=SHARES,
                use_class_shares=class_shares, reference_share=share)  # fmt: skip
    outcome = step(batch, held_out)
    weights = obvious_alignment(made, held_out, batch, options)
    assert 0 < (weights > 0).sum() < weights.numel()
    if class_shares:
        rows = [obvious_row(w, [0.0] * len(w), g, s) for w, g, s in
                zip(weights.tolist(), batch.groups.tolist(), SHARES.tolist(), strict=True)]  # fmt: skip
        weights = torch.tensor(rows, dtype=torch.float64) * weights.sum(1, keepdim=True)
    assert torch.allclose(outcome.weights, weights, rtol=1e-10, atol=1e-14)
    loss = (1 - share) * (weights * zoo.matrix(made)).sum() + share * mean_losses(made, held_out)
    assert agree([p.grad for p in made.network.parameters()], gradients(made.network, loss))
    assert not outcome.skip


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_refresh_keeps_the_direction_for_so_many_steps(share: float) -> None:
    made, _ = problem()
    optimizer = make_optimizer("sgd", made.network.parameters(), learning_rate=0.5)
    step = make_step(made.network, made.losses, build("slgrad", TASKS, {"refresh": 3}), reference_share=share)
    for k in range(7):
        fresh, batch = problem(seed=10 + k)
        made.inputs, made.targets = fresh.inputs, fresh.targets
        held_out = problem(8, seed=20 + k)[1]
        if k % 3 == 0:
            direction = obvious_reference(made, held_out, DEFAULTS)
        weights = obvious_weights(zoo.loop_scores(made, *direction), batch, DEFAULTS)
        loss = (1 - share) * (weights * zoo.matrix(made)).sum() + share * mean_losses(made, held_out)
        expected = gradients(made.network, loss)
        optimizer.zero_grad()
        assert torch.allclose(step(batch, held_out).weights, weights, rtol=1e-9, atol=1e-12), k
        assert agree([p.grad for p in made.network.parameters()], expected)
        optimizer.step()


@pytest.mark.parametrize(("name", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_look_ahead(name: str, momentum: float, share: float) -> None:
    """Weights are those at the parameters after a step of equal weighting; that step leaves no trace."""
    made, _ = problem()
    optimizer = make_optimizer(name, made.network.parameters(), learning_rate=0.2, momentum=momentum)
    rule = build("slgrad", TASKS, {"update": "look_ahead"})
    step = make_step(made.network, made.losses, rule, optimizer=optimizer, reference_share=share)
    for k in range(3):  # from the very first step on
        fresh, batch = problem(seed=10 + k)
        made.inputs, made.targets = fresh.inputs, fresh.targets
        held_out = problem(8, seed=20 + k)[1]
        ahead = copy.deepcopy(made)
        tentative = make_optimizer(name, ahead.network.parameters(), learning_rate=0.2, momentum=momentum)
        tentative.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        tentative.zero_grad()
        mean_losses(ahead, batch).backward()
        tentative.step()
        weights = obvious_alignment(ahead, held_out, batch, DEFAULTS)
        loss = (1 - share) * (weights * zoo.matrix(made)).sum() + share * mean_losses(made, held_out)
        expected = gradients(made.network, loss)

        before = copy.deepcopy((made.network.state_dict(), optimizer.state_dict()))
        optimizer.zero_grad()
        outcome = step(batch, held_out)
        after = (made.network.state_dict(), optimizer.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True))
        assert repr(before[1]) == repr(after[1])
        assert torch.allclose(outcome.weights, weights, rtol=1e-9, atol=1e-12)
        assert torch.allclose(outcome.losses, zoo.matrix(made))
        assert agree([p.grad for p in made.network.parameters()], expected)
        optimizer.step()


@pytest.mark.parametrize(("name", "momentum"), [("sgd", 0.9), ("adam", 0.0)])
def test_as_published(name: str, momentum: float) -> None:
    """Two updates per batch: the first with the weights of the batch before, 1/(TB) at the start; then the reference
    gradient and the weights at the new parameters, and the second. Losses are divided by B once more."""
    made, _ = problem()
    slow = copy.deepcopy(made)
    optimizers = [
        make_optimizer(name, p.network.parameters(), learning_rate=0.5, momentum=momentum) for p in (made, slow)
    ]
    rule = build("slgrad", TASKS, {"update": "published"})
    step = make_step(made.network, made.losses, rule, optimizer=optimizers[0])
    size, previous = 6, torch.full((TASKS, 6), 1 / (TASKS * 6), dtype=torch.float64)
    for k in range(3):
        fresh, batch = problem(size, seed=10 + k)
        batch.mass = torch.ones_like(batch.mass)  # the release knows no missing labels
        held_out = Samples(fresh.inputs.flip(0), fresh.targets.flip(1), mass=torch.ones_like(batch.mass))
        slow.inputs, slow.targets = fresh.inputs, fresh.targets

        optimizers[0].zero_grad()
        outcome = step(batch, held_out)
        optimizers[0].step()

        for first in (True, False):
            previous = previous if first else obvious_alignment(slow, held_out, batch, DEFAULTS)
            optimizers[1].zero_grad()
            matrix = zoo.matrix(slow)
            sum(previous[t] @ matrix[t] / size for t in range(TASKS)).backward()
            optimizers[1].step()
        assert torch.allclose(outcome.weights, previous, rtol=1e-9, atol=1e-12)
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in
                   zip(made.network.parameters(), slow.network.parameters(), strict=True))  # fmt: skip
