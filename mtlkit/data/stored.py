"""Images with maps for labels, prepared once as memory-mapped arrays, and taken batch by batch.

A prepared set is a folder with one folder per split, in it one `.npy` per field, (N, ...), and `meta.json`.
"""

import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from mtlkit import files
from mtlkit.data.base import Samples
from mtlkit.data.sources import VERSION, Size, Source
from mtlkit.errors import MtlkitError

RESIDENT = 4 * 2**30
"""Bytes of maps that each of the four sets may take on the device."""


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, per channel, in [0, 1]: what pretrained encoders expect."""


@dataclass(frozen=True)
class Maps:
    """A data set at hand: for train and test the fields (M, ...) by name, and `present` (M, T), which maps hold any
    label, T in the order of the benchmark's fields."""

    variant: str
    checksum: str
    of: dict[str, dict[str, Tensor]]


@dataclass
class Stored:
    """One of the four sets, N samples of T tasks, whose maps lie on disk or, where they fit, on the device; the batches
    are the same either way.

    Attributes:
        maps: Fields (M, ...) by name, `image` (M, 3, H, W) uint8 among them.
        rows: (N,) int64, which of them are the samples; on the device of the maps.
        targets: Names of the T tasks' fields, the main task's first.
        partners: (T, N) int64, whose labels a sample has: its own number, or, where they are wrong, another one's.
        groups, flipped, mass: (T, N), as in `Samples`; mass is 0 where a map holds no label at all, else 1.
        statistics: (2, 3, 1, 1), mean and standard deviation of the channels.
        resident: So many bytes may move to the device; more are read from disk batch by batch, for which a GPU waits.
    """

    maps: dict[str, Tensor]
    rows: Tensor
    targets: tuple[str, ...]
    partners: Tensor
    groups: Tensor
    flipped: Tensor
    mass: Tensor
    statistics: Tensor
    resident: int = RESIDENT

    @classmethod
    def of(cls, maps: dict[str, Tensor], rows: Tensor, targets: Mapping[str, int], resident: int) -> "Stored":
        """The samples at `rows`, clean and without groups; `targets`, columns of `maps["present"]` by field."""
        mass = maps["present"][rows][:, list(targets.values())].T.float().contiguous()
        own = torch.arange(len(rows)).repeat(len(targets), 1)
        return cls({name: maps[name] for name in ("image", *targets)}, rows, tuple(targets), own,
                   torch.zeros_like(own), torch.zeros_like(own, dtype=torch.bool), mass,
                   torch.tensor([MEAN, STD])[..., None, None], resident)  # fmt: skip

    def __len__(self) -> int:
        """Number of samples N."""
        return len(self.rows)

    def to(self, device: torch.device | str) -> "Stored":
        """The same set, for batches on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("groups", "flipped", "mass", "statistics")}
        if sum(values[:1].nbytes for values in self.maps.values()) * len(self) > self.resident:
            return replace(self, **moved)
        maps = {name: values.index_select(0, self.rows).to(device) for name, values in self.maps.items()}
        return replace(self, maps=maps, rows=torch.arange(len(self), device=device), partners=self.partners.to(device),
                       **moved)  # fmt: skip

    def join(self, other: "Stored") -> "Stored":
        """This set followed by `other`; both are cut from the same maps."""
        if self.targets != other.targets or any(other.maps[name] is not self.maps[name] for name in self.maps):
            raise MtlkitError("the two sets are not cut from the same maps for the same tasks: they cannot be joined.")
        along = {name: torch.cat((getattr(self, name), getattr(other, name)), -1)
                 for name in ("rows", "groups", "flipped", "mass")}  # fmt: skip
        return replace(self, partners=torch.cat((self.partners, other.partners + len(self)), 1), **along)

    def spoilt(self, share: float, tasks: Sequence[int], random: torch.Generator) -> "Stored":
        """The same set, in which a share of the samples, other ones for each of these tasks, has the labels of another
        sample. With equally seeded generators those that are spoilt at a small share are so at larger ones too."""
        partners, count = self.partners.clone(), len(self)
        for task in tasks:
            chosen = torch.randperm(count, generator=random)[: round(share * count)]
            apart = torch.randint(1, max(count, 2), (count,), generator=random)
            partners[task, chosen] = (chosen + apart[chosen]) % count
        flipped = partners != torch.arange(count)
        return replace(self, partners=partners, flipped=flipped, mass=self.mass.gather(1, partners))

    def take(self, index: Tensor) -> Samples:
        """The samples at `index` (B,) int64: images (B, 3, H, W) float32, standardised per channel; labels
        (B, H, W) int64; measurements (B, channels, H, W) float32."""
        device, at, index = self.mass.device, index.to(self.rows.device), index.to(self.mass.device)
        rows = [self.rows[at], *self.rows[self.partners[:, at]]]
        image, *targets = (self.maps[name].index_select(0, row).to(device)
                           for name, row in zip(("image", *self.targets), rows, strict=True))  # fmt: skip
        mean, std = self.statistics
        return Samples((image.float() / 255 - mean) / std,
                       tuple(t.float() if t.is_floating_point() else t.long() for t in targets),
                       *(each.index_select(1, index) for each in (self.groups, self.flipped, self.mass)),
                       index)  # fmt: skip


def prepare(source: Source, size: Size, folder: Path) -> Path:
    """Write the prepared set of a source below `folder`, unless it is there; returns its own folder.

    It is written whole or not at all; of several processes that want it one writes and the others wait.

    Raises:
        MtlkitError: A fault in the source, which it names, or the writing fails.
    """
    try:
        target = folder / f"{source.variant}-{size[0]}x{size[1]}-{source.fingerprint()}"
        part = folder / f".{target.name}.part"
        with files.alone(folder / f".{target.name}.lock"):
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


def _write(source: Source, size: Size, folder: Path) -> None:
    digest = hashlib.sha256()
    for split, items in source.items.items():
        (folder / split).mkdir(parents=True)
        with ExitStack() as stack:
            opened: dict[str, BinaryIO] = {}
            for row in source.rows(split, size, digest.update):
                for name, array in row.items():
                    if name not in opened:
                        opened[name] = stack.enter_context((folder / split / f"{name}.npy").open("wb"))
                        head = {"descr": array.dtype.str, "fortran_order": False, "shape": (len(items), *array.shape)}
                        np.lib.format.write_array_header_1_0(opened[name], head)
                    opened[name].write(array.tobytes())  # through a memory map, a full disk would kill the process
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
        there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.npy")}
        counts = {f"{split}/{name}.npy": len(maps) for split, fields in of.items() for name, maps in fields.items()}
        if there != counts.keys() or any(counts[name] != meta["sizes"][name.partition("/")[0]] for name in counts):
            raise ValueError("meta.json is of other arrays")
        return Maps(str(meta["variant"]), str(meta["checksum"]), of)
    except Exception as error:  # meta.json and the heads of arrays can hold anything
        raise MtlkitError(f"{folder} is damaged ({error}): delete it, and it is prepared again.") from error


def in_memory(source: Source, size: Size) -> Maps:
    """The maps of a source that is not worth a place on disk."""
    digest, of = hashlib.sha256(), {}
    for split in source.items:
        rows = list(source.rows(split, size, digest.update))
        of[split] = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
    return Maps(source.variant, digest.hexdigest()[:16], of)
