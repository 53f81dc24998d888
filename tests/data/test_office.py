"""Office-31, Office-Home and PACS on small trees: layouts, splits, wrong labels, faults; and the stand-in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit.data import office
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError

SETS = ("train", "reference", "tuning", "test")
FEW = [11, 13, 17]
"""Images of a class in the first, second and third domain; the next ones start again."""

OFFICE31 = {
    "amazon": [92, 82, 72, 82, 36, 94, 91, 97, 97, 81, 99, 100, 100, 98, 100, 99, 100, 94, 96, 95, 93, 100, 98, 98, 90,
               75, 100, 99, 99, 96, 64],
    "dslr": [12, 21, 24, 12, 16, 12, 13, 14, 15, 15, 13, 10, 24, 16, 31, 22, 12, 8, 10, 10, 13, 15, 23, 18, 10, 7, 18,
             26, 21, 22, 15],
    "webcam": [29, 21, 28, 12, 16, 31, 40, 18, 21, 19, 27, 27, 30, 19, 30, 43, 30, 27, 28, 32, 16, 20, 30, 27, 40, 11,
               25, 30, 24, 23, 21],
}  # fmt: skip
"""Images per class, in the order of the classes' names."""


def write(root: Path, dataset: str = "pacs", inside: str = "") -> Path:
    """A tree in which every image has a colour of its own: (domain, class, number) * 10."""
    for d, domain in enumerate(office.DOMAINS[dataset]):
        for c in range(office.CLASSES[dataset]):
            folder = root / dataset / domain / inside / f"class{c:02}"
            folder.mkdir(parents=True)
            for k in range(FEW[d % 3]):
                image = Image.new("RGB", (8, 9), (d * 10, c * 3, k * 10))
                image.save(folder / f"{k:03}.{'png' if k else 'PNG'}")
    return root / dataset


def load(root: Path, seed: int = 0, **options) -> Dataset:
    return office.load(seed, **{"dataset": "pacs", "source": "real", "data_root": str(root), "size": 8} | options)


def colours(split) -> list[list[tuple[int, int, int]]]:
    """(domain, class, number) of every image, by task."""
    found = []
    for part in split.parts:
        images = part.maps["image"][part.rows][:, :, 0, 0].tolist()
        found.append([(d // 10, c // 3, k // 10) for d, c, k in images])
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    write(folder)
    return folder


@pytest.mark.parametrize("domain", OFFICE31)
def test_sizes_are_those_published_for_office_31(domain):
    published = {"amazon": [1680, 552, 585], "dslr": [287, 89, 122], "webcam": [466, 149, 180]}
    labels = torch.arange(31).repeat_interleave(torch.tensor(OFFICE31[domain]))
    rows = office.cut(labels, domain, 0, "train", 0.1)
    assert [len(rows["train"]) + len(rows["reference"]), len(rows["tuning"]), len(rows["test"])] == published[domain]
    assert len(rows["reference"]) == round(published[domain][0] / 10)
    trval = office.cut(labels, domain, 0, "trval", 0.1)
    assert len(trval["train"]) + len(trval["reference"]) == sum(published[domain][:2])


def test_images_and_classes(root):
    data = load(root)
    assert data.name == "office" and data.variant == "pacs" and data.kind == "multiclass"
    assert data.task_names == list(office.DOMAINS["pacs"]) and data.facts["classes"] == 7
    for name in SETS:
        split = getattr(data, name)
        assert data.facts["sizes_by_task"][name] == list(split.sizes) and len(split) == data.facts["sizes"][name]
        for task, found in enumerate(colours(split)):
            assert {d for d, _, _ in found} == {task}
            assert [c for _, c, _ in found] == split.parts[task].groups[0].tolist()
    batch = data.train.take([torch.tensor([0, 5])] * 4)
    assert [one.shape for one in batch.inputs] == [(2, 3, 8, 8)] * 4 and batch.inputs[0].dtype == torch.float32
    assert [one.dtype for one in batch.targets] == [torch.int64] * 4


def test_four_disjoint_sets_with_all_classes(root):
    data = load(root)
    for task, count in enumerate([*FEW, FEW[0]]):
        sets = [colours(getattr(data, name))[task] for name in SETS]
        every = [one for part in sets for one in part]
        assert len(every) == len(set(every)) == 7 * count
        train, tuning, test = office.published_sizes(count)
        for part, expected in ((sets[0] + sets[1], train), (sets[2], tuning), (sets[3], test)):
            assert np.bincount([c for _, c, _ in part], minlength=7).tolist() == [expected] * 7
        held = np.bincount([c for _, c, _ in sets[1]], minlength=7)
        assert sum(held) == round(0.1 * 7 * train) and held.max() - held.min() <= 1, "evenly over the classes"


def test_a_seed_changes_train_and_reference_alone(root):
    first, again, second = load(root, 0), load(root, 0), load(root, 1)
    for name in SETS:
        assert colours(getattr(first, name)) == colours(getattr(again, name))
        assert (colours(getattr(first, name)) == colours(getattr(second, name))) == (name in ("tuning", "test"))
    assert first.checksum == second.checksum


def test_trval_trains_on_what_it_is_tuned_on(root):
    plain, both = load(root), load(root, train_on="trval", reference=0.25)
    for task in range(4):
        trained = set(colours(both.train)[task]) | set(colours(both.reference)[task])
        assert set(colours(both.tuning)[task]) <= trained
        assert colours(both.tuning)[task] == colours(plain.tuning)[task]
        assert not trained & set(colours(both.test)[task])
        assert len(colours(both.reference)[task]) == round(0.25 * len(trained))
    assert both.facts["split"].endswith("tuning is part of train and reference")
    assert plain.facts["split"].endswith("four disjoint sets")


def test_any_domain_can_be_the_main_one(root):
    data = load(root, main="photo")
    assert data.task_names == ["photo", "art_painting", "cartoon", "sketch"]
    assert [{d for d, _, _ in found} for found in colours(data.test)] == [{2}, {0}, {1}, {3}]
    assert colours(data.train)[1] == colours(load(root).train)[0], "whichever is the main one"


@pytest.mark.parametrize(("noisy", "expected"), [("main", [2]), ("auxiliary", [0, 1, 3]), ("all", [0, 1, 2, 3])])
def test_wrong_labels(root, noisy, expected):
    clean, data = load(root, main="photo"), load(root, main="photo", noise=0.3, noisy_tasks=noisy)
    for task, domain in enumerate((2, 0, 1, 3)):
        part, right = data.train.parts[task], clean.train.parts[task]
        assert torch.equal(part.flipped, part.groups != right.groups)
        assert int(part.flipped.sum()) == (round(0.3 * len(part)) if domain in expected else 0)
        assert torch.equal(part.take(torch.arange(len(part))).targets, part.groups)
    assert data.facts["wrong_main_labels"] == int(data.train.flipped[0].sum())
    assert not any(getattr(data, name).flipped.any() for name in SETS[1:])
    names = [office.DOMAINS["pacs"][d] for d in (2, 0, 1, 3) if d in expected]
    assert data.facts["noise"] == f"another class for 0.3 of the images: {', '.join(names)}"
    more = load(root, main="photo", noise=0.6, noisy_tasks=noisy)
    assert (more.train.flipped | ~data.train.flipped).all()
    assert load(root, noise=1.0).train.flipped[0].sum() == load(root).train.sizes[0]


def test_which_labels_are_wrong_does_not_depend_on_the_main_task(root):
    first, second = (load(root, main=main, noise=0.3, noisy_tasks="all") for main in ("photo", "sketch"))
    assert torch.equal(first.train.parts[0].groups, second.train.parts[3].groups)


@pytest.mark.parametrize("inside", ["", "images"])
def test_official_folders_of_office_31(tmp_path, inside):
    base = write(tmp_path, "office31", inside=inside)
    data = load(tmp_path, dataset="office31")
    assert data.variant == "office31" and data.facts["classes"] == 31
    assert data.task_names == ["amazon", "dslr", "webcam"]
    assert [sum(of) for of in zip(*data.facts["sizes_by_task"].values(), strict=True)] == [31 * n for n in FEW]
    status = office.COLLECTIONS["office31"].status(str(tmp_path))
    assert status["found"] and status["path"] == str(base) and status["problem"] is None


@pytest.mark.parametrize("written", ["Real World", "Real_World", "RealWorld"])
def test_a_name_of_two_words(tmp_path, written, monkeypatch):
    monkeypatch.setitem(office.CLASSES, "office_home", 2)
    base = write(tmp_path, "office_home")
    (base / "Real World").rename(base / written)
    assert load(tmp_path, dataset="office_home", main="Real World").task_names[0] == "Real World"


def test_images_are_prepared_once(root, capsys):
    load(root, size=10)
    assert "NOTE: preparing 364 images of pacs" in capsys.readouterr().err
    data = load(root, size=10)
    assert not capsys.readouterr().err and data.train.parts[0].maps["image"].shape == (77, 3, 10, 10)
    assert len(list((root / "prepared").glob("pacs-10x10-*"))) == 1


def test_a_prepared_set_serves_without_its_source(tmp_path):
    base = write(tmp_path)
    first = load(tmp_path)
    base.rename(tmp_path / "gone")
    second = load(tmp_path)
    assert second.checksum == first.checksum and second.task_names == first.task_names
    assert colours(second.test) == colours(first.test)
    assert not office.COLLECTIONS["pacs"].status(str(tmp_path))["found"], "prepared at 8 x 8 only"


def test_faults_are_one_sentence_that_names_them(tmp_path):
    base = write(tmp_path)
    victim = base / "photo" / "class03"

    def fails(message: str) -> None:
        with pytest.raises(MtlkitError, match=message) as info:
            load(tmp_path)
        assert "\n" not in str(info.value)
        assert not list((tmp_path / "prepared").glob("pacs-*")), "nothing is half there"

    (victim / "005.png").write_bytes(b"no image")
    fails(r"photo/class03/005\.png cannot be read as an image")
    for path in victim.iterdir():
        path.unlink()
    (victim / "notes.txt").write_text("")
    fails(r"photo/class03 holds no images; expected are files \.jpg, \.jpeg, \.png\.$")
    assert "holds no images" in office.COLLECTIONS["pacs"].status(str(tmp_path))["problem"]
    (victim / "notes.txt").unlink()
    victim.rmdir()
    fails(r"photo/class03 is missing, though other domains have this class")
    for domain in office.DOMAINS["pacs"]:
        (base / domain / "class03").rename(base / f"{domain}3") if domain != "photo" else None
    fails(r"pacs have 6 classes; expected are the 7 of PACS\.$")
    (base / "sketch").rename(base / "sketches")
    fails(r"pacs/sketch is missing; expected is one folder for each of art_painting, cartoon, photo, sketch\.$")


def test_nothing_there(tmp_path):
    with pytest.raises(MtlkitError, match=r"^Office-Home is not below .*office_home/<domain>/<class>.*does without\.$"):
        load(tmp_path, dataset="office_home")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "pac"}, "did you mean 'pacs'"),
        ({"main": "photos"}, "did you mean 'photo'"),
        ({"train_on": "all"}, "train_on is 'all'"),
        ({"source": "both"}, "source is 'both'"),
        ({"noisy_tasks": "some"}, "noisy_tasks is 'some'"),
        ({"noise": 1.5}, "noise is 1.5"),
        ({"reference": 0.0}, "reference is 0.0; expected is the share"),
        ({"reference": 1.0}, "reference is 1.0"),
        ({"reference": 0.001}, "too few for train, reference, tuning and test"),
        ({"size": 0}, "size is 0; expected are pixels"),
    ],
)
def test_settings_outside_their_choices(root, options, message):
    with pytest.raises(MtlkitError, match=message):
        load(root, **options)


def test_the_stand_in_says_so(tmp_path, capsys):
    data = load(tmp_path, source="auto", size=16, main="cartoon")
    assert capsys.readouterr().err.startswith(f"NOTE: PACS is not below {tmp_path}: using DRAWN digits")
    assert data.variant == "digits-domains" and data.facts["classes"] == 10
    assert data.task_names == ["negative", "plain", "slanted", "outline"], "the second domain is the main one"
    three = load(tmp_path, source="builtin", dataset="office31", size=16)
    assert three.task_names == ["plain", "negative", "slanted"] and not capsys.readouterr().err
    assert sum(sum(of) for of in data.facts["sizes_by_task"].values()) == 1797
