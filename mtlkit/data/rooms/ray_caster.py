"""Ray casting of boxes, ellipsoids and cylinders: exact depth, surface and normals of everything that a camera sees.

World coordinates are metres, x to the right, y up, z towards the viewer of a camera that is not turned; so are camera
coordinates, seen from the camera. Every solid is a unit box, ball or cylinder that was stretched, turned about the
vertical and moved: it is the common part of slabs |q_a| <= 1 over its flat axes and of a ball |q| <= 1 over its round
ones, q being coordinates in its own frame, and a ray enters it where it has entered all of them. Whole windows of
pixels are done at once; the loop is over solids.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Vector = tuple[float, float, float]

ROUND = {"box": (False, False, False), "ball": (True, True, True), "pillar": (True, False, True),
         "wheel": (False, True, True)}  # fmt: skip
"""Shapes, by which of their axes x, y, z are round: a pillar stands upright, a wheel's axle is its x axis."""

CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
NEAR, TINY = 0.05, 1e-12
SHARPNESS = 4.0  # of the edges of painted patterns
STAINS = np.array([(0.5,), (1.5,), (4.0,)])  # radians per metre


class Paint(NamedTuple):
    """Two colours, RGB in [0, 1], and where on a solid the second one is: where sin(2 pi (frequency x + phase)) exceeds
    `bias` along every axis with a frequency > 0, x being metres in the solid's frame; nowhere if all are 0.

    Attributes:
        glow: The share in [0, 1] of the colour that is there without light.
    """

    colour: Vector
    other: Vector = (0.0, 0.0, 0.0)
    frequency: Vector = (0.0, 0.0, 0.0)
    phase: Vector = (0.0, 0.0, 0.0)
    bias: float = 0.0
    glow: float = 0.0


class Solid(NamedTuple):
    """A shape of `ROUND` with its middle at `centre` and its full extents `size`, turned by `yaw` radians to the left.

    Attributes:
        name: What it is.
        part: Number of the human part, 0 if none.
        salient: Whether it is what the picture is about.
    """

    shape: str
    name: str
    paint: Paint
    centre: Vector
    size: Vector
    yaw: float = 0.0
    part: int = 0
    salient: bool = False


class Light(NamedTuple):
    """A lamp at `position` with an RGB strength, half of which is left at a distance of `reach` metres."""

    position: Vector
    colour: Vector
    reach: float


class Lens(NamedTuple):
    """Intrinsics in pixels of an image of the stated size; pixel centres have integer coordinates."""

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, height: int, width: int) -> "Lens":
        """The intrinsics of the same picture at another size."""
        down, across = height / self.height, width / self.width
        return Lens(height, width, self.fx * across, self.fy * down,
                    (self.cx + 0.5) * across - 0.5, (self.cy + 0.5) * down - 0.5)  # fmt: skip


class Camera(NamedTuple):
    """At `position`, turned to the left by `yaw` and upwards by `pitch` radians; a camera not turned looks along -z."""

    position: Vector
    yaw: float
    pitch: float
    lens: Lens

    def axes(self) -> np.ndarray:
        """(3, 3): its x, y and z axes, in world coordinates, as columns."""
        (sin, cos), (up, level) = ((math.sin(a), math.cos(a)) for a in (self.yaw, self.pitch))
        return np.array([(cos, sin * up, sin * level), (0, level, -up), (-sin, cos * up, cos * level)])

    def rays(self) -> np.ndarray:
        """(3, H, W): what a pixel sees per metre of depth, in world coordinates."""
        lens, axes = self.lens, self.axes()[:, :, None, None]
        right = (np.arange(lens.width) - lens.cx) / lens.fx
        up = (lens.cy - np.arange(lens.height)[:, None]) / lens.fy
        return axes[:, 0] * right + axes[:, 1] * up - axes[:, 2]


class Scene(NamedTuple):
    """Solids, a camera, and light.

    Attributes:
        ambient: Light from all sides.
        sky: RGB at the horizon and overhead.
        exposure: Mean value of the picture before noise, as an automatic camera has it.
        noise: Standard deviation of the sensor's.
    """

    solids: list[Solid]
    camera: Camera
    lights: list[Light]
    ambient: float
    exposure: float
    noise: float
    sky: tuple[Vector, Vector] = ((0.85, 0.88, 0.92), (0.45, 0.62, 0.88))


class View(NamedTuple):
    """What a camera sees. H, W: image size.

    Attributes:
        seen: (H, W) int, index of the solid; -1 for none, the sky.
        depth: (H, W), metres along the optical axis; 0 for the sky.
        normal: (3, H, W), unit, camera coordinates: x to the right, y up, z towards the camera; 0 for the sky.
        point: (3, H, W), world coordinates.
        local: The same in the frame of its solid, metres from its centre.
        facing: (3, H, W), the normal in world coordinates.
        rays: (3, H, W), see `Camera.rays`.
    """

    seen: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    point: np.ndarray
    local: np.ndarray
    facing: np.ndarray
    rays: np.ndarray


def look(solids: Sequence[Solid], camera: Camera) -> View:
    """The nearest surfaces, float64. A solid that contains the camera is not seen."""
    centre, size = (np.array([getattr(one, name) for one in solids], float) for name in ("centre", "size"))
    half, yaw = size / 2, np.array([one.yaw for one in solids])
    sin, cos = np.sin(yaw), np.cos(yaw)
    rounded = np.array([ROUND[one.shape] for one in solids])
    rays, position = camera.rays(), np.array(camera.position)
    origin = _turn(*(position - centre).T, -sin, cos) / half.T
    depth, seen = np.full(rays.shape[1:], np.inf), np.full(rays.shape[1:], -1)
    for k, (top, bottom, left, right) in enumerate(_windows(centre, half, sin, cos, camera)):
        if top >= bottom or left >= right:
            continue
        direction = _turn(*rays[:, top:bottom, left:right], -sin[k], cos[k]) / half[k, :, None, None]
        entered = _entry(origin[:, k], direction, rounded[k])
        nearest, whose = depth[top:bottom, left:right], seen[top:bottom, left:right]
        closer = entered < nearest
        np.copyto(nearest, entered, where=closer)
        np.copyto(whose, k, where=closer)

    hit = seen >= 0
    depth = np.where(hit, depth, 0.0)
    point = position[:, None, None] + depth * rays
    local = _turn(*(point - centre.T[:, seen]), -sin[seen], cos[seen])
    unit = local / half.T[:, seen]
    facing = _outward(unit, rounded.T[:, seen]) / half.T[:, seen]
    facing = hit * _turn(*facing, sin[seen], cos[seen]) / np.sqrt((facing * facing).sum(0))
    normal = sum(axis[:, None, None] * along for axis, along in zip(camera.axes(), facing, strict=True))
    return View(seen, depth, normal, point, local, facing, rays)


def _turn(x: np.ndarray, y: np.ndarray, z: np.ndarray, sin: np.ndarray, cos: np.ndarray) -> np.ndarray:
    """Turned to the left about the vertical, stacked along a first dimension."""
    return np.stack((cos * x + sin * z, y, cos * z - sin * x))


def _windows(centre: np.ndarray, half: np.ndarray, sin: np.ndarray, cos: np.ndarray, camera: Camera) -> np.ndarray:
    """(K, 4) int: top, bottom, left and right of pixels that may see each solid, from the corners around it."""
    lens = camera.lens
    x, y, z = np.moveaxis(half[:, None] * CORNERS, -1, 0)
    corners = np.moveaxis(_turn(x, y, z, sin[:, None], cos[:, None]), 0, -1) + (centre - camera.position)[:, None]
    right, up, back = (sum(corners[..., a] * axis[a] for a in range(3)) for axis in camera.axes().T)
    deep = np.maximum(-back, NEAR)
    row, column = lens.cy - lens.fy * up / deep, lens.cx + lens.fx * right / deep
    bounds = np.stack((row.min(1), row.max(1) + 2, column.min(1), column.max(1) + 2))
    size = np.array([[lens.height], [lens.height], [lens.width], [lens.width]])
    behind = back > -NEAR
    bounds = np.where(behind.any(1), size * [[0], [1], [0], [1]], np.clip(bounds, 0, size))
    return np.where(behind.all(1), 0, bounds).T.astype(int)


def _entry(origin: np.ndarray, direction: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Depth (h, w) at which rays enter a unit solid; not a number or inf where they miss it.

    Args:
        origin: (3,), in the solid's frame.
        direction: (3, h, w), in the solid's frame.
        rounded: (3,) bool.
    """
    near, far = [], []
    if not rounded.all():
        inverse = 1 / np.where(direction == 0, TINY, direction)[~rounded]
        middle, reach = -origin[~rounded, None, None] * inverse, np.abs(inverse)
        near.append((middle - reach).max(0))
        far.append((middle + reach).min(0))
    if rounded.any():
        start, along = origin[rounded], direction[rounded]
        a, b = (along * along).sum(0), (start[:, None, None] * along).sum(0)
        with np.errstate(invalid="ignore"):  # the square root of a miss
            root = np.sqrt(b * b - a * ((start * start).sum() - 1))
        near.append((-b - root) / a)
        far.append((root - b) / a)
    entered, left = (near[0], far[0]) if len(near) == 1 else (np.maximum(*near), np.minimum(*far))
    return np.where((entered <= left) & (entered > 0), entered, np.inf)


def _outward(unit: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Normals (3, H, W), of any length, of points (3, H, W) on unit solids, in their frames."""
    curved = unit * rounded
    flat = np.where(rounded, 0.0, np.abs(unit))
    furthest = flat.max(0)
    on_side = (curved * curved).sum(0) > furthest * furthest
    return np.where(on_side, curved, np.sign(unit) * (flat == furthest))


def shade(view: View, scene: Scene, random: np.random.Generator) -> np.ndarray:
    """The picture (H, W, 3), float64 in [0, 1]: Lambert's law, painted patterns, stains and noise; without shadows."""

    def of(name: str) -> np.ndarray:
        values = np.array([getattr(one.paint, name) for one in scene.solids], float)
        return np.moveaxis(values[view.seen], (0, 1), (-2, -1))

    frequency = of("frequency")
    wave = np.where(frequency > 0, np.sin(2 * np.pi * (frequency * view.local + of("phase"))), 1.0).min(0)
    second = np.clip(SHARPNESS * (wave - of("bias")) + 0.5, 0, 1) * (frequency > 0).any(0)
    colour = of("colour") * (1 - second) + of("other") * second
    stains = sum(np.sin((way[:, None, None] * view.point).sum(0)) for way in random.normal(size=(3, 3)) * STAINS)
    light = np.full(colour.shape, scene.ambient)
    for lamp in scene.lights:
        to = np.array(lamp.position)[:, None, None] - view.point
        squared = (to * to).sum(0)
        cosine = np.maximum((to * view.facing).sum(0), 0) / np.sqrt(squared)
        light += np.array(lamp.colour)[:, None, None] * (cosine / (1 + squared / lamp.reach**2))
    glow = of("glow")
    image = colour * (light * (1 - glow) + glow) * (1 + 0.025 * stains)
    overhead = np.clip(2 * view.rays[1] / np.sqrt((view.rays * view.rays).sum(0)), 0, 1)
    low, high = (np.array(one)[:, None, None] for one in scene.sky)
    image = np.moveaxis(np.where(view.seen < 0, low + (high - low) * overhead, image), 0, -1)
    image *= scene.exposure / image.mean()
    return np.clip(image + random.normal(0, scene.noise, image.shape), 0, 1)
