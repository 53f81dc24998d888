"""The digits, and with them everything that one-against-rest data share."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from mtlkit.data import digits
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError

SPLITS = ("train", "reference", "tuning", "test")
SIZES = {"train": 800, "reference": 200, "tuning": 200, "test": 597}
few = settings(max_examples=12)
seeds = st.integers(0, 10**6)
noises = st.fixed_dictionaries(
    {
        "noise": st.sampled_from([0.0, 0.3, 0.6, 1.0]),
        "noise_kind": st.sampled_from(["uniform", "background"]),
        "noisy_tasks": st.sampled_from(["main", "all"]),
    }
)


def classes(dataset: Dataset, name: str) -> torch.Tensor:
    """Clean classes of a split with ten tasks whose main class is 0."""
    part = getattr(dataset, name)
    clean = part.groups ^ part.flipped.long()
    assert (clean.sum(0) == 1).all()
    return clean.argmax(0)


def test_shapes_types_and_names():
    data = digits.load(0)
    assert (data.name, data.variant, data.kind) == ("digits", "digits", "binary")
    assert data.task_names == [str(digit) for digit in range(10)]
    assert data.facts == {"sizes": SIZES, "block": None, "wrong_main_labels": 0, "noise": "none"}
    for name, size in SIZES.items():
        part = getattr(data, name)
        assert part.inputs.shape == (size, 3, 32, 32) and part.inputs.dtype == torch.float32
        assert part.inputs.is_contiguous()
        assert part.targets.shape == part.groups.shape == part.flipped.shape == part.mass.shape == (10, size)
        assert (part.targets.dtype, part.groups.dtype) == (torch.float32, torch.int64)
        assert (part.mass == 1).all()


def test_the_images_are_the_digits_enlarged():
    data = digits.load(0)
    _, labels = load_digits(return_X_y=True)
    assert torch.equal(classes(data, "tuning"), torch.tensor(labels[1000:1200]))
    assert torch.equal(classes(data, "test"), torch.tensor(labels[1200:]))
    small = torch.nn.functional.avg_pool2d(data.test.inputs[:, 0], 4).flatten(1)
    pixels = torch.tensor(load_digits().data[1200:]).float()
    correlation = torch.corrcoef(torch.stack((small.flatten(), pixels.flatten())))[0, 1]
    assert correlation > 0.9
    assert len(data.test.inputs[:, 0].unique()) > 17, "between the 17 grey levels it is interpolated"
    assert torch.equal(data.test.inputs[:, 0], data.test.inputs[:, 2])


@few
@given(seeds)
def test_the_four_splits_are_disjoint_and_complete(seed):
    data = digits.load(seed)
    rows = [row.numpy().tobytes() for name in SPLITS for row in getattr(data, name).inputs[:, 0]]
    assert len(rows) == 1797 and len(set(rows)) == 1797  # no two digits are the same image


@few
@given(seeds, noises)
def test_the_same_seed_gives_the_same_data(seed, noise):
    first, second = digits.load(seed, **noise), digits.load(seed, **noise)
    for name in SPLITS:
        for field in ("inputs", "targets", "groups", "flipped", "mass"):
            assert torch.equal(getattr(getattr(first, name), field), getattr(getattr(second, name), field))
    assert first.facts == second.facts and first.checksum == second.checksum


@few
@given(seeds)
def test_another_seed_changes_train_and_flips_but_not_tuning_and_test(seed):
    first, second = (digits.load(s, noise=0.5) for s in (seed, seed + 1))
    assert not torch.equal(classes(first, "train"), classes(second, "train"))
    assert not torch.equal(first.train.flipped, second.train.flipped)
    for name in ("tuning", "test"):
        assert torch.equal(classes(first, name), classes(second, name))
    assert first.checksum == second.checksum


@few
@given(seeds, noises)
def test_noise_is_on_train_only_and_is_counted(seed, noise):
    clean, data = digits.load(seed), digits.load(seed, **noise)
    for name in ("reference", "tuning", "test"):
        assert not getattr(data, name).flipped.any()
        assert torch.equal(getattr(data, name).groups, getattr(clean, name).groups)
    train = data.train
    assert torch.equal(train.inputs, clean.train.inputs), "noise must not move the split"
    assert torch.equal(train.flipped, train.groups != clean.train.groups)
    assert torch.equal(train.targets, train.groups.float())
    assert data.facts["wrong_main_labels"] == int(train.flipped[0].sum())
    if noise["noisy_tasks"] == "main":
        assert not train.flipped[1:].any()
    elif noise["noise"]:
        assert train.flipped.any(1).all()
    if noise["noise_kind"] == "background":
        assert not (train.flipped & (clean.train.groups == 1)).any()
    json.dumps(data.facts)


def test_flips_of_the_main_task_do_not_depend_on_the_other_tasks():
    settings = {"noise": 0.3, "noise_kind": "uniform"}
    alone = digits.load(5, tasks=1, **settings).train
    everywhere = digits.load(5, noisy_tasks="all", **settings).train
    assert torch.equal(alone.flipped[0], everywhere.flipped[0])
    assert not torch.equal(everywhere.flipped[0], everywhere.flipped[1])


@pytest.mark.parametrize("noisy_tasks", ["main", "all"])
def test_the_reference_set_can_be_smaller_and_noisy(noisy_tasks):
    settings = {"noise": 0.3, "noise_kind": "background", "noisy_tasks": noisy_tasks}
    whole, data = digits.load(5, **settings), digits.load(5, **settings, reference_size=50, reference_noise=0.2)
    for name in ("inputs", "targets", "flipped"):
        assert torch.equal(getattr(data.train, name), getattr(whole.train, name)), "the training set stays as it is"
    assert len(data.reference) == data.facts["sizes"]["reference"] == 50
    assert torch.equal(data.reference.inputs, whole.reference.inputs[:50])
    flipped = data.reference.groups != whole.reference.groups[:, :50]
    assert torch.equal(data.reference.flipped, flipped) and torch.equal(
        data.reference.targets, data.reference.groups.float()
    )
    assert 2 <= flipped[0].sum() <= 20 and not (flipped & (whole.reference.groups[:, :50] == 1)).any()
    assert flipped[1:].any() == (noisy_tasks == "all")
    assert data.facts["noise"].endswith("; reference set: background 0.2")


def test_the_main_class_comes_first_and_the_others_follow():
    plain, data = digits.load(3), digits.load(3, main_class=4, tasks=6)
    assert data.task_names == ["4", "0", "1", "2", "3", "5"]
    assert torch.equal(data.test.groups, plain.test.groups[[4, 0, 1, 2, 3, 5]])


def test_inputs_are_standardised_with_train_alone():
    data = digits.load(0)
    assert data.train.inputs.mean().abs() < 1e-4 and abs(data.train.inputs.std() - 1) < 1e-3
    assert data.test.inputs.mean().abs() > 1e-3


def test_noise_is_described():
    assert digits.load(0, noise=0.3).facts["noise"] == "uniform 0.3 on the main task"
    data = digits.load(0, noise=0.6, noise_kind="background", noisy_tasks="all")
    assert data.facts["noise"] == "background 0.6 on all tasks"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": 1.5}, r"^noise is 1\.5.*between 0 and 1\.$"),
        ({"noise_kind": "human_worse"}, r"^noise_kind is 'human_worse'.*uniform, background"),
        ({"noisy_tasks": "both"}, r"^noisy_tasks is 'both'.*main, all"),
        ({"tasks": 11}, r"^tasks is 11.*1 to 10"),
        ({"tasks": 0}, r"^tasks is 0.*1 to 10"),
        ({"main_class": 10}, r"^main_class is 10.*0 to 9"),
        ({"reference_size": 201}, r"^reference_size is 201.*1 to 200"),
        ({"reference_noise": -0.1}, r"^noise is -0\.1.*between 0 and 1"),
    ],
)
def test_a_setting_outside_its_choices_is_an_error(setting, message):
    with pytest.raises(MtlkitError, match=message):
        digits.load(0, **setting)
