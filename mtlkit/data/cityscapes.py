"""CityScapes (Cordts et al. 2016): classes and disparity of street scenes at 128 x 256, from the archive of mtan
(Liu et al. 2019): 2975 images for training, 500 for testing."""

import numpy as np

from mtlkit.data import sources
from mtlkit.data.base import Dataset
from mtlkit.data.benchmark import Benchmark
from mtlkit.data.sources import Field
from mtlkit.data.stored import RESIDENT
from mtlkit.errors import MtlkitError

CLASSES = (7, 19)


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    main: str = "segmentation",
    classes: int = 7,
    split: str = "2380/298/297/500",
    size: str = "128x256",
    augment: bool = False,
    noise: float = 0.0,
    noisy_tasks: str = "main",
    resident: int = RESIDENT,
) -> Dataset:
    """Images (3, H, W) with labels (H, W) 0..classes-1 or -1, and disparity (1, H, W), normalised, 0 where there is
    none.

    Args:
        source: `real`; `builtin`, rendered streets; `auto`, real where it is found, else the streets, which a line on
            stderr says. Real data lie in `cityscapes` below `data_root` and are converted once, into `prepared` beside
            it.
        main: The main task, `segmentation` or `disparity`.
        classes: 7, as published, or 19, which is a variant of its own and is not rendered.
        split: Numbers of images; `2975/500` is published, where the reference and tuning sets are part of train. Three
            and four as in `mtlkit.data.nyuv2.load`; the default, a fifth held out for reference and tuning, is a
            choice.
        augment, size, noise, noisy_tasks, resident: As there.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    return benchmark(classes).load(seed, source=source, data_root=data_root, main=main, split=split, size=size,
                                   augment=augment, noise=noise, noisy_tasks=noisy_tasks,
                                   resident=resident)  # fmt: skip


def benchmark(classes: int = 7) -> Benchmark:
    """CityScapes with 7 or 19 classes. Raises `MtlkitError` for another number."""
    if classes not in CLASSES:
        raise MtlkitError(f"classes is {classes!r}, but CityScapes is read with {' or '.join(map(str, CLASSES))}.")
    variant = "cityscapes-mtan" if classes == 7 else f"cityscapes-mtan-{classes}"
    fields = (
        Field(f"label_{classes}", "segmentation", np.int8, classes=classes),
        Field("depth", "disparity", np.float32, channels=1),
    )
    return Benchmark(
        name="cityscapes",
        title="CityScapes",
        url="https://www.cityscapes-dataset.com",
        licence="of the authors, for research alone",
        expected=f"cityscapes/{{train,val}}/{{image,label_{classes},depth}}/<k>.npy (mtan's archive)",
        find=lambda root: sources.mtan(root / "cityscapes", variant, fields),
        variants=(variant,),
        fields=fields,
        size=(128, 256),
        split="2380/298/297/500",
        stand_in="RENDERED streets" if classes == 7 else "",
        scene=("streets", "street"),
    )


prepare, status = benchmark().prepare, benchmark().status
