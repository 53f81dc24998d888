"""CIFAR-10 as ten one-against-rest tasks, with random flips or with the human labels of CIFAR-10N.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html; Wei et al. 2022 (CIFAR-10N), http://noisylabels.com.
"""

import os
import sys
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mtlkit import paths
from mtlkit.data import digits
from mtlkit.data import noise as label_noise
from mtlkit.data.base import BLOCK, Dataset, checksum, one_against_rest
from mtlkit.errors import MtlkitError, one_of

URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
PREPARE = "python -m mtlkit data prepare cifar10"
OFFICIAL = "cifar10-official"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUMAN = {
    "human_aggre": "aggre_label",
    "human_random1": "random_label1",
    "human_random2": "random_label2",
    "human_random3": "random_label3",
    "human_worse": "worse_label",
}
PUBLISHED_TEST = 2000
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)


class Source(NamedTuple):
    """All images (N, 32, 32, 3) and classes (N,) in 0..9 at hand, uint8, in the order of the source."""

    variant: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    tasks: int = 10,
    main_class: int = 0,
    noise_kind: str = "uniform",
    noise: float = 0.0,
    noisy_tasks: str = "main",
    reference_size: int = 0,
    reference_noise: float = 0.0,
    test_images: str = "all",
) -> Dataset:
    """800 train, 200 reference and 1000 tuning images, and the test images, as (3, 32, 32).

    The training images are cut, in the official order, into blocks of 1000. Seed k takes block k modulo the number of
    blocks but one and permutes it into train and reference; the last block is for tuning. Block 0 is the published one.

    Args:
        source: `real`; `builtin`, scikit-learn's digits; `auto`, real where it is found, else the digits, which a line
            on stderr says. Real data are `cifar10.npz` below `data_root`, else torchvision's folder
            `cifar-10-batches-py`.
        noise_kind: `uniform` or `background` flips of a fraction `noise` in [0, 1] of the labels; or `human_aggre`,
            `human_random1` to `human_random3`, `human_worse` from `cifar10n.npz`, where `noise` is ignored. Noise
            enters train alone, on the main task or on all (`noisy_tasks`).
        reference_size: 1..200 reference images, 0 for all.
        reference_noise: Probability in [0, 1] of flips there.
        tasks: 1..10.
        main_class: 0..9.
        test_images: `all` at hand or the `published` first 2000.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    one_of("source", source, ("auto", "real", "builtin"))
    one_of("noise_kind", noise_kind, (*label_noise.KINDS, *HUMAN))
    one_of("test_images", test_images, ("all", "published"))
    settings = dict(seed=seed, tasks=tasks, main_class=main_class, noise_kind=noise_kind, noise=noise)
    settings |= dict(noisy_tasks=noisy_tasks, reference_size=reference_size, reference_noise=reference_noise)
    root = paths.data_root(data_root)
    data = None if source == "builtin" else _read(root)
    if data is None and source == "real":
        raise MtlkitError(
            f"CIFAR-10 is not below {root}: there is neither cifar10.npz nor cifar-10-batches-py; "
            f"it comes from {URL} through torchvision, `{PREPARE}` downloads it to the data root "
            "(parameter data_root or environment variable MTLKIT_DATA), and source: builtin does without."
        )
    if data is None and noise_kind in HUMAN:
        raise MtlkitError(
            f"noise_kind is {noise_kind!r}, but human labels exist for CIFAR-10 only and the stand-in would be used: "
            f"give source: real and a data root with cifar10.npz (`{PREPARE}`) and cifar10n.npz."
        )
    if data is None:
        if source == "auto":
            line = f"CIFAR-10 is not below {root}: using scikit-learn's DIGITS as a stand-in (source: auto)."
            print(f"NOTE: {line} `{PREPARE}` fetches the real data.", file=sys.stderr)
        return digits.load(**settings)

    last = len(data.x_train) // BLOCK - 1
    number = seed % last
    blocks = [slice(k * BLOCK, (k + 1) * BLOCK) for k in (number, last)]
    human = _human_labels(root, noise_kind, data.y_train, blocks[0]) if noise_kind in HUMAN else None
    if test_images == "published" and len(data.x_test) < PUBLISHED_TEST:
        raise MtlkitError(f"test_images: published needs 2000 test images, but there are {len(data.x_test)}; use all.")
    test = slice(PUBLISHED_TEST if test_images == "published" else None)
    pairs = [(data.x_train[block], data.y_train[block]) for block in blocks] + [(data.x_test[test], data.y_test[test])]
    return one_against_rest(
        *((torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)) for x, y in pairs),
        name="cifar10",
        variant=data.variant,
        source_checksum=checksum(*data[1:]),
        classes=CLASSES,
        block_number=number,
        human=human,
        **settings,
    )


def prepare(data_root: str = "") -> Path:
    """Download CIFAR-10 through torchvision, which checks it, and write `cifar10.npz`; returns its path.

    What is already there is not downloaded again.

    Raises:
        MtlkitError: The download or the writing fails, or an archive with other images would be replaced.
    """
    from torchvision.datasets import CIFAR10

    root = paths.data_root(data_root)
    path = root / "cifar10.npz"
    if path.exists():
        found = _read_archive(path).variant
        if found != OFFICIAL:
            raise MtlkitError(f"{path} holds {found}, which is not replaced: move it away or choose another data root.")
        return path
    try:
        root.mkdir(parents=True, exist_ok=True)
        CIFAR10(str(root), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise MtlkitError(f"CIFAR-10 could not be downloaded from {URL} to {root}: {error}.") from error
    arrays = _read_torchvision(root)._asdict() | {"source": f"CIFAR-10, official, from {URL}"}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)
    except OSError as error:
        raise MtlkitError(f"{path} could not be written: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def status(data_root: str = "") -> dict[str, Any]:
    """Whether CIFAR-10 is below the data root, as which variant, and how to get it; `problem` tells of damage."""
    root = paths.data_root(data_root)
    data, problem = None, None
    try:
        data = _read(root)
    except MtlkitError as error:
        problem = str(error)
    path = next((p for p in (root / "cifar10.npz", root / "cifar-10-batches-py") if p.exists()), None)
    return {
        "name": "cifar10",
        "found": data is not None,
        "variant": data.variant if data else None,
        "path": str(path) if path else None,
        "problem": problem,
        "source_url": URL,
        "licence": "none stated by the authors; for research",
        "how_to_prepare": PREPARE,
    }


def _read(root: Path) -> Source | None:
    """The prepared archive, else torchvision's folder, else None."""
    if (root / "cifar10.npz").exists():
        return _read_archive(root / "cifar10.npz")
    return _read_torchvision(root) if (root / "cifar-10-batches-py").exists() else None


def _read_torchvision(root: Path) -> Source:
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(str(root), train=train) for train in (True, False))
    except (RuntimeError, OSError) as error:
        raise MtlkitError(
            f"{root / 'cifar-10-batches-py'} is incomplete or damaged (torchvision's checksums do not match): "
            f"delete it and run `{PREPARE}`."
        ) from error
    labels = (np.array(part.targets, dtype=np.uint8) for part in (train, test))
    return Source(
        OFFICIAL, np.ascontiguousarray(train.data), next(labels), np.ascontiguousarray(test.data), next(labels)
    )


def _arrays(path: Path, names: tuple[str, ...], expected: str) -> dict[str, np.ndarray]:
    """The arrays `names` of an archive and the texts beside them, if any; never unpickles."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            missing = [name for name in names if name not in archive.files]
            wanted = [name for name in (*names, "variant", "source") if name in archive.files]
            arrays = {name: archive[name] for name in wanted}
    except DAMAGED as error:
        raise MtlkitError(f"{path} is truncated or damaged; expected is a NumPy archive with {expected}.") from error
    except OSError as error:
        raise MtlkitError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zipfile and NumPy raise nearly anything for a file of another kind
        raise MtlkitError(
            f"{path} is not a NumPy archive or holds pickled objects; expected is a NumPy archive with {expected}."
        ) from error
    if missing:
        raise MtlkitError(f"{path} lacks {', '.join(missing)}; expected is a NumPy archive with {expected}.")
    return arrays


def _read_archive(path: Path) -> Source:
    names = ("x_train", "y_train", "x_test", "y_test")
    expected = (
        "x_train and x_test, uint8 (N, 32, 32, 3) with at least 2000 training images, and "
        f"y_train and y_test, whole numbers (N,) in 0..9, without pickled objects, as `{PREPARE}` writes it"
    )
    arrays = _arrays(path, names, expected)
    for part, least in (("train", 2 * BLOCK), ("test", 1)):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3) or len(x) < least:
            raise MtlkitError(f"x_{part} in {path} is {x.dtype} {x.shape}; expected is an archive with {expected}.")
        if not _are_classes(y) or len(y) != len(x):
            raise MtlkitError(
                f"y_{part} in {path} is {y.dtype} {y.shape} or leaves 0..9; expected is an archive with {expected}."
            )
    source = str(arrays.get("source", "")).lower()
    variant = str(arrays.get("variant", "cifar10-jpeg75" if "jpeg quality 75" in source else "cifar10-prepared"))
    if not variant.startswith("cifar10-"):
        raise MtlkitError(f"variant in {path} is {variant!r}, but the variants of CIFAR-10 start with 'cifar10-'.")
    return Source(variant, *(arrays[name].astype(np.uint8) for name in names))


def _are_classes(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size > 0 and 0 <= labels.min() <= labels.max() <= 9


def _human_labels(root: Path, noise_kind: str, clean: np.ndarray, block: slice) -> torch.Tensor:
    """The human-given classes (1000,) of one block, after a check that they belong to these images."""
    path = root / "cifar10n.npz"
    key = HUMAN[noise_kind]
    expected = f"clean_label and {key}, whole numbers (N,) in 0..9, for the first N training images in official order"
    if not path.exists():
        raise MtlkitError(
            f"noise_kind is {noise_kind!r}, but {path} is missing; expected is an archive with {expected}."
        )
    arrays = _arrays(path, ("clean_label", key), expected)
    reference, labels = arrays["clean_label"], arrays[key]
    if not _are_classes(labels) or len(labels) < BLOCK:
        raise MtlkitError(f"{key} in {path} is {labels.dtype} {labels.shape} or leaves 0..9; expected is {expected}.")
    if len(reference) != len(labels) or not np.array_equal(reference[: len(clean)], clean[: len(reference)]):
        raise MtlkitError(
            f"clean_label in {path} differs from the labels of the CIFAR-10 images at hand; "
            "expected are the labels of the same images in the same, official, order."
        )
    if block.stop > len(labels):
        raise MtlkitError(
            f"{path} covers the first {len(labels)} training images, but this seed takes images {block.start} to "
            f"{block.stop - 1}: use seeds 0 to {len(labels) // BLOCK - 1} with human labels."
        )
    return torch.from_numpy(labels[block].astype(np.uint8))
