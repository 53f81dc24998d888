"""Steps of methods on task gradients, and of those that look ahead, against the slow and obvious ones, in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlkit.data.base import Samples
from mtlkit.optimizers import make_optimizer
from mtlkit.steps import make_step
from mtlkit.weighting import METHODS, Direction, GradientRule, Signal, build, share_out, spread
from tests import zoo

SHARES = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
RULES = [name for name, method in METHODS.items() if issubclass(method, GradientRule)]


def problem(name: str = "mlp", seed: int = 0, batch: int = 6) -> tuple[zoo.Problem, Samples]:
    """A problem of the zoo, some of its labels missing."""
    made = zoo.problem(name, 3, batch, seed)
    mass = torch.ones(3, batch, dtype=torch.float64)
    mass[0, 1], mass[1, 0], mass[2, 2:4] = 0, 0, 0.5
    groups = made.targets.long() if made.targets.ndim == 2 else torch.zeros(3, batch, dtype=torch.int64)
    return made, Samples(made.inputs, made.targets, groups, mass=mass)


def losses(made: zoo.Problem, batch: Samples, class_shares: bool = False) -> Tensor:
    """`(T,)`, the mean loss of every task over the labels that are there."""
    within = batch.mass / batch.mass.sum(1, keepdim=True)
    within = share_out(within, batch.groups, SHARES) if class_shares else within
    matrix = zoo.matrix(zoo.Problem(made.network, made.losses, batch.inputs, batch.targets, ""))
    return (within * matrix).sum(1)


def rows(made: zoo.Problem, values: Tensor) -> Tensor:
    """`(T, P)`, gradients of task losses on the shared parameters."""
    shared = list(made.network.shared_parameters())
    found = [torch.autograd.grad(value, shared, retain_graph=True) for value in values]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in found])


def head_gradients(made: zoo.Problem, value: Tensor) -> Tensor:
    own = [p for head in made.network.heads for p in head.parameters()]
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, own, retain_graph=True)])


def grads(parameters: Any) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in parameters])


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= 1e-9 * b.norm())


@pytest.mark.parametrize(("class_shares", "share"), [(False, 0.0), (True, 0.3)])
@pytest.mark.parametrize("name", [*RULES, "rlw+cagrad", "rlw+nash_mtl"])
def test_weights_of_gradients(name: str, class_shares: bool, share: float) -> None:
    """Shared parameters get the weighted sum of the task gradients, heads what the rule says of their own."""
    (made, batch), (_, held_out) = problem(), problem(seed=1)
    rule, twin = (build(name, 3).double() for _ in range(2))
    step = make_step(made.network, made.losses, rule, class_shares=SHARES, use_class_shares=class_shares,
                     reference_share=share)  # fmt: skip
    step(batch, held_out)
    found = grads(made.network.shared_parameters()), grads(p for h in made.network.heads for p in h.parameters())
    values = losses(made, batch, class_shares)
    each = rows(made, values)
    signal = Signal(zoo.matrix(made).detach(), batch.mass, batch.groups, SHARES, gram=each @ each.T)
    weights = twin(signal).detach().double()
    heads = twin.heads(signal, weights).detach()
    reference = losses(made, held_out).mean()
    assert close(found[0], (1 - share) * weights @ each + share * rows(made, reference[None])[0])
    assert close(found[1], head_gradients(made, (1 - share) * (heads * values).sum() + share * reference))


def test_heads_get_their_own_mean_unless_the_paper_says_otherwise() -> None:
    seen = Signal(torch.rand(3, 4), torch.ones(3, 4), torch.zeros(3, 4).long(), gram=torch.eye(3))
    equal = []
    for name in RULES:
        rule = build(name, 3)
        weights = rule(seen)
        if torch.allclose(rule.heads(seen, weights), torch.full((3,), 1 / 3)):
            equal.append(name)
    assert {"mgda", "pcgrad", "gradvac", "cagrad", "imtl_g", "fairgrad", "aligned_mtl", "upgrad", "rgw"} <= set(equal)


@pytest.mark.parametrize("name", ["uw", "imtl_l", "imtl"])
def test_learnt_parameters_get_their_gradient(name: str) -> None:
    made, batch = problem()
    rule = build(name, 3).double()
    (parameter,) = rule.parameters()
    with torch.no_grad():
        parameter += torch.tensor([0.1, -0.3, 0.5])
    make_step(made.network, made.losses, rule)(batch)
    values, s = losses(made, batch).detach(), parameter.detach().clone().requires_grad_()
    total = {"uw": values / (2 * s.exp()) + s / 2, "imtl_l": s.exp() * values - s, "imtl": s.exp() * values - s}[name]
    total.mean().backward()
    assert torch.allclose(parameter.grad, s.grad)


def test_scales_converge_to_the_inverse_loss() -> None:
    """What IMTL-L's penalty is for."""
    made, batch = problem()
    rule = build("imtl_l", 3).double()
    optimizer = torch.optim.SGD(rule.parameters(), 0.5)
    step = make_step(made.network, made.losses, rule)
    for _ in range(300):
        optimizer.zero_grad()
        step(batch)
        optimizer.step()
    assert torch.allclose(rule.scale.exp() * losses(made, batch), torch.ones(3).double(), rtol=1e-3)


def test_famo_lifts_the_task_that_fell_least() -> None:
    made, batch = problem()
    rule = build("famo", 3)
    step = make_step(made.network, made.losses, rule)
    before = step(batch).weights.sum(1)
    with torch.no_grad():  # task 1 got worse, the others better
        for head, factor in zip(made.network.heads, (1.0, -3.0, 1.0), strict=True):
            for p in head.parameters():
                p -= 0.3 * factor * p.grad / p.grad.norm().clamp_min(1e-9)
    step.after(batch)
    shares = rule.logits.softmax(0)
    assert shares.argmax() == 1
    made.network.zero_grad()
    assert not torch.equal(step(batch).weights.sum(1), before)


def test_random_gradient_weighting_needs_one_pass() -> None:
    made, batch = problem()
    step = make_step(made.network, made.losses, build("rgw", 3))
    outcome = step(batch)
    weights = outcome.weights.sum(1)
    each = rows(made, losses(made, batch))
    assert close(grads(made.network.shared_parameters()), weights @ each)


@pytest.mark.parametrize("gradients", ["shared", "representation"])
def test_graddrop(gradients: str) -> None:
    """Every element is a sum over the tasks with one sign; on average it has the mean's direction."""
    made, batch = problem(batch=6)
    rule = build("graddrop", 3, {"gradients": gradients})
    step = make_step(made.network, made.losses, rule)
    shared = list(made.network.shared_parameters())
    total = torch.zeros(sum(p.numel() for p in shared)).double()
    each = rows(made, losses(made, batch))
    for _ in range(400):
        made.network.zero_grad()
        step(batch)
        found = grads(shared)
        total += found / 400
        if gradients == "shared":
            positive, negative = (each.clamp_min(0).sum(0) / 3, each.clamp_max(0).sum(0) / 3)
            assert (torch.isclose(found, positive) | torch.isclose(found, negative)).all()
    assert torch.nn.functional.cosine_similarity(total, each.mean(0), dim=0) > 0.8
    expected = head_gradients(made, losses(made, batch).mean())
    assert close(grads(p for h in made.network.heads for p in h.parameters()), expected)


def test_graddrop_leak_of_one_is_equal_weighting() -> None:
    made, batch = problem()
    make_step(made.network, made.losses, build("graddrop", 3, {"leak": 1.0}))(batch)
    assert close(grads(made.network.shared_parameters()), rows(made, losses(made, batch)).mean(0))


def test_db_mtl() -> None:
    made, batch = problem()
    rule = build("db_mtl", 3, {"beta": 0.8, "decay": 0.5})
    step = make_step(made.network, made.losses, rule)
    smoothed = torch.zeros(())
    for k in range(1, 4):
        made.network.zero_grad()
        fresh, batch = problem(seed=k)
        made.inputs, made.targets = fresh.inputs, fresh.targets
        step(batch)
        values = losses(made, batch)
        each = rows(made, values.log())
        keep = 0.8 / k**0.5
        smoothed = keep * smoothed + (1 - keep) * each
        lengths = smoothed.norm(dim=1)
        assert close(grads(made.network.shared_parameters()), (lengths.max() / lengths) @ smoothed / 3)
        found = grads(p for h in made.network.heads for p in h.parameters())
        assert close(found, head_gradients(made, values.log().mean()))


def test_rotograd() -> None:
    """Gradients of one length for the encoder; the rotations stay rotations and turn the tasks together."""
    made, batch = problem()
    rule = build("rotograd", 3)
    rule.attach(made.network, batch.inputs[:2])
    made.network.double()
    assert torch.allclose(zoo.matrix(made), zoo.matrix(zoo.problem("mlp", 3, 6)), atol=1e-6), "identity at the start"
    step = make_step(made.network, made.losses, rule)
    rotations = [head[0] for head in made.network.heads]
    optimizer = torch.optim.SGD([r.skew for r in rotations], 3.0)

    def cosine() -> Tensor:
        z = made.network.encoder(batch.inputs).detach().requires_grad_()
        within = batch.mass / batch.mass.sum(1, keepdim=True)
        units = []
        for head, f, target, w in zip(made.network.heads, made.losses, batch.targets, within, strict=True):
            (g,) = torch.autograd.grad((w * f(head(z), target)).sum(), z)
            units.append(g / g.norm())
        return torch.stack(units).mean(0).norm()

    before = cosine()
    for _ in range(60):
        made.network.zero_grad()
        step(batch)
        optimizer.step()
    assert cosine() > before + 0.02
    for rotation in rotations:
        matrix = rotation.matrix()
        assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)).double(), atol=1e-9)
        assert not torch.allclose(matrix, torch.eye(len(matrix)).double())


def derivative(made: zoo.Problem, batch: Samples, held_out: Samples, weights: Tensor, rate: float) -> Tensor:
    """`(T, T)`, of the reference losses after a tentative step of plain gradient descent by the weights, by central
    differences."""

    def after(w: Tensor) -> Tensor:
        ahead = copy.deepcopy(made)
        (w * losses(ahead, batch)).sum().backward()
        with torch.no_grad():
            for p in ahead.network.parameters():
                p -= rate * p.grad
            return losses(ahead, held_out)

    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    return torch.stack([(after(weights + e) - after(weights - e)) / 2e-4 for e in step], 1)


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("name", ["auto_lambda", "moml"])
def test_hypergradient(name: str, share: float) -> None:
    """Exact, by finite differences; the network's parameters, statistics and momentum are as before."""
    (made, batch), (_, held_out) = problem(), problem(seed=1)
    rule, seen = build(name, 3).double(), []
    rule.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    optimizer = make_optimizer("sgd", made.network.parameters(), learning_rate=0.3, momentum=0.0)
    step = make_step(made.network, made.losses, rule, optimizer=optimizer, reference_share=share)
    expected = derivative(made, batch, held_out, rule.weights().double(), 0.3)
    before = copy.deepcopy(made.network.state_dict())
    outcome = step(batch, held_out)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), made.network.state_dict().values(), strict=True))
    assert torch.allclose(seen[0], expected[: len(seen[0])], rtol=1e-5, atol=1e-9)
    loss = (1 - share) * (outcome.weights * zoo.matrix(made)).sum() + share * losses(made, held_out).mean()
    found = grads(made.network.parameters())
    assert close(found, torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(made.network.parameters()))]))


@pytest.mark.parametrize("name", ["auto_lambda", "moml"])
def test_bilevel_weights_follow_the_reference_losses(name: str) -> None:
    """A task that hurts the reference losses loses weight against one that helps."""
    rule = build(name, 3, {"weight_rate": 0.1})
    slope = torch.tensor([[-1.0, 0.0, 1.0]]).expand(1 if name == "auto_lambda" else 3, 3)
    seen = Signal(torch.rand(3, 4), torch.ones(3, 4), torch.zeros(3, 4).long())
    for _ in range(10):
        weights = rule(slope, seen)
    assert weights[0] > weights[1] > weights[2] >= 0


def test_l2rw_weighs_the_main_task_alone() -> None:
    (made, batch), (_, held_out) = problem(), problem(seed=1)
    outcome = make_step(made.network, made.losses, build("l2rw", 3))(batch, held_out)
    parameters = [*made.network.encoder.parameters(), *made.network.heads[0].parameters()]
    direction = torch.autograd.grad(losses(made, held_out)[0], parameters)
    scores = zoo.loop_scores(made, parameters, direction)[0].clamp_min(0) * batch.mass[0]
    assert torch.allclose(outcome.weights[0], scores / scores.sum())
    assert (outcome.weights[1:] == 0).all()


@pytest.mark.parametrize("name", ["cosine", "ol_aux", "slgrad_task"])
def test_task_products_by_one_tangent_pass(name: str) -> None:
    (made, batch), (_, held_out) = problem(), problem(seed=1)
    rule, seen = build(name, 3), []
    rule.register_forward_pre_hook(lambda module, given: seen.append(given[0].by_task(given[0].alignment)))
    outcome = make_step(made.network, made.losses, rule)(batch, held_out)
    each = rows(made, losses(made, batch))
    main = rows(made, losses(made, held_out)[:1])[0] if name == "slgrad_task" else each[0]
    products = each @ main / main.norm()
    assert torch.allclose(seen[0], products, rtol=1e-9)
    wanted = {"cosine": (products >= 0) / 3, "ol_aux": torch.full((3,), 1 / 3),
              "slgrad_task": products.clamp_min(0) / products.clamp_min(0).sum()}[name]  # fmt: skip
    assert torch.allclose(outcome.weights, spread(wanted.double(), batch.mass), rtol=1e-6)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if issubclass(m, Direction)])
def test_state_of_directions_survives(name: str) -> None:
    """Three steps, saved, three more: the same as six, and as three after loading."""
    (made, batch) = problem()
    rule = build(name, 3)
    if name == "rotograd":
        rule.attach(made.network, batch.inputs[:2])
    made.network.double()
    step = make_step(made.network, made.losses, rule)

    def gradient() -> Tensor:
        made.network.zero_grad()
        step(batch)
        return grads(made.network.shared_parameters())

    for _ in range(3):
        gradient()
    state = copy.deepcopy(rule.state_dict())
    expected = [gradient() for _ in range(3)]
    fresh = build(name, 3, {"seed": 5})
    if name == "rotograd":
        fresh._rotations = rule._rotations
    fresh.load_state_dict(state)
    step = make_step(made.network, made.losses, fresh)
    assert all(torch.equal(gradient(), e) for e in expected)
