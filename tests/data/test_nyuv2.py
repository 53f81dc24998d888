"""NYUv2: its three layouts, from small trees that the tests write."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mtlkit.data import normals, nyuv2, stored
from mtlkit.errors import MtlkitError
from tests.data.test_stored import maps, write_mtan

SIZE = (48, 64)
SPLIT = "6/3/3/5"


def write_jpeg(root: Path) -> None:
    """Twelve training and five test images with odd and even numbers."""
    for split, numbers in (("train", range(1, 24, 2)), ("test", range(2, 12, 2))):
        for folder in ("image", "label", "depth"):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
        for k in numbers:
            arrays = maps(k, SIZE, 13)
            label = np.where(arrays["label"] < 0, 255, arrays["label"]).astype(np.uint8)
            Image.fromarray(arrays["image"]).save(root / split / "image" / f"{k:04}.jpg", quality=95)
            Image.fromarray(label).save(root / split / "label" / f"{k:04}.png")
            Image.fromarray(eight_bits(k)).save(root / split / "depth" / f"{k:04}.png")


def eight_bits(k: int) -> np.ndarray:
    """A wall that leans back, 1 m to 6 m away, with a hole."""
    depth = np.repeat(np.linspace(25 + k, 150, SIZE[0]).round().astype(np.uint8)[:, None], SIZE[1], 1)
    depth[:3, :3] = 0
    return depth


class File(dict):
    """As much of an HDF5 file as is used."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def write_official(root: Path, monkeypatch) -> dict[str, np.ndarray]:
    """The MATLAB file, which a stand-in for h5py reads, of 17 images, and its tables; returns what is in it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / nyuv2.OFFICIAL).write_bytes(b"HDF5")
    each = [maps(k, SIZE) for k in range(17)]
    names = np.random.default_rng(0).integers(0, 895, (17, *SIZE))
    content = {
        "images": np.stack([one["image"].T for one in each]),
        "depths": np.stack([one["depth"][..., 0].T for one in each]),
        "labels": names.transpose(0, 2, 1).astype(np.uint16),
    }
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=lambda path, mode: File(content)))
    to_40 = np.arange(894) % 40 + 1
    to_13 = np.where(np.arange(40) < 39, np.arange(40) % 13 + 1, 0)
    savemat(root / "classMapping40.mat", {"mapClass": to_40})
    savemat(root / "class13Mapping.mat", {"classMapping13": {"labels13": to_13, "class13Names": "names"}})
    splits = {"trainNdxs": np.arange(6, 18)[:, None], "testNdxs": np.arange(1, 6)[:, None]}
    savemat(root / "splits.mat", splits)
    lut = np.insert(np.insert(to_13, 0, 0)[to_40], 0, 0) - 1
    return {"images": np.stack([one["image"] for one in each]), "depths": content["depths"].transpose(0, 2, 1),
            "labels": lut[names]}  # fmt: skip


def real(root: Path, seed: int = 0, **options: object):
    settings = {"size": "48x64", "split": SPLIT} | options
    return nyuv2.load(seed, source="real", data_root=str(root), **settings)


def whole(split: stored.Stored):
    return split.take(torch.arange(len(split)))


def images(split: stored.Stored) -> np.ndarray:
    """(N, H, W, 3) uint8, read back from the standardised inputs."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (stored.MEAN, stored.STD))
    return ((whole(split).inputs * std + mean) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def test_mtans_archives(tmp_path):
    write_mtan(tmp_path / "nyuv2", {name: name for name in ("image", "label", "depth", "normal")}, size=SIZE)
    data = real(tmp_path)
    assert (data.name, data.variant, data.kind) == ("nyuv2", "nyuv2-mtan", "dense")
    assert data.task_names == ["segmentation", "depth", "normals"]
    assert data.facts["sizes"] == {"train": 6, "reference": 3, "tuning": 3, "test": 5}
    assert data.facts["split"].startswith("disjoint; drawn from the images in their order, not by published lists")
    assert data.facts["size"] == "48x64" and data.facts["outputs"] == {"segmentation": 13, "depth": 1, "normals": 3}
    json.dumps(data.facts)
    batch, found = whole(data.test), images(data.test)
    for k in range(5):
        arrays = maps(100 + k, SIZE)
        assert np.array_equal(found[k], arrays["image"])
        assert np.array_equal(batch.targets[0][k], arrays["label"])
        assert np.array_equal(batch.targets[1][k, 0], arrays["depth"][..., 0])
        assert np.allclose(batch.targets[2][k], arrays["normal"].transpose(2, 0, 1), atol=5e-4)
    everything = np.concatenate([images(getattr(data, name)) for name in ("train", "reference", "tuning")])
    numbers = [next(k for k in range(12) if np.array_equal(image, maps(k, SIZE)["image"])) for image in everything]
    assert sorted(numbers) == list(range(12)) and sorted(numbers[:6]) == numbers[:6], "each once, by number"


def test_the_main_task_comes_first(tmp_path):
    write_mtan(tmp_path / "nyuv2", {name: name for name in ("image", "label", "depth", "normal")}, size=SIZE)
    first, data = real(tmp_path), real(tmp_path, main="normals")
    assert data.task_names == ["normals", "segmentation", "depth"]
    assert list(data.facts["outputs"]) == data.task_names and data.checksum == first.checksum
    a, b = whole(first.train), whole(data.train)
    for target, expected in zip(b.targets, (a.targets[2], a.targets[0], a.targets[1]), strict=True):
        assert torch.equal(target, expected)


def test_jpeg_folders(tmp_path):
    write_jpeg(tmp_path / "nyuv2")
    data = real(tmp_path)
    assert data.variant == "nyuv2-jpeg" and data.facts["sizes"]["test"] == 5
    batch, found = whole(data.test), images(data.test)
    for row, k in enumerate(range(2, 12, 2)):
        arrays = maps(k, SIZE, 13)
        with Image.open(tmp_path / "nyuv2" / "test" / "image" / f"{k:04}.jpg") as image:
            assert np.array_equal(found[row], image)
        assert np.array_equal(batch.targets[0][row], arrays["label"])
        depth = eight_bits(k).astype(np.float64) * 10 / 255
        assert np.allclose(batch.targets[1][row, 0], depth, rtol=1e-6) and depth.max() > 5.8
        expected = normals.from_depth(batch.targets[1][row, 0].numpy())
        assert np.allclose(batch.targets[2][row], expected.transpose(2, 0, 1), atol=1e-3)
        assert not batch.targets[2][row, :, :3, :3].any() and batch.targets[2][row, 2].max() > 0.3


def test_the_official_file(tmp_path, monkeypatch):
    content = write_official(tmp_path / "nyuv2", monkeypatch)
    data = real(tmp_path)
    assert data.variant == "nyuv2-official" and list(data.facts["sizes"].values()) == [6, 3, 3, 5]
    batch = whole(data.test)
    assert np.array_equal(images(data.test), content["images"][:5])
    assert np.array_equal(batch.targets[0], content["labels"][:5])
    assert set(np.unique(content["labels"])) == {*range(-1, 13)}
    assert np.array_equal(batch.targets[1][:, 0], content["depths"][:5])
    expected = normals.from_depth(content["depths"][0])
    assert np.allclose(batch.targets[2][0], expected.transpose(2, 0, 1), atol=1e-3)


def test_the_official_file_needs_h5py_and_its_tables(tmp_path, monkeypatch):
    write_official(tmp_path / "nyuv2", monkeypatch)
    for name in nyuv2.TABLES:
        path = tmp_path / "nyuv2" / name
        content = path.read_bytes()
        path.write_bytes(b"MATLAB?")
        with pytest.raises(MtlkitError, match=rf"{name} cannot be read \(\w+\); expected is a vector"):
            real(tmp_path)
        path.unlink()
        with pytest.raises(MtlkitError, match=rf"{name} is missing: the 894 classes .* not in it; .*splits\.mat\.$"):
            real(tmp_path)
        path.write_bytes(content)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MtlkitError, match=r"nyu_depth_v2_labeled\.mat is an HDF5 file, and h5py.*is not installed"):
        real(tmp_path)
    assert "h5py" in nyuv2.status(str(tmp_path))["problem"]


def test_a_foreign_official_file_is_one_sentence(tmp_path, monkeypatch):
    write_official(tmp_path / "nyuv2", monkeypatch)
    for content, message in (({}, r"mat, image 6 cannot be read .*another file"),
                             ({"images": [], "labels": [], "depths": []}, r"image 6 cannot be read")):  # fmt: skip
        monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=lambda path, mode, c=content: File(c)))
        with pytest.raises(MtlkitError, match=message):
            real(tmp_path)


def save(change):
    """A change to an array in a file."""

    def apply(path: Path) -> None:
        np.save(path, change(np.load(path)))

    return apply


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("train/depth/7.npy", Path.unlink, r"train/depth/7\.npy is missing"),
        ("val/normal/2.npy", Path.unlink, r"val/normal/2\.npy is missing"),
        ("val/image/4.npy", Path.unlink, r"val/image/4\.npy is missing"),
        ("train/depth/7.npy", save(lambda a: a[..., 0]), r"depth/7\.npy has the shape \(48, 64\); .*\(48, 64, 1\)"),
        ("train/label/3.npy", save(lambda a: a[1:]), r"label/3\.npy has the shape \(47, 64\)"),
        ("train/label/3.npy", save(lambda a: np.where(a == 2, 13, a)), r"label/3\.npy holds the label 13; .*0 to 12"),
        ("train/image/0.npy", save(lambda a: a * 255), r"image/0\.npy leaves \[0, 1\]"),
        ("train/image/0.npy", save(lambda a: a * np.nan), r"image/0\.npy leaves \[0, 1\]"),
        ("val/normal/1.npy", save(lambda a: a + np.inf), r"normal/1\.npy holds numbers that are not finite"),
        ("val/depth/1.npy", lambda path: path.write_bytes(b"\x93NUMPY"), r"depth/1\.npy cannot be read"),
        ("val/depth/1.npy", save(lambda a: np.array({"a": 1})), r"depth/1\.npy cannot be read"),
    ],
)
def test_faults_in_mtans_archives_are_one_sentence(tmp_path, file, harm, message):
    write_mtan(tmp_path / "nyuv2", {name: name for name in ("image", "label", "depth", "normal")}, size=SIZE)
    harm(tmp_path / "nyuv2" / file)
    with pytest.raises(MtlkitError, match=message) as info:
        real(tmp_path)
    assert "\n" not in str(info.value) and str(info.value).endswith(".")
    assert not any(path.is_dir() for path in (tmp_path / "prepared").glob("*")), "nothing is half there"


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("train/depth/0007.png", Path.unlink, r"train/depth/0007\.png is missing"),
        ("test/label/0004.png", lambda path: path.write_bytes(path.read_bytes()[:60]), r"0004\.png cannot be read"),
        ("test/label/0004.png", lambda path: path.write_bytes(b"404"), r"0004\.png cannot be read"),
        ("train/label/0001.png", lambda path: Image.new("L", (64, 48), 40).save(path), r"0001\.png holds the label 40"),
        ("train/label/0001.png", lambda path: Image.new("L", (60, 48), 4).save(path), r"0001\.png has the shape"),
        ("train/image/0001.jpg", lambda path: Image.new("L", (64, 48), 4).save(path), r"0001\.jpg has the shape"),
        ("train/depth/0001.png", lambda path: Image.new("I;16", (64, 48)).save(path), r"0001\.png holds uint16"),
    ],
)
def test_faults_in_jpeg_folders_are_one_sentence(tmp_path, file, harm, message):
    write_jpeg(tmp_path / "nyuv2")
    harm(tmp_path / "nyuv2" / file)
    with pytest.raises(MtlkitError, match=message) as info:
        real(tmp_path)
    assert "\n" not in str(info.value) and str(info.value).endswith(".")


def test_the_checksum_is_that_of_the_images_and_maps(tmp_path):
    write_jpeg(tmp_path / "nyuv2")
    first = real(tmp_path)
    assert real(tmp_path, 1, size="24x32", split="12/5").checksum == first.checksum
    path = tmp_path / "nyuv2" / "test" / "label" / "0004.png"
    label = np.array(Image.open(path))
    label[40, 30] = (label[40, 30] + 1) % 13
    Image.fromarray(label).save(path)
    assert real(tmp_path).checksum != first.checksum


def test_a_smaller_size_keeps_labels_and_depth_as_they_are(tmp_path):
    write_jpeg(tmp_path / "nyuv2")
    small, large = whole(real(tmp_path, size="16x32").test), whole(real(tmp_path).test)
    assert small.inputs.shape == (5, 3, 16, 32)
    assert torch.equal(small.targets[0], large.targets[0][:, 1::3, 1::2])
    assert torch.equal(small.targets[1], large.targets[1][:, :, 1::3, 1::2])
    assert torch.equal(small.targets[2], large.targets[2][:, :, 1::3, 1::2])


def test_prepare_and_status(tmp_path):
    missing = nyuv2.status(str(tmp_path))
    assert not missing["found"] and missing["variant"] is missing["path"] is missing["problem"] is None
    assert missing["how_to_prepare"] == "python -m mtlkit data prepare nyuv2" and missing["licence"]
    for action in (lambda: nyuv2.prepare(str(tmp_path)), lambda: real(tmp_path)):
        with pytest.raises(MtlkitError, match=r"^NYUv2 is not below .*mtan's archives.*it comes from http.*`python"):
            action()
    write_jpeg(tmp_path / "nyuv2")
    found = nyuv2.status(str(tmp_path))
    assert found["found"] and found["variant"] == "nyuv2-jpeg" and found["problem"] is None
    folder = nyuv2.prepare(str(tmp_path))
    assert folder.parent == tmp_path / "prepared" and folder.name.startswith("nyuv2-jpeg-288x384-")
    assert nyuv2.prepare(str(tmp_path)) == folder
    (tmp_path / "nyuv2" / "test" / "depth" / "0002.png").unlink()
    assert "0002.png is missing" in nyuv2.status(str(tmp_path))["problem"]
    (tmp_path / "nyuv2").rename(tmp_path / "elsewhere")
    gone = nyuv2.status(str(tmp_path))
    assert gone["found"] and gone["variant"] == "nyuv2-jpeg" and gone["path"] == str(folder)
    data = real(tmp_path, size="288x384")
    assert data.variant == "nyuv2-jpeg" and data.train.maps["image"].shape == (12, 3, 288, 384)
    json.dumps([missing, found, gone])


def test_auto_takes_real_data_and_does_not_hide_damage(tmp_path):
    write_jpeg(tmp_path / "nyuv2")
    options = {"data_root": str(tmp_path), "size": "48x64", "split": SPLIT}
    assert nyuv2.load(0, **options).variant == "nyuv2-jpeg"
    (tmp_path / "nyuv2" / "train" / "image" / "0005.jpg").unlink()
    with pytest.raises(MtlkitError, match=r"0005\.jpg is missing"):
        nyuv2.load(0, source="auto", **options)
