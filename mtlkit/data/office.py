"""Office-31, Office-Home and PACS: every domain is a task with images of its own, and all tasks have the same classes.

Saenko et al. 2010; Venkateswara et al. 2017, arXiv 1706.07522; Li et al. 2017, arXiv 1710.03077.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtlkit.data import domains
from mtlkit.data.base import Dataset, generator, sizes
from mtlkit.data.collection import Collection, noisy
from mtlkit.data.noise import check_rate
from mtlkit.data.pictures import Pictures, WholeImage, rgb, square
from mtlkit.data.separate import Separate
from mtlkit.data.sources import Item, Source
from mtlkit.data.stored import RESIDENT
from mtlkit.errors import MtlkitError, one_of
from mtlkit.order import Order

DOMAINS = {
    "office31": ("amazon", "dslr", "webcam"),
    "office_home": ("Art", "Clipart", "Product", "Real World"),
    "pacs": ("art_painting", "cartoon", "photo", "sketch"),
}
CLASSES = {"office31": 31, "office_home": 65, "pacs": 7}
TITLES = {"office31": "Office-31", "office_home": "Office-Home", "pacs": "PACS"}
URLS = {
    "office31": "https://faculty.cc.gatech.edu/~judy/domainadapt/",
    "office_home": "https://www.hemanthdv.org/officeHomeDataset.html",
    "pacs": "https://dali-dl.github.io/project_iccv2017.html",
}
TRAIN_ON = ("train", "trval")
IMAGES = (".jpg", ".jpeg", ".png")
CLASS = WholeImage("class", "class", np.int16)


def load(
    seed: int,
    *,
    dataset: str = "office31",
    source: str = "auto",
    data_root: str = "",
    main: str = "",
    size: int = 224,
    train_on: str = "train",
    reference: float = 0.1,
    noise: float = 0.0,
    noisy_tasks: str = "main",
    resident: int = RESIDENT,
) -> Dataset:
    """Sets of type `Separate`: for every domain images (3, size, size) and classes 0 .. C-1 of its own.

    Of the n images of a class and domain, 60 % of n, rounded down, are for training, 20 %, rounded down, for
    validation, and the others for testing. That gives the published sizes of Office-31 exactly, and by their sums it
    fits those of Office-Home. The published lists of images are not at hand: which images go where is drawn once, the
    same for every seed. The validation part is the tuning set; the reference set is cut from the training part by the
    seed, evenly over the classes.

    Args:
        dataset: `office31`, `office_home` or `pacs`.
        source: `real`; `builtin`, scikit-learn's digits drawn in as many ways as there are domains, see
            `mtlkit.data.domains`; `auto`, real where it is found, else the digits, which a line on stderr says. Real
            data are folders `<dataset>/<domain>/<class>` below `data_root`, as the archives hold them, and are
            converted once, into `prepared` beside them.
        main: The domain of the main task, by its name; empty for the first. Of the digits, the one at the same place.
        size: Pixels in each direction, 224 as published; images are squeezed where they are no squares.
        train_on: `train`, four disjoint sets; `trval`, as in the RLW release, the training part and the validation
            part: then the tuning set is no longer held out.
        reference: Share in (0, 1) of what is trained on that becomes the reference set.
        noise: Share in [0, 1] of the training images of every domain concerned whose class is replaced by another one,
            drawn evenly.
        noisy_tasks: `main`, `auxiliary` or `all` domains.
        resident: Bytes that each domain of each set may take on the device; larger ones are read from disk.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    one_of("dataset", dataset, DOMAINS)
    one_of("main", main or DOMAINS[dataset][0], DOMAINS[dataset])
    one_of("train_on", train_on, TRAIN_ON)
    spoilt = noisy(noisy_tasks, len(DOMAINS[dataset]))
    check_rate(noise)
    if not 0 < reference < 1:
        raise MtlkitError(f"reference is {reference}; expected is the share of the training images that become the "
                          "reference set, between 0 and 1.")  # fmt: skip
    maps = COLLECTIONS[dataset].at_hand(source, data_root, square(size))
    if maps is None:
        maps = domains.draw(size, len(DOMAINS[dataset]))
    names = list(maps.of)
    first = names[DOMAINS[dataset].index(main) if main else 0]
    order = [first, *(name for name in names if name != first)]
    classes = 1 + max(int(of["class"].max()) for of in maps.of.values())
    parts: dict[str, list[Pictures]] = {"train": [], "reference": [], "tuning": [], "test": []}
    for task, domain in enumerate(order):
        of = maps.of[domain]
        labels = of["class"].long()
        for name, rows in cut(labels, domain, seed, train_on, reference).items():
            part = Pictures.labelled(of["image"], rows, labels[rows][None], resident=resident)
            if name == "train" and task in spoilt:
                part = part.spoilt(noise, [0], generator(seed, f"noise {domain}"), classes)
            parts[name].append(part)
    splits = {name: Separate(of_all) for name, of_all in parts.items()}
    where = ", ".join(order[task] for task in spoilt)
    held_out = "four disjoint sets" if train_on == "train" else "tuning is part of train and reference"
    facts = {
        "sizes": sizes(**splits),
        "sizes_by_task": {name: list(split.sizes) for name, split in splits.items()},
        "split": f"60/20/20 of every class and domain, not by published lists; {held_out}",
        "size": f"{size}x{size}",
        "classes": classes,
        "block": None,
        "wrong_main_labels": int(splits["train"].flipped[0].sum()),
        "noise": f"another class for {noise} of the images: {where}" if noise else "none",
    }
    return Dataset("office", maps.variant, maps.checksum, order, "multiclass", **splits, facts=facts)


def cut(labels: Tensor, domain: str, seed: int, train_on: str, reference: float) -> dict[str, Tensor]:
    """Rows of the four sets of one domain, in order; labels (M,) int64.

    Raises:
        MtlkitError: A set would be empty.
    """
    draws = generator(0, f"split {domain}")
    parts: list[list[Tensor]] = [[], [], []]
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        count = len(members)
        shuffled = members[torch.randperm(count, generator=draws)]
        for part, rows in zip(parts, shuffled.split(published_sizes(count)), strict=True):
            part.append(rows)
    train, tuning, test = (torch.cat(part).sort().values for part in parts)
    pool = torch.cat((train, tuning)).sort().values if train_on == "trval" else train
    held = round(reference * len(pool))
    if not held or held == len(pool) or not len(tuning):
        raise MtlkitError(f"{domain} has {len(labels)} images: too few for train, reference, tuning and test sets with "
                          f"a reference of {reference}.")  # fmt: skip
    order = Order(len(pool), len(pool), generator(seed, f"reference {domain}"), labels[pool]).take(1)[0]
    return {"train": pool[order[held:].sort().values], "reference": pool[order[:held].sort().values],
            "tuning": tuning, "test": test}  # fmt: skip


def published_sizes(count: int) -> list[int]:
    """Training, validation and test images of a class of `count`."""
    return [count * 3 // 5, count // 5, count - count * 3 // 5 - count // 5]


def _find(root: Path, dataset: str) -> Source | None:
    """The folders of a data set; None where there is none of its own."""
    base, names = root / dataset, DOMAINS[dataset]
    if not base.is_dir():
        return None
    there = {_plain(path.name): path for path in base.iterdir() if path.is_dir()}
    missing = [name for name in names if _plain(name) not in there]
    if missing:
        raise MtlkitError(f"{base / missing[0]} is missing; expected is one folder for each of {', '.join(names)}.")
    folders = {name: there[_plain(name)] for name in names}
    folders = {name: path / "images" if (path / "images").is_dir() else path for name, path in folders.items()}
    classes = _classes(dataset, base, folders)
    items: dict[str, list[Item]] = {}
    for name, folder in folders.items():
        items[name] = []
        for k, within in enumerate(folder / one for one in classes):
            found = sorted(path for path in within.iterdir()
                           if path.suffix.lower() in IMAGES and not path.name.startswith("."))  # fmt: skip
            if not found:
                raise MtlkitError(f"{within} holds no images; expected are files {', '.join(IMAGES)}.")
            items[name] += [{"image": path, "class": k} for path in found]
    files = [*there.values(), *(item["image"] for part in items.values() for item in part)]
    return Source(dataset, (CLASS,), items, _read, files)


def _classes(dataset: str, base: Path, folders: Mapping[str, Path]) -> Sequence[str]:
    """The names of the classes, in order, after a check that all domains have them."""
    of = {name: {path.name for path in folder.iterdir() if path.is_dir()} for name, folder in folders.items()}
    every = sorted(set().union(*of.values()))
    for name, folder in folders.items():
        missing = [one for one in every if one not in of[name]]
        if missing:
            raise MtlkitError(f"{folder / missing[0]} is missing, though other domains have this class; expected is "
                              "one folder per class in every domain.")  # fmt: skip
    if len(every) != CLASSES[dataset]:
        raise MtlkitError(f"the domains below {base} have {len(every)} classes; expected are the {CLASSES[dataset]} of "
                          f"{TITLES[dataset]}.")  # fmt: skip
    return every


def _plain(name: str) -> str:
    """A folder's name as it is compared: people write `Real World` with a space, an underscore or neither."""
    return "".join(filter(str.isalnum, name)).lower()


def _read(item: Item) -> dict[str, np.ndarray]:
    return {"image": rgb(item["image"]), "class": np.array(item["class"])}


COLLECTIONS = {
    name: Collection(
        name=name,
        title=TITLES[name],
        url=URLS[name],
        licence="none stated by the authors; for research",
        expected=f"{name}/<domain>/<class>/*.jpg or *.png with the domains {', '.join(DOMAINS[name])}",
        find=partial(_find, dataset=name),
        variants=(name,),
        fields=(CLASS,),
        size=(224, 224),
        stand_in="DRAWN digits",
    )
    for name in DOMAINS
}
"""What `python -m mtlkit data` knows: each can be prepared, and asked for its status."""
