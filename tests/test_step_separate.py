"""Steps of tasks with inputs of their own, in float64, with another number of samples for every task."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.data.separate import Separate, SeparateSamples
from mtlkit.engine import SampleAlignment, frozen_statistics
from mtlkit.engine.reference import padded
from mtlkit.engine.task_gradients import TaskGradients
from mtlkit.errors import MtlkitError
from mtlkit.forward import prepared
from mtlkit.nets.separate import SeparateInputs
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.steps import Step, make_step
from mtlkit.tasks import binary_loss
from mtlkit.weighting import METHODS, build
from tests import zoo

SIZES = (4, 6, 3)
SHARES = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
LOSSES = [binary_loss] * 3
BACKBONES = {
    "group_norm": lambda: [nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.Tanh(), nn.Linear(8, 5)],
    "batch_norm": lambda: [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5), nn.BatchNorm1d(5)],
    "dropout": lambda: [nn.Linear(6, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 5)],
    "attention": lambda: [nn.Unflatten(1, (2, 3)), zoo.Attention(), nn.Linear(8, 5)],
    "no_forward_mode": lambda: [nn.Linear(6, 5), zoo.Cube()],
}


def network(kind: str = "group_norm") -> SeparateInputs:
    torch.manual_seed(0)
    return SeparateInputs(nn.Sequential(*BACKBONES[kind]()), [nn.Linear(5, 1) for _ in SIZES]).double().train()


def samples(seed: int = 1, sizes: tuple[int, ...] = SIZES) -> SeparateSamples:
    """A batch, some of its labels missing."""
    torch.manual_seed(seed)
    parts = []
    for size in sizes:
        labels, mass = torch.randint(0, 2, (1, size)), torch.rand(1, size, dtype=torch.float64)
        mass[0, 1] = 0
        parts.append(Samples(torch.randn(size, 6).double(), labels.double(), labels, torch.rand(1, size) < 0.4, mass))
    return Separate(parts).take([torch.arange(size) for size in sizes])


def rows(of: nn.Module, batch: SeparateSamples) -> list[Tensor]:
    """The losses, by one pass for every task."""
    return [binary_loss(head(of.backbone(x)), y) for head, x, y in
            zip(of.heads, batch.inputs, batch.targets, strict=True)]  # fmt: skip


def products(of: nn.Module, batch: SeparateSamples, parameters: list[Tensor], direction: list[Tensor]) -> Tensor:
    """`<grad L[t, i], v>` by a backward pass for every task and sample, `(T, B)`; zero where there is none."""
    found = torch.zeros_like(batch.mass)
    for t, row in enumerate(rows(of, batch)):
        for i, loss in enumerate(row):
            gradient = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            found[t, i] = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True) if g is not None)
    return found


def agree(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-10) -> bool:
    size = torch.cat([one.flatten() for one in expected]).norm()
    return all((a - b).norm() <= tolerance * size for a, b in zip(found, expected, strict=True))


def test_losses_are_padded_only_where_they_have_to_be() -> None:
    equal = [torch.rand(4, requires_grad=True) for _ in range(3)]
    assert torch.equal(padded(equal), torch.stack(equal)) and "Pad" not in str(padded(equal).grad_fn.next_functions)
    uneven = [torch.rand(size) for size in SIZES]
    matrix = padded(uneven)
    assert matrix.shape == (3, 6) and matrix.dtype == uneven[0].dtype
    for row, values in zip(matrix, uneven, strict=True):
        assert torch.equal(row[: len(values)], values) and not row[len(values) :].any()


@pytest.mark.parametrize("main_head", [False, True])
@pytest.mark.parametrize("how", [{}, {"channels_last": True}], ids=["", "wrapped"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_scores_are_those_of_the_loop(kind: str, main_head: bool, how: dict) -> None:
    made, batch = network(kind), samples()
    oracle = copy.deepcopy(made)
    align = SampleAlignment(prepared(made, **how), LOSSES, main_head=main_head)
    direction = [torch.randn_like(parameter) for parameter in align.parameters]
    align._exact[True] = align._find_path(batch.inputs, batch.targets, direction)
    assert align.path() == ("double_backward" if kind == "no_forward_mode" else "network")
    torch.manual_seed(7)
    aligned = align(batch.inputs, batch.targets, direction)
    weights = torch.rand_like(aligned.scores) * (batch.mass > 0)
    aligned.backward(weights)

    plain = copy.deepcopy(oracle)
    torch.manual_seed(7)
    losses = rows(plain, batch)
    sum((w[: len(row)] * row).sum() for w, row in zip(weights, losses, strict=True)).backward()
    assert torch.allclose(aligned.losses, padded(losses), rtol=1e-12, atol=0)
    assert agree([p.grad for p in made.parameters()], [p.grad for p in plain.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(made.buffers(), plain.buffers(), strict=True)), "once per pass"
    torch.manual_seed(7)
    parameters = [*oracle.backbone.parameters(), *(oracle.heads[0].parameters() if main_head else ())]
    assert agree([aligned.scores], [products(oracle, batch, parameters, direction)])


@pytest.mark.parametrize("kind", ["group_norm", "batch_norm"])
@pytest.mark.parametrize("align", ["shared", "shared_and_main_head"])
def test_slgrad(kind: str, align: str) -> None:
    made, batch, held_out = network(kind), samples(), samples(2, (5, 4, 8))
    oracle = copy.deepcopy(made)
    outcome = make_step(made, LOSSES, build("slgrad", 3, {"align": align}))(batch, held_out)

    parameters = [*oracle.backbone.parameters(), *(oracle.heads[0].parameters() if align != "shared" else ())]
    main, mass = rows(oracle, held_out)[0], held_out.mass[0, :5]
    direction = torch.autograd.grad((mass * main).sum() / mass.sum(), parameters)
    raw = products(oracle, batch, parameters, direction).clamp_min(0) * batch.mass
    weights = raw / raw.sum()
    assert torch.allclose(outcome.weights, weights, rtol=1e-10, atol=1e-14) and 0 < (weights > 0).sum() < 13
    losses = rows(oracle, batch)
    sum((w[: len(row)] * row).sum() for w, row in zip(weights, losses, strict=True)).backward()
    assert agree([p.grad for p in made.parameters()], [p.grad for p in oracle.parameters()])


@pytest.mark.parametrize("keep", [None, 2])
@pytest.mark.parametrize("kind", ["group_norm", "batch_norm"])
def test_task_gradients(kind: str, keep: int | None) -> None:
    made, batch, mix, heads = network(kind), samples(), torch.tensor([0.3, -0.2, 0.7]), torch.tensor([0.5, 0.1, 0.2])
    with frozen_statistics(made):
        losses = [(m[: len(row)] * row).sum() for m, row in zip(batch.mass, rows(made, batch), strict=True)]
    shared, own = list(made.backbone.parameters()), list(made.heads.parameters())
    found = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in found])
    expected = [sum(m * row[k] for m, row in zip(mix.double(), found, strict=True)) for k in range(len(shared))]
    expected += torch.autograd.grad(sum(h * loss for h, loss in zip(heads.double(), losses, strict=True)), own)
    engine = TaskGradients(made, LOSSES, keep=keep)(batch.inputs, batch.targets, batch.mass)
    assert torch.allclose(engine.gram(), flat @ flat.T, rtol=1e-10, atol=1e-12)
    engine.backward(mix.double(), heads.double())
    assert agree([p.grad for p in [*shared, *own]], expected)


def joint(batch: SeparateSamples) -> Samples:
    """The same batch for all tasks: every sample has the label of its own task alone."""
    sizes = list(map(len, batch.inputs))
    fields = {}
    for name in ("mass", "groups", "flipped"):
        blocks = [row[:size] for row, size in zip(getattr(batch, name), sizes, strict=True)]
        fields[name] = torch.block_diag(*blocks).to(blocks[0].dtype)
    return Samples(torch.cat(batch.inputs), torch.block_diag(*batch.targets), **fields)


def own(matrix: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """What a `(T, B)` of the joint batch has at every task's own samples."""
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    return [row[start : start + size] for row, start, size in zip(matrix, starts, sizes, strict=True)]


def step_of(made: nn.Module, name: str, options: dict, **more: Any) -> Step:
    rule = build(name, 3, options).double()
    optimizer = make_optimizer("sgd", made.parameters(), learning_rate=0.05, momentum=0.9,
                               of_the_rule=list(rule.parameters()))  # fmt: skip
    return make_step(made, LOSSES, rule, optimizer=optimizer, class_shares=SHARES, **more)


def trained(name: str, options: dict, sizes: tuple[int, ...], *, jointly: bool = False, **more: Any) -> tuple:
    """A network after three steps, and the outcomes."""
    made = network()
    step, outcomes = step_of(made, name, options, **more), []
    for k in range(3):
        batch, reference = samples(10 + k, sizes), samples(20 + k, (7, 8, 9))
        if jointly:
            batch, reference = joint(batch), joint(reference)
        step.optimizer.zero_grad()
        outcomes.append(step(batch, reference))
        guarded_step(step.optimizer, outcomes[-1].skip)
        step.after(batch)
    return list(made.parameters()), outcomes


REFUSED = {"graddrop", "rotograd", "label_consistency"}
VARIANTS = [
    *((name, {}) for name in [*METHODS, "rlw+cagrad"] if name not in REFUSED),
    ("graddrop", {"gradients": "shared"}),
    ("slgrad", {"normalisation": "task"}),
    ("slgrad", {"normalisation": "task_label", "group_shares": "batch"}),
    ("slgrad", {"reference_loss": "class_balanced", "refresh": 2}),
    ("slgrad", {"update": "look_ahead"}),
    ("slgrad", {"update": "published"}),
]


@pytest.mark.parametrize("more", [{}, {"use_class_shares": True, "reference_share": 0.3}], ids=["", "shares"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_padding_has_no_weight(name: str, options: dict, more: dict) -> None:
    """Every method, where nothing mixes samples: as if all tasks saw all samples, and had labels of their own alone."""
    ours, found = trained(name, options, SIZES, **more)
    theirs, expected = trained(name, options, SIZES, jointly=True, **more)
    assert agree(ours, theirs, 1e-9)
    for one, other in zip(found, expected, strict=True):
        assert one.skip == other.skip and not one.weights[0, 4:].any() and not one.losses[2, 3:].any()
        for a, b in ((one.weights, other.weights), (one.losses, other.losses)):
            assert torch.allclose(a, padded(own(b, SIZES)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["ew", "gls", "slgrad", "cosine", "pcgrad", "db_mtl", "auto_lambda", "moml"])
def test_micro_batches(name: str) -> None:
    sizes = (12, 10, 9)
    ours, found = trained(name, {}, sizes, accumulate=3, reference_share=0.3)
    theirs, expected = trained(name, {}, sizes, reference_share=0.3)
    assert agree(ours, theirs, 1e-9)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.weights, other.weights, rtol=1e-8, atol=1e-12)
        assert torch.allclose(one.losses, other.losses, rtol=1e-9, atol=1e-12)


def test_shuffled_weights_stay_with_the_samples() -> None:
    step = step_of(network(), "slgrad", {"shuffle": True})
    for seed in range(5):
        weights = step(samples(seed), samples(9)).weights
        assert not weights[samples(seed).mass == 0].any() and weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("graddrop", {}, "gradients at the representation need a network with `encoder`"),
        ("mgda", {"gradients": "representation"}, "gradients at the representation need a network with `encoder`"),
        ("label_consistency", {}, "here every task has samples of its own"),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(MtlkitError, match=sentence):
        step_of(network(), name, options)(samples(), samples(2))


def test_rotations_and_micro_batches_without_samples_are_refused() -> None:
    with pytest.raises(MtlkitError, match="rotograd needs a network with `encoder` and `heads`"):
        build("rotograd", 3).attach(network(), samples().inputs)
    with pytest.raises(MtlkitError, match=r"every task, of which this batch has 4, 6, 3; choose a smaller accumulate"):
        step_of(network(), "ew", {}, accumulate=3)(samples(), None)
