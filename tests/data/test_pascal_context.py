"""PASCAL-Context, from a small tree in the layout of PASCAL_MT."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mtlkit.data import pascal_context
from mtlkit.errors import MtlkitError
from tests.data.test_nyuv2 import images, whole

SIZES = {"2008_000001": (12, 16), "2008_000002": (16, 12), "2008_000003": (12, 16), "2008_000004": (12, 16),
         "2008_000005": (8, 16)}  # fmt: skip


def mask(size: tuple[int, int], rows: slice) -> np.ndarray:
    found = np.zeros(size, np.uint8)
    found[rows] = 1
    return found


def annotation(size: tuple[int, int], persons: int) -> dict:
    """A horse with a part, and persons: the first with head and hand, the others with a foot."""
    head, hand, foot = ({"part_name": name, "mask": mask(size, slice(*rows))}
                        for name, *rows in (("head", 0, 2), ("rhand", 2, 3), ("lfoot", 5, 6)))  # fmt: skip
    whole = {"mask": mask(size, slice(None))}
    horse = whole | {"class": "horse", "class_ind": 13, "parts": [head]}
    people = [whole | {"class": "person", "class_ind": 15, "parts": parts} for parts in ([head, hand], [foot])]
    return {"anno": {"imname": "x", "objects": [horse, *people[:persons]]}}


@pytest.fixture
def root(tmp_path) -> Path:
    """Five images: 1 to 3 in train, 4 and 5 in val; 2 has no person, 4 no saliency, 5 no segmentation."""
    root = tmp_path / "PASCAL_MT"
    for folder in ("JPEGImages", "semseg/VOC12", "semseg/pascal-context", "human_parts", "sal_distill",
                   "normals_distill", "ImageSets/Context"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    for k, (name, size) in enumerate(SIZES.items(), start=1):
        Image.new("RGB", size[::-1], (10 * k, 20 * k, 255)).save(root / "JPEGImages" / f"{name}.jpg", quality=100)
        if k < 5:
            label = np.full(size, k, np.uint8)
            label[0] = 255
            chosen = Image.fromarray(label, "L").convert("P")
            chosen.putdata(label.ravel().tolist())
            chosen.save(root / "semseg" / ("VOC12" if k < 4 else "pascal-context") / f"{name}.png")
        savemat(root / "human_parts" / f"{name}.mat", annotation(size, {1: 2, 2: 0}.get(k, 1)))
        if k != 4:
            salient = mask(size, slice(4)) * np.uint8(200) + np.uint8(20)
            Image.fromarray(salient).save(root / "sal_distill" / f"{name}.png")
        normal = np.full((*size, 3), (127, 255, 128), np.uint8)
        normal[0] = 128
        Image.fromarray(normal).save(root / "normals_distill" / f"{name}.png")
    names = list(SIZES)
    (root / "ImageSets" / "Context" / "train.txt").write_text("\n".join(names[:3]) + "\n")
    (root / "ImageSets" / "Context" / "val.txt").write_text("\n".join(names[3:]))
    return root


def real(root: Path, **options: object):
    settings = {"size": "12x16", "split": "0/0"} | options
    return pascal_context.load(0, source="real", data_root=str(root.parent), **settings)


def test_the_archive_is_read_back(root):
    data = real(root)
    assert (data.name, data.variant, data.kind) == ("pascal_context", "pascal-context", "dense")
    assert data.task_names == ["segmentation", "human_parts", "saliency", "normals"]
    assert data.facts["outputs"] == {"segmentation": 21, "human_parts": 7, "saliency": 1, "normals": 3}
    assert data.facts["sizes"]["train"] == 3 and data.facts["sizes"]["test"] == 2
    train, test = whole(data.train), whole(data.test)
    assert np.abs(images(data.train)[:, 6, 8].astype(int) - [[10, 20, 255], [20, 40, 255], [30, 60, 255]]).max() <= 3
    label, parts, saliency, normal = train.targets
    assert (label[:, 0] == 255).all() and [int(one[1:].unique().item()) for one in label] == [1, 2, 3]
    assert parts[0, :, 0].tolist() == [1, 1, 4, 0, 0, 6] + [0] * 6, "a horse's head is none"
    assert (parts[1] == 255).all() and parts[2, :, 0].tolist() == [1, 1, 4] + [0] * 9
    assert saliency[0, :, 0].tolist() == [1] * 4 + [0] * 8
    assert not normal[:, :, 0].any(), "too short"
    assert np.allclose(normal[0, :, 1:], np.array([-1 / 255, 1, 1 / 255])[:, None, None], atol=1e-3)
    assert train.mass.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]]
    assert test.mass.tolist() == [[1, 0], [1, 1], [0, 1], [1, 1]]
    assert (test.targets[0][0, 1:] == 4).all()
    assert (test.targets[0][1] == 255).all() and (test.targets[2][0] == 255).all()


def test_parts_may_be_a_map(root):
    name = "2008_000003"
    (root / "human_parts" / f"{name}.mat").unlink()
    for values, mass in ((np.full((12, 16), 5, np.uint8), 1), (np.zeros((12, 16), np.uint8), 0)):
        Image.fromarray(values).save(root / "human_parts" / f"{name}.png")
        batch = whole(real(root).train)
        assert (batch.targets[1][2] == (5 if mass else 255)).all() and batch.mass[1, 2] == mass


def test_the_main_task_and_its_mass_come_first(root):
    batch = whole(real(root, main="saliency").test)
    assert batch.mass.tolist() == [[0, 1], [1, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: (root / "JPEGImages/2008_000002.jpg").unlink(), r"JPEGImages/2008_000002\.jpg is missing"),
        (lambda root: (root / "ImageSets/Context/val.txt").unlink(), r"val\.txt cannot be read"),
        (lambda root: [p.unlink() for p in (root / "sal_distill").iterdir()], r"sal_distill/\*\.png is missing"),
        (lambda root: (root / "human_parts/2008_000001.mat").write_bytes(b"?"), r"000001\.mat cannot be read"),
        (
            lambda root: savemat(root / "human_parts/2008_000001.mat", {"anno": 3}),
            r"000001\.mat cannot be read .*PASCAL-Part",
        ),
        (
            lambda root: Image.new("L", (16, 12), 21).save(root / "semseg/VOC12/2008_000001.png"),
            r"VOC12/2008_000001\.png holds the label 21; expected are 0 to 20, and 255",
        ),
        (
            lambda root: Image.new("L", (12, 12)).save(root / "sal_distill/2008_000005.png"),
            r"sal_distill/2008_000005\.png has the shape \(12, 12\)",
        ),
        (
            lambda root: (root / "normals_distill/2008_000005.png").write_bytes(b"\x89PNG"),
            r"normals_distill/2008_000005\.png cannot be read",
        ),
    ],
)
def test_faults_are_one_sentence(root, harm, message):
    harm(root)
    with pytest.raises(MtlkitError, match=message) as info:
        real(root)
    assert "\n" not in str(info.value) and str(info.value).endswith(".")


def test_prepare_and_status(root, tmp_path):
    assert pascal_context.status(str(tmp_path / "nowhere"))["found"] is False
    with pytest.raises(MtlkitError, match=r"^PASCAL-Context is not below .*PASCAL_MT\.tgz"):
        pascal_context.prepare(str(tmp_path / "nowhere"))
    assert pascal_context.prepare(str(tmp_path)).name.startswith("pascal-context-512x512-")
    assert pascal_context.status(str(tmp_path))["variant"] == "pascal-context"
    (root / "ImageSets" / "Context" / "train.txt").write_bytes(b"\xff\xfe")
    assert "train.txt cannot be read" in pascal_context.status(str(tmp_path))["problem"]
