"""Rooms, streets and photographs, rendered: the stand-in for NYUv2, CityScapes and PASCAL-Context.

Nothing is learnt from these pictures about the world, but everything that a loader, a loss, a metric or a weighting
meets in the real data is there: classes that are told apart by shape, size, place and colour together, exact depth and
normals of the same surfaces, pixels without labels, images without human parts, and layouts of the real files.

What an eye some centimetres beside the camera, on either side, cannot see has no label, no depth and no normal, as in
the real data where the projector of Kinect throws a shadow or one camera of a stereo pair sees nothing: a few per cent
of the pixels, along the sides of whatever is near. Human parts and saliency are known everywhere, because their files
cannot say that a pixel is ignored.
"""

from collections.abc import Callable

import numpy as np

from mtlkit.data.base import generator
from mtlkit.data.rooms import scenes
from mtlkit.data.rooms.figures import PARTS
from mtlkit.data.rooms.ray_caster import Paint, Solid, look, shade
from mtlkit.errors import MtlkitError, one_of

__all__ = ["PARTS", "ROOM_CLASSES", "SCENES", "STREET_CLASSES", "VOC_CLASSES", "render", "render_one"]

SCENES = {"room": scenes.room, "street": scenes.street, "photo": scenes.photograph}

ROOM_CLASSES = ("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv",
                "wall", "window")  # fmt: skip
"""The 13 classes of NYUv2."""

STREET_CLASSES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
"""The categories of CityScapes but `void`, which is ignored: the seven classes of mtan (Liu et al. 2019, table 1)."""

VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "table", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tv")  # fmt: skip
"""PASCAL VOC; `diningtable` and `tvmonitor` are named as in the other sets."""

NUMBERS = {
    "room": {name: k for k, name in enumerate(ROOM_CLASSES)},
    "street": {"road": 0, "sidewalk": 0, "building": 1, "fence": 1, "pole": 2, "terrain": 3, "tree": 3, "hedge": 3,
               "sky": 4, "person": 5, "car": 6, "bus": 6, "bicycle": 6},
    "photo": {name: k for k, name in enumerate(VOC_CLASSES)},
}  # fmt: skip
"""Classes of what is seen, by its name; anything else is ignored, or background in photographs."""

EYES = {"room": 0.15, "street": 0.3, "photo": 0.06}
"""Metres from a camera to the eyes beside it, so that a few per cent are ignored in every scene."""

NOTHING = Solid("ball", "sky", Paint((0, 0, 0)), (0, 0, 0), (0, 0, 0))

INVERSE, NEAREST = 1.85, 0.49
"""Inverse depth is 1.85 m / depth up to 0.49: what disparities of CityScapes' cameras (22 cm apart, up to 126 pixels)
are when divided by 256, which gives the range of mtan's files; how those were made is not published."""


def render(count: int, *, seed: int, height: int, width: int, scene: str = "room",
           split: str = "train") -> dict[str, np.ndarray]:  # fmt: skip
    """`count` pictures and their labels, channels last as in the files of mtan, of one of three scenes:

    - `room`: `image` (N, H, W, 3) float32 in [0, 1]; `label` (N, H, W) int64, index in `ROOM_CLASSES`, -1 ignored;
      `depth` (N, H, W, 1) float32, metres along the optical axis, as Kinect gives them, 0 where there is none; `normal`
      (N, H, W, 3) float32, unit, x to the right, y up, z towards the camera, 0 0 0 where there is none.
    - `street`: `image`; `label`, index in `STREET_CLASSES`, -1 ignored; `depth`, inverse, 0 to 0.49, 0 where there is
      none or nothing (sky).
    - `photo`: `image`; `semseg` (N, H, W) int64, index in `VOC_CLASSES`, 255 ignored; `human_parts` int64, index in
      `PARTS`, 255 throughout an image that shows nobody; `saliency` int64, 1 for what the picture is about; `normal`.

    Picture k depends on seed, split, scene, size and k alone, to the last bit on one machine, and shows the same at any
    size; pictures of different splits differ.

    Raises:
        MtlkitError: Another scene, fewer than one picture, or fewer than 8 pixels on a side.
    """
    if count < 1:
        raise MtlkitError(f"count is {count}, but at least 1 picture has to be rendered.")
    made = [render_one(k, seed=seed, height=height, width=width, scene=scene, split=split) for k in range(count)]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def render_one(index: int, *, seed: int, height: int, width: int, scene: str = "room",
               split: str = "train") -> dict[str, np.ndarray]:  # fmt: skip
    """Picture `index` of `render`, without the first dimension."""
    one_of("scene", scene, SCENES)
    if min(height, width) < 8:
        raise MtlkitError(f"the size is {height} x {width}, but a picture has at least 8 pixels on a side.")
    random = np.random.default_rng(generator(seed, f"{scene} {split} {index}").initial_seed())
    made = SCENES[scene](random)
    camera = made.camera._replace(lens=made.camera.lens.resized(height, width))
    view = look(made.solids, camera)
    seen = [*made.solids, NOTHING]

    def number(of: Callable[[Solid], int]) -> np.ndarray:
        return np.array([of(one) for one in seen], np.int64)[view.seen]

    valid, ignored = ~_hidden(view.depth, EYES[scene] * camera.lens.fx), 255 if scene == "photo" else -1
    other = 0 if scene == "photo" else -1
    label = np.where(valid, number(lambda one: NUMBERS[scene].get(one.name, other)), ignored)
    image = shade(view, made, random).astype(np.float32)
    normal = np.moveaxis(view.normal * valid, 0, -1).astype(np.float32)
    if scene == "photo":
        parts = number(lambda one: one.part)
        parts = parts if parts.any() else np.full_like(parts, ignored)
        saliency = number(lambda one: one.salient)
        return {"image": image, "semseg": label, "human_parts": parts, "saliency": saliency, "normal": normal}
    depth = view.depth * valid
    if scene == "street":
        inverse = INVERSE / np.where(depth > INVERSE / NEAREST, depth, np.inf)
        return {"image": image, "label": label, "depth": inverse[..., None].astype(np.float32)}
    return {"image": image, "label": label, "depth": depth[..., None].astype(np.float32), "normal": normal}


def _hidden(depth: np.ndarray, shift: float) -> np.ndarray:
    """(H, W) bool: what one of the eyes cannot see because something that is nearer, beside it, is before it.

    Args:
        depth: Metres, 0 for infinity.
        shift: Pixels by which the pictures of a point at one metre differ between an eye and the camera.
    """
    inverse = shift / np.where(depth > 0, depth, np.inf)
    hidden = np.zeros(depth.shape, bool)
    for pixels in range(1, min(int(inverse.max()) + 2, depth.shape[1])):
        nearer = inverse[:, pixels:] - inverse[:, :-pixels]
        hidden[:, :-pixels] |= nearer > pixels - 0.5
        hidden[:, pixels:] |= -nearer > pixels - 0.5
    return hidden
