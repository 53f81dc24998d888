"""What holds for every weighting method and every option: a new method gets these tests by being in METHODS."""

import io
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting import METHODS, Rule, Signal, aligned_mtl, build, mgda, rlw, slgrad, spread

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rlw": [{"law": law} for law in rlw.LAWS],
    "rgw": [{"law": law} for law in rlw.LAWS],
    "mgda": [{"scaling": scaling} for scaling in mgda.SCALINGS],
    "cagrad": [{"c": c, "rescale": rescale} for c in (0.0, 0.4, 2.0) for rescale in (0, 1, 2)],
    "nash_mtl": [{}, {"every": 3, "max_norm": 0.0}],
    "fairgrad": [{"alpha": alpha} for alpha in (0.5, 1.0, 2.0)],
    "aligned_mtl": [{"scale": scale} for scale in aligned_mtl.SCALES],
    "stch": [{}, {"mu": 0.1, "warmup": 1}],
    "slgrad": [
        {"normalisation": n, "group_shares": g, "strength": s, "shuffle": shuffle}
        for n, s, shuffle in itertools.product(slgrad.NORMALISATION, slgrad.STRENGTH, (False, True))
        for g in (slgrad.GROUP_SHARES if n == "task_label" else ("reference",))
    ],
}
"""Options to try beside the defaults; a method without an entry is tried with its defaults."""

OWN_LENGTH = {"uw", "gls", "imtl_l", "imtl", "stch", "pcgrad", "gradvac", "cagrad", "nash_mtl", "fairgrad",
              "aligned_mtl", "upgrad", "cosine", "cosine_weighted", "ol_aux"}  # fmt: skip
"""Methods whose weights do not total 1: their length says something."""

SIGNED = {"imtl_g", "imtl", "aligned_mtl"}
"""Methods whose weights may be negative."""

NAMES = [*(name for name, method in METHODS.items() if issubclass(method, Rule)), "rlw+cagrad", "rlw+mgda"]
CASES = [pytest.param(name, options, id=" ".join([name, *map(str, options.values())]))
         for name in NAMES for options in OPTIONS.get(name, [{}])]  # fmt: skip
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
    rows = torch.randn(tasks, 12, generator=random)
    return Signal(
        losses=torch.rand(tasks, batch, generator=random).to(dtype),
        mass=torch.ones(tasks, batch),
        groups=torch.where(flipped, 1 - clean, clean),
        class_shares=torch.tensor([0.8, 0.2]).expand(tasks, 2),
        flipped=flipped,
        alignment=alignment.to(dtype),
        gram=(rows @ rows.T).to(dtype),
    )


def weigh(rule: Rule, seen: Signal) -> Tensor:
    """The weights `(T, B)` that a step would use."""
    return spread(rule(seen), seen.mass)


def take(seen: Signal, order: Tensor) -> Signal:
    """The signal with its samples in another order."""
    parts = {name: getattr(seen, name)[:, order] for name in ("losses", "mass", "groups", "flipped", "alignment")}
    return Signal(**parts, class_shares=seen.class_shares, gram=seen.gram)


@every_method
@pytest.mark.parametrize(("tasks", "batch"), SIZES)
def test_weights_total_one(name: str, options: dict, tasks: int, batch: int) -> None:
    weights = weigh(build(name, tasks, options), signal(tasks, batch))
    assert weights.shape == (tasks, batch)
    assert torch.isfinite(weights).all() and (weights != 0).any()
    assert (weights >= 0).all() or name in SIGNED
    if name not in OWN_LENGTH and not name.startswith("rlw+"):
        assert weights.sum().item() == pytest.approx(1, abs=1e-6)


@every_method
def test_missing_labels_have_no_weight(name: str, options: dict) -> None:
    seen = signal(4, 16)
    seen.mass[torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) < 0.4] = 0
    seen.mass[2] = 0  # a task without a single label
    seen.losses[2] = seen.alignment[2] = 0
    seen.gram[2] = seen.gram[:, 2] = 0
    weights = weigh(build(name, 4, options), seen)
    assert torch.isfinite(weights).all()
    assert (weights != 0).any() or options.get("law") == "bernoulli_k"  # which may draw the task without labels
    assert (weights[seen.mass == 0] == 0).all()
    if name not in OWN_LENGTH and not name.startswith("rlw+"):
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
    if METHODS[name.removeprefix("rlw+")].needs == "gradients":  # solvers see a slightly different matrix
        assert torch.isfinite(weights).all() and (weights.sum() - usual.sum()).abs() <= 0.2 * usual.abs().sum()
    else:
        assert weights.sum().item() == pytest.approx(usual.sum().item(), rel=tolerance)
        assert torch.allclose(weights, usual, atol=tolerance, rtol=tolerance)


@every_method
@pytest.mark.parametrize("size", [0.0, -1.0, 1e-42])
def test_no_alignment_to_speak_of(name: str, options: dict, size: float) -> None:
    """All zero, all against, or so small that float32 hardly holds it: weights stay finite and total 1 or 0."""
    seen = signal()
    seen.alignment = seen.alignment.abs() * size
    weights = weigh(build(name, 3, options), seen)
    total = weights.sum().item()
    assert torch.isfinite(weights).all()
    if name not in OWN_LENGTH and not name.startswith("rlw+"):
        assert total == pytest.approx(1, abs=1e-3) or total == 0
    if options.get("normalisation", "task") != "joint" and name not in ("slgrad_task", "l2rw"):
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
    with pytest.raises(MtlkitError, match=r"weighting is 'slgard'.*ew, rlw, uw.*did you mean 'slgrad'"):
        build("slgard", 3)
    with pytest.raises(MtlkitError, match=r"weighting after rlw\+ is 'slgrad', which is not one of mgda, pcgrad"):
        build("rlw+slgrad", 3)


@pytest.mark.parametrize(("name", "text", "attributes"), [
    ("cagrad", "c=0.4 rescale=2", {"c": 0.4}),
    ("cagrad", "rescale=0,c=1", {"c": 1.0, "divisor": 1}),
    ("nash_mtl", "every=4", {"every": 4}),
    ("slgrad", "shuffle=True  align=shared_and_main_head", {"shuffle": True, "align": "shared_and_main_head"}),
    ("ew", "", {}),
])  # fmt: skip
def test_options_by_text(name: str, text: str, attributes: dict) -> None:
    rule = build(name, 3, {"options": text})
    assert {key: getattr(rule, key) for key in attributes} == attributes


def test_options_after_random_losses() -> None:
    rule = build("rlw+cagrad", 3, {"options": "c=0.3", "law": "uniform"})
    assert rule.then.c == 0.3 and rule.random.law == "uniform"


@pytest.mark.parametrize(("name", "text", "given", "sentence"), [
    ("cagrad", "c", {}, "options is 'c'; write name=value"),
    ("cagrad", "resale=1", {}, r"cagrad has no option 'resale'; it has gradients, c, rescale \(did you mean 'rescale'"),
    ("ew", "c=1", {}, "ew has no option 'c'; it has none"),
    ("cagrad", "c=much", {}, "c is 'much', which is not a number"),
    ("cagrad", "rescale=1.5", {}, "rescale is '1.5', which is not a whole number"),
    ("slgrad", "shuffle=maybe", {}, "shuffle is 'maybe', which is not True or False"),
    ("rlw", "law=uniform", {"law": "normal"}, "law is a parameter of its own; set it there, not in options"),
])  # fmt: skip
def test_wrong_options_by_text(name: str, text: str, given: dict, sentence: str) -> None:
    with pytest.raises(MtlkitError, match=sentence):
        build(name, 3, given | {"options": text})


CHOICES = {
    ("rlw", "law"): rlw.LAWS,
    ("slgrad", "align"): slgrad.ALIGN,
    ("slgrad", "normalisation"): slgrad.NORMALISATION,
    ("slgrad", "group_shares"): slgrad.GROUP_SHARES,
    ("slgrad", "strength"): slgrad.STRENGTH,
    ("slgrad", "reference_loss"): slgrad.REFERENCE_LOSS,
    ("slgrad", "update"): slgrad.UPDATE,
    ("mgda", "scaling"): mgda.SCALINGS,
    ("mgda", "gradients"): ("shared", "representation"),
    ("graddrop", "gradients"): ("shared", "representation"),
    ("aligned_mtl", "scale"): aligned_mtl.SCALES,
}


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_wrong_choice_shows_the_right_ones(name: str, option: str) -> None:
    with pytest.raises(MtlkitError) as error:
        build(name, 3, {option: "nonsense"})
    assert f"{option} is 'nonsense'" in str(error.value)
    assert all(choice in str(error.value) for choice in CHOICES[name, option])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("rlw", "k", 0), ("rlw", "k", 4), ("slgrad", "refresh", 0), ("dwa", "temperature", 0.0), ("famo", "gamma", -1.0),
     ("stch", "mu", 0.0), ("stch", "warmup", 0), ("gradvac", "beta", 1.5), ("cagrad", "c", -0.1),
     ("cagrad", "rescale", 3), ("nash_mtl", "every", 0), ("nash_mtl", "max_norm", -1.0), ("fairgrad", "alpha", 0.0),
     ("gradnorm", "restoring", -1.0), ("gradnorm", "weight_rate", 0.0), ("graddrop", "leak", 2.0),
     ("db_mtl", "beta", 1.0), ("db_mtl", "decay", -1.0), ("ol_aux", "weight_rate", 0.0), ("ol_aux", "horizon", 0),
     ("auto_lambda", "initial", 0.0), ("moml", "weight_rate", 0.0)],
)  # fmt: skip
def test_number_out_of_range_is_shown(name: str, option: str, value: int) -> None:
    with pytest.raises(MtlkitError, match=f"{option} is {value}"):
        build(name, 3, {option: value})


@pytest.mark.parametrize("name", METHODS)
def test_at_least_one_task(name: str) -> None:
    with pytest.raises(MtlkitError, match="tasks is 0, which is not at least 1"):
        build(name, 0)


FROZEN = {
    "ew": [0.33333, 0.33333, 0.33333, 0.04167],
    "rlw": [0.32694, 0.05409, 0.61897, 0.04087],
    "uw": [0.27479, 0.27479, 0.27479, 0.03435],
    "dwa": [0.33333, 0.33333, 0.33333, 0.04167],
    "gls": [0.35792, 0.26811, 0.38595, 0.04474],
    "imtl_l": [0.33333, 0.33333, 0.33333, 0.04167],
    "famo": [0.34005, 0.25472, 0.40524, 0.04251],
    "stch": [0.76212, 0.57088, 0.8218, 0.09527],
    "cosine": [0.33333, 0.33333, 0.0, 0.04167],
    "ol_aux": [0.33333, 0.34969, 0.31212, 0.04167],
    "slgrad": [0.38258, 0.43285, 0.18457, 0.15107],
    "slgrad_task": [0.0, 1.0, 0.0, 0.0],
    "l2rw": [1.0, 0.0, 0.0, 0.39486],
    "main": [1.0, 0.0, 0.0, 0.125],
    "oracle": [0.33333, 0.33333, 0.33333, 0.04762],
    "label_consistency": [0.33333, 0.33333, 0.33333, 0.04762],
    "aligned_selection": [0.33333, 0.33333, 0.33333, 0.01111],
}
"""The weights of the three tasks, and of the first sample of the first one."""


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name.removeprefix("rlw+")].needs != "gradients"])
def test_frozen(name: str) -> None:
    """The numbers of today, in the third step; whoever changes them says why. Gradient methods have their own."""
    rule = build(name, 3)
    for _ in range(2):
        rule(signal(dtype=torch.float64))
        if rule.looks_after:
            rule.after(signal(dtype=torch.float64, seed=1))
        rule.end_of_epoch()
    weights = weigh(rule, signal(dtype=torch.float64, seed=2))
    weights = weights.detach()
    assert [*weights.sum(1).tolist(), weights[0, 0].item()] == pytest.approx(FROZEN[name], abs=2e-5)
