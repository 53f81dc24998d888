"""One pass of the backbone for every task's own inputs, and what the engine makes of it, against plain loops."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mtlkit import nets
from mtlkit.engine import SampleAlignment, reference_pass
from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.nets.separate import SeparateInputs
from mtlkit.tasks import multiclass_loss

TASKS, CLASSES, TOLERANCE = 3, 4, 1e-10


def network(heads: int = TASKS) -> SeparateInputs:
    """Batch normalisation in the backbone: passes see their own batch alone."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6),
                             nn.BatchNorm1d(6), nn.ReLU())  # fmt: skip
    return SeparateInputs(backbone, [nn.Linear(6, CLASSES) for _ in range(heads)]).double()


def batch(sizes: Sequence[int]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    draws = torch.Generator().manual_seed(1)
    inputs = tuple(torch.randn(size, 3, 8, 8, generator=draws, dtype=torch.float64) + task
                   for task, size in enumerate(sizes))  # fmt: skip
    return inputs, tuple(torch.randint(CLASSES, (size,), generator=draws) for size in sizes)


def rows(of: SeparateInputs, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
    """The losses of every task by the obvious loop: T rows, of different length if the batches are."""
    return [multiclass_loss(head(of.backbone(x)), y) for head, x, y in zip(of.heads, inputs, targets, strict=True)]


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Relative to the whole: the gradient of a bias before batch normalisation is zero but for rounding."""
    size = torch.cat([one.flatten() for one in b]).norm()
    return all((x - y).norm() <= TOLERANCE * size for x, y in zip(a, b, strict=True))


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 5, 3)])
def test_predictions_are_those_of_one_pass_per_task(sizes):
    ours, plain = network(), network()
    inputs, _ = batch(sizes)
    expected = [plain.heads[t](plain.backbone(x)) for t, x in enumerate(inputs)]
    assert all(torch.equal(a, b) for a, b in zip(ours(inputs), expected, strict=True))
    for a, b in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b), "running statistics move once per pass, in the order of the tasks"


def test_with_inputs_for_all_tasks_it_is_hard_parameter_sharing():
    ours = network()
    plain = copy.deepcopy(nets.SharedEncoder(ours.backbone, ours.heads))
    inputs = batch((4, 4, 4))[0][0]
    assert all(torch.equal(a, b) for a, b in zip(ours(inputs), plain(inputs), strict=True))
    assert torch.equal(ours.main(inputs), plain.main(inputs))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))


def test_the_main_prediction_looks_at_its_own_inputs_alone():
    ours, plain = network(), network()
    inputs, _ = batch((2, 5, 3))
    assert torch.equal(ours.main((inputs[0], None, None)), plain.heads[0](plain.backbone(inputs[0])))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))


def test_contract():
    ours = network()
    shared, own = ours.shared_parameters(), [list(head.parameters()) for head in ours.heads]
    assert len(shared) + sum(map(len, own)) == len(list(ours.parameters()))
    assert not hasattr(ours, "encoder"), "for which the engine would take one representation of all tasks' inputs"
    sum(one.square().sum() for one in ours(batch((2, 5, 3))[0])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in ours.parameters())


def of_the_engine(path: str, ours: SeparateInputs) -> SampleAlignment:
    align = SampleAlignment(ours, [multiclass_loss] * TASKS, path=path)
    align._exact[True] = path  # looking for the path takes the device from inputs that are one tensor
    return align


@pytest.mark.parametrize("path", ["network", "double_backward"])
def test_alignments_are_those_of_a_loop_over_samples(path):
    ours, plain = network(), network()
    inputs, targets = batch((4, 4, 4))
    align = of_the_engine(path, ours)
    direction = [torch.randn_like(p) for p in align.parameters]
    aligned = align(inputs, targets, direction)
    weights = torch.rand_like(aligned.losses)
    aligned.backward(weights)

    losses = torch.stack(rows(plain, inputs, targets))
    shared = plain.shared_parameters()
    scores = [[sum((g * v).sum() for g, v in zip(gradients(loss, shared), direction, strict=True)) for loss in row]
              for row in losses]  # fmt: skip
    assert same([aligned.losses, aligned.scores], [losses.detach(), torch.tensor(scores, dtype=torch.float64)])
    assert same([p.grad for p in ours.parameters()], gradients((weights * losses).sum(), list(plain.parameters())))
    assert all(torch.allclose(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))


def test_task_gradients_are_those_of_a_loop_over_samples():
    ours, plain = network(), network()
    inputs, targets = batch((4, 4, 4))
    within = torch.rand(TASKS, 4, dtype=torch.float64)
    found = TaskGradients(ours, [multiclass_loss] * TASKS)(inputs, targets, within)
    losses = rows(plain, inputs, targets)
    shared, own = plain.shared_parameters(), list(plain.heads.parameters())
    expected = []
    for t in range(TASKS):
        each = [gradients(loss, [*shared, *own]) for loss in losses[t]]
        expected.append([sum(w * g for w, g in zip(within[t], of, strict=True)) for of in zip(*each, strict=True)])
    matrix = torch.stack([torch.cat([g.flatten() for g in row[: len(shared)]]) for row in expected])
    assert same([found.rows(), found.gram()], [matrix, matrix @ matrix.T])
    total, heads = torch.rand(2, TASKS, dtype=torch.float64)
    found.backward(total, heads)
    wanted = [sum(w * row[k] for w, row in zip(total, expected, strict=True)) for k in range(len(shared))]
    wanted += [sum(w * row[k] for w, row in zip(heads, expected, strict=True))
               for k in range(len(shared), len(shared) + len(own))]  # fmt: skip
    assert same([p.grad for p in ours.parameters()], wanted)


def test_the_reference_gradient_is_that_of_the_main_task_on_its_own_inputs():
    ours, plain = network(), network()
    inputs, targets = batch((4, 4, 4))
    weights = torch.rand(4, dtype=torch.float64)
    found = reference_pass(ours, [multiclass_loss] * TASKS, inputs, targets, ours.shared_parameters(), weights)
    assert same(found, gradients((weights * rows(plain, inputs, targets)[0]).sum(), plain.shared_parameters()))
