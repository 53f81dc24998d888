"""What holds for every weighting method and every option: a new method gets these tests by being in METHODS."""

import io
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting import METHODS, Rule, Signal, build, rlw, slgrad, spread

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rlw": [{"law": law} for law in rlw.LAWS],
    "slgrad": [
        {"normalisation": n, "group_shares": g, "strength": s, "shuffle": shuffle}
        for n, s, shuffle in itertools.product(slgrad.NORMALISATION, slgrad.STRENGTH, (False, True))
        for g in (slgrad.GROUP_SHARES if n == "task_label" else ("reference",))
    ],
}
"""Options to try beside the defaults; a method without an entry is tried with its defaults."""

CASES = [pytest.param(name, options, id=" ".join([name, *map(str, options.values())]))
         for name in METHODS for options in OPTIONS.get(name, [{}])]  # fmt: skip
every_method = pytest.mark.parametrize(("name", "options"), CASES)
in_place = pytest.mark.parametrize(("name", "options"), [c for c in CASES if not c.values[1].get("shuffle")])
"""Without the control that takes weights from their samples on purpose."""

SIZES = [(3, 8), (1, 8), (3, 1), (1, 1)]


def signal(tasks: int = 3, batch: int = 8, dtype: torch.dtype = torch.float32, seed: int = 0) -> Signal:
    """One-against-rest labels with flips in the main task; the first sample is clean, and aligned in every task."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, tasks, (batch,), generator=random)
    clean = (classes == torch.arange(tasks)[:, None]).long()
    flipped = torch.zeros(tasks, batch, dtype=torch.bool)
    flipped[0, 1:] = torch.rand(batch - 1, generator=random) < 0.3
    alignment = torch.randn(tasks, batch, generator=random)
    alignment[:, 0] = alignment[:, 0].abs() + 0.1
    return Signal(
        losses=torch.rand(tasks, batch, generator=random).to(dtype),
        mass=torch.ones(tasks, batch),
        groups=torch.where(flipped, 1 - clean, clean),
        class_shares=torch.tensor([0.8, 0.2]).expand(tasks, 2),
        flipped=flipped,
        alignment=alignment.to(dtype),
    )


def weigh(rule: Rule, seen: Signal) -> Tensor:
    """The weights `(T, B)` that a step would use."""
    return spread(rule(seen), seen.mass)


def take(seen: Signal, order: Tensor) -> Signal:
    """The signal with its samples in another order."""
    parts = {name: getattr(seen, name)[:, order] for name in ("losses", "mass", "groups", "flipped", "alignment")}
    return Signal(**parts, class_shares=seen.class_shares)


@every_method
@pytest.mark.parametrize(("tasks", "batch"), SIZES)
def test_weights_total_one(name: str, options: dict, tasks: int, batch: int) -> None:
    weights = weigh(build(name, tasks, options), signal(tasks, batch))
    assert weights.shape == (tasks, batch)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)


@every_method
def test_missing_labels_have_no_weight(name: str, options: dict) -> None:
    seen = signal(4, 16)
    seen.mass[torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) < 0.4] = 0
    seen.mass[2] = 0  # a task without a single label
    weights = weigh(build(name, 4, options), seen)
    assert (weights >= 0).all()
    assert (weights[seen.mass == 0] == 0).all()
    assert weights.sum() <= 1 + 1e-6


@in_place
def test_twice_the_mass_has_twice_the_weight(name: str, options: dict) -> None:
    """Of a sample that is like the others; mass is more than a mask."""
    seen = signal(2, 6)
    for part in (seen.groups, seen.flipped, seen.alignment, seen.losses):
        part[:] = part[:, :1]
    seen.groups[1] = 1 - seen.groups[0]
    seen.mass[:, 3] = 2
    weights = weigh(build(name, 2, options), seen)
    assert torch.allclose(weights[:, 3], 2 * weights[:, 0])


@in_place
def test_order_of_samples_does_not_matter(name: str, options: dict) -> None:
    seen, order = signal(), torch.randperm(8, generator=torch.Generator().manual_seed(2))
    there, here = (weigh(build(name, 3, options), s) for s in (take(seen, order), seen))
    assert torch.allclose(there, here[:, order], atol=1e-7)


@every_method
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float64, 1e-6)])
def test_other_precisions(name: str, options: dict, dtype: torch.dtype, tolerance: float) -> None:
    weights, usual = (weigh(build(name, 3, options), signal(dtype=d)).double() for d in (dtype, torch.float32))
    assert weights.sum().item() == pytest.approx(1, abs=tolerance)
    assert torch.allclose(weights, usual, atol=tolerance, rtol=tolerance)


@every_method
@pytest.mark.parametrize("size", [0.0, -1.0, 1e-42])
def test_no_alignment_to_speak_of(name: str, options: dict, size: float) -> None:
    """All zero, all against, or so small that float32 hardly holds it: weights stay finite and total 1 or 0."""
    seen = signal()
    seen.alignment = seen.alignment.abs() * size
    weights = weigh(build(name, 3, options), seen)
    total = weights.sum().item()
    assert (weights >= 0).all()
    assert total == pytest.approx(1, abs=1e-3) or total == 0
    if METHODS[name].needs != "alignment" or options["normalisation"] != "joint" or size > 0:
        assert total > 0


@every_method
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_state_survives(name: str, options: dict, steps: int) -> None:
    rule, seen, file = build(name, 3, options | {"seed": 4}), signal(), io.BytesIO()
    for _ in range(steps):
        rule(seen)
    torch.save(rule.state_dict(), file)
    resumed = build(name, 3, options | {"seed": 5})  # nothing is left to the seed
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for _ in range(3):
        assert torch.equal(weigh(rule, seen), weigh(resumed, seen))


@every_method
def test_same_seed_same_weights(name: str, options: dict) -> None:
    first, second = (build(name, 3, options | {"seed": 9}) for _ in range(2))
    torch.manual_seed(1)  # nothing else that is random matters
    a = weigh(first, signal())
    torch.manual_seed(2)
    assert torch.equal(a, weigh(second, signal()))


@every_method
def test_foreign_parameters_are_ignored(name: str, options: dict) -> None:
    foreign = {"epochs": 3, "learning_rate": 0.1, "tasks": 99, "weighting": name, "noise": 0.3}
    assert build(name, 3, options | foreign).tasks == 3


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(MtlkitError, match=r"weighting is 'slgard'.*ew, rlw, slgrad.*did you mean 'slgrad'"):
        build("slgard", 3)


CHOICES = {
    ("rlw", "law"): rlw.LAWS,
    ("slgrad", "align"): slgrad.ALIGN,
    ("slgrad", "normalisation"): slgrad.NORMALISATION,
    ("slgrad", "group_shares"): slgrad.GROUP_SHARES,
    ("slgrad", "strength"): slgrad.STRENGTH,
    ("slgrad", "reference_loss"): slgrad.REFERENCE_LOSS,
    ("slgrad", "update"): slgrad.UPDATE,
}


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_wrong_choice_shows_the_right_ones(name: str, option: str) -> None:
    with pytest.raises(MtlkitError) as error:
        build(name, 3, {option: "nonsense"})
    assert f"{option} is 'nonsense'" in str(error.value)
    assert all(choice in str(error.value) for choice in CHOICES[name, option])


@pytest.mark.parametrize(("name", "option", "value"), [("rlw", "k", 0), ("rlw", "k", 4), ("slgrad", "refresh", 0)])
def test_number_out_of_range_is_shown(name: str, option: str, value: int) -> None:
    with pytest.raises(MtlkitError, match=f"{option} is {value}, which is not"):
        build(name, 3, {option: value})


@pytest.mark.parametrize("name", METHODS)
def test_at_least_one_task(name: str) -> None:
    with pytest.raises(MtlkitError, match="tasks is 0, which is not at least 1"):
        build(name, 0)
