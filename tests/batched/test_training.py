"""Seeds that train as one come to what they come to alone."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtlkit import nets
from mtlkit.batched import Batched, refusal, steps, training
from mtlkit.data.base import Samples
from mtlkit.errors import MtlkitError
from mtlkit.training import Run
from mtlkit.weighting import METHODS
from mtlkit.weighting import solvers as solvers_
from tests.batched.problems import SEEDS, images, made, toys
from tests.engine.test_cost import SYNCHRONISING, Count

REFUSED = {"rotograd", "auto_lambda", "moml", "label_consistency"}
"""The last one needs one-against-rest tasks."""

TOYS = [
    *((name, {}, {}) for name in sorted(METHODS.keys() - REFUSED)),
    ("slgrad", {"normalisation": "task_label"}, {"class_shares": True, "reference_share": 0.25, "optimizer": "adam"}),
    ("slgrad", {"align": "shared_and_main_head", "reference_loss": "class_balanced", "refresh": 3}, {}),
    ("slgrad", {"shuffle": True, "normalisation": "task"}, {"clip": 0.2, "schedule": "cosine"}),
    ("rlw+cagrad", {}, {"reference_share": 0.25}),
    ("mgda", {"gradients": "representation"}, {"class_shares": True}),
    ("graddrop", {"gradients": "shared", "leak": 0.25}, {"reference_share": 0.25}),
    ("uw", {}, {"optimizer": "adamw", "weight_decay": 0.1, "train_data": "both"}),
    ("ew", {}, {"train_data": "reference", "momentum": 0.0}),
]

IMAGES = [
    ("lenet", "label_consistency", {}),
    ("lenet", "oracle", {}),
    ("lenet", "slgrad", {"normalisation": "task_label"}),
    ("light_lenet", "slgrad", {}),
    ("light_lenet", "nash_mtl", {}),
    ("light_lenet", "ew", {}),
    ("resnet", "ew", {}),
    ("resnet", "slgrad", {}),
    ("resnet", "pcgrad", {}),
    ("light_lenet", "graddrop", {}),
    ("light_lenet", "db_mtl", {}),
]


def agree(alone: list[Run], together: list[Run], seeds: list[int] | None = None) -> None:
    """Trains the first ones, and compares parameters, running statistics, state of rules, history and weights of all
    seeds or of some. The detection of flipped labels ranks weights that are equal but for rounding, so means count."""
    for seed in range(len(alone)) if seeds is None else seeds:
        mine, theirs = alone[seed], together[seed]
        mine.fit()
        for name, value in (mine.network.state_dict() | dict(mine.rule.named_buffers())).items():
            other = (theirs.network.state_dict() | dict(theirs.rule.named_buffers()))[name]
            assert torch.allclose(value, other, rtol=1e-9, atol=1e-10), (seed, name)
        assert torch.allclose(mine.summary.totals, theirs.summary.totals, rtol=1e-9, atol=1e-10)
        histories = [run.history | run.summary.result() for run in (mine, theirs)]
        assert_close(*({key: value for key, value in one.items() if key not in ("epoch_seconds", "detection")}
                       for one in histories))  # fmt: skip


def assert_close(a: Any, b: Any, **tolerance: float) -> None:
    """Parts of records; metrics are computed in float32."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_close(one, other, **tolerance)
    elif isinstance(a, float):
        assert b == pytest.approx(a, **({"rel": 1e-6, "abs": 1e-9} | tolerance))
    else:
        assert a == b


@pytest.mark.parametrize(("name", "options", "settings"), TOYS)
def test_every_seed_is_as_alone(name: str, options: dict, settings: dict) -> None:
    problem = toys if settings or name in ("oracle", "aligned_selection") else partial(toys, kind="regression")
    alone, together = ([made(problem, seed, name, options, **settings) for seed in SEEDS] for _ in range(2))
    found = Batched(together).fit()
    agree(alone, together)
    assert [one["train_loss"] for one in found] == [run.history["train_loss"] for run in together]
    assert len({one["train_loss"][-1] for one in found}) == len(SEEDS)
    assert [run.order.take(2).tolist() for run in alone] == [run.order.take(2).tolist() for run in together]


@pytest.mark.parametrize(("network", "name", "options"), IMAGES)
def test_convolutions_and_batch_normalisation(network: str, name: str, options: dict) -> None:
    problem = partial(images, network=network)
    alone, together = ([made(problem, seed, name, options, batch_size=6, epochs=2, evaluations=1) for seed in SEEDS]
                       for _ in range(2))  # fmt: skip
    before = copy.deepcopy(list(alone[0].network.parameters()))
    Batched(together).fit()
    agree(alone, together)
    assert not torch.equal(before[0], alone[0].network.get_parameter(next(alone[0].network.named_parameters())[0]))


@pytest.mark.parametrize(("name", "optimizer"), [("ew", "sgd"), ("uw", "adam"), ("pcgrad", "sgd"), ("slgrad", "adam")])
@pytest.mark.parametrize("problem", [partial(toys, kind="regression"), images])
def test_a_seed_that_is_not_finite_touches_no_other(problem: Any, name: str, optimizer: str) -> None:
    """The broken seed stays where it was, says what is wrong, and the others go on to their end."""
    alone, together = ([made(problem, seed, name, optimizer=optimizer, epochs=2, evaluations=1) for seed in SEEDS]
                       for _ in range(2))  # fmt: skip
    together[1].train.inputs[:] = math.nan
    before = copy.deepcopy(together[1].network.state_dict())
    found = Batched(together).fit()
    agree(alone, together, [0, 2])
    assert isinstance(found[1], MtlkitError) and "the loss of task" in str(found[1]) and isinstance(found[0], dict)
    assert all(torch.equal(value, together[1].network.state_dict()[key]) for key, value in before.items())


def test_batched_backward_passes() -> None:
    """One for several tasks, as on a GPU."""
    alone, together = ([made(images, seed, "pcgrad") for seed in SEEDS] for _ in range(2))
    batched = Batched(together)
    batched.step.engine.batched = True
    batched.fit()
    agree(alone, together)


def test_a_wasted_step_is_left_out_for_that_seed_alone() -> None:
    runs = [made(partial(toys, kind="regression"), seed, "oracle") for seed in SEEDS]
    runs[2].train.flipped[:] = True
    before = copy.deepcopy(runs[2].network.state_dict())
    found = Batched(runs).fit()
    assert [one["skipped"] for one in found] == [0, 0, 12]
    assert all(torch.equal(value, runs[2].network.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("name", ["ew", "slgrad", "pcgrad", "ol_aux"])
def test_passes_do_not_grow_with_the_seeds(name: str) -> None:
    """Convolutions and matrix products of a step, forward, tangent and backward: as many for five seeds as for one."""

    def passes(seeds: int) -> int:
        batched = Batched([made(images, seed, name, batch_size=4) for seed in range(seeds)])
        index = torch.arange(4).repeat(seeds, 1)
        reference = index if batched.step.needs_reference else None
        batched._take(index, reference)
        with Count() as counted:
            batched._take(index, reference)
        return sum(counted.kernels[f"aten::{kernel}"] for kernel in ("convolution", "convolution_backward", "baddbmm"))

    assert passes(1) == passes(5) > 0


@pytest.mark.parametrize("name", ["ew", "rlw", "uw", "famo", "slgrad", "pcgrad", "nash_mtl", "mgda", "cosine"])
def test_steps_do_not_synchronise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers_, "READS_ARE_FREE", ())  # as on a GPU
    batched = Batched([made(partial(toys, kind="regression"), seed, name) for seed in SEEDS])
    index = torch.arange(8).repeat(3, 1)
    reference = index if batched.step.needs_reference else None
    batched._take(index, reference)
    with Count() as counted:
        batched._take(index, reference)
    assert not SYNCHRONISING & set(counted.kernels)


@pytest.mark.parametrize("name", ["slgrad", "rlw", "uw"])
def test_resumes_together_or_alone(name: str, tmp_path: Path) -> None:
    """Checkpoints are those of runs alone: stopped together, one goes on alone, then all together."""
    problem, options = partial(toys, kind="regression"), {"refresh": 3} if name == "slgrad" else {}
    paths, identities = [tmp_path / f"{seed}.pt" for seed in SEEDS], [str(seed) for seed in SEEDS]
    whole, stopped, resumed = ([made(problem, seed, name, options, epochs=4) for seed in SEEDS] for _ in range(3))

    def stop(epoch: int, *_: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Batched(stopped).fit(checkpoints=paths, identities=identities, every=-1, progress=stop)
    ahead = made(problem, 1, name, options, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        ahead.fit(checkpoint=paths[1], identity="1", every=-1, progress=lambda epoch, *_: stop(epoch - 1))
    Batched(resumed).fit(checkpoints=paths, identities=identities)
    agree(whole, resumed)


def refused(change: Callable[[], list[Run]]) -> str:
    runs = change()
    with pytest.raises(MtlkitError, match="these runs cannot be trained as one, because"):
        Batched(runs)
    return refusal(runs)


def with_network(encoder: nn.Module, kind: type = nets.SharedEncoder) -> Callable[[int], Any]:
    def problem(seed: int) -> Any:
        return toys(seed)[0], kind(encoder, [nn.Linear(8, 1) for _ in range(3)])

    return problem


TWICE = nn.Linear(8, 8)


class Other(nets.SharedEncoder):
    pass


@pytest.mark.parametrize(
    ("problem", "name", "options", "settings", "said"),
    [
        (toys, "moml", {}, {}, "the method takes a tentative step"),
        (toys, "rotograd", {}, {}, "no batched form of Rotation"),
        (toys, "slgrad", {"update": "published"}, {}, "update 'published' takes more than one step per batch"),
        (toys, "slgrad", {"update": "look_ahead"}, {}, "update 'look_ahead' takes more"),
        (toys, "ew", {}, {"accumulate": 2}, "micro-batches"),
        (toys, "ew", {}, {"checkpoint": True}, "checkpoint is set"),
        (toys, "ew", {}, {"channels_last": True}, "channels_last is set"),
        (with_network(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1))), "ew", {}, {}, "dropout would draw other masks"),
        (with_network(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8))), "ew", {}, {}, "no batched form of LayerNorm"),
        (with_network(nn.Sequential(nn.Linear(6, 8), TWICE, TWICE)), "ew", {}, {}, "used in several places"),
        (with_network(nn.Linear(6, 8), Other), "ew", {}, {}, "the network, Other, is not a SharedEncoder"),
    ],
)
def test_what_is_trained_one_by_one_says_why(problem: Any, name: str, options: dict, settings: dict, said: str) -> None:
    assert said in refused(lambda: [made(problem, seed, name, options, **settings) for seed in SEEDS])


def test_runs_that_do_not_belong_together() -> None:
    assert "differ in more than their seed" in refused(lambda: [made(toys, 0, "ew"), made(toys, 1, "ew", momentum=0.5)])


def test_a_stacked_parameter_is_that_of_all_seeds() -> None:
    runs = [made(toys, seed, "ew") for seed in SEEDS]
    batched = Batched(runs)
    stacked = batched.network.heads[0][0].layer.weight
    for run, part in zip(runs, stacked.chunk(3), strict=True):
        own = run.network.heads[0][0].weight
        assert torch.equal(own, part) and own.data_ptr() == part.data_ptr()


def test_a_batch_takes_every_seed_from_its_own_set() -> None:
    sets = [Samples(torch.arange(3.0)[:, None] + 10 * seed, torch.zeros(2, 3)) for seed in range(2)]
    whole, starts = training._joined(sets)
    batch = training._batch(whole, torch.tensor([[2, 0, 1], [1, 1, 0]]), starts)
    assert batch.inputs.flatten().tolist() == [2, 11, 0, 11, 1, 10] and batch.index.tolist() == [2, 1, 0, 1, 1, 0]


def test_columns_and_back() -> None:
    values = torch.arange(24).view(2, 12)
    assert torch.equal(steps.interleaved(steps.columns(values, 3)), values)
    assert torch.equal(steps.columns(values, 3)[1], values.view(2, 4, 3)[..., 1])
