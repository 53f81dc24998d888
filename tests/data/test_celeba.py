"""CelebA on a small tree in torchvision's layout, its faults, and the drawn faces that stand in for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit.data import celeba, faces
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError

PARTS = [0] * 12 + [1] * 7 + [2] * 5
SETS = ("train", "reference", "tuning", "test")


def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (len(PARTS), 40))


def write(root: Path) -> Path:
    """Image k has the red value 10 k; its name does not follow the order of the tables."""
    folder = root / "celeba"
    (folder / celeba.IMAGES).mkdir(parents=True)
    names = [f"{(k * 7) % 24:06}.jpg" for k in range(len(PARTS))]
    for k, name in enumerate(names):
        Image.new("RGB", (17, 21), (10 * k, 90, 90)).save(folder / celeba.IMAGES / name, quality=95)
    signs = [" ".join(f"{2 * one - 1:2}" for one in row) for row in labels()]
    rows = [f"{name} {row}" for name, row in zip(names, signs, strict=True)]
    table = [str(len(PARTS)), f"{' '.join(celeba.ATTRIBUTES)} ", *rows]
    (folder / celeba.ATTRIBUTE_TABLE).write_text("\n".join(table) + "\n")
    parts = [f"{name} {part}" for name, part in zip(names, PARTS, strict=True)]
    (folder / celeba.PARTITION_TABLE).write_text("\n".join(parts) + "\n")
    return folder


def load(root: Path, seed: int = 0, **options) -> Dataset:
    return celeba.load(seed, **{"source": "real", "data_root": str(root), "size": 16} | options)


def numbers(split) -> list[int]:
    return [round(one / 10) for one in split.maps["image"][split.rows][:, 0].float().mean((1, 2)).tolist()]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    write(folder)
    return folder


def test_the_official_partition(root):
    data = load(root)
    assert data.name == data.variant == "celeba" and data.kind == "binary"
    assert data.task_names == list(celeba.ATTRIBUTES) and len(set(data.task_names)) == 40
    assert data.facts["sizes"] == {"train": 12, "reference": 3, "tuning": 4, "test": 5}
    assert numbers(data.train) == list(range(12)) and numbers(data.test) == list(range(19, 24))
    assert sorted(numbers(data.reference) + numbers(data.tuning)) == list(range(12, 19))
    expected = torch.from_numpy(labels().T)
    for name in SETS:
        split = getattr(data, name)
        batch = split.take(torch.arange(len(split)))
        assert torch.equal(batch.targets, expected[:, numbers(split)].float()), "labels are those of the image"
        assert batch.inputs.shape == (len(split), 3, 16, 16) and (batch.mass == 1).all() and not batch.flipped.any()
    assert data.facts["split"].startswith("the official partition; validation images are halved")


def test_reference_and_tuning_are_the_same_for_every_seed(root):
    first, second = load(root, 0, train=6), load(root, 2, train=6)
    for name in SETS:
        assert (numbers(getattr(first, name)) == numbers(getattr(second, name))) == (name != "train"), name
    assert len(first.train) == 6 and set(numbers(first.train)) < set(range(12))


def test_train_and_reference_join(root):
    data = load(root)
    both = data.train.join(data.reference)
    assert numbers(both) == numbers(data.train) + numbers(data.reference)
    assert torch.equal(both.groups, torch.cat((data.train.groups, data.reference.groups), 1))


def test_any_attribute_can_be_the_main_one(root):
    data = load(root, main="Smiling", tasks=3)
    assert data.task_names == ["Smiling", *celeba.ATTRIBUTES[:2]]
    assert torch.equal(data.test.groups, torch.from_numpy(labels().T[[31, 0, 1]])[:, 19:])


@pytest.mark.parametrize(("noisy", "tasks"), [("main", [0]), ("auxiliary", [1, 2]), ("all", [0, 1, 2])])
def test_wrong_labels(root, noisy, tasks):
    clean, data = load(root, tasks=3), load(root, tasks=3, noise=0.5, noisy_tasks=noisy)
    assert data.train.flipped.sum(1).tolist() == [6 if task in tasks else 0 for task in range(3)]
    assert torch.equal(data.train.flipped, data.train.groups != clean.train.groups)
    assert data.facts["wrong_main_labels"] == (6 if 0 in tasks else 0)
    assert torch.equal(data.reference.groups, clean.reference.groups)


def test_images_are_prepared_once(root, capsys):
    first = load(root, size=12)
    assert "NOTE: preparing 24 images of celeba" in capsys.readouterr().err
    assert load(root, size=12).checksum == first.checksum and not capsys.readouterr().err
    status = celeba.status(str(root))
    assert status["found"] and status["path"] == str(root / "celeba") and status["variant"] == "celeba"
    assert celeba.prepare(str(root)).name.startswith("celeba-64x64-")


def change(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (celeba.PARTITION_TABLE, "000007.jpg 0", "000007.jpg 3", r"txt, line 2 is not the name of an image and 0, 1"),
        (celeba.PARTITION_TABLE, "000007.jpg 0", "000007.jpg", r"txt, line 2 is not the name of an image and 0, 1"),
        (celeba.PARTITION_TABLE, "000007", "000099", r"attr_celeba\.txt has no line for 000099\.jpg, which list_eval"),
        (celeba.ATTRIBUTE_TABLE, "Bald Bangs", "Bangs Bald", r"attr_celeba\.txt does not name the 40 attributes"),
        (celeba.ATTRIBUTE_TABLE, "000007.jpg", "000007.jpg 1", r"txt, line 4 is not the name of an image and 40"),
        (celeba.ATTRIBUTE_TABLE, "000007.jpg ", "000007.jpg 1", r"txt, line 4 is not the name of an image and 40"),
    ],
)
def test_faults_of_the_tables_are_one_sentence(tmp_path, table, old, new, message):
    change(write(tmp_path) / table, old, new)
    with pytest.raises(MtlkitError, match=message) as info:
        load(tmp_path)
    assert "\n" not in str(info.value) and not list((tmp_path / "prepared").glob("celeba-*"))


def test_other_faults_are_one_sentence(tmp_path):
    folder = write(tmp_path)
    text = (folder / celeba.PARTITION_TABLE).read_text()
    (folder / celeba.PARTITION_TABLE).write_text("".join(text.splitlines(keepends=True)[:15]))
    with pytest.raises(MtlkitError, match=r"has no images for test: it is truncated"):
        load(tmp_path)
    (folder / celeba.PARTITION_TABLE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MtlkitError, match=r"list_eval_partition\.txt cannot be read"):
        load(tmp_path)
    (folder / celeba.PARTITION_TABLE).write_text(text)
    (folder / celeba.IMAGES / "000007.jpg").unlink()
    with pytest.raises(MtlkitError, match=r"000007\.jpg cannot be read as an image \(FileNotFoundError\)"):
        load(tmp_path)
    (folder / celeba.ATTRIBUTE_TABLE).unlink()
    with pytest.raises(MtlkitError, match=r"list_attr_celeba\.txt is missing; expected are img_align_celeba"):
        load(tmp_path)
    with pytest.raises(MtlkitError, match=r"^CelebA is not below .*source: builtin does without\.$"):
        load(tmp_path / "celeba")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"main": "Smilling"}, "did you mean 'Smiling'"),
        ({"main": "Freckles"}, "main is 'Freckles'"),
        ({"tasks": 0}, "tasks is 0; expected is a number from 1 to 40"),
        ({"tasks": 41}, "tasks is 41"),
        ({"train": 13}, "train is 13, but there are 12 training images"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noisy_tasks": "none"}, "noisy_tasks is 'none'"),
        ({"size": 4}, "size is 4; expected are pixels"),
    ],
)
def test_settings_outside_their_choices(root, options, message):
    with pytest.raises(MtlkitError, match=message):
        load(root, **options)


def test_the_stand_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(celeba, "STAND_IN", (150, 90, 60))
    data = load(tmp_path, source="auto", main="Attractive", train=100)
    assert capsys.readouterr().err.startswith(f"NOTE: CelebA is not below {tmp_path}: using DRAWN faces")
    assert data.variant == "faces" and data.task_names[:2] == ["Freckles", "5_o_Clock_Shadow"]
    assert data.facts["sizes"] == {"train": 100, "reference": 45, "tuning": 45, "test": 60}
    images, seen = faces.draw(60, 16, 2)
    assert np.array_equal(data.test.maps["image"][data.test.rows], images)
    assert np.array_equal(data.test.groups[1], seen[:, 0]) and np.array_equal(data.test.groups[0], seen[:, 2])
    other = load(tmp_path, 1, source="builtin", main="Attractive")
    assert not capsys.readouterr().err and other.checksum != data.checksum
    for name in SETS:
        first, second = (getattr(one, name).take(torch.arange(9)).inputs for one in (data, other))
        assert torch.equal(first, second) == (name != "train")
