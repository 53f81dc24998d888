"""The engine against a plain per-sample loop, in float64."""

import copy

import pytest
import torch
from torch import nn

from mtlkit import nets
from mtlkit.engine import Aligned, SampleAlignment, frozen_statistics, length, reference_pass
from mtlkit.errors import MtlkitError
from tests import zoo

TOLERANCE = 1e-10


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def check(problem: zoo.Problem, *, main_head: bool = False, path: str = "auto") -> None:
    """Scores, losses, gradients and running statistics are those of the loop and of a plain step."""
    network = problem.network
    align = SampleAlignment(network, problem.losses, main_head=main_head, path=path)
    direction = [torch.randn_like(p) for p in align.parameters]
    oracle = copy.deepcopy(problem)
    # The path is looked for on the first batch; it must leave no trace.
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    align._exact[True] = align._find_path(problem.inputs, problem.targets, direction)
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())

    torch.manual_seed(7)
    aligned = align(problem.inputs, problem.targets, direction)
    weights = torch.rand_like(aligned.scores)
    weights[0, 0] = weights[0, 0] if weights.numel() == 1 else 0
    aligned.backward(weights)

    wanted = list(oracle.network.shared_parameters())
    if main_head:
        wanted += list(oracle.network.heads[0].parameters())
    torch.manual_seed(7)
    scores = zoo.loop_scores(oracle, wanted, direction)
    fresh = copy.deepcopy(oracle)
    for buffer, kept in zip(fresh.network.buffers(), before.values(), strict=True):
        buffer.copy_(kept)
    torch.manual_seed(7)
    matrix = zoo.matrix(fresh)
    (weights * matrix).sum().backward()

    assert relative(aligned.scores, scores) < TOLERANCE
    assert relative(aligned.losses, matrix.detach()) < TOLERANCE
    # Relative to the whole gradient: that of a bias before batch normalisation is zero but for rounding.
    size = torch.cat([p.grad.flatten() for p in fresh.network.parameters()]).norm()
    for (name, ours), theirs in zip(network.named_parameters(), fresh.network.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() < TOLERANCE * size, name
    for ours, theirs in zip(network.buffers(), fresh.network.buffers(), strict=True):
        assert torch.allclose(ours, theirs), "running statistics move once per step"


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_exact(name: str) -> None:
    check(zoo.problem(name))


@pytest.mark.parametrize("name", [n for n in zoo.NETWORKS if n != "unsplit"])
def test_exact_with_main_head(name: str) -> None:
    check(zoo.problem(name), main_head=True)


@pytest.mark.parametrize("path", ["network", "double_backward"])
@pytest.mark.parametrize("name", ["lenet", "encoder_decoder", "group_norm", "dropout", "attention"])
def test_exact_by_other_paths(name: str, path: str) -> None:
    check(zoo.problem(name), path=path)


@pytest.mark.parametrize("name", ["mlp", "lenet", "group_norm", "attention", "unsplit"])
@pytest.mark.parametrize(("tasks", "batch"), [(1, 4), (3, 1), (1, 1)])
def test_one_task_and_one_sample(name: str, tasks: int, batch: int) -> None:
    check(zoo.problem(name, tasks, batch))


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_chosen_path(name: str) -> None:
    problem = zoo.problem(name)
    align = SampleAlignment(problem.network, problem.losses)
    assert align.path() is None
    align(problem.inputs, problem.targets, [torch.randn_like(p) for p in align.parameters])
    assert align.path() == problem.path


def test_batch_norm_in_evaluation_mode_does_not_mix() -> None:
    problem = zoo.problem("encoder_decoder")
    problem.network.eval()
    align = SampleAlignment(problem.network, problem.losses)
    align(problem.inputs, problem.targets, [torch.randn_like(p) for p in align.parameters])
    assert align.path() == "representation"


def test_refuses_what_cannot_be_exact() -> None:
    network = nets.SharedEncoder(nn.Sequential(nn.Linear(6, 5), zoo.OpaqueCube()), [nn.Linear(5, 1)]).double()
    align = SampleAlignment(network, [zoo.binary_loss])
    with pytest.raises(MtlkitError, match="no exact way"):
        align(torch.randn(4, 6).double(), torch.ones(1, 4).double(), [torch.randn_like(p) for p in align.parameters])


def test_refuses_where_a_part_of_the_derivative_is_lost() -> None:
    class Bypass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.lost = nn.Linear(6, 5), nn.Sequential(nn.Linear(6, 5), zoo.OpaqueCube())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return zoo.NoForwardMode.apply(self.seen(x)) + self.lost(x)

    align = SampleAlignment(nets.SharedEncoder(Bypass(), [nn.Linear(5, 1)]).double(), [zoo.binary_loss])
    with pytest.raises(MtlkitError, match="do not add up"):
        align(torch.randn(4, 6).double(), torch.ones(1, 4).double(), [torch.randn_like(p) for p in align.parameters])


def test_leaves_a_path_whose_backward_pass_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, right = zoo.problem("mlp"), SampleAlignment._by_representation

    def wrong(*arguments: object) -> Aligned:
        aligned = right(*arguments)
        return Aligned(aligned.losses, aligned.scores, lambda weights: aligned.backward(2 * weights))

    monkeypatch.setattr(SampleAlignment, "_by_representation", wrong)
    align = SampleAlignment(problem.network, problem.losses)
    align(problem.inputs, problem.targets, [torch.randn_like(p) for p in align.parameters])
    assert align.path() == "network"


def test_refuses_the_representation_where_heads_mix_samples() -> None:
    problem = zoo.problem("encoder_decoder")
    align = SampleAlignment(problem.network, problem.losses, path="representation")
    with pytest.raises(MtlkitError, match="heads mix samples"):
        align(problem.inputs, problem.targets, [torch.randn_like(p) for p in align.parameters])


def test_a_mistake_of_the_user_is_not_taken_for_a_missing_derivative() -> None:
    problem = zoo.problem("mlp")
    align = SampleAlignment(problem.network, problem.losses)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        align(torch.randn(5, 7).double(), problem.targets, [torch.randn_like(p) for p in align.parameters])


def test_parameters_are_put_back_after_an_error() -> None:
    problem = zoo.problem("mlp")
    align = SampleAlignment(problem.network, problem.losses)
    before = list(problem.network.parameters())
    with pytest.raises(RuntimeError):
        align(torch.randn(5, 7).double(), problem.targets, [torch.randn_like(p) for p in align.parameters])
    assert all(a is b for a, b in zip(before, problem.network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["lenet", "resnet18", "encoder_decoder", "unsplit"])
def test_reference_gradient(name: str) -> None:
    problem = zoo.problem(name)
    network, parameters = problem.network, list(problem.network.shared_parameters())
    weights = torch.rand(5, dtype=torch.float64)
    before = [buffer.clone() for buffer in network.buffers()]
    gradient = reference_pass(network, problem.losses, problem.inputs, problem.targets, parameters, weights)
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True)), "running statistics moved"
    expected = torch.autograd.grad((weights * zoo.matrix(problem)[0]).sum(), parameters)
    assert all(relative(a, b) < TOLERANCE for a, b in zip(gradient, expected, strict=True))
    assert all(p.grad is None for p in network.parameters())


def test_reference_batch_takes_part_in_the_update() -> None:
    problem = zoo.problem("resnet18")
    network, parameters = problem.network, list(problem.network.shared_parameters())
    main, update = torch.rand(5).double(), torch.rand(3, 5).double()
    gradient = reference_pass(network, problem.losses, problem.inputs, problem.targets, parameters, main, update)
    alone = reference_pass(network, problem.losses, problem.inputs, problem.targets, parameters, main)
    assert all(relative(a, b) < TOLERANCE for a, b in zip(gradient, alone, strict=True))
    with frozen_statistics(network):
        expected = torch.autograd.grad((update * zoo.matrix(problem)).sum(), list(network.parameters()))
    assert all(relative(p.grad, g) < TOLERANCE for p, g in zip(network.parameters(), expected, strict=True))


def test_length_of_a_direction() -> None:
    direction = [torch.randn(3, 2), torch.randn(4)]
    assert float(length(direction)) == pytest.approx(torch.cat([d.flatten() for d in direction]).norm().item())
    assert length([torch.zeros(3), torch.zeros(2)]) == 0
