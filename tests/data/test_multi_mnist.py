"""Multi-MNIST: composition, disjoint digits, wrong labels; on the stand-in, and on small files in MNIST's format."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlkit.data import multi_mnist
from mtlkit.errors import MtlkitError


def load(seed: int = 0, **options: object):
    return multi_mnist.load(seed, source="builtin", **options)


def test_sizes_and_names() -> None:
    data = load(unrelated="parity", main="right")
    assert data.facts["sizes"] == multi_mnist.STAND_IN and data.kind == "multiclass"
    assert data.task_names == ["right digit", "left digit", "parity"]
    assert data.train.inputs.shape == (800, 1, 28, 28) and data.train.targets.dtype == torch.int64
    assert torch.equal(data.test.targets[2], data.test.targets[1] % 2)
    assert load(train=100).facts["sizes"]["train"] == 100


def test_composition_against_the_obvious() -> None:
    left, right = torch.rand(3, 28, 28), torch.rand(3, 28, 28)
    found = multi_mnist._compose(left, right) * multi_mnist.STD + multi_mnist.MEAN
    for n in range(3):
        canvas = np.zeros((36, 36))
        for i in range(28):
            for j in range(28):
                canvas[i, j] = max(canvas[i, j], left[n, i, j])
                canvas[i + 6, j + 6] = max(canvas[i + 6, j + 6], right[n, i, j])
        expected = [[canvas[i * 36 // 28, j * 36 // 28] for j in range(28)] for i in range(28)]
        assert np.allclose(found[n, 0], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_no_two_sets_share_a_digit(seed: int) -> None:
    pools = multi_mnist._pools(seed, 1797, multi_mnist.STAND_IN, False)
    digits = {name: set(torch.cat(pair).tolist()) for name, pair in pools.items()}
    names = list(digits)
    assert all(not digits[a] & digits[b] for k, a in enumerate(names) for b in names[k + 1 :])
    assert {name: len(pair[0]) for name, pair in pools.items()} == multi_mnist.STAND_IN
    published = multi_mnist._pools(seed, 1797, multi_mnist.STAND_IN, True)
    assert set(published["train"][1].tolist()) & set(published["reference"][0].tolist()), "as in the papers"


def test_a_seed_changes_training_and_reference_alone() -> None:
    first, second, again = load(0), load(1), load(0)
    for name in ("tuning", "test"):
        assert torch.equal(getattr(first, name).inputs, getattr(second, name).inputs)
    for name in ("train", "reference"):
        assert not torch.equal(getattr(first, name).inputs, getattr(second, name).inputs)
        assert torch.equal(getattr(first, name).inputs, getattr(again, name).inputs)


@pytest.mark.parametrize("noisy", multi_mnist.NOISY)
@pytest.mark.parametrize("kind", ["uniform", "background"])
def test_wrong_labels(kind: str, noisy: str) -> None:
    clean, data = load(unrelated="random"), load(noise=0.4, noise_kind=kind, noisy_tasks=noisy, unrelated="random")
    for task in range(3):
        spoilt = noisy == "all" or (noisy == "main") == (task == 0)
        wrong = data.train.targets[task] != clean.train.targets[task]
        assert torch.equal(wrong, data.train.flipped[task])
        assert torch.equal(data.train.groups[task], data.train.targets[task])
        assert bool(wrong.any()) == spoilt
        if spoilt:
            assert wrong.float().mean() == pytest.approx(0.4 if kind == "uniform" else 0.36, abs=0.06)
            seen = set(data.train.targets[task][wrong].tolist())
            assert seen == ({0} if kind == "background" else set(range(10)))
    assert not data.test.flipped.any() and not data.reference.flipped.any()
    more = load(noise=0.6, noise_kind=kind, noisy_tasks=noisy, unrelated="random")
    assert (more.train.flipped | ~data.train.flipped).all()


def test_everything_is_wrong_at_one() -> None:
    assert load(noise=1.0).train.flipped[0].all()


@pytest.mark.parametrize(("options", "sentence"), [
    ({"noise": 1.5}, "noise is 1.5"), ({"main": "top"}, "main is 'top'"), ({"unrelated": "colour"}, "unrelated is"),
    ({"train": 801}, "train is 801, but there are 800"), ({"noisy_tasks": "some"}, "noisy_tasks is 'some'"),
])  # fmt: skip
def test_settings_outside_their_choices(options: dict, sentence: str) -> None:
    with pytest.raises(MtlkitError, match=sentence):
        load(**options)


def test_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(MtlkitError, match=r"MNIST is not below .* `python -m mtlkit data prepare mnist`"):
        multi_mnist.load(0, source="real", data_root=str(tmp_path))
    assert multi_mnist.load(0, data_root=str(tmp_path)).variant == "digits"
    assert "DIGITS as a stand-in" in capsys.readouterr().err
    assert multi_mnist.status(str(tmp_path))["found"] is False


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def archive(root: Path) -> Path:
    """MNIST's four files with 26,000 digits."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 25_000), ("t10k", 10_000)):
        images, classes = random.integers(0, 255, (count, 28, 28)), random.integers(0, 10, count)
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", classes)):
            (folder / f"{part}-{kind}.gz").write_bytes(gzip.compress(idx(array), 0))
    return folder


def test_files_and_damage(tmp_path: Path) -> None:
    folder = archive(tmp_path)
    data = multi_mnist.load(0, source="real", data_root=str(tmp_path))
    assert data.variant == "mnist" and data.facts["sizes"] == multi_mnist.SIZES
    file = folder / "t10k-labels-idx1-ubyte.gz"
    for damaged in (file.read_bytes()[:200], b"foreign", gzip.compress(idx(np.zeros((3, 2, 2))))):
        file.write_bytes(damaged)
        with pytest.raises(MtlkitError, match="cannot be read as MNIST"):
            multi_mnist.load(0, source="real", data_root=str(tmp_path))
        assert "cannot be read" in multi_mnist.status(str(tmp_path))["problem"]


def test_real_digits(data_root: Path) -> None:
    data = multi_mnist.load(3, source="real", data_root=str(data_root), noise=0.2)
    assert data.facts["sizes"] == multi_mnist.SIZES and data.variant == "mnist"
    counts = torch.bincount(data.train.targets[1], minlength=10)
    assert counts.min() > 1200 and data.train.inputs.std() > 0.5
