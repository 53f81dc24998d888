import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.data import toy
from mtlkit.errors import MtlkitError

few = settings(max_examples=20)
seeds = st.integers(0, 10**6)
SPLITS = ("train", "reference", "tuning", "test")
SMALL = {"input_dimension": 20, "train": 60, "reference": 30, "tuning": 20, "test": 40}
noises = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("regression"), "noise_kind": st.sampled_from(["replace", "gaussian"])},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("classification"), "noise_kind": st.sampled_from(["uniform", "background"])},
    ),
)


def test_shapes_types_and_names():
    data = toy.load(0)
    sizes = {"train": 600, "reference": 200, "tuning": 200, "test": 200}
    assert (data.name, data.variant, data.kind) == ("toy", "toy", "regression")
    off = (data.test.targets[0] - data.reference.targets[0].mean()).double()
    constant = {"loss": pytest.approx(float((off**2).mean())), "mae": pytest.approx(float(off.abs().mean()))}
    assert data.facts == {"sizes": sizes, "block": None, "wrong_main_labels": 0, "noise": "none", "constant": constant}
    assert toy.load(0, kind="classification").facts["constant"] is None
    for name, size in sizes.items():
        part = getattr(data, name)
        assert part.inputs.shape == (size, 250) and part.inputs.dtype == torch.float32
        assert part.targets.shape == part.groups.shape == part.flipped.shape == part.mass.shape == (2, size)
        assert (part.targets.dtype, part.groups.dtype) == (torch.float32, torch.int64)
        assert not part.groups.any() and not part.flipped.any() and (part.mass == 1).all()


@pytest.mark.parametrize("tasks", [1, 5])
def test_any_number_of_tasks_and_outputs(tasks):
    data = toy.load(0, tasks=tasks, output_dimension=3, noise=0.5, noisy_tasks="all", **SMALL)
    assert data.train.targets.shape == (tasks, 60, 3)
    assert data.train.groups.shape == data.train.flipped.shape == (tasks, 60)
    assert (data.train.targets[data.train.flipped] == -0.5).all()
    assert len(data.task_names) == tasks


def test_the_functions_are_shared_noise_plus_own_noise_of_variance_three_and_a_half():
    weights = toy._activations(0, torch.eye(2000), 3, 4, math.sqrt(3.5), True)  # (T, dim, D): B + eps_t itself
    covariance = torch.cov(weights.flatten(1))
    assert torch.allclose(covariance.diagonal(), torch.full((3,), 4.5, dtype=torch.float64), atol=0.3)
    others = covariance[~torch.eye(3, dtype=torch.bool)]
    assert torch.allclose(others, torch.ones(6, dtype=torch.float64), atol=0.25)


def test_published_targets_saturate_and_the_default_ones_are_spread():
    published = torch.cat([toy.load(seed, published=True).train.targets for seed in range(5)])
    assert 0.925 < (published > 0.99).float().mean() < 0.945  # 93 % as measured on the release
    assert toy.load(0, published=True).variant == "toy-published"
    default = torch.cat([toy.load(seed).train.targets for seed in range(5)])
    assert default.min() >= 0 and default.max() < 1
    activations = default.double().atanh()
    assert abs(activations.square().mean() - 1) < 0.1  # |z| of a standard normal z
    assert abs(activations.mean() - math.sqrt(2 / math.pi)) < 0.05


def test_tasks_without_their_own_part_are_the_same_function():
    same, related = (toy.load(0, related_std=std).test.targets for std in (0, math.sqrt(3.5)))
    assert torch.equal(same[0], same[1])
    assert not torch.allclose(related[0], related[1], atol=0.1)


def test_a_task_does_not_depend_on_the_number_of_tasks():
    few_tasks, many = (toy.load(0, tasks=tasks, noise=0.3, noisy_tasks="all") for tasks in (2, 6))
    assert torch.equal(few_tasks.train.targets, many.train.targets[:2])
    assert torch.equal(few_tasks.test.inputs, many.test.inputs)


@few
@given(seeds, noises, st.floats(0, 1), st.sampled_from(["main", "all"]))
def test_noise_is_on_train_only_and_is_counted(seed, choice, noise, noisy_tasks):
    clean = toy.load(seed, kind=choice["kind"], **SMALL)
    data = toy.load(seed, noise=noise, noisy_tasks=noisy_tasks, **choice, **SMALL)
    for name in ("reference", "tuning", "test"):
        assert not getattr(data, name).flipped.any()
        assert torch.equal(getattr(data, name).targets, getattr(clean, name).targets)
    train = data.train
    assert torch.equal(train.inputs, clean.train.inputs)
    assert torch.equal(train.flipped, train.targets != clean.train.targets)
    assert data.facts["wrong_main_labels"] == int(train.flipped[0].sum())
    assert data.checksum == clean.checksum, "the checksum is that of the clean source"
    if noisy_tasks == "main":
        assert not train.flipped[1:].any()
    if choice["kind"] == "regression":
        assert int(train.flipped[0].sum()) == round(noise * 60)
        if noisy_tasks == "all":
            assert int(train.flipped[1].sum()) == round(noise * 60)
    else:
        assert torch.equal(train.targets, train.groups.float())
    if choice["noise_kind"] == "replace":
        assert (train.targets[train.flipped] == -0.5).all()
    if choice["noise_kind"] == "background":
        assert not (train.flipped & (clean.train.groups == 1)).any()
    json.dumps(data.facts)


def test_gaussian_replacements_have_variance_a_fifth():
    train = toy.load(0, train=5000, input_dimension=2, noise=1.0, noise_kind="gaussian").train
    assert train.flipped[0].all()
    assert abs(train.targets[0].mean()) < 0.03 and abs(train.targets[0].var() - 0.2) < 0.02


@few
@given(seeds)
def test_seeds_change_everything_and_are_repeatable(seed):
    first, again, other = (toy.load(s, noise=0.5, **SMALL) for s in (seed, seed, seed + 1))
    for name in SPLITS:
        for field in ("inputs", "targets", "flipped"):
            assert torch.equal(getattr(getattr(first, name), field), getattr(getattr(again, name), field))
        assert not torch.equal(getattr(first, name).inputs, getattr(other, name).inputs)
    assert not torch.equal(first.train.flipped, other.train.flipped)
    assert first.checksum == again.checksum != other.checksum


def test_drawing_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    toy.load(0, noise=0.5)
    assert torch.equal(before, torch.get_rng_state())


@few
@given(seeds)
def test_splits_are_disjoint(seed):
    data = toy.load(seed, **SMALL)
    rows = {tuple(row) for name in SPLITS for row in getattr(data, name).inputs.tolist()}
    assert len(rows) == sum(data.facts["sizes"].values())


@pytest.mark.parametrize("published", [False, True])
def test_classification_splits_train_at_the_median_even_where_tanh_saturates(published):
    data = toy.load(0, kind="classification", published=published)
    regression = toy.load(0, published=published)
    assert data.kind == "binary"
    assert (data.train.groups.sum(1) == 300).all()
    assert torch.equal(data.train.targets, data.train.groups.float())
    assert 0.3 < data.test.targets.mean() < 0.7
    for labels, values in zip(data.train.groups, regression.train.targets, strict=True):
        assert values[labels == 1].min() >= values[labels == 0].max()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": 1.5}, r"^noise is 1\.5.*between 0 and 1\.$"),
        ({"noise": 30}, r"^noise is 30.*between 0 and 1\.$"),
        ({"kind": "ranking"}, r"^kind is 'ranking'.*regression, classification"),
        ({"noise_kind": "uniform"}, r"^noise_kind of regression is 'uniform'.*replace, gaussian"),
        ({"kind": "classification", "noise_kind": "replace"}, r"^noise_kind of classification is 'replace'.*uniform"),
        ({"kind": "classification", "output_dimension": 2}, r"^output_dimension is 2.*one output"),
        ({"noisy_tasks": "aux"}, r"^noisy_tasks is 'aux'.*main, all"),
        ({"tasks": 0}, r"^tasks is 0.*at least 1"),
        ({"test": 0}, r"^test is 0.*at least 1"),
        ({"related_std": -1.0}, r"^related_std is -1\.0.*from 0 up"),
        ({"related_std": math.nan}, r"^related_std is nan.*from 0 up"),
        ({"related_std": math.inf}, r"^related_std is inf.*from 0 up"),
    ],
)
def test_a_setting_outside_its_choices_is_an_error(setting, message):
    with pytest.raises(MtlkitError, match=message):
        toy.load(0, **setting)
