"""Images with maps for labels as they lie on disk: one source of a data set, its fields, and how files are read."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlkit.data.base import checksum
from mtlkit.errors import MtlkitError

VERSION = 1
"""Of the preparation: sets that another one wrote are not read."""


Size = tuple[int, int]
"""Height and width in pixels."""


Item = Mapping[str, Any]
"""Where the maps of one image come from, by field; its text names the place in an error."""


@dataclass(frozen=True)
class Field:
    """One map per image.

    Attributes:
        name: Of the field and of its files.
        task: The task that learns it; empty for the image.
        dtype: As stored.
        channels: 0 for maps (H, W), else stored as (channels, H, W) and found as (H, W, channels).
        classes: Labels are 0 .. classes-1, or `ignore`; 0 for measurements, which are finite, and 0 where there is
            none.
        outputs: Of a network that predicts the field; as many as classes or channels where not given.
    """

    name: str
    task: str
    dtype: type[np.generic]
    channels: int = 0
    classes: int = 0
    ignore: int = -1
    outputs: int = 0

    def check(self, array: np.ndarray, size: Size, where: object) -> None:
        """Raise `MtlkitError`, which names `where`, unless this is a map of an image of `size`."""
        expected = (*size, self.channels) if self.channels else size
        if array.shape != expected or not array.size:
            raise MtlkitError(f"{where} has the shape {array.shape}; expected is {expected}, by the size of its image.")
        if self.classes:
            wrong = array[(array != self.ignore) & ~np.isin(array, np.arange(self.classes))]
            if wrong.size:
                raise MtlkitError(f"{where} holds the label {wrong.flat[0]}; expected are 0 to {self.classes - 1}, and "
                                  f"{self.ignore} where there is none.")  # fmt: skip
        elif not np.isfinite(array).all():
            raise MtlkitError(f"{where} holds numbers that are not finite; expected is 0 where there is no value.")

    def fit(self, array: np.ndarray, size: Size) -> np.ndarray:
        """As stored, at another size: images by area (bilinear where they grow), all else by the nearest pixel."""
        if array.shape[:2] != size and self == IMAGE:
            from PIL import Image

            shrinks = array.shape[0] >= size[0] and array.shape[1] >= size[1]
            way = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
            array = np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize(size[::-1], way))
        elif array.shape[:2] != size:
            rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int)
                             for new, old in zip(size, array.shape[:2], strict=True))  # fmt: skip
            array = array[rows[:, None], columns]
        return (np.moveaxis(array, -1, 0) if self.channels else array).astype(self.dtype)

    def present(self, array: np.ndarray) -> bool:
        """Whether any pixel of a stored map has a label or a value."""
        return bool((array != (self.ignore if self.classes else 0)).any())


IMAGE = Field("image", "", np.uint8, channels=3)


@dataclass(frozen=True)
class Source:
    """One source of a data set, as it lies on disk.

    Attributes:
        variant: Names the source in records.
        fields: One per task, beside the image.
        items: Of the splits train and test, in order.
        read: `read(item) -> {field: array}`, the image (H, W, 3) uint8 among them; raises `MtlkitError`.
        files: All that is read.
        derive: Adds the fields that the source lacks; they are not in the checksum.
    """

    variant: str
    fields: tuple[Field, ...]
    items: dict[str, list[Item]]
    read: Callable[[Item], dict[str, np.ndarray]]
    files: Sequence[Path]
    derive: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict

    def rows(self, split: str, size: Size, absorb: Callable[[bytes], None]) -> Iterator[dict[str, np.ndarray]]:
        """Every image and its maps as stored, and `present` (T,); `absorb` gets a checksum of what is read."""
        for item in self.items[split]:
            found = self.read(item)
            absorb(checksum(*found.values()).encode())
            arrays, row = self.derive(found), {}
            for field in (IMAGE, *self.fields):
                field.check(arrays[field.name], arrays["image"].shape[:2], item.get(field.name, item["image"]))
                row[field.name] = field.fit(arrays[field.name], size)
            yield row | {"present": np.array([field.present(row[field.name]) for field in self.fields], np.uint8)}

    def fingerprint(self) -> str:
        """16 hex digits of the names, sizes and times of all files: a change shows without reading them."""
        facts = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files]
        return hashlib.sha256(json.dumps([VERSION, *facts]).encode()).hexdigest()[:16]


def read(path: Path) -> np.ndarray:
    """An array from `.npy` or an image file: grey or palette (H, W), colour (H, W, 3)."""
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(path) as image:
                array = np.asarray(image)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{array.dtype} is no number")
        return array
    except Exception as error:  # both raise nearly anything for a file of another kind
        raise MtlkitError(f"{path} cannot be read ({type(error).__name__}); it is damaged or not what its name "
                          "says.") from error  # fmt: skip


def walk(files: Mapping[str, tuple[Path, str]]) -> list[Item]:
    """The images of one split, by number: for every field the folder and the suffix of its files.

    Raises:
        MtlkitError: A file that other fields have and one lacks, or there are none.
    """
    names = {name: {path.stem for path in folder.glob(f"*{suffix}")} for name, (folder, suffix) in files.items()}
    every = sorted(set().union(*names.values()), key=lambda name: (len(name), name))
    for name, (folder, suffix) in files.items():
        missing = [one for one in every or ["*"] if one not in names[name]]
        if missing:
            raise MtlkitError(f"{folder / missing[0]}{suffix} is missing; expected is one file per image for each of "
                              f"{', '.join(files)}.")  # fmt: skip
    return [{name: folder / f"{one}{suffix}" for name, (folder, suffix) in files.items()} for one in every]


def mtan(root: Path, variant: str, fields: tuple[Field, ...]) -> Source | None:
    """The layout of mtan's archives, `{train,val}/{image,...}/<k>.npy`; None where there is no such folder.

    Images are fractions in [0, 1], which 8 bits round by 0.002 at most.
    """
    if not any((root / "train" / "image").glob("*.npy")):
        return None
    names = [field.name for field in (IMAGE, *fields)]
    items = {split: walk({name: (root / folder / name, ".npy") for name in names})
             for split, folder in (("train", "train"), ("test", "val"))}  # fmt: skip

    def arrays(item: Item) -> dict[str, np.ndarray]:
        found = {name: read(path) for name, path in item.items()}
        if not ((found["image"] >= 0) & (found["image"] <= 1)).all():
            raise MtlkitError(f"{item['image']} leaves [0, 1]; expected is an image in fractions.")
        return found | {"image": eight_bits(found["image"])}

    return Source(variant, fields, items, arrays, every_file(items))


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] as uint8."""
    return (image * 255).round().astype(np.uint8)


def every_file(items: Mapping[str, list[Item]]) -> list[Path]:
    """All files of items that name nothing else."""
    return [path for part in items.values() for item in part for path in item.values()]
