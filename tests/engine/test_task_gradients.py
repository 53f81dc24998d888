"""Task gradients and their Gram matrix against a full backward pass per task, in float64."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mtlkit.engine import frozen_statistics, task_gradients
from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.errors import MtlkitError
from tests import zoo

SMOOTH = [name for name in zoo.NETWORKS if name not in ("dropout", "attention")]
"""Networks without dropout: two passes give the same."""


def obvious(problem: zoo.Problem, weights: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """T gradients of the weighted task losses: of the shared parameters, and of the others."""
    network = problem.network
    shared = list(network.shared_parameters())
    others = [p for p in network.parameters() if all(p is not s for s in shared)]
    with frozen_statistics(network):
        losses = (weights * zoo.matrix(problem)).sum(1)
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, [*shared, *others], retain_graph=True, allow_unused=True)
        rows.append([torch.zeros_like(p) if g is None else g for g, p in zip(found, [*shared, *others], strict=True)])
    return [row[: len(shared)] for row in rows], [row[len(shared) :] for row in rows]


def flat(row: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in row])


def setting(name: str, tasks: int = 3) -> tuple[zoo.Problem, Tensor]:
    problem = zoo.problem(name, tasks)
    weights = torch.rand(tasks, 5, dtype=torch.float64)
    weights[-1, 2] = 0
    return problem, weights


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("how", [{}, {"lists": True}, {"batched": True}, {"keep": 2}, {"keep": 3}], ids=str)
def test_exact(name: str, how: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    if how.pop("lists", False):
        monkeypatch.setattr(task_gradients, "MATRIX", 0)
    if "batched" in how and name in ("no_forward_mode",):
        pytest.skip("a function of its own has no batched backward pass")
    problem, weights = setting(name)
    shared, own = obvious(problem, weights)
    gram = torch.stack([flat(row) for row in shared])
    gram = gram @ gram.T
    found = TaskGradients(problem.network, problem.losses, **how)(problem.inputs, problem.targets, weights)
    assert torch.allclose(found.gram(), gram, rtol=1e-10, atol=1e-12 * gram.max())
    mix, heads = torch.tensor([0.3, -0.2, 0.7]).double(), torch.tensor([0.5, 0.1, 0.0]).double()
    problem.network.zero_grad()
    found.backward(mix, heads)
    parameters = list(problem.network.shared_parameters())
    expected = [sum(m * row[k] for m, row in zip(mix, shared, strict=True)) for k in range(len(parameters))]
    assert all(torch.allclose(p.grad, g, rtol=1e-9, atol=1e-12) for p, g in zip(parameters, expected, strict=True))
    others = [p for p in problem.network.parameters() if all(p is not s for s in parameters)]
    expected = [sum(h * row[k] for h, row in zip(heads, own, strict=True)) for k in range(len(others))]
    found_own = [torch.zeros_like(p) if p.grad is None else p.grad for p in others]
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found_own, expected, strict=True))


@pytest.mark.parametrize("name", ["lenet", "encoder_decoder", "resnet18"])
def test_representation(name: str) -> None:
    problem, weights = setting(name)
    network = problem.network
    found = TaskGradients(network, problem.losses, at="representation")(problem.inputs, problem.targets, weights)
    with frozen_statistics(network):
        z = network.encoder(problem.inputs).detach()
    leaves = [z.clone().requires_grad_() for _ in network.heads]
    with frozen_statistics(network):
        matrix = torch.stack([f(h(leaf), t) for f, h, leaf, t in
                              zip(problem.losses, network.heads, leaves, problem.targets, strict=True)])  # fmt: skip
    rows = torch.stack([leaf.flatten() for leaf in torch.autograd.grad((weights * matrix).sum(), leaves)])
    assert torch.allclose(found.gram(), rows @ rows.T, rtol=1e-9)
    network.zero_grad()
    mix = torch.tensor([0.3, -0.2, 0.7]).double()
    found.backward(mix, mix)
    shared, _ = obvious(problem, weights)
    expected = [sum(m * row[k] for m, row in zip(mix, shared, strict=True)) for k in range(len(shared[0]))]
    parameters = list(network.shared_parameters())
    assert all(torch.allclose(p.grad, g, rtol=1e-9, atol=1e-12) for p, g in zip(parameters, expected, strict=True))


def counted(network: nn.Module, work: Callable[[], object]) -> int:
    """How often the backward pass goes through the encoder's first parameter."""
    visits: list[int] = []
    first = next(iter(network.encoder.parameters()))
    handle = first.register_hook(lambda gradient: visits.append(1))
    work()
    handle.remove()
    return len(visits)


def test_encoder_is_gone_through_once_per_task_and_heads_once() -> None:
    problem, weights = setting("lenet", tasks=3)
    network, heads = problem.network, []
    for head in network.heads:
        head[0].register_full_backward_hook(lambda *_: heads.append(1))
    engine = TaskGradients(network, problem.losses)

    def step() -> None:
        found = engine(problem.inputs, problem.targets, weights)
        found.gram()
        found.backward(weights[:, 0], weights[:, 0])

    assert counted(network, step) == 3
    assert len(heads) == 3

    def without_gram() -> None:
        engine(problem.inputs, problem.targets, weights).backward(weights[:, 0], weights[:, 0])

    assert counted(network, without_gram) == 1


def test_running_statistics_move_once() -> None:
    problem, weights = setting("encoder_decoder")
    twin = copy.deepcopy(problem.network)
    twin(problem.inputs)
    found = TaskGradients(problem.network, problem.losses)(problem.inputs, problem.targets, weights)
    found.gram()
    assert all(torch.allclose(a, b) for a, b in zip(problem.network.buffers(), twin.buffers(), strict=True))


class SharedHeads(nn.Module):
    """Two heads that share a layer: the split cannot be used."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, layer = nn.Linear(6, 4), nn.Linear(4, 4)
        self.heads = nn.ModuleList(nn.Sequential(layer, nn.Linear(4, 1)) for _ in range(3))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        z = self.encoder(inputs)
        return [head(z) for head in self.heads]

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


def test_heads_that_share_a_layer() -> None:
    problem, weights = setting("mlp")
    problem.network = SharedHeads().double()
    shared, own = obvious(problem, weights)
    found = TaskGradients(problem.network, problem.losses)(problem.inputs, problem.targets, weights)
    rows = torch.stack([flat(row) for row in shared])
    assert torch.allclose(found.gram(), rows @ rows.T)
    found.backward(torch.ones(3).double(), torch.tensor([1.0, 2.0, 3.0]).double())
    layer = problem.network.heads[0][0].weight
    index = [p is layer for p in problem.network.parameters() if p is not problem.network.encoder.weight
             and p is not problem.network.encoder.bias].index(True)  # fmt: skip
    assert torch.allclose(layer.grad, sum((t + 1) * row[index] for t, row in enumerate(own)))


def test_refusals() -> None:
    problem = zoo.problem("unsplit")
    with pytest.raises(MtlkitError, match="gradients at the representation need a network with `encoder`"):
        TaskGradients(problem.network, problem.losses, at="representation")
    with pytest.raises(MtlkitError, match=r"gradients is 'heads'.*shared, representation"):
        TaskGradients(problem.network, problem.losses, at="heads")
    with pytest.raises(MtlkitError, match="keep is 1"):
        TaskGradients(problem.network, problem.losses, keep=1)


def test_few_rows_are_held_at_once() -> None:
    """With `keep=2`, one row of a block and one more: the others are gone."""
    problem, weights = setting("mlp", tasks=3)
    found = TaskGradients(problem.network, problem.losses, keep=2)(problem.inputs, problem.targets, weights)
    alive: list[int] = []
    row = found.row

    class Kept(list):
        count = 0

        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            Kept.count += 1
            alive.append(Kept.count)

        def __del__(self) -> None:
            Kept.count -= 1

    found.row = lambda task, **more: Kept(row(task, **more))
    found.gram()
    assert max(alive) <= 2
