"""Images with maps for labels: found on disk, prepared once as memory-mapped arrays, split, and taken batch by batch.

A prepared set is a folder with one folder per split, in it one ``.npy`` per field, (N, ...), and ``meta.json``. NYUv2,
CityScapes and PASCAL-Context differ in their `Benchmark` alone.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from mtlkit import paths
from mtlkit.data.base import Dataset, Samples, checksum, generator, sizes
from mtlkit.errors import MtlkitError, one_of

VERSION = 1
"""Of the preparation: sets that another one wrote are not read."""

RESIDENT = 4 * 2**30
"""Bytes of maps that each of the four sets may take on the device."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, per channel, in [0, 1]: what pretrained encoders expect."""

Size = tuple[int, int]
"""Height and width in pixels."""

Item = Mapping[str, Any]
"""Where the maps of one image come from, by field; its text names the place in an error."""


@dataclass(frozen=True)
class Field:
    """One map per image.

    name: of the field and of its files. task: the task that learns it; empty for the image.
    dtype: as stored. channels: 0 for maps (H, W), else stored as (channels, H, W) and found as (H, W, channels).
    classes: labels are 0 .. classes-1, or ``ignore``; 0 for measurements, which are finite, and 0 where there is none.
    outputs: of a network that predicts the field; as many as classes or channels where not given.
    """

    name: str
    task: str
    dtype: type[np.generic]
    channels: int = 0
    classes: int = 0
    ignore: int = -1
    outputs: int = 0

    def check(self, array: np.ndarray, size: Size, where: object) -> None:
        """Raise `MtlkitError`, which names ``where``, unless this is a map of an image of ``size``."""
        expected = (*size, self.channels) if self.channels else size
        if array.shape != expected:
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

    variant: names the source in records.
    fields: one per task, beside the image.
    items: of the splits train and test, in order.
    read: ``read(item) -> {field: array}``, the image (H, W, 3) uint8 among them; raises `MtlkitError`.
    files: all that is read.
    derive: adds the fields that the source lacks; they are not in the checksum.
    """

    variant: str
    fields: tuple[Field, ...]
    items: dict[str, list[Item]]
    read: Callable[[Item], dict[str, np.ndarray]]
    files: Sequence[Path]
    derive: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict

    def rows(self, split: str, size: Size, digest: "hashlib._Hash") -> Iterator[dict[str, np.ndarray]]:
        """Every image and its maps as stored, and ``present`` (T,); what is read goes into the digest."""
        for item in self.items[split]:
            found = self.read(item)
            digest.update(checksum(*found.values()).encode())
            arrays, row = self.derive(found), {}
            for field in (IMAGE, *self.fields):
                field.check(arrays[field.name], arrays["image"].shape[:2], item.get(field.name, item["image"]))
                row[field.name] = field.fit(arrays[field.name], size)
            yield row | {"present": np.array([field.present(row[field.name]) for field in self.fields], np.uint8)}

    def fingerprint(self) -> str:
        """16 hex digits of the names, sizes and times of all files: a change shows without reading them."""
        facts = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in self.files]
        return hashlib.sha256(json.dumps([VERSION, *facts]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Maps:
    """A data set at hand: for train and test the fields (M, ...) by name, and ``present`` (M, T), which maps hold any
    label, T in the order of the benchmark's fields."""

    variant: str
    checksum: str
    of: dict[str, dict[str, Tensor]]


@dataclass
class Stored:
    """One of the four sets, N samples of T tasks, whose maps lie on disk or, where they fit, on the device; the batches
    are the same either way.

    maps: fields (M, ...) by name, ``image`` (M, 3, H, W) uint8 among them.
    rows: (N,) int64, which of them are the samples; on the device of the maps.
    targets: names of the T tasks' fields, the main task's first.
    groups, flipped, mass: (T, N), as in `Samples`; mass is 0 where a map holds no label at all, else 1.
    statistics: (2, 3, 1, 1), mean and standard deviation of the channels.
    resident: so many bytes may move to the device; more are read from disk batch by batch, for which a GPU waits.
    """

    maps: dict[str, Tensor]
    rows: Tensor
    targets: tuple[str, ...]
    groups: Tensor
    flipped: Tensor
    mass: Tensor
    statistics: Tensor
    resident: int = RESIDENT

    @classmethod
    def of(cls, maps: dict[str, Tensor], rows: Tensor, targets: Mapping[str, int], resident: int) -> "Stored":
        """The samples at ``rows``, clean and without groups; targets: columns of ``maps["present"]`` by field."""
        mass = maps["present"][rows][:, list(targets.values())].T.float().contiguous()
        named = {name: maps[name] for name in ("image", *targets)}
        return cls(named, rows, tuple(targets), torch.zeros_like(mass, dtype=torch.int64),
                   torch.zeros_like(mass, dtype=torch.bool), mass, torch.tensor([MEAN, STD])[..., None, None],
                   resident)  # fmt: skip

    def __len__(self) -> int:
        """Number of samples N."""
        return len(self.rows)

    def to(self, device: torch.device | str) -> "Stored":
        """The same set, for batches on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("groups", "flipped", "mass", "statistics")}
        if sum(values[:1].nbytes for values in self.maps.values()) * len(self) > self.resident:
            return replace(self, **moved)
        maps = {name: values.index_select(0, self.rows).to(device) for name, values in self.maps.items()}
        return replace(self, maps=maps, rows=torch.arange(len(self), device=device), **moved)

    def join(self, other: "Stored") -> "Stored":
        """This set followed by ``other``; both are cut from the same maps."""
        if self.targets != other.targets or any(other.maps[name] is not self.maps[name] for name in self.maps):
            raise MtlkitError("the two sets are not cut from the same maps for the same tasks: they cannot be joined.")
        along = {name: torch.cat((getattr(self, name), getattr(other, name)), -1)
                 for name in ("rows", "groups", "flipped", "mass")}  # fmt: skip
        return replace(self, **along)

    def take(self, index: Tensor) -> Samples:
        """The samples at ``index`` (B,) int64: images (B, 3, H, W) float32, standardised per channel; labels
        (B, H, W) int64; measurements (B, channels, H, W) float32."""
        device = self.mass.device
        rows = self.rows.index_select(0, index.to(self.rows.device))
        image, *targets = (self.maps[name].index_select(0, rows).to(device) for name in ("image", *self.targets))
        mean, std = self.statistics
        index = index.to(device)
        return Samples((image.float() / 255 - mean) / std,
                       tuple(t.float() if t.is_floating_point() else t.long() for t in targets),
                       *(each.index_select(1, index) for each in (self.groups, self.flipped, self.mass)))  # fmt: skip


def prepare(source: Source, size: Size, folder: Path) -> Path:
    """Write the prepared set of a source below ``folder``, unless it is there; returns its own folder.

    It is written whole or not at all; of several processes that want it one writes and the others wait.
    Raises `MtlkitError` for a fault in the source, which it names, and where the writing fails.
    """
    try:
        target = folder / f"{source.variant}-{size[0]}x{size[1]}-{source.fingerprint()}"
        part = folder / f".{target.name}.part"
        with _alone(folder / f".{target.name}.lock"):
            if not target.is_dir():
                count = sum(map(len, source.items.values()))
                print(f"NOTE: preparing {count} images of {source.variant} in {target}, once.", file=sys.stderr)
                shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
                try:
                    _write(source, size, part)
                    part.rename(target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise MtlkitError(f"{source.variant} could not be prepared in {folder}: {error}.") from error
    return target


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(source: Source, size: Size, folder: Path) -> None:
    digest = hashlib.sha256()
    for split, items in source.items.items():
        (folder / split).mkdir(parents=True)
        with ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for row in source.rows(split, size, digest):
                for name, array in row.items():
                    if name not in files:
                        files[name] = stack.enter_context((folder / split / f"{name}.npy").open("wb"))
                        head = {"descr": array.dtype.str, "fortran_order": False, "shape": (len(items), *array.shape)}
                        np.lib.format.write_array_header_1_0(files[name], head)
                    files[name].write(array.tobytes())  # through a memory map, a full disk would kill the process
    meta = {"version": VERSION, "variant": source.variant, "checksum": digest.hexdigest()[:16], "size": size,
            "sizes": {split: len(items) for split, items in source.items.items()},
            "fields": ["image", *(field.name for field in source.fields), "present"]}  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def open_prepared(folder: Path) -> Maps:
    """A prepared set, memory-mapped. Raises `MtlkitError` where it is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        with warnings.catch_warnings():  # that the arrays cannot be written to, as they should not be
            warnings.simplefilter("ignore")
            of = {split: {name: torch.from_numpy(np.load(folder / split / f"{name}.npy", mmap_mode="r"))
                          for name in meta["fields"]} for split in meta["sizes"]}  # fmt: skip
        return Maps(meta["variant"], meta["checksum"], of)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MtlkitError(f"{folder} is damaged ({error}): delete it, and it is prepared again.") from error


def in_memory(source: Source, size: Size) -> Maps:
    """The maps of a source that is not worth a place on disk."""
    digest, of = hashlib.sha256(), {}
    for split in source.items:
        rows = list(source.rows(split, size, digest))
        of[split] = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
    return Maps(source.variant, digest.hexdigest()[:16], of)


def read(path: Path) -> np.ndarray:
    """An array from ``.npy`` or an image file: grey or palette (H, W), colour (H, W, 3)."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        from PIL import Image

        with Image.open(path) as image:
            return np.asarray(image)
    except Exception as error:  # both raise nearly anything for a file of another kind
        raise MtlkitError(f"{path} cannot be read ({type(error).__name__}); it is damaged or not what its name "
                          "says.") from error  # fmt: skip


def walk(files: Mapping[str, tuple[Path, str]]) -> list[Item]:
    """The images of one split, by number: for every field the folder and the suffix of its files.

    Raises `MtlkitError` for a file that other fields have and one lacks, and where there are none.
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
    """The layout of mtan's archives, ``{train,val}/{image,...}/<k>.npy``; None where there is no such folder.

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


@dataclass(frozen=True)
class Benchmark:
    """A data set with maps for labels, and how it is found and split.

    name: of the data set; title: as people call it. expected: the layouts that ``find`` knows, in words.
    find: ``find(root) -> Source``, None where there is nothing; variants: what it may find, the first first.
    size: (H, W) of the benchmark. split: the default one.
    stand_in: variant and scene of what `mtlkit.data.rooms` renders instead; None where it does not.
    """

    name: str
    title: str
    url: str
    licence: str
    expected: str
    find: Callable[[Path], Source | None]
    variants: tuple[str, ...]
    fields: tuple[Field, ...]
    size: Size
    split: str
    stand_in: tuple[str, str] | None

    def load(self, seed: int, *, source: str, data_root: str, main: str, split: str, size: str,
             resident: int) -> Dataset:  # fmt: skip
        """The four sets, as the loaders document them."""
        tasks = {field.task: field for field in self.fields}
        one_of("source", source, ("auto", "real", "builtin"))
        one_of("main", main, tasks)
        pixels = self._pixels(size)
        counts = self._counts(split or self.split)
        root = paths.data_root(data_root)
        maps = None if source == "builtin" else self._at_hand(root, pixels)
        origin = "drawn from the images in their order, not by published lists"
        if maps is None and (source == "real" or self.stand_in is None):
            raise self._missing(root)
        if maps is None:
            if source == "auto":
                print(f"NOTE: {self.title} is not below {root}: using RENDERED scenes as a stand-in (source: auto). "
                      f"`{self._command}` converts the real data.", file=sys.stderr)  # fmt: skip
            maps, origin = self._rendered(counts, pixels, seed), "rendered, test the same for every seed"
        at_hand = {part: len(of["image"]) for part, of in maps.of.items()}
        rows, told = cut(counts, at_hand, seed, self.title)
        order = [tasks[main], *(field for field in self.fields if field.task != main)]
        targets = {field.name: self.fields.index(field) for field in order}
        splits = {name: Stored.of(maps.of["test" if name == "test" else "train"], at, targets, resident)
                  for name, at in rows.items()}  # fmt: skip
        facts = {"sizes": sizes(**splits), "split": f"{told}; {origin}", "size": "{}x{}".format(*pixels),
                 "outputs": {field.task: field.outputs or field.classes or field.channels for field in order},
                 "block": None, "wrong_main_labels": 0, "noise": "none"}  # fmt: skip
        return Dataset(self.name, maps.variant, maps.checksum, [field.task for field in order], "dense", **splits,
                       facts=facts)  # fmt: skip

    def prepare(self, data_root: str = "") -> Path:
        """Convert the data set at its own size, unless that is done; returns the prepared set's folder."""
        root = paths.data_root(data_root)
        found = self.find(root)
        if found is None:
            raise self._missing(root)
        return prepare(found, self.size, folder_of(root))

    def status(self, data_root: str = "") -> dict[str, Any]:
        """Whether the data set is below the data root, as which variant, and how to get it; ``problem`` tells of
        damage."""
        root, found, problem = paths.data_root(data_root), None, None
        try:
            found = self.find(root)
        except MtlkitError as error:
            problem = str(error)
        prepared = [path for variant in self.variants for path in self._prepared(root, variant, self.size)]
        path = found.files[0].parent if found else prepared[0] if prepared else None
        return {
            "name": self.name,
            "found": path is not None,
            "variant": found.variant if found else path and path.name.rsplit("-", 2)[0],
            "path": path and str(path),
            "problem": problem,
            "source_url": self.url,
            "licence": self.licence,
            "how_to_prepare": self._command,
        }

    @property
    def _command(self) -> str:
        return f"python -m mtlkit data prepare {self.name}"

    def _missing(self, root: Path) -> MtlkitError:
        return MtlkitError(f"{self.title} is not below {root} (parameter data_root or environment variable "
                           f"MTLKIT_DATA): expected is {self.expected}; it comes from {self.url}, `{self._command}` "
                           f"converts it, and source: builtin {'does without' if self.stand_in else 'has none such'}."
                           )  # fmt: skip

    def _prepared(self, root: Path, variant: str, size: Size) -> list[Path]:
        """Sets that were prepared from any source of a variant, the latest first."""
        there = folder_of(root).glob(f"{variant}-{size[0]}x{size[1]}-{'[0-9a-f]' * 16}")
        return sorted(there, key=lambda path: -path.stat().st_mtime_ns)

    def _at_hand(self, root: Path, size: Size) -> Maps | None:
        """From the source, prepared if it is not yet; else a set that was prepared from one that has gone."""
        found = self.find(root)
        if found is not None:
            return open_prepared(prepare(found, size, folder_of(root)))
        there = (path for variant in self.variants for path in self._prepared(root, variant, size))
        return next(map(open_prepared, there), None)

    def _rendered(self, counts: list[int], size: Size, seed: int) -> Maps:
        """Scenes of the stand-in: others for every seed, but for the test set."""
        from mtlkit.data import rooms

        if min(counts) < 1:
            raise MtlkitError("split has a 0, which stands for all images left, but rendered scenes have no end; "
                              "expected are numbers from 1.")  # fmt: skip
        variant, scene = self.stand_in

        def read(item: Item) -> dict[str, np.ndarray]:
            arrays = rooms.render_one(item["index"], seed=item["seed"], height=size[0], width=size[1], scene=scene,
                                      split=item["split"])  # fmt: skip
            named = {field.name: arrays[field.name.removesuffix("_7")] for field in self.fields}
            return {"image": eight_bits(arrays["image"])} | named

        asked = {"train": (sum(counts[:-1]), seed), "test": (counts[-1], 0)}
        items = {split: [{"image": f"scene {k}", "index": k, "seed": number, "split": split} for k in range(count)]
                 for split, (count, number) in asked.items()}  # fmt: skip
        return in_memory(Source(variant, self.fields, items, read, []), size)

    def _pixels(self, size: str) -> Size:
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size or "{}x{}".format(*self.size))
        if not found:
            raise MtlkitError(f"size is {size!r}; expected is height x width in pixels, such as {self.size[0]}x"
                              f"{self.size[1]}.")  # fmt: skip
        return int(found[1]), int(found[2])

    def _counts(self, split: str) -> list[int]:
        if not re.fullmatch(r"\d+(/\d+){1,3}", split):
            raise MtlkitError(f"split is {split!r}; expected are numbers of images as train/test, train/reference/test "
                              f"or train/reference/tuning/test, such as {self.split}.")  # fmt: skip
        return [int(count) for count in split.split("/")]


def folder_of(root: Path) -> Path:
    """Where prepared sets lie: in ``prepared`` below the data root, or, where that is read-only, below the repository's
    ``data``. A folder without write permission counts as read-only to a superuser too, who could write there."""
    writable = os.access(root, os.W_OK) and root.stat().st_mode & 0o222
    return (root if writable else paths.ROOT / "data") / "prepared"


def cut(counts: Sequence[int], at_hand: Mapping[str, int], seed: int, title: str) -> tuple[dict[str, Tensor], str]:
    """Rows of the four sets, in order, and how they overlap, in words.

    counts: train/test, train/reference/test or train/reference/tuning/test; 0 is all that is left. at_hand: images in
    train and test; all but the test set are drawn from train. With four numbers the sets are disjoint and the tuning
    set is the same for every seed, as the test set always is; with three the tuning set is the reference set; with two
    they are a fifth each of the train set, and not held out from it.
    Raises `MtlkitError` where there are not so many images.
    """
    *inner, test = counts
    inner = [count or at_hand["train"] - sum(inner) for count in inner]
    test = test or at_hand["test"]
    if min(inner) < 1 or sum(inner) > at_hand["train"] or test > at_hand["test"]:
        raise MtlkitError(f"split is {'/'.join(map(str, counts))}, but {title} has {at_hand['train']} images for "
                          f"train, reference and tuning, and {at_hand['test']} for test.")  # fmt: skip
    first, *held_out = inner
    fixed = torch.randperm(at_hand["train"], generator=generator(0, "tuning images"))
    tuning, rest = fixed.tensor_split([held_out[1] if len(held_out) == 2 else 0])
    mine = rest[torch.randperm(len(rest), generator=generator(seed, "split"))]
    train, reference = mine[:first], mine[first:][: sum(held_out[:1])]
    if len(held_out) == 2:
        told = "disjoint"
    elif held_out:
        tuning, told = reference, "tuning is the reference set"
    else:
        fifth = max(1, first // 5)
        reference, tuning = train[:fifth], train[-fifth:]
        told = "reference and tuning are part of train, a fifth each"
    tested = torch.randperm(at_hand["test"], generator=generator(0, "test images"))[:test]
    rows = {"train": train, "reference": reference, "tuning": tuning, "test": tested}
    return {name: at.sort().values for name, at in rows.items()}, told
