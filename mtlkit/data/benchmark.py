"""How a data set with maps for labels is rendered where it is not at hand, and split.

NYUv2, CityScapes and PASCAL-Context differ in their `Benchmark` alone.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.augment import Batch, scale_and_flip
from mtlkit.data.base import Dataset, Samples, generator, sizes
from mtlkit.data.collection import Collection, noisy
from mtlkit.data.noise import check_rate
from mtlkit.data.sources import Field, Item, Size, Source, eight_bits
from mtlkit.data.stored import Maps, Stored, in_memory
from mtlkit.errors import MtlkitError, one_of

KINDS = {"depth": "depth", "disparity": "inverse_depth", "normals": "normal"}
"""How augmentation treats the maps of a task that are no labels."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(Collection):
    """A data set with maps for labels, and how it is split.

    Attributes:
        split: The default one, as in `cut`.
        scene: Variant and scene of what `mtlkit.data.rooms` renders as the stand-in.
        augment: Changes a batch of images and targets at random.
    """

    split: str
    scene: tuple[str, str]
    augment: Callable[..., Batch] = scale_and_flip

    def load(self, seed: int, *, source: str, data_root: str, main: str, split: str, size: str, augment: bool,
             noise: float, noisy_tasks: str, resident: int) -> Dataset:  # fmt: skip
        """The four sets, as the loaders document them."""
        tasks = {field.task: field for field in self.fields}
        one_of("main", main, tasks)
        spoilt = noisy(noisy_tasks, len(tasks))
        check_rate(noise)
        pixels = self._pixels(size)
        counts = self._counts(split or self.split)
        maps = self.at_hand(source, data_root, pixels)
        origin = "drawn from the images in their order, not by published lists"
        if maps is None:
            maps, origin = self._rendered(counts, pixels, seed), "rendered, test the same for every seed"
        at_hand = {part: len(of["image"]) for part, of in maps.of.items()}
        rows, told = cut(counts, at_hand, seed, self.title)
        order = [tasks[main], *(field for field in self.fields if field.task != main)]
        targets = {field.name: self.fields.index(field) for field in order}
        splits = {name: Stored.of(maps.of["test" if name == "test" else "train"], at, targets, resident)
                  for name, at in rows.items()}  # fmt: skip
        splits["train"] = splits["train"].spoilt(noise, spoilt, generator(seed, "noise"))
        told_noise = f"another image's labels for {noise} of the images: {', '.join(order[k].task for k in spoilt)}"
        facts = {"sizes": sizes(**splits), "split": f"{told}; {origin}", "size": f"{pixels[0]}x{pixels[1]}",
                 "block": None, "outputs": {field.task: field.outputs or field.classes or field.channels
                                            for field in order},
                 "wrong_main_labels": int(splits["train"].flipped[0].sum()),
                 "noise": told_noise if noise else "none"}  # fmt: skip
        return Dataset(self.name, maps.variant, maps.checksum, [field.task for field in order], "dense", **splits,
                       facts=facts, augment=self._augmented(order) if augment else None)  # fmt: skip

    def _augmented(self, order: Sequence[Field]) -> Callable[[Samples, torch.Generator], Samples]:
        kinds = [KINDS.get(field.task, "label") for field in order]

        def augmented(batch: Samples, random: torch.Generator) -> Samples:
            inputs, targets = self.augment(batch.inputs, batch.targets, kinds, random)
            return replace(batch, inputs=inputs, targets=targets)

        return augmented

    def _rendered(self, counts: list[int], size: Size, seed: int) -> Maps:
        """Scenes of the stand-in: others for every seed, but for the test set."""
        from mtlkit.data import rooms

        if min(counts) < 1:
            raise MtlkitError("split has a 0, which stands for all images left, but rendered scenes have no end; "
                              "expected are numbers from 1.")  # fmt: skip
        variant, scene = self.scene

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
