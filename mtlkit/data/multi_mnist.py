"""Multi-MNIST: two overlapping digits in one image, a task for each (Sabour et al. 2017; Sener & Koltun 2018).

MNIST: LeCun et al. 1998. The release of SLGrad resizes by cutting the flat array, which scrambles the images; here the
published nearest-neighbour reduction is done.
"""

import gzip
import sys
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit import paths
from mtlkit.data.base import Dataset, Samples, checksum, generator, sizes
from mtlkit.data.noise import KINDS, check_rate
from mtlkit.errors import MtlkitError, one_of

URL = "http://yann.lecun.com/exdb/mnist/"
PREPARE = "python -m mtlkit data prepare mnist"
MAIN = ("left", "right")
NOISY = ("main", "auxiliary", "all")
UNRELATED = ("none", "random", "parity")
SIZES = {"train": 15_000, "reference": 5_000, "tuning": 5_000, "test": 10_000}
"""The published sizes; tuning is cut from the 40,000 images that the release drops."""

STAND_IN = {"train": 800, "reference": 200, "tuning": 200, "test": 397}
CANVAS, SIDE, OFFSET = 36, 28, 6
MEAN, STD = 0.1307, 0.3081


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    main: str = "left",
    noise_kind: str = "uniform",
    noise: float = 0.0,
    noisy_tasks: str = "main",
    unrelated: str = "none",
    train: int = 0,
    published: bool = False,
) -> Dataset:
    """15,000 train, 5,000 reference, 5,000 tuning and 10,000 test images of two digits, as (1, 28, 28).

    Every image is a digit at the upper left and a random partner of the same set at the lower right of a 36 x 36
    canvas, their pixel-wise maximum, reduced to 28 x 28. The digits are split first, so that no two sets share one; the
    tuning and test sets are the same for every seed. With `published` images are composed before they are split, as in
    the papers: sets then share digits.

    Args:
        source: `real`; `builtin`, scikit-learn's digits, 800 / 200 / 200 / 397; `auto`, real where it is found, else
            the digits, which a line on stderr says. Real data are torchvision's folder `MNIST` below `data_root`.
        main: The digit of the main task, `left` or `right`; the other one is the auxiliary task.
        noise_kind: `uniform`, a label is replaced by another class drawn evenly with probability `noise` in [0, 1];
            `background`, by class 0.
        noisy_tasks: Noise enters train alone, on the `main` task, the `auxiliary` ones or `all`.
        unrelated: A third task that has nothing to do with the main one: `random` labels 0 to 9, or the `parity` of the
            auxiliary digit; `none`.
        train: So many training images, 1 to 15,000; 0 for all.

    Raises:
        MtlkitError: A setting outside these, or missing files.
    """
    for name, value, choices in (("source", source, ("auto", "real", "builtin")), ("main", main, MAIN),
                                 ("noise_kind", noise_kind, KINDS), ("noisy_tasks", noisy_tasks, NOISY),
                                 ("unrelated", unrelated, UNRELATED)):  # fmt: skip
        one_of(name, value, choices)
    check_rate(noise)
    variant, pixels, labels, count = _source(source, data_root)
    if not 0 <= train <= count["train"]:
        raise MtlkitError(f"train is {train}, but there are {count['train']} training images; 0 takes all.")
    pools = _pools(seed, len(labels), count, published)
    names = [main, MAIN[1 - MAIN.index(main)], *([] if unrelated == "none" else [unrelated])]
    splits = {}
    for name, (left, right) in pools.items():
        if name == "train" and train:
            left, right = left[:train], right[:train]
        digits = {"left": labels[left], "right": labels[right]}
        extra = {
            "none": [],
            "parity": [digits[names[1]] % 2],
            "random": [torch.randint(10, left.shape, generator=generator(seed, f"random {name}"))],
        }[unrelated]
        targets = torch.stack([digits[names[0]], digits[names[1]], *extra])
        splits[name] = Samples(_compose(pixels[left], pixels[right]), targets, targets.clone())
    _spoil(splits["train"], noise, noise_kind, noisy_tasks, generator(seed, "noise"))
    where = {"main": "the main task", "auxiliary": "the auxiliary tasks", "all": "all tasks"}[noisy_tasks]
    facts = {
        "sizes": sizes(**splits),
        "composed": "before the split" if published else "after the split",
        "wrong_main_labels": int(splits["train"].flipped[0].sum()),
        "noise": f"{noise_kind} {noise} on {where}" if noise else "none",
    }
    named = [f"{name} digit" if name in MAIN else name for name in names]
    return Dataset("multi_mnist", variant, checksum(pixels, labels), named, "multiclass", **splits, facts=facts)


def prepare(data_root: str = "") -> Path:
    """Download MNIST through torchvision, which checks it; returns its folder.

    Unpacked files that are not whole, because unpacking was interrupted, are unpacked again: torchvision would not.

    Raises:
        MtlkitError: The download or the writing fails.
    """
    from torchvision.datasets import MNIST

    root = paths.data_root(data_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for path, shape in _files(root):
            if path.is_file() and not _is_whole(path, shape):
                path.unlink()
        MNIST(str(root), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        said = " ".join(str(error).split())
        raise MtlkitError(f"MNIST could not be downloaded to {root}: {said}.") from error
    return root / "MNIST"


def status(data_root: str = "") -> dict[str, Any]:
    """Whether MNIST is below the data root, and how to get it; `problem` tells of damage."""
    root, problem = paths.data_root(data_root), None
    try:
        found = _read(root) is not None
    except MtlkitError as error:
        found, problem = False, str(error)
    folder = root / "MNIST" / "raw"
    return {
        "name": "mnist",
        "found": found,
        "variant": "mnist" if found else None,
        "path": str(folder) if folder.is_dir() else None,
        "problem": problem,
        "source_url": URL,
        "licence": "CC BY-SA 3.0",
        "how_to_prepare": PREPARE,
    }


def _source(source: str, data_root: str) -> tuple[str, Tensor, Tensor, dict[str, int]]:
    """Variant, pixels (N, 28, 28) in [0, 1], classes (N,), and the sizes of the four sets; test images come last."""
    root = paths.data_root(data_root)
    found = None if source == "builtin" else _read(root)
    if found is not None:
        return "mnist", *found, SIZES
    if source == "real":
        raise MtlkitError(f"MNIST is not below {root}: there is no folder MNIST/raw with its four files; `{PREPARE}` "
                          "downloads it to the data root (parameter data_root or environment variable MTLKIT_DATA), "
                          "and source: builtin does without.")  # fmt: skip
    if source == "auto":
        line = f"MNIST is not below {root}: using scikit-learn's DIGITS as a stand-in (source: auto)."
        print(f"NOTE: {line} `{PREPARE}` fetches the real data.", file=sys.stderr)
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    small = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    images = torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
    return "digits", images, torch.tensor(classes), STAND_IN


def _read(root: Path) -> tuple[Tensor, Tensor] | None:
    """All 70,000 digits, the test images last; None where they are not."""
    if not (root / "MNIST" / "raw").is_dir():
        return None
    arrays = [_array(path, shape) for path, shape in _files(root)]
    images, classes = torch.cat(arrays[:2]), torch.cat(arrays[2:])
    if list(map(len, arrays[:2])) != list(map(len, arrays[2:])) or classes.max() > 9:
        raise MtlkitError(f"the files in {root / 'MNIST' / 'raw'} do not hold a digit 0 to 9 for every image; delete "
                          f"them and run `{PREPARE}`.")  # fmt: skip
    if len(images) < sum(SIZES.values()):
        raise MtlkitError(f"{root / 'MNIST' / 'raw'} has {len(images)} images; expected are MNIST's 70000.")
    return images.float() / 255, classes.long()


def _files(root: Path) -> list[tuple[Path, tuple[int, ...]]]:
    """MNIST's four unpacked files and the shape of one of their items: images, then labels."""
    return [(root / "MNIST" / "raw" / f"{part}-{kind}", shape)
            for kind, shape in (("images-idx3-ubyte", (SIDE, SIDE)), ("labels-idx1-ubyte", ()))
            for part in ("train", "t10k")]  # fmt: skip


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return len(_array(path, shape)) > 0
    except MtlkitError:
        return False


def _array(path: Path, shape: tuple[int, ...]) -> Tensor:
    """An IDX file of bytes, as downloaded (.gz) or unpacked, (N, *shape)."""
    there = path if path.is_file() else path.with_name(f"{path.name}.gz")
    try:
        content = there.read_bytes() if there == path else gzip.decompress(there.read_bytes())
        sizes = np.frombuffer(content, ">i4", count=2 + len(shape))[1:].tolist()
        array = np.frombuffer(content, np.uint8, offset=4 * (2 + len(shape))).reshape(sizes)
        if array.shape[1:] != shape:
            raise ValueError(array.shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise MtlkitError(f"{there} cannot be read as MNIST ({type(error).__name__}); delete it and run "
                          f"`{PREPARE}`.") from None  # fmt: skip
    return torch.from_numpy(array.copy())


def _pools(seed: int, total: int, count: dict[str, int], published: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """For every set the indices of its left and right digits."""
    test, rest = count["test"], total - count["test"]
    draw = generator(seed, "split")
    fixed = torch.randperm(rest, generator=generator(0, "tuning digits"))
    mine = fixed[count["tuning"] :][torch.randperm(rest - count["tuning"], generator=draw)]
    pools = {
        "train": mine[: count["train"]],
        "reference": mine[count["train"] :][: count["reference"]],
        "tuning": fixed[: count["tuning"]],
        "test": torch.arange(rest, total)[:test],
    }
    pairs = {}
    for name, pool in pools.items():
        partners = generator(seed if name in ("train", "reference") else 0, f"partners {name}")
        among = torch.arange(rest) if published and name != "test" else pool
        pairs[name] = pool, among[torch.randint(len(among), pool.shape, generator=partners)]
    return pairs


def _compose(left: Tensor, right: Tensor) -> Tensor:
    """(N, 1, 28, 28), standardised: the maximum of both on the canvas, every 36/28-th pixel of it."""
    canvas = torch.zeros(len(left), CANVAS, CANVAS)
    canvas[:, :SIDE, :SIDE] = left
    canvas[:, OFFSET : OFFSET + SIDE, OFFSET : OFFSET + SIDE] = torch.maximum(
        canvas[:, OFFSET : OFFSET + SIDE, OFFSET : OFFSET + SIDE], right
    )
    nearest = torch.from_numpy(np.arange(SIDE) * CANVAS // SIDE)
    return ((canvas[:, nearest][:, :, nearest] - MEAN) / STD)[:, None].contiguous()


def _spoil(samples: Samples, rate: float, kind: str, noisy: str, draws: torch.Generator) -> None:
    """Replaces labels of the noisy tasks; equally seeded, those replaced at a small rate are so at larger ones too."""
    for task in range(len(samples.targets)):
        classes = int(samples.targets[task].max()) + 1
        chosen = torch.rand(len(samples), generator=draws, dtype=torch.float64) < rate
        shift = torch.randint(1, classes, (len(samples),), generator=draws)
        if noisy != "all" and (noisy == "main") != (task == 0):
            continue
        clean = samples.targets[task].clone()
        new = (clean + shift) % classes if kind == "uniform" else torch.zeros_like(clean)
        samples.targets[task] = torch.where(chosen, new, clean)
        samples.flipped[task] = samples.targets[task] != clean
        samples.groups[task] = samples.targets[task]
