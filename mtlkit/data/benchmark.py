"""How a data set with maps for labels is found, prepared, rendered where it is not at hand, and split.

NYUv2, CityScapes and PASCAL-Context differ in their `Benchmark` alone.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit import paths
from mtlkit.data.augment import Batch, scale_and_flip
from mtlkit.data.base import Dataset, Samples, generator, sizes
from mtlkit.data.noise import check_rate
from mtlkit.data.sources import Field, Item, Size, Source, eight_bits
from mtlkit.data.stored import Maps, Stored, in_memory, open_prepared, prepare
from mtlkit.errors import MtlkitError, one_of

NOISY = ("main", "auxiliary", "all")

KINDS = {"depth": "depth", "disparity": "inverse_depth", "normals": "normal"}
"""How augmentation treats the maps of a task that are no labels."""


@dataclass(frozen=True)
class Benchmark:
    """A data set with maps for labels, and how it is found and split.

    Attributes:
        name: Of the data set.
        title: As people call it.
        expected: The layouts that `find` knows, in words.
        find: `find(root) -> Source`, None where there is nothing.
        variants: What `find` may find, the first first.
        size: (H, W) of the benchmark.
        split: The default one.
        stand_in: Variant and scene of what `mtlkit.data.rooms` renders instead; None where it does not.
        augment: Changes a batch of images and targets at random.
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
    augment: Callable[..., Batch] = scale_and_flip

    def load(self, seed: int, *, source: str, data_root: str, main: str, split: str, size: str, augment: bool,
             noise: float, noisy_tasks: str, resident: int) -> Dataset:  # fmt: skip
        """The four sets, as the loaders document them."""
        tasks = {field.task: field for field in self.fields}
        one_of("source", source, ("auto", "real", "builtin"))
        one_of("main", main, tasks)
        one_of("noisy_tasks", noisy_tasks, NOISY)
        check_rate(noise)
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
        noisy = {"main": [0], "auxiliary": list(range(1, len(order))), "all": list(range(len(order)))}[noisy_tasks]
        splits["train"] = splits["train"].spoilt(noise, noisy, generator(seed, "noise"))
        where = ", ".join(order[task].task for task in noisy)
        spoilt = f"another image's labels for {noise} of the images: {where}" if noise else "none"
        facts = {"sizes": sizes(**splits), "split": f"{told}; {origin}", "size": f"{pixels[0]}x{pixels[1]}",
                 "block": None, "outputs": {field.task: field.outputs or field.classes or field.channels
                                            for field in order},
                 "wrong_main_labels": int(splits["train"].flipped[0].sum()),
                 "noise": spoilt}  # fmt: skip
        return Dataset(self.name, maps.variant, maps.checksum, [field.task for field in order], "dense", **splits,
                       facts=facts, augment=self._augmented(order) if augment else None)  # fmt: skip

    def _augmented(self, order: Sequence[Field]) -> Callable[[Samples, torch.Generator], Samples]:
        kinds = [KINDS.get(field.task, "label") for field in order]

        def augmented(batch: Samples, random: torch.Generator) -> Samples:
            inputs, targets = self.augment(batch.inputs, batch.targets, kinds, random)
            return replace(batch, inputs=inputs, targets=targets)

        return augmented

    def prepare(self, data_root: str = "") -> Path:
        """Convert the data set at its own size, unless that is done; returns the prepared set's folder."""
        root = paths.data_root(data_root)
        found = self.find(root)
        if found is None:
            raise self._missing(root)
        return prepare(found, self.size, folder_of(root))

    def status(self, data_root: str = "") -> dict[str, Any]:
        """Whether the data set is below the data root, as which variant, and how to get it; `problem` tells of
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
    """Where prepared sets lie: in `prepared` below the data root, or, where that is read-only, below the repository's
    `data`. A folder without write permission counts as read-only to a superuser too, who could write there."""
    writable = os.access(root, os.W_OK) and root.stat().st_mode & 0o222
    return (root if writable else paths.ROOT / "data") / "prepared"


def cut(counts: Sequence[int], at_hand: Mapping[str, int], seed: int, title: str) -> tuple[dict[str, Tensor], str]:
    """Rows of the four sets, in order, and how they overlap, in words.

    Args:
        counts: Of train/test, train/reference/test or train/reference/tuning/test; 0 is all that is left. All but the
            test set are drawn from train. With four numbers the sets are disjoint and the tuning set is the same for
            every seed, as the test set always is; with three the tuning set is the reference set; with two they are a
            fifth each of the train set, and not held out from it.
        at_hand: Images in train and test.

    Raises:
        MtlkitError: There are not so many images.
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
