"""Prepared sets: written whole or not at all, the same batches from disk and from the device, splits."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlkit import paths
from mtlkit.data import collection, sources, stored
from mtlkit.data.benchmark import Benchmark, cut
from mtlkit.data.sources import IMAGE, Field, Source
from mtlkit.data.stored import Stored
from mtlkit.errors import MtlkitError

LABEL = Field("label", "segmentation", np.int8, classes=5)
DEPTH = Field("depth", "depth", np.float32, channels=1)
NORMAL = Field("normal", "normals", np.float16, channels=3)
FIELDS = (LABEL, DEPTH, NORMAL)
SIZE = (6, 8)


def maps(seed: int, size: tuple[int, int] = SIZE, classes: int = 5) -> dict[str, np.ndarray]:
    """One image and its maps as a source has them; the first row has no labels."""
    random = np.random.default_rng(seed)
    arrays = {
        "image": random.integers(0, 256, (*size, 3), dtype=np.uint8),
        "label": random.integers(0, classes, size),
        "depth": random.uniform(1, 5, (*size, 1)).astype(np.float32),
        "normal": random.normal(size=(*size, 3)).astype(np.float32),
    }
    arrays["label"][0], arrays["depth"][0], arrays["normal"][0] = -1, 0, 0
    arrays["normal"] /= np.linalg.norm(arrays["normal"], axis=-1, keepdims=True).clip(1e-9)
    return arrays


def write_mtan(root: Path, names: dict[str, str], train: int = 12, test: int = 5, size: tuple[int, int] = SIZE) -> None:
    """mtan's layout: folders by field of `maps`, such as ``{"label": "label_7"}``; image k of train is `maps(k)`, that
    of test `maps(100 + k)`."""
    for split, first, count in (("train", 0, train), ("val", 100, test)):
        for k in range(count):
            arrays = maps(first + k, size)
            arrays["image"] = arrays["image"] / 255
            for field, folder in names.items():
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                np.save(root / split / folder / f"{k}.npy", arrays[field])


@pytest.fixture
def source(tmp_path) -> Source:
    """Six and three images, whose number is that of `maps`; the last of train has no depth at all."""
    file = tmp_path / "source"
    file.write_text("9 images")
    items = {
        "train": [{"image": f"image {k}", "seed": k} for k in range(6)],
        "test": [{"image": f"image {k}", "seed": k} for k in range(6, 9)],
    }

    def read(item):
        arrays = maps(item["seed"])
        return arrays | {"depth": arrays["depth"] * (item["seed"] != 5)}

    return Source("made-up", FIELDS, items, read, [file])


@pytest.fixture
def prepared(source, tmp_path) -> stored.Maps:
    return stored.open_prepared(stored.prepare(source, SIZE, tmp_path / "prepared"))


PLAIN = {"augment": False, "noise": 0.0, "noisy_tasks": "main", "resident": 0}


def some(prepared: stored.Maps, rows: list[int], targets: dict[str, int] | None = None, **options) -> Stored:
    targets = targets or {"label": 0, "depth": 1, "normal": 2}
    return Stored.of(prepared.of["train"], torch.tensor(rows), targets, options.get("resident", stored.RESIDENT))


def same(first, second) -> bool:
    pairs = [(first.inputs, second.inputs), *zip(first.targets, second.targets, strict=True)]
    pairs += [(getattr(first, name), getattr(second, name)) for name in ("groups", "flipped", "mass")]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def test_a_prepared_set_holds_what_the_source_has(source, prepared, tmp_path):
    for split, first, count in (("train", 0, 6), ("test", 6, 3)):
        found = prepared.of[split]
        assert found["image"].shape == (count, 3, 6, 8) and found["image"].dtype == torch.uint8
        assert found["label"].shape == (count, 6, 8) and found["label"].dtype == torch.int8
        assert found["depth"].shape == (count, 1, 6, 8) and found["depth"].dtype == torch.float32
        assert found["normal"].shape == (count, 3, 6, 8) and found["normal"].dtype == torch.float16
        for k in range(count):
            arrays = source.read({"seed": first + k})
            assert np.array_equal(found["image"][k], arrays["image"].transpose(2, 0, 1))
            assert np.array_equal(found["label"][k], arrays["label"])
            assert np.array_equal(found["depth"][k, 0], arrays["depth"][..., 0])
            assert np.allclose(found["normal"][k], arrays["normal"].transpose(2, 0, 1), atol=5e-4)
    assert prepared.of["train"]["present"].tolist() == [[1, 1, 1]] * 5 + [[1, 0, 1]]
    (folder,) = (path for path in (tmp_path / "prepared").iterdir() if path.is_dir())
    meta = json.loads((folder / "meta.json").read_text())
    assert folder.name.startswith("made-up-6x8-")
    assert meta["variant"] == "made-up" and meta["size"] == [6, 8] and meta["sizes"] == {"train": 6, "test": 3}
    assert meta["checksum"] == prepared.checksum and len(prepared.checksum) == 16


def test_a_set_is_prepared_once_until_its_source_changes(source, tmp_path, capsys):
    folder = stored.prepare(source, SIZE, tmp_path)
    assert "NOTE: preparing 9 images of made-up" in capsys.readouterr().err
    written = (folder / "meta.json").stat().st_mtime_ns
    assert stored.prepare(source, SIZE, tmp_path) == folder and not capsys.readouterr().err
    assert (folder / "meta.json").stat().st_mtime_ns == written
    assert stored.prepare(source, (3, 4), tmp_path) != folder
    source.files[0].write_text("others")
    assert stored.prepare(source, SIZE, tmp_path) != folder
    source.files[0].unlink()
    with pytest.raises(MtlkitError, match=r"^made-up could not be prepared in .*No such file.*source'\.$"):
        stored.prepare(source, SIZE, tmp_path)


def test_the_checksum_is_that_of_the_source_whatever_the_size_and_what_is_derived(source, tmp_path):
    def of(changed: Source, size=SIZE, name="a"):
        return stored.open_prepared(stored.prepare(changed, size, tmp_path / name)).checksum

    def other_pixel(item):
        arrays = source.read(item)
        arrays["image"][3, 2, 1] ^= item["seed"] == 8
        return arrays

    derived = replace(source, derive=lambda arrays: arrays | {"normal": -arrays["normal"]})
    assert of(source) == of(source, (3, 4)) == of(derived, name="b")
    assert of(replace(source, read=other_pixel), name="c") != of(source)


@pytest.mark.parametrize("error", [MtlkitError("image 7 is damaged."), KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_set_is_not_half_there_after_an_exception(source, tmp_path, error):
    def read(item):
        if item["seed"] == 7:
            raise error
        return source.read(item)

    with pytest.raises(type(error)):
        stored.prepare(replace(source, read=read), SIZE, tmp_path / "prepared")
    assert not list((tmp_path / "prepared").iterdir())
    whole = stored.open_prepared(stored.prepare(source, SIZE, tmp_path / "prepared"))
    assert len(whole.of["test"]["image"]) == 3


@pytest.mark.faults("kill -9 while a data set is prepared")
def test_what_a_killed_process_left_is_replaced(source, tmp_path):
    name = f"made-up-6x8-{source.fingerprint()}"
    (tmp_path / f".{name}.part" / "train").mkdir(parents=True)
    (tmp_path / f".{name}.part" / "train" / "image.npy").write_bytes(b"half")
    folder = stored.prepare(source, SIZE, tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {folder.name}
    assert len(stored.open_prepared(folder).of["train"]["image"]) == 6


def test_of_two_that_prepare_at_once_one_writes_and_the_other_waits(source, tmp_path):
    reads, folders = [], []

    def read(item):
        reads.append(item["seed"])
        if len(reads) == 1:
            second.start()
            second.join(0.2)
            assert second.is_alive()
        return source.read(item)

    def work():
        folders.append(stored.prepare(replace(source, read=read), SIZE, tmp_path / "prepared"))

    second = threading.Thread(target=work)
    work()
    second.join()
    assert reads == list(range(9)) and len(folders) == 2 and folders[0] == folders[1]


def test_a_folder_that_cannot_be_written_is_one_sentence(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MtlkitError, match=r"^made-up could not be prepared in .*file: .*\.$"):
        stored.prepare(source, SIZE, tmp_path / "file")


@pytest.mark.faults("read-only data folder")
def test_a_read_only_data_root_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path / "repository")
    (tmp_path / "root").mkdir()
    assert collection.folder_of(tmp_path / "root") == tmp_path / "root" / "prepared"
    (tmp_path / "root").chmod(0o555)
    elsewhere = tmp_path / "repository" / "data" / "prepared"
    assert collection.folder_of(tmp_path / "root") == collection.folder_of(tmp_path / "nowhere") == elsewhere


@pytest.mark.faults("damaged prepared data set")
@pytest.mark.parametrize("harm", ["cut", "remove", "no meta", "no json"])
def test_a_damaged_set_is_one_sentence(source, tmp_path, harm):
    folder = stored.prepare(source, SIZE, tmp_path)
    file = folder / "test" / "depth.npy"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "remove":
        file.unlink()
    elif harm == "no meta":
        (folder / "meta.json").unlink()
    else:
        (folder / "meta.json").write_text("{")
    with pytest.raises(MtlkitError, match=r"made-up-6x8-\w+ is damaged .*: delete it") as info:
        stored.open_prepared(folder)
    assert "\n" not in str(info.value)


def test_batches_are_converted_and_standardised(prepared):
    batch = some(prepared, [4, 1, 5], {"depth": 1, "label": 0}).take(torch.tensor([2, 0]))
    for row, k in enumerate((5, 4)):
        arrays = maps(k)
        image = (arrays["image"] / 255 - stored.MEAN) / stored.STD
        assert np.allclose(batch.inputs[row], image.transpose(2, 0, 1), atol=1e-6)
        assert np.array_equal(batch.targets[0][row, 0], arrays["depth"][..., 0] * (k != 5))
        assert np.array_equal(batch.targets[1][row], arrays["label"])
    assert batch.inputs.dtype == batch.targets[0].dtype == torch.float32 and batch.targets[1].dtype == torch.int64
    assert batch.mass.tolist() == [[0, 1], [1, 1]], "the last image has no depth"
    assert batch.groups.shape == batch.flipped.shape == (2, 2)
    assert not batch.groups.any() and not batch.flipped.any() and batch.groups.dtype == torch.int64


def test_batches_are_the_same_from_disk_and_from_the_device(prepared):
    rows = [0, 2, 3, 5]
    size = sum(values[0].nbytes for name, values in prepared.of["train"].items() if name != "present") * len(rows)
    mapped, resident = (some(prepared, rows, resident=room).to("cpu") for room in (size - 1, size))
    assert all(mapped.maps[name] is prepared.of["train"][name] for name in mapped.maps)
    assert all(len(values) == len(rows) for values in resident.maps.values())
    assert len(mapped) == len(resident) == 4
    for index in (torch.tensor([3, 1]), torch.arange(4)):
        assert same(mapped.take(index), resident.take(index))


@pytest.mark.parametrize("resident", [0, stored.RESIDENT])
def test_everything_moves_to_the_device(prepared, resident):
    moved = some(prepared, [0, 2], resident=resident).to("meta")
    assert moved.mass.device.type == moved.groups.device.type == moved.flipped.device.type == "meta"
    assert (moved.maps["image"].device.type == "meta") == bool(resident)
    if not resident:
        batch = moved.take(torch.tensor([1]))
        assert {t.device.type for t in (batch.inputs, *batch.targets, batch.mass, batch.groups)} == {"meta"}


@pytest.mark.parametrize("resident", [0, stored.RESIDENT])
def test_labels_of_another_sample(prepared, resident):
    clean = some(prepared, [0, 2, 3, 4, 5], resident=resident)
    few, many = (clean.spoilt(share, [0, 2], torch.Generator().manual_seed(3)) for share in (0.4, 0.8))
    assert few.flipped.sum(1).tolist() == [2, 0, 2] and many.flipped.sum(1).tolist() == [4, 0, 4]
    assert (few.flipped <= many.flipped).all() and torch.equal(few.partners[few.flipped], many.partners[few.flipped])
    assert not torch.equal(many.partners[0], many.partners[2]), "other images for each task"
    before, after = clean.take(torch.arange(5)), many.to("cpu").take(torch.tensor([4, 1, 0]))
    assert torch.equal(after.inputs, before.inputs[[4, 1, 0]])
    for task in range(3):
        partners = many.partners[task, [4, 1, 0]]
        assert torch.equal(after.targets[task], before.targets[task][partners])
        assert torch.equal(after.mass[task], before.mass[task, partners])
    assert torch.equal(after.flipped, many.flipped[:, [4, 1, 0]]) and after.index.tolist() == [4, 1, 0]
    joined = many.join(clean)
    assert torch.equal(joined.take(torch.arange(5, 10)).targets[0], before.targets[0])


def test_join_appends_samples_of_the_same_maps(prepared):
    first, second = some(prepared, [0, 2]), some(prepared, [5])
    second.flipped[0] = True
    joined = first.join(second)
    assert len(joined) == 3 and joined.flipped[0].tolist() == [False, False, True]
    assert same(joined.take(torch.arange(3)), first.take(torch.arange(2)).join(second.take(torch.arange(1))))
    others = Stored.of(prepared.of["test"], torch.tensor([0]), {"label": 0, "depth": 1, "normal": 2}, 0)
    for other in (others, some(prepared, [5], {"depth": 1, "label": 0, "normal": 2})):
        with pytest.raises(MtlkitError, match="not cut from the same maps"):
            first.join(other)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        (LABEL, lambda a: a[:-1], r"^here has the shape \(5, 8\); expected is \(6, 8\)"),
        (LABEL, lambda a: np.where(a == 3, 5, a), r"^here holds the label 5; expected are 0 to 4, and -1"),
        (LABEL, lambda a: a + 0.5, r"^here holds the label -0\.5"),
        (LABEL, lambda a: np.full(a.shape, np.nan), r"^here holds the label nan"),
        (DEPTH, lambda a: a[..., 0], r"^here has the shape \(6, 8\); expected is \(6, 8, 1\)"),
        (DEPTH, lambda a: np.where(a > 4, np.inf, a), r"^here holds numbers that are not finite"),
        (NORMAL, lambda a: a[..., :2], r"^here has the shape \(6, 8, 2\)"),
    ],
)
def test_maps_that_do_not_fit_are_one_sentence(field, change, message):
    array = maps(0)[field.name]
    field.check(array, SIZE, "here")
    with pytest.raises(MtlkitError, match=message) as info:
        field.check(change(array), SIZE, "here")
    assert "\n" not in str(info.value) and str(info.value).endswith(".")


def test_images_shrink_by_area_and_maps_by_the_nearest_pixel():
    arrays = maps(0)
    small = IMAGE.fit(arrays["image"], (3, 4))
    mean = arrays["image"].reshape(3, 2, 4, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert small.shape == (3, 3, 4) and np.abs(small - mean).max() <= 1, "rounded twice"
    thirds = maps(1, (6, 9))
    for field in FIELDS:
        found = field.fit(thirds[field.name], (2, 3))  # of nine pixels, the one in the middle
        expected = thirds[field.name][1::3, 1::3]
        assert found.dtype == field.dtype
        assert np.array_equal(found, np.moveaxis(expected, -1, 0).astype(field.dtype) if field.channels else expected)


def test_images_that_grow_are_interpolated():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    grown = IMAGE.fit(image, (2, 8))
    assert (np.diff(grown[0, 0].astype(int)) >= 0).all() and len(np.unique(grown)) > 2
    assert np.array_equal(DEPTH.fit(maps(0)["depth"], (12, 16))[0, ::2, ::2], maps(0)["depth"][..., 0])


def test_files_are_read_by_number_and_a_missing_one_is_named(tmp_path):
    write_mtan(tmp_path, {"image": "image", "label": "label"})
    files = {name: (tmp_path / "train" / name, ".npy") for name in ("image", "label")}
    assert [item["label"].stem for item in sources.walk(files)] == [str(k) for k in range(12)]
    for gone in ("label", "image"):
        path = tmp_path / "train" / gone / "7.npy"
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(MtlkitError, match=rf"{gone}/7\.npy is missing.*for each of image, label\.$"):
            sources.walk(files)
        path.write_bytes(whole)
    with pytest.raises(MtlkitError, match=r"nowhere/\*\.png is missing"):
        sources.walk({"image": (tmp_path / "nowhere", ".png")})


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.jpg"])
@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n", b"<html>404</html>", b"\x93NUMPY\x01"])
def test_unreadable_files_are_one_sentence(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MtlkitError, match=rf"{name} cannot be read \(\w+\); .*\.$") as info:
        sources.read(tmp_path / name)
    assert "\n" not in str(info.value)


AT_HAND = {"train": 40, "test": 10}


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 10), st.integers(1, 10), st.integers(1, 10))
def test_four_numbers_are_four_disjoint_sets(seed, train, reference, tuning, test):
    rows, told = cut((train, reference, tuning, test), AT_HAND, seed, "X")
    assert [len(rows[name]) for name in ("train", "reference", "tuning", "test")] == [train, reference, tuning, test]
    drawn = torch.cat([rows["train"], rows["reference"], rows["tuning"]])
    assert len(drawn.unique()) == len(drawn) and drawn.min() >= 0 and drawn.max() < 40 and rows["test"].max() < 10
    assert all((values.diff() > 0).all() for values in rows.values()), "in the order of the source"
    other, _ = cut((train, reference, tuning, test), AT_HAND, seed + 1, "X")
    assert torch.equal(rows["tuning"], other["tuning"]) and torch.equal(rows["test"], other["test"])
    assert told == "disjoint"


def test_a_seed_changes_train_and_reference():
    first, again, other = (cut((20, 10, 10, 10), AT_HAND, seed, "X")[0] for seed in (3, 3, 4))
    for name in ("train", "reference"):
        assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])
    assert torch.equal(first["test"], torch.arange(10))


def test_three_numbers_tune_on_the_reference_set_and_two_hold_nothing_out():
    rows, told = cut((32, 8, 10), AT_HAND, 0, "X")
    assert sorted(torch.cat([rows["train"], rows["reference"]]).tolist()) == list(range(40))
    assert torch.equal(rows["tuning"], rows["reference"]) and told == "tuning is the reference set"
    rows, told = cut((40, 10), AT_HAND, 0, "X")
    inside = torch.cat([rows["reference"], rows["tuning"]])
    assert torch.equal(rows["train"], torch.arange(40)) and len(inside.unique()) == len(inside) == 16
    assert told == "reference and tuning are part of train, a fifth each"


def test_a_zero_is_all_that_is_left():
    rows, _ = cut((0, 5, 4, 0), AT_HAND, 0, "X")
    assert {name: len(values) for name, values in rows.items()} == {
        "train": 31,
        "reference": 5,
        "tuning": 4,
        "test": 10,
    }
    assert [len(rows) for rows in cut((0, 0), AT_HAND, 0, "X")[0].values()] == [40, 8, 8, 10]


@pytest.mark.parametrize("counts", [(41, 10), (30, 11, 10), (40, 11), (20, 10, 11, 1), (0, 0, 5), (0, 40, 1)])
def test_more_images_than_there_are_is_an_error(counts):
    with pytest.raises(MtlkitError, match=r"^split is .*, but X has 40 images for train.*and 10 for test\.$"):
        cut(counts, AT_HAND, 0, "X")


def made_up() -> Benchmark:
    """A data set that is nowhere."""
    return Benchmark(name="made_up", title="Made up", url="nowhere", licence="none", expected="a folder",
                     find=lambda root: None, variants=("made-up",), fields=FIELDS, size=SIZE, split="4/2/2/3",
                     stand_in="MADE scenes", scene=("scenes", "room"))  # fmt: skip


def test_rendered_scenes_stand_in(monkeypatch, tmp_path, capsys):
    asked = []

    def render_one(index, *, seed, height, width, scene, split):
        asked.append((split, seed, scene))
        arrays = maps(1000 * seed + 100 * (split == "test") + index, (height, width))
        return arrays | {"image": arrays["image"] / 255}

    rooms = SimpleNamespace(render_one=render_one)
    monkeypatch.setattr("mtlkit.data.rooms", rooms, raising=False)
    benchmark = made_up()
    options = {"data_root": str(tmp_path), "main": "depth", "split": "", "size": ""} | PLAIN
    data, other = (benchmark.load(seed, source="auto", **options) for seed in (0, 1))
    assert "Made up is not below" in capsys.readouterr().err
    assert asked == [(split, seed, "room") for run in (0, 1) for split, seed, count in
                     (("train", run, 8), ("test", 0, 3)) for _ in range(count)]  # fmt: skip
    assert data.variant == "scenes" and data.kind == "dense" and data.task_names == ["depth", "segmentation", "normals"]
    assert data.facts["sizes"] == {"train": 4, "reference": 2, "tuning": 2, "test": 3}
    assert data.facts["outputs"] == {"depth": 1, "segmentation": 5, "normals": 3}
    assert data.facts["split"] == "disjoint; rendered, test the same for every seed"
    json.dumps(data.facts)
    assert data.augment is None and data.facts["noise"] == "none"
    spoilt = benchmark.load(
        0, source="builtin", **(options | {"augment": True, "noise": 0.5, "noisy_tasks": "auxiliary"})
    )
    assert spoilt.train.flipped.sum(1).tolist() == [0, 2, 2] and not spoilt.reference.flipped.any()
    assert spoilt.facts["noise"] == "another image's labels for 0.5 of the images: segmentation, normals"
    index = torch.arange(3)
    batch = spoilt.train.take(index)
    moved = [spoilt.augment(batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert same(moved[0], moved[1]) and not same(moved[0], moved[2]) and not same(moved[0], batch)
    assert torch.equal(moved[0].index, index)
    assert same(data.test.take(index), other.test.take(index))
    assert not torch.equal(data.train.take(index).inputs, other.train.take(index).inputs)
    assert len(data.train.join(data.reference)) == 6
    assert data.checksum != other.checksum and data.checksum == benchmark.load(0, source="builtin", **options).checksum
    with pytest.raises(MtlkitError, match="split has a 0"):
        benchmark.load(0, source="builtin", **(options | {"split": "0/2"}))
    missing = r"Made up is not below .*expected is a folder; it comes from nowhere.*builtin {}\.$"
    with pytest.raises(MtlkitError, match=missing.format("does without")):
        benchmark.load(0, source="real", **options)
    for source in ("auto", "builtin"):
        with pytest.raises(MtlkitError, match=missing.format("has none such")):
            replace(benchmark, stand_in="").load(0, source=source, **options)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"source": "rael"}, r"source is 'rael'.*did you mean 'real'"),
        ({"main": "edges"}, r"main is 'edges'.*segmentation, depth, normals"),
        ({"size": "72"}, r"size is '72'; expected is height x width in pixels, such as 6x8\.$"),
        ({"size": "0x8"}, r"size is '0x8'"),
        ({"noisy_tasks": "mian"}, r"noisy_tasks is 'mian'.*did you mean 'main'"),
        ({"noise": 1.5}, r"noise is 1\.5.*between 0 and 1"),
        ({"split": "636:159"}, r"split is '636:159'; expected are numbers of images.*such as 4/2/2/3\.$"),
        ({"split": "1/2/3/4/5"}, r"split is '1/2/3/4/5'"),
    ],
)
def test_a_setting_outside_its_choices_is_an_error(tmp_path, setting, message):
    options = {"source": "real", "data_root": str(tmp_path), "main": "depth", "split": "", "size": ""} | PLAIN
    with pytest.raises(MtlkitError, match=message):
        made_up().load(0, **(options | setting))
