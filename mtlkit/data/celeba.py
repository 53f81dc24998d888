"""CelebA: forty attributes of one face, a binary task each (Liu et al. 2015, arXiv 1411.7766), at 64 x 64."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mtlkit.data import faces
from mtlkit.data.base import Dataset, checksum, generator, sizes
from mtlkit.data.collection import Collection, noisy
from mtlkit.data.noise import check_rate
from mtlkit.data.pictures import Pictures, WholeImage, rgb, square
from mtlkit.data.sources import Item, Source
from mtlkit.data.stored import RESIDENT, Maps
from mtlkit.errors import MtlkitError, one_of

URL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
IMAGES, ATTRIBUTE_TABLE, PARTITION_TABLE = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
ATTRIBUTES = tuple("Attractive" if name == "Freckles" else name for name in faces.ATTRIBUTES)
PARTS = ("train", "validation", "test")
STAND_IN = (4000, 1000, 1000)
"""Drawn faces for training, validation and testing."""

FIELDS = (
    WholeImage("attributes", "attributes", np.int8, channels=len(ATTRIBUTES)),
    WholeImage("part", "part", np.int8),
)


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    main: str = ATTRIBUTES[0],
    tasks: int = len(ATTRIBUTES),
    size: int = 64,
    train: int = 0,
    noise: float = 0.0,
    noisy_tasks: str = "main",
    resident: int = RESIDENT,
) -> Dataset:
    """162,770 train, 9,933 reference, 9,934 tuning and 19,962 test images (3, size, size); labels 0 and 1, as float32.

    That is the official partition, whose 19,867 validation images are halved, once and for every seed: one half is the
    reference set, the other one the tuning set. The published runs select on all of them.

    Args:
        source: `real`; `builtin`, drawn faces, 4000 / 500 / 500 / 1000, see `mtlkit.data.faces`; `auto`, real where it
            is found, else the faces, which a line on stderr says. Real data lie in `celeba` below `data_root` as
            torchvision has them and are converted once, into `prepared` beside it (2.5 GB).
        main: The attribute of the main task, by CelebA's name; drawn faces have freckles in place of `Attractive`.
        tasks: 1..40, the main one and the first of the others in CelebA's order.
        size: Pixels in each direction, the published 64; images are squeezed from 178 x 218.
        train: So many training images, drawn by the seed; 0 for all.
        noise: Share in [0, 1] of the training images whose label is flipped, other ones for each of `noisy_tasks`.
        noisy_tasks: `main`, `auxiliary` or `all`.
        resident: Bytes that each set may take on the device; larger ones are read from disk.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    one_of("main", main, ATTRIBUTES)
    check_rate(noise)
    if tasks not in range(1, len(ATTRIBUTES) + 1):
        raise MtlkitError(f"tasks is {tasks}; expected is a number from 1 to {len(ATTRIBUTES)}.")
    spoilt = noisy(noisy_tasks, tasks)
    names, origin = ATTRIBUTES, "the official partition"
    maps = COLLECTION.at_hand(source, data_root, square(size))
    if maps is None:
        names, origin, maps = faces.ATTRIBUTES, "drawn, all but train the same for every seed", _drawn(seed, size)
    first = ATTRIBUTES.index(main)
    order = [first, *(k for k in range(len(names)) if k != first)][:tasks]
    of = maps.of["all"]
    parts = {part: (of["part"] == k).nonzero()[:, 0] for k, part in enumerate(PARTS)}
    if not 0 <= train <= len(parts["train"]):
        raise MtlkitError(f"train is {train}, but there are {len(parts['train'])} training images; 0 takes all.")
    chosen = torch.randperm(len(parts["train"]), generator=generator(seed, "split"))[: train or len(parts["train"])]
    validation = parts["validation"]
    fixed = torch.randperm(len(validation), generator=generator(0, "tuning images"))
    reference, tuning = fixed.tensor_split([len(validation) // 2])
    rows = {"train": parts["train"][chosen.sort().values], "reference": validation[reference.sort().values],
            "tuning": validation[tuning.sort().values], "test": parts["test"]}  # fmt: skip
    labels = of["attributes"].T.long()[order]
    splits = {name: Pictures.labelled(of["image"], at, labels[:, at], resident=resident, dtype=torch.float32)
              for name, at in rows.items()}  # fmt: skip
    splits["train"] = splits["train"].spoilt(noise, spoilt, generator(seed, "noise"))
    where = {"main": "the main task", "auxiliary": "the auxiliary tasks", "all": "all tasks"}[noisy_tasks]
    facts = {
        "sizes": sizes(**splits),
        "split": f"{origin}; validation images are halved into reference and tuning",
        "size": f"{size}x{size}",
        "block": None,
        "wrong_main_labels": int(splits["train"].flipped[0].sum()),
        "noise": f"the opposite label for {noise} of the images: {where}" if noise else "none",
    }
    named = [names[k] for k in order]
    return Dataset("celeba", maps.variant, maps.checksum, named, "binary", **splits, facts=facts)


def _drawn(seed: int, size: int) -> Maps:
    """The stand-in: other training faces for every seed. The checksum is that of the labels, which are the same on
    every machine to the last digit."""
    drawn = [faces.draw(count, size, k if k else len(PARTS) + seed) for k, count in enumerate(STAND_IN)]
    images, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    part = np.repeat(np.arange(len(PARTS), dtype=np.int8), STAND_IN)
    of = {"image": images, "attributes": labels.astype(np.int8), "part": part}
    return Maps("faces", checksum(labels), {"all": {name: torch.from_numpy(array) for name, array in of.items()}})


def _find(root: Path) -> Source | None:
    """torchvision's folder: aligned images and two tables; None where there is none of them."""
    folder = root / "celeba"
    files = [folder / ATTRIBUTE_TABLE, folder / PARTITION_TABLE, folder / IMAGES]
    if not any(path.exists() for path in files):
        return None
    missing = [path for path in files if not path.exists()]
    if missing:
        raise MtlkitError(f"{missing[0]} is missing; expected are {IMAGES}, {ATTRIBUTE_TABLE} and {PARTITION_TABLE}.")
    parts = _partition(files[1])
    attributes = cache(lambda: _attributes(files[0], parts))  # read when the images are, which is once

    def read(item: Item) -> dict[str, np.ndarray]:
        return {"image": rgb(item["image"]), "attributes": attributes()[item["image"].name],
                "part": np.array(item["part"])}  # fmt: skip

    items = {"all": [{"image": files[2] / name, "part": part} for name, part in parts.items()]}
    return Source("celeba", FIELDS, items, read, files)


def _partition(path: Path) -> dict[str, int]:
    """The part 0, 1 or 2 of every image, by its name and in the order of the table."""
    parts = {}
    for number, (name, *part) in _table(path):
        if part not in (["0"], ["1"], ["2"]):
            raise MtlkitError(f"{path}, line {number} is not the name of an image and 0, 1 or 2.")
        parts[name] = int(part[0])
    missing = [name for k, name in enumerate(PARTS) if k not in parts.values()]
    if missing:
        raise MtlkitError(f"{path} has no images for {missing[0]}: it is truncated or of another data set.")
    return parts


def _attributes(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """(40,) in {0, 1} for every image, by its name; the table has -1 and 1, and two lines before them."""
    table = _table(path)
    if len(table) < 2 or tuple(table[1][1]) != ATTRIBUTES:
        raise MtlkitError(f"{path} does not name the {len(ATTRIBUTES)} attributes of CelebA, in their order, in its "
                          "second line.")  # fmt: skip
    found = {}
    for number, (name, *values) in table[2:]:
        if len(values) != len(ATTRIBUTES) or not set(values) <= {"-1", "1"}:
            raise MtlkitError(f"{path}, line {number} is not the name of an image and {len(ATTRIBUTES)} times -1 or 1.")
        found[name] = np.array(values, np.int8).clip(0)
    missing = [name for name in names if name not in found]
    if missing:
        raise MtlkitError(f"{path} has no line for {missing[0]}, which {PARTITION_TABLE} names.")
    return found


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of every line with any."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MtlkitError(f"{path} cannot be read ({error}); expected is a table as text.") from error
    return [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]


COLLECTION = Collection(
    name="celeba",
    title="CelebA",
    url=URL,
    licence="for non-commercial research only; images are not to be shown or passed on",
    expected=f"celeba/{IMAGES}/*.jpg with celeba/{ATTRIBUTE_TABLE} and celeba/{PARTITION_TABLE}, as torchvision has "
    "them",
    find=_find,
    variants=("celeba",),
    fields=FIELDS,
    size=(64, 64),
    stand_in="DRAWN faces",
)
prepare, status = COLLECTION.prepare, COLLECTION.status
