"""Rendered sets as files in the layouts of the real data, for the real loaders.

A set is written into a folder beside its place and renamed when it is complete, so that half a set is never found.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtlkit.data.rooms import render_one
from mtlkit.errors import MtlkitError

PART_NAMES = ("", "head", "torso", "luarm", "llarm", "luleg", "llleg")
"""Names of PASCAL-Part that stand for the six parts."""

PERSON = 15


def write_nyuv2(root: Path | str, train: int, val: int, *, seed: int, height: int = 288, width: int = 384) -> Path:
    """Rooms as mtan prepared NYUv2: `<root>/{train,val}/{image,label,depth,normal}/<k>.npy`, k from 0; returns root.

    image (H, W, 3), label (H, W) in -1 .. 12, depth (H, W, 1) in metres, normal (H, W, 3), all float32; see
    `rooms.render`.

    Raises:
        MtlkitError: The root is there already, or cannot be written.
    """
    return _write_arrays(root, "room", {}, train, val, seed, height, width)


def write_cityscapes(root: Path | str, train: int, val: int, *, seed: int, height: int = 128, width: int = 256) -> Path:
    """Streets as mtan prepared CityScapes: `<root>/{train,val}/{image,label_7,depth}/<k>.npy`, k from 0; returns root.

    image (H, W, 3), label_7 (H, W) in -1 .. 6, depth (H, W, 1), inverse, all float32; see `rooms.render`.

    Raises:
        MtlkitError: The root is there already, or cannot be written.
    """
    return _write_arrays(root, "street", {"label": "label_7"}, train, val, seed, height, width)


def write_pascal_context(root: Path | str, train: int, val: int, *, seed: int, height: int = 256,
                         width: int = 256) -> Path:  # fmt: skip
    """Photographs in the layout of PASCAL_MT, which ASTMT, MTI-Net and RLW's release read; returns root.

    JPEGImages/<id>.jpg; semseg/VOC12/<id>.png, 0 .. 20 and 255 ignored; human_parts/<id>.mat, the annotations of
    PASCAL-Part: `anno.objects` with the masks of every person's parts (all people of an image are one object here, and
    both arms or legs carry the left one's name), without objects where there is no person; sal_distill/<id>.png, 255
    salient and 0 not; normals_distill/<id>.png, 255 (n + 1) / 2, which is (128, 128, 128) where there is none;
    ImageSets/Context/{train,val}.txt, one id per line. Not written: the edges and context labels of pascal-context/.

    Raises:
        MtlkitError: The root is there already, or cannot be written.
    """

    def write(folder: Path) -> None:
        lists = folder / "ImageSets" / "Context"
        lists.mkdir(parents=True)
        for split, count in (("train", train), ("val", val)):
            names = [f"{split}_{k:06d}" for k in range(count)]
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
            for k, name in enumerate(names):
                arrays = render_one(k, seed=seed, height=height, width=width, scene="photo", split=split)
                _write_photo(folder, name, arrays)

    return _whole(Path(root), write)


def _write_arrays(root: Path | str, scene: str, names: dict[str, str], train: int, val: int, seed: int, height: int,
                  width: int) -> Path:  # fmt: skip
    """A folder of .npy files for every array, which `names` may rename."""

    def write(folder: Path) -> None:
        for split, count in (("train", train), ("val", val)):
            for k in range(count):
                arrays = render_one(k, seed=seed, height=height, width=width, scene=scene, split=split)
                for name, values in arrays.items():
                    path = folder / split / names.get(name, name) / f"{k}.npy"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.save(path, values.astype(np.float32))

    return _whole(Path(root), write)


def _write_photo(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """One image of PASCAL_MT."""
    from PIL import Image
    from scipy.io import savemat

    def save(path: str, values: np.ndarray, **options: int) -> None:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(file, **options)

    save(f"JPEGImages/{name}.jpg", np.rint(255 * arrays["image"]), quality=95)
    save(f"semseg/VOC12/{name}.png", arrays["semseg"])
    save(f"sal_distill/{name}.png", 255 * arrays["saliency"])
    save(f"normals_distill/{name}.png", np.floor(127.5 * (arrays["normal"] + 1) + 0.5))
    masks = {part: arrays["human_parts"] == k for k, part in enumerate(PART_NAMES) if part}
    parts = _cells([{"part_name": part, "mask": mask.astype(np.uint8)} for part, mask in masks.items() if mask.any()])
    whole = np.any(list(masks.values()), axis=0).astype(np.uint8)
    person = {"class": "person", "class_ind": PERSON, "mask": whole, "parts": parts}
    (folder / "human_parts").mkdir(exist_ok=True)
    anno = {"imname": name, "objects": _cells([person] if whole.any() else [])}
    savemat(folder / "human_parts" / f"{name}.mat", {"anno": anno}, do_compression=True)


def _cells(rows: list[dict[str, object]]) -> np.ndarray:
    """A MATLAB array of structures, 1 x N."""
    made = np.empty((1, len(rows)), [(name, object) for name in (rows[0] if rows else {"class": None})])
    for k, row in enumerate(rows):
        made[0, k] = tuple(row.values())
    return made


def _whole(root: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder under another name, and rename it when all is there."""
    if root.exists():
        raise MtlkitError(f"{root} is there already: move it away or choose another folder.")
    part = root.with_name(f"{root.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        write(part)
        part.rename(root)
    except OSError as error:
        raise MtlkitError(f"{root} could not be written: {error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root
