"""Small CIFAR-10 archives whose images carry their own number, for the tests of the loader."""

from pathlib import Path

import numpy as np

from mtlkit.data import cifar10
from mtlkit.data.base import Dataset, Samples

TRAIN_IMAGES, TEST_IMAGES = 3000, 2100
FIRST_TEST_ID = 10_000


def numbered_images(first: int, count: int) -> np.ndarray:
    """Images (N, 32, 32, 3) that carry their own number in two channels of a pixel, next to a black and a white one."""
    images = np.random.default_rng(first).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    ids = np.arange(first, first + count)
    images[:, 0, 0] = np.stack((ids // 256, ids % 256, ids % 7), axis=1)
    images[:, 0, 1], images[:, 0, 2] = 0, 255
    return images


def numbers(split: Samples) -> list[int]:
    """The numbers of a split's images, read back from the standardised inputs."""
    black, white = split.inputs[:, :, 0, 1], split.inputs[:, :, 0, 2]
    pixel = ((split.inputs[:, :, 0, 0] - black) / (white - black) * 255).round().long()
    return (pixel[:, 0] * 256 + pixel[:, 1]).tolist()


def content() -> dict[str, np.ndarray]:
    """The arrays of an archive of three blocks."""
    random = np.random.default_rng(0)
    return {
        "x_train": numbered_images(0, TRAIN_IMAGES),
        "y_train": random.integers(0, 10, TRAIN_IMAGES, dtype=np.uint8),
        "x_test": numbered_images(FIRST_TEST_ID, TEST_IMAGES),
        "y_test": random.integers(0, 10, TEST_IMAGES, dtype=np.uint8),
    }


def human_labels(clean: np.ndarray) -> dict[str, np.ndarray]:
    """CIFAR-10N for the first 2000 images, each set with another share of wrong labels."""
    clean, random = clean[:2000], np.random.default_rng(1)
    wrong = {"aggre": 0.1, "random": 0.2, "worse": 0.4}
    names = {"aggre_label": "aggre", "worse_label": "worse"} | {f"random_label{i}": "random" for i in (1, 2, 3)}
    shifts = {
        name: random.integers(1, 10, 2000) * (random.random(2000) < wrong[kind]) for name, kind in sorted(names.items())
    }
    return {"clean_label": clean} | {name: ((clean + shift) % 10).astype(np.uint8) for name, shift in shifts.items()}


def write(folder: Path, drop: tuple[str, ...] = (), **changes: object) -> Path:
    """A small archive of 2000 black images with some entries changed or dropped."""
    arrays = {
        "x_train": np.zeros((2000, 32, 32, 3), np.uint8),
        "y_train": np.arange(2000) % 10,
        "x_test": np.zeros((20, 32, 32, 3), np.uint8),
        "y_test": np.arange(20) % 10,
    }
    np.savez_compressed(folder / "cifar10.npz", **{k: v for k, v in (arrays | changes).items() if k not in drop})
    return folder / "cifar10.npz"


def real(folder: Path, seed: int = 0, **options: object) -> Dataset:
    """The real data below a folder, never the stand-in."""
    return cifar10.load(seed, source="real", data_root=str(folder), **options)
