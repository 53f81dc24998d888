"""NYUv2: 13 classes, depth and surface normals of indoor scenes (Silberman et al. 2012), at 288 x 384.

Three sources are read, and results of one never share a row with those of another: the archives of mtan (Liu et al.
2019), the authors' MATLAB file, and folders of JPEG images. The last two have no normals: they are derived from depth.
"""

from pathlib import Path

import numpy as np

from mtlkit.data import normals, sources
from mtlkit.data.base import Dataset
from mtlkit.data.benchmark import Benchmark
from mtlkit.data.sources import Field, Item, Source
from mtlkit.data.stored import RESIDENT
from mtlkit.errors import MtlkitError

URL = "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html"
CLASSES = ["bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv",
           "wall", "window"]  # fmt: skip
FIELDS = (
    Field("label", "segmentation", np.int8, classes=len(CLASSES)),
    Field("depth", "depth", np.float32, channels=1),
    Field("normal", "normals", np.float16, channels=3),
)
OFFICIAL = "nyu_depth_v2_labeled.mat"
TABLES = ("classMapping40.mat", "class13Mapping.mat", "splits.mat")
JPEG_DEPTH = 10 / 255
"""Metres per step of an 8-bit depth."""


def load(
    seed: int,
    *,
    source: str = "auto",
    data_root: str = "",
    main: str = "segmentation",
    split: str = "636/80/79/654",
    size: str = "288x384",
    augment: bool = False,
    noise: float = 0.0,
    noisy_tasks: str = "main",
    resident: int = RESIDENT,
) -> Dataset:
    """Images (3, H, W) with labels (H, W) 0..12 or -1, depth (1, H, W) in metres or 0, normals (3, H, W) or 0.

    Normals: x right, y up, z to the camera.

    Args:
        source: `real`; `builtin`, rendered rooms; `auto`, real where it is found, else the rooms, which a line on
            stderr says. Real data lie in `nyuv2` below `data_root` and are converted once, into `prepared` beside it.
        main: The main task, `segmentation`, `depth` or `normals`.
        split: Numbers of images. `795/654` trains on all (the reference and tuning sets are then part of train);
            `636/159/654` holds a reference set out, which is the tuning set too; `636/80/79/654` has four disjoint
            sets. Others go as well, such as `40/10/10/20`; 0 is all that is left. The published lists of 636 and 159
            images are not at hand: both are drawn by the seed from the official order, in which neighbours are often of
            one scene.
        size: Height x width; smaller ones for quick runs, labels, depth and normals then by the nearest pixel.
        augment: Random scale and crop, and flips, of training and reference batches.
        noise: Share in [0, 1] of the training images that get the labels of another image, other ones for each of
            `noisy_tasks`.
        noisy_tasks: `main`, `auxiliary` or `all`.
        resident: Bytes that each set may take on the device; larger ones are read from disk.

    Raises:
        MtlkitError: A setting outside these, or missing or damaged files.
    """
    return BENCHMARK.load(seed, source=source, data_root=data_root, main=main, split=split, size=size,
                          augment=augment, noise=noise, noisy_tasks=noisy_tasks, resident=resident)  # fmt: skip


def _find(root: Path) -> Source | None:
    """mtan's archives, else the MATLAB file, else JPEG images."""
    folder = root / "nyuv2"
    return sources.mtan(folder, "nyuv2-mtan", FIELDS) or _official(folder) or _jpeg(folder)


def _with_normals(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return arrays | {"normal": normals.from_depth(arrays["depth"][..., 0])}


def _jpeg(folder: Path) -> Source | None:
    """`{train,test}/{image,label,depth}`: JPEG; PNG labels 0..12 and 255; PNG depth of 8 bits."""
    if not any((folder / "train" / "image").glob("*.jpg")):
        return None
    suffixes = {"image": ".jpg", "label": ".png", "depth": ".png"}
    items = {split: sources.walk({name: (folder / split / name, suffix) for name, suffix in suffixes.items()})
             for split in ("train", "test")}  # fmt: skip

    def read(item: Item) -> dict[str, np.ndarray]:
        image, label, depth = (sources.read(item[name]) for name in suffixes)
        if depth.dtype != np.uint8:
            raise MtlkitError(f"{item['depth']} holds {depth.dtype}; expected is depth of 8 bits, 255 being 10 m.")
        label = np.where(label == 255, -1, label.astype(np.int16))
        return {"image": image, "label": label, "depth": depth[..., None].astype(np.float32) * np.float32(JPEG_DEPTH)}

    return Source("nyuv2-jpeg", FIELDS, items, read, sources.every_file(items), _with_normals)


def _official(folder: Path) -> Source | None:
    """The MATLAB file: images, depths and 894 classes at 480 x 640.

    The tables from 894 to 40 to 13 classes (1..40, 1..13, 0 for none) and the split are published apart from it.
    """
    path = folder / OFFICIAL
    if not path.exists():
        return None
    try:
        import h5py
    except ImportError:
        raise MtlkitError(f"{path} is an HDF5 file, and h5py, which reads it, is not installed: `pip install h5py`, or "
                          "use another source of NYUv2.") from None  # fmt: skip
    missing = [name for name in TABLES if not (folder / name).exists()]
    if missing:
        raise MtlkitError(f"{folder / missing[0]} is missing: the 894 classes of {OFFICIAL} become 13 by published "
                          f"tables that are not in it; expected beside it are {', '.join(TABLES)}.")  # fmt: skip
    to_13 = _to_13_classes(folder)
    indices = {split: _table(folder / "splits.mat", f"{split}Ndxs") for split in ("train", "test")}
    items = {split: [{"image": f"{path}, image {k}", "index": int(k) - 1} for k in sorted(numbers)]
             for split, numbers in indices.items()}  # fmt: skip

    def read(item: Item) -> dict[str, np.ndarray]:
        try:
            with h5py.File(path, "r") as file:  # MATLAB's order of axes is the reverse of HDF5's
                image, label, depth = (file[name][item["index"]].T for name in ("images", "labels", "depths"))
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise MtlkitError(f"{item['image']} cannot be read ({error}); it is damaged or another file.") from error
        if label.max(initial=0) >= len(to_13):
            raise MtlkitError(f"{item['image']} holds class {label.max()}, which {TABLES[0]} does not have.")
        return {"image": image, "label": to_13[label], "depth": depth[..., None]}

    return Source("nyuv2-official", FIELDS, items, read, [path, *(folder / name for name in TABLES)], _with_normals)


def _to_13_classes(folder: Path) -> np.ndarray:
    """(895,) from classes of the MATLAB file, 0 being none, to 0..12 and -1."""
    to_40, to_13 = (np.insert(_table(folder / name, key), 0, 0) for name, key in zip(
        TABLES, ("mapClass", "classMapping13.labels13"), strict=False))  # fmt: skip
    if to_40.max() >= len(to_13):
        raise MtlkitError(f"{folder / TABLES[0]} names class {to_40.max()}, which {TABLES[1]} does not have.")
    classes = to_13[to_40].astype(np.int16) - 1
    return np.where(classes < len(CLASSES), classes, -1)


def _table(path: Path, key: str) -> np.ndarray:
    """A vector of whole numbers from 0 in a MATLAB file; a key with a dot is a field of a structure."""
    from scipy.io import loadmat

    try:
        found = loadmat(path, squeeze_me=True, struct_as_record=True)
        for part in key.split("."):
            found = found[part]
        vector = np.ravel(found.item() if found.dtype == object else found)
        whole = vector.astype(np.int64)
        if not len(whole) or (whole != vector).any() or whole.min() < 0:
            raise ValueError("not a vector of whole numbers")
    except Exception as error:  # scipy raises nearly anything for a file of another kind
        raise MtlkitError(f"{path} cannot be read ({type(error).__name__}); expected is a vector {key}.") from error
    return whole


BENCHMARK = Benchmark(
    name="nyuv2",
    title="NYUv2",
    url=URL,
    licence="none stated by the authors; for research",
    expected="nyuv2/{train,val}/{image,label,depth,normal}/<k>.npy (mtan's archives), "
    f"nyuv2/{OFFICIAL} with {', '.join(TABLES)}, or nyuv2/{{train,test}}/{{image,label,depth}} with JPEG and PNG files",
    find=_find,
    variants=("nyuv2-mtan", "nyuv2-official", "nyuv2-jpeg"),
    fields=FIELDS,
    size=(288, 384),
    split="636/80/79/654",
    stand_in="RENDERED rooms",
    scene=("rooms", "room"),
)
prepare, status = BENCHMARK.prepare, BENCHMARK.status
