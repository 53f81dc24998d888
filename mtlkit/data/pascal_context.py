"""PASCAL-Context for four tasks: segmentation with 21 classes, human parts with 7, saliency and surface normals, from
the archive PASCAL_MT that the release of RLW names; images become 512 x 512.

What the papers fix is the list of tasks, the numbers of classes and 512 x 512. Choices where they are silent:

- images of any shape are resized to H x W, so their aspect changes; nothing is padded;
- segmentation comes from `semseg/VOC12`, else from `semseg/pascal-context`, else from `semseg` itself;
- parts come from PASCAL-Part's annotations, `.mat`, of which persons count (head, torso, upper arms, lower arms,
  upper legs, lower legs; a hand is lower arm, a foot lower leg, the neck torso), or from `.png` with 0..6 and 255; an
  image without a person's part has no label;
- saliency is salient above one half;
- normals are 2 v / 255 - 1, made unit length, invalid where shorter than one half, in the axes of the archive; every
  pixel of the map counts;
- a file that is missing means that the image has no label for that task, unless all of them are.
"""

from pathlib import Path

import numpy as np

from mtlkit.data import sources
from mtlkit.data.augment import rotate_scale_and_flip
from mtlkit.data.base import Dataset
from mtlkit.data.benchmark import Benchmark
from mtlkit.data.sources import Field, Item, Source
from mtlkit.data.stored import RESIDENT
from mtlkit.errors import MtlkitError

URL = "https://data.vision.ee.ethz.ch/kmaninis/share/MTL/PASCAL_MT.tgz"
FIELDS = (
    Field("semseg", "segmentation", np.uint8, classes=21, ignore=255),
    Field("human_parts", "human_parts", np.uint8, classes=7, ignore=255),
    Field("saliency", "saliency", np.uint8, classes=2, ignore=255, outputs=1),
    Field("normal", "normals", np.float16, channels=3),
)
FILES = {
    "semseg": ("semseg/VOC12/{}.png", "semseg/pascal-context/{}.png", "semseg/{}.png"),
    "human_parts": ("human_parts/{}.mat", "human_parts/{}.png"),
    "saliency": ("sal_distill/{}.png",),
    "normal": ("normals_distill/{}.png",),
}
FOLDERS = ("JPEGImages", *(options[0].split("/")[0] for options in FILES.values()))
LISTS = {"train": "ImageSets/Context/train.txt", "test": "ImageSets/Context/val.txt"}
PARTS = {
    name: label
    for label, names in enumerate(
        (
            "head hair lear rear lebrow rebrow leye reye nose mouth",
            "torso neck",
            "luarm ruarm",
            "llarm rlarm lhand rhand",
            "luleg ruleg",
            "llleg rlleg lfoot rfoot",
        ),
        start=1,
    )
    for name in names.split()
}


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    main: str = "segmentation",
    split: str = "0/500/500/0",
    size: str = "512x512",
    augment: bool = False,
    noise: float = 0.0,
    noisy_tasks: str = "main",
    resident: int = RESIDENT,
) -> Dataset:
    """Images (3, H, W) with labels (H, W) 0..20, parts (H, W) 0..6 and saliency (H, W) 0 or 1, all three 255 where
    there is none, and normals (3, H, W), 0 where there is none. The mass of a sample without a label is 0.

    Args:
        source: `real`; `builtin`, rendered photographs; `auto`, real where it is found, else these, which a line on
            stderr says. Real data lie in `PASCAL_MT` below `data_root` and are converted once, into `prepared` beside
            it: 3 MB an image at 512 x 512.
        main: The main task, `segmentation`, `human_parts`, `saliency` or `normals`.
        split: Numbers of images, as in `mtlkit.data.nyuv2.load`; `0/0` trains and tests on all, as published. The
            default, 500 images each held out for reference and tuning, is a choice. Rendered scenes need numbers.
        size, noise, noisy_tasks, resident: As there.
        augment: Random rotation, scale and flips.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    return BENCHMARK.load(seed, source=source, data_root=data_root, main=main, split=split, size=size,
                          augment=augment, noise=noise, noisy_tasks=noisy_tasks, resident=resident)  # fmt: skip


def _find(root: Path) -> Source | None:
    root = root / "PASCAL_MT"
    if not (root / "JPEGImages").is_dir():
        return None
    there = {path.relative_to(root).as_posix() for folder in FOLDERS for path in (root / folder).rglob("*.*")}
    items = {split: [_item(root, name, there) for name in _names(root / path)] for split, path in LISTS.items()}
    for field, options in FILES.items():
        if not any(field in item for part in items.values() for item in part):
            raise MtlkitError(f"{root / options[0].format('*')} is missing: there is no file for {field}.")
    files = [*(root / path for path in LISTS.values()), *sources.every_file(items)]
    return Source("pascal-context", FIELDS, items, _read, files)


def _names(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (OSError, ValueError) as error:
        raise MtlkitError(f"{path} cannot be read ({type(error).__name__}); expected is a name per line.") from error


def _item(root: Path, name: str, there: set[str]) -> Item:
    """The image and the maps that it has."""
    image = f"JPEGImages/{name}.jpg"
    if image not in there:
        raise MtlkitError(f"{root / image} is missing, though ImageSets/Context lists it.")
    found = {field: next((path for path in (option.format(name) for option in options) if path in there), None)
             for field, options in FILES.items()}  # fmt: skip
    return {"image": root / image} | {field: root / path for field, path in found.items() if path}


def _read(item: Item) -> dict[str, np.ndarray]:
    image = sources.read(item["image"])
    nothing = np.full(image.shape[:2], 255, np.uint8)
    arrays = {"image": image} | {name: nothing for name in FILES} | {"normal": np.zeros(image.shape)}
    for name in FILES.keys() & item.keys():
        path = item[name]
        array = _person_parts(path, image.shape[:2]) if path.suffix == ".mat" else sources.read(path)
        if name == "human_parts" and not ((array > 0) & (array < 255)).any():
            array = np.full_like(array, 255)
        if name == "saliency":
            array = np.where(array > 127, 1, 0)
        if name == "normal":
            vectors = array / 127.5 - 1
            length = np.linalg.norm(vectors, axis=-1, keepdims=True)
            array = np.where(length < 0.5, 0, vectors / np.maximum(length, 0.5))
        arrays[name] = array
    return arrays


def _person_parts(path: Path, size: sources.Size) -> np.ndarray:
    """Parts of all persons of an annotation, (H, W), 0 elsewhere."""
    from scipy.io import loadmat

    label = np.zeros(size, np.uint8)
    try:
        objects = np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["anno"].objects)
        for person in (one for one in objects if getattr(one, "class") == "person"):
            for part in np.atleast_1d(person.parts):
                label[part.mask > 0] = PARTS[part.part_name]
    except Exception as error:  # scipy raises nearly anything for a file of another kind
        raise MtlkitError(f"{path} cannot be read ({type(error).__name__}); expected is an annotation of "
                          "PASCAL-Part.") from error  # fmt: skip
    return label


BENCHMARK = Benchmark(
    name="pascal_context",
    title="PASCAL-Context",
    url=URL,
    licence="of the images and annotations' authors, for research",
    expected="the unpacked archive, PASCAL_MT/{JPEGImages,semseg,human_parts,sal_distill,normals_distill,ImageSets}",
    find=_find,
    variants=("pascal-context",),
    fields=FIELDS,
    size=(512, 512),
    split="0/500/500/0",
    stand_in="RENDERED photographs",
    scene=("photos", "photo"),
    augment=rotate_scale_and_flip,
)
prepare, status = BENCHMARK.prepare, BENCHMARK.status
