"""Rendered sets on disk: the layouts of the real data, read as published loaders read them, whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlkit.data.rooms import VOC_CLASSES, files, render
from mtlkit.errors import MtlkitError

PASCAL_PART = {"head": 1, "torso": 2, "luarm": 3, "llarm": 4, "luleg": 5, "llleg": 6}


@pytest.mark.parametrize("write, scene, names", [
    (files.write_nyuv2, "room", {"image": "image", "label": "label", "depth": "depth", "normal": "normal"}),
    (files.write_cityscapes, "street", {"image": "image", "label_7": "label", "depth": "depth"}),
])  # fmt: skip
def test_layout_of_mtan(tmp_path: Path, write: Callable[..., Path], scene: str, names: dict[str, str]) -> None:
    root = write(tmp_path / "deeper" / "set", 3, 2, seed=4, height=16, width=24)
    assert {folder.name for folder in root.iterdir()} == {"train", "val"}
    for split, count in (("train", 3), ("val", 2)):
        arrays = render(count, seed=4, height=16, width=24, scene=scene, split=split)
        assert {folder.name for folder in (root / split).iterdir()} == set(names)
        for folder, name in names.items():
            assert {file.name for file in (root / split / folder).iterdir()} == {f"{k}.npy" for k in range(count)}
            for k in range(count):
                read = np.load(root / split / folder / f"{k}.npy", allow_pickle=False)
                assert read.dtype == np.float32 and np.array_equal(read, arrays[name][k])


def test_layout_of_pascal(tmp_path: Path) -> None:
    from PIL import Image
    from scipy.io import loadmat

    root, people = files.write_pascal_context(tmp_path / "PASCAL_MT", 6, 2, seed=0, height=40, width=48), 0
    for split, count in (("train", 6), ("val", 2)):
        arrays = render(count, seed=0, height=40, width=48, scene="photo", split=split)
        names = (root / "ImageSets" / "Context" / f"{split}.txt").read_text().splitlines()
        assert len(names) == count
        for k, name in enumerate(names):

            def read(path: str, name: str = name) -> np.ndarray:
                return np.array(Image.open(root / path.format(name)))

            assert np.abs(read("JPEGImages/{}.jpg") / 255 - arrays["image"][k]).mean() < 0.03
            assert np.array_equal(read("semseg/VOC12/{}.png"), arrays["semseg"][k])
            assert np.array_equal(read("sal_distill/{}.png") / 255 > 0.5, arrays["saliency"][k] == 1)
            normal = 2 * read("normals_distill/{}.png").astype(float) / 255 - 1
            assert np.abs(normal - arrays["normal"][k]).max() < 0.0041
            objects = loadmat(root / "human_parts" / f"{name}.mat")["anno"][0][0][1]
            target = np.zeros((40, 48), int)
            for person in objects[0] if objects.size else ():
                people += 1
                assert person[1][0][0] == 15 and str(person[0][0]) == VOC_CLASSES[15]
                for part in person[3][0]:
                    target[part[1].astype(bool)] = PASCAL_PART[str(part[0][0])]
                assert np.array_equal(person[2] > 0, target > 0)
            expected = arrays["human_parts"][k]
            assert np.array_equal(target, np.where(expected == 255, 0, expected))
    assert 0 < people < 8


def test_half_a_set_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(index: int, *, split: str, **rest: object) -> dict[str, np.ndarray]:
        if split == "val":
            raise OSError("no space left on device")
        return {"image": np.zeros((8, 8, 3))}

    monkeypatch.setattr(files, "render_one", full)
    with pytest.raises(MtlkitError, match="no space left"):
        files.write_nyuv2(tmp_path / "set", 2, 1, seed=0)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(MtlkitError, match="is there already"):
        files.write_cityscapes(tmp_path / "set", 1, 1, seed=0)
    assert not list((tmp_path / "set").iterdir())
