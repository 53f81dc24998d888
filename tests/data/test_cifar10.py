"""CIFAR-10: splits, noise, sources and variants, from archives that the tests write."""

import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from mtlkit.data import cifar10
from mtlkit.errors import MtlkitError
from tests.data.archives import FIRST_TEST_ID, TEST_IMAGES, content, human_labels, numbers, real, write


@pytest.mark.parametrize(("seed", "block"), [(0, 0), (1, 1), (2, 0), (7, 1)])
def test_a_seed_takes_its_block_and_the_last_block_is_for_tuning(root, seed, block):
    data = real(root, seed)
    assert data.facts["block"] == block
    assert data.facts["sizes"] == {"train": 800, "reference": 200, "tuning": 1000, "test": TEST_IMAGES}
    taken = numbers(data.train) + numbers(data.reference)
    assert sorted(taken) == list(range(1000 * block, 1000 * block + 1000))
    assert taken != sorted(taken), "the block is permuted"
    assert numbers(data.tuning) == list(range(2000, 3000))
    assert numbers(data.test) == list(range(FIRST_TEST_ID, FIRST_TEST_ID + TEST_IMAGES))
    source = content()
    for part, labels, first in (("train", "y_train", 0), ("tuning", "y_train", 0), ("test", "y_test", FIRST_TEST_ID)):
        split = getattr(data, part)
        expected = source[labels][np.array(numbers(split)) - first]
        assert np.array_equal(split.groups.argmax(0), expected) and (split.targets.sum(0) == 1).all()


def test_seeds_that_share_a_block_split_it_differently(root):
    assert set(numbers(real(root, 0).train)) != set(numbers(real(root, 2).train))


def test_inputs_are_standardised_with_the_train_images(root):
    data = real(root, 1)
    images = content()["x_train"].transpose(0, 3, 1, 2).astype(np.float64)
    train = images[numbers(data.train)]
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3), ddof=1)
    for split in (data.train, data.tuning):
        expected = (images[numbers(split)] - mean[:, None, None]) / std[:, None, None]
        assert np.allclose(split.inputs, expected, atol=1e-4)
        assert split.inputs.dtype == torch.float32 and split.inputs.is_contiguous()


def test_published_test_images_are_the_first_2000(root, tmp_path):
    assert numbers(real(root, test_images="published").test) == list(range(FIRST_TEST_ID, FIRST_TEST_ID + 2000))
    write(tmp_path)
    with pytest.raises(MtlkitError, match=r"2000 test images, but there are 20"):
        real(tmp_path, test_images="published")


def test_names_and_main_class(root):
    data = real(root, main_class=2, tasks=3)
    assert (data.name, data.kind, data.task_names) == ("cifar10", "binary", ["bird", "airplane", "automobile"])
    assert np.array_equal(data.test.groups[0], content()["y_test"] == 2)


def test_images_without_contrast_stay_finite(tmp_path):
    write(tmp_path)
    assert not real(tmp_path).train.inputs.any()


def test_flips_are_on_train_only_and_counted(root):
    clean, data = real(root), real(root, noise=0.3, noisy_tasks="all")
    assert torch.equal(data.train.flipped, data.train.groups != clean.train.groups)
    assert data.facts["wrong_main_labels"] == int(data.train.flipped[0].sum()) > 0
    for name in ("reference", "tuning", "test"):
        assert not getattr(data, name).flipped.any()
        assert torch.equal(getattr(data, name).groups, getattr(clean, name).groups)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("human_aggre", "aggre_label"), ("human_worse", "worse_label")]
    + [(f"human_random{i}", f"random_label{i}") for i in (1, 2, 3)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_human_labels_replace_the_classes(root, kind, key, seed):
    clean, main = real(root, seed), real(root, seed, noise_kind=kind, noise=0.9)
    everywhere = real(root, seed, noise_kind=kind, noisy_tasks="all")
    given = human_labels(content()["y_train"])[key][numbers(clean.train)]
    assert np.array_equal(main.train.groups[0], given == 0)
    assert torch.equal(main.train.groups[1:], clean.train.groups[1:]) and not main.train.flipped[1:].any()
    assert np.array_equal(everywhere.train.groups.argmax(0), given) and (everywhere.train.groups.sum(0) == 1).all()
    for data in (main, everywhere):
        assert torch.equal(data.train.flipped, data.train.groups != clean.train.groups)
        assert torch.equal(data.train.targets, data.train.groups.float())
        assert data.facts["wrong_main_labels"] == int(
            ((given == 0) != clean.train.groups[0].numpy().astype(bool)).sum()
        )
        assert not data.reference.flipped.any() and not data.tuning.flipped.any()
        assert torch.equal(data.reference.groups, clean.reference.groups)
    assert everywhere.facts["noise"] == f"{kind} on all tasks"


def test_human_labels_without_real_images_are_an_error(tmp_path):
    for source in ("auto", "builtin"):
        with pytest.raises(MtlkitError, match=r"noise_kind is 'human_worse'.*CIFAR-10 only.*cifar10n\.npz\.$"):
            cifar10.load(0, source=source, data_root=str(tmp_path), noise_kind="human_worse")


def test_missing_foreign_or_short_human_labels_are_errors(tmp_path):
    write(tmp_path)
    clean = np.arange(2000) % 10

    def message(**arrays: np.ndarray) -> str:
        if arrays:
            np.savez(tmp_path / "cifar10n.npz", **arrays)
        with pytest.raises(MtlkitError) as info:
            real(tmp_path, noise_kind="human_worse")
        assert "cifar10n.npz" in str(info.value)
        return str(info.value)

    assert "is missing" in message()
    assert "lacks worse_label" in message(clean_label=clean, aggre_label=clean)
    assert "differs from the labels" in message(clean_label=clean[::-1], worse_label=clean)
    assert "differs from the labels" in message(clean_label=clean[:1000], worse_label=clean)
    assert "leaves 0..9" in message(clean_label=clean, worse_label=clean + 1)
    assert "leaves 0..9" in message(clean_label=clean[:500], worse_label=clean[:500])


def test_a_block_without_human_labels_is_an_error(root, tmp_path):
    np.savez(tmp_path / "cifar10.npz", **content())
    labels = {name: array[:1000] for name, array in human_labels(content()["y_train"]).items()}
    np.savez(tmp_path / "cifar10n.npz", **labels)
    assert real(tmp_path, 0, noise_kind="human_worse").facts["wrong_main_labels"] > 0
    with pytest.raises(MtlkitError, match=r"first 1000 training images.*1000 to 1999: use seeds 0 to 0"):
        real(tmp_path, 1, noise_kind="human_worse")


def test_variants(tmp_path):
    write(tmp_path)
    assert real(tmp_path).variant == "cifar10-prepared"
    write(tmp_path, source="Images re-encoded as JPEG quality 75")
    assert real(tmp_path).variant == "cifar10-jpeg75"
    write(tmp_path, source="JPEG quality 75", variant="cifar10-small")
    assert real(tmp_path).variant == "cifar10-small"
    write(tmp_path, variant="digits")
    with pytest.raises(MtlkitError, match=r"variant in .* is 'digits'.*start with 'cifar10-'\.$"):
        real(tmp_path)


def test_the_checksum_is_that_of_images_and_labels(tmp_path):
    write(tmp_path)
    first = real(tmp_path).checksum
    write(tmp_path, source="something else", y_train=(np.arange(2000) % 10).astype(np.uint8))
    assert real(tmp_path, 1, noise=0.3).checksum == first
    changed = np.zeros((20, 32, 32, 3), np.uint8)
    changed[3, 1, 2, 0] = 1
    write(tmp_path, x_test=changed)
    assert real(tmp_path).checksum != first


def test_auto_takes_real_data_and_else_the_digits_loudly(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MTLKIT_DATA", str(root))
    assert cifar10.load(0).variant == "cifar10-prepared"
    assert cifar10.load(0, source="builtin").variant == "digits"
    assert not capsys.readouterr().err
    data = cifar10.load(4, data_root=str(tmp_path), noise=0.3, tasks=3, main_class=1)
    assert (data.variant, data.task_names) == ("digits", ["1", "0", "2"])
    assert data.facts["wrong_main_labels"] > 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "DIGITS" in captured.err and cifar10.PREPARE in captured.err
    assert not captured.out


def test_auto_does_not_hide_damage_behind_the_stand_in(tmp_path):
    (tmp_path / "cifar10.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(MtlkitError, match="truncated or damaged"):
        cifar10.load(0, source="auto", data_root=str(tmp_path))


def test_loading_never_uses_the_network(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert cifar10.load(0, source="auto", data_root=str(tmp_path)).variant == "digits"
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(MtlkitError, match="incomplete or damaged"):
        real(tmp_path)


def test_missing_real_data_say_what_from_where_and_how(tmp_path):
    with pytest.raises(MtlkitError) as info:
        real(tmp_path)
    message = str(info.value)
    for part in (str(tmp_path), "cifar10.npz", "cs.toronto.edu/~kriz", "torchvision", "MTLKIT_DATA", "data_root"):
        assert part in message
    assert "`python -m mtlkit data prepare cifar10`" in message and "\n" not in message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": 1.5}, r"^noise is 1\.5.*between 0 and 1\.$"),
        ({"noise_kind": "human_worst"}, r"^noise_kind is 'human_worst'.*did you mean 'human_worse'"),
        ({"source": "internet"}, r"^source is 'internet'.*auto, real, builtin"),
        ({"test_images": "first"}, r"^test_images is 'first'.*all, published"),
        ({"tasks": 11}, r"^tasks is 11.*1 to 10"),
    ],
)
def test_a_setting_outside_its_choices_is_an_error(tmp_path, setting, message):
    write(tmp_path)
    options = {"source": "real", "data_root": str(tmp_path)} | setting
    with pytest.raises(MtlkitError, match=message):
        cifar10.load(0, **options)


def test_heavy_packages_are_imported_where_they_are_used():
    code = "import sys, mtlkit.data.cifar10, mtlkit.data.toy; print({'torchvision', 'sklearn'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
