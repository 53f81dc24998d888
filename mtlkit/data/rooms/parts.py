"""What furniture and figures are made of and with: paints of a style, and lists of solids that are moved about."""

import colorsys
import math
from collections.abc import Iterable

import numpy as np

from mtlkit.data.rooms.ray_caster import Paint, Solid, Vector

Random = np.random.Generator
Things = list[Solid]

STYLES = {  # ranges of hue, saturation and value, and patterns to choose from
    "wood": ((0.04, 0.11), (0.35, 0.7), (0.25, 0.8), ("plain", "plain", "boards")),
    "cloth": ((0.0, 1.0), (0.15, 0.6), (0.25, 0.85), ("plain", "plain", "stripes", "checks")),
    "linen": ((0.0, 1.0), (0.0, 0.12), (0.75, 0.95), ("plain",)),
    "bright": ((0.0, 1.0), (0.4, 0.9), (0.3, 0.9), ("plain", "stripes", "rows")),
    "enamel": ((0.0, 1.0), (0.1, 0.9), (0.15, 0.9), ("plain",)),
    "plaster": ((0.0, 0.7), (0.03, 0.3), (0.6, 0.95), ("plain", "plain", "plain", "stripes")),
    "ceiling": ((0.1, 0.2), (0.0, 0.08), (0.85, 0.98), ("plain",)),
    "tiles": ((0.05, 0.6), (0.02, 0.25), (0.45, 0.8), ("tiles",)),
    "carpet": ((0.0, 1.0), (0.1, 0.4), (0.25, 0.6), ("plain",)),
    "black": ((0.55, 0.7), (0.0, 0.4), (0.03, 0.12), ("plain",)),
    "metal": ((0.5, 0.65), (0.0, 0.1), (0.25, 0.65), ("plain",)),
    "skin": ((0.04, 0.08), (0.3, 0.6), (0.35, 0.9), ("plain",)),
    "fur": ((0.05, 0.1), (0.1, 0.6), (0.12, 0.75), ("plain", "plain", "spots")),
    "leaf": ((0.22, 0.36), (0.4, 0.8), (0.2, 0.55), ("spots",)),
    "grass": ((0.2, 0.32), (0.35, 0.65), (0.3, 0.55), ("plain",)),
    "asphalt": ((0.55, 0.7), (0.0, 0.12), (0.25, 0.45), ("plain",)),
    "stone": ((0.05, 0.12), (0.03, 0.2), (0.45, 0.7), ("tiles",)),
    "facade": ((0.0, 0.13), (0.05, 0.5), (0.4, 0.9), ("windows",)),
    "water": ((0.5, 0.6), (0.4, 0.7), (0.35, 0.6), ("rows",)),
}

PATTERNS = {  # along which axes, repetitions per metre, bias, and how bright the second colour is
    "plain": ((0, 0, 0), (1, 1), 0.0, (1, 1)),
    "boards": ((1, 0, 0), (4, 12), 0.0, (0.75, 0.9)),
    "stripes": ((1, 0, 0), (3, 10), 0.0, (0.6, 1.3)),
    "rows": ((0, 1, 1), (3, 10), 0.0, (0.6, 1.3)),
    "checks": ((1, 1, 1), (3, 8), -0.3, (0.6, 1.3)),
    "tiles": ((1, 0, 1), (1.5, 3), -0.9, (1.15, 1.4)),
    "spots": ((1, 1, 1), (2, 7), 0.1, (0.5, 1.4)),
    "windows": ((1, 1, 1), (0.25, 0.45), -0.1, (0.3, 0.55)),
}


def paint(random: Random, style: str, glow: float = 0.0) -> Paint:
    """A paint of one of the `STYLES`."""
    *ranges, patterns = STYLES[style]
    axes, repetitions, bias, brightness = PATTERNS[patterns[random.integers(len(patterns))]]
    draws = random.random(10).tolist()
    ranges += [brightness, *[repetitions] * 3]
    *hsv, factor, fx, fy, fz = (low + draw * (high - low) for draw, (low, high) in zip(draws, ranges, strict=False))
    colour = colorsys.hsv_to_rgb(*hsv)
    other = tuple(min(1.0, channel * factor) for channel in colour)
    return Paint(colour, other, (axes[0] * fx, axes[1] * fy, axes[2] * fz), tuple(draws[7:]), bias, glow)


def dimmed(tone: Paint, factor: float) -> Paint:
    """The same paint, darker for a factor below 1, lighter above."""
    return tone._replace(colour=tuple(min(1.0, factor * channel) for channel in tone.colour))


def scaled(vector: Iterable[float], factor: float) -> Vector:
    """Every component times a factor."""
    return tuple(factor * component for component in vector)


def place(things: Iterable[Solid], x: float = 0.0, z: float = 0.0, yaw: float = 0.0, y: float = 0.0) -> Things:
    """The same things turned to the left about the vertical through the origin by `yaw` radians, and then moved."""
    sin, cos = math.sin(yaw), math.cos(yaw)

    def moved(centre: Vector) -> Vector:
        right, up, front = centre
        return cos * right + sin * front + x, up + y, cos * front - sin * right + z

    return [one._replace(centre=moved(one.centre), yaw=one.yaw + yaw) for one in things]


def extent(things: Iterable[Solid]) -> np.ndarray:
    """(3, 2): the least and the greatest x, y and z of the boxes around things."""
    low, high = [], []
    for one in things:
        sin, cos = abs(math.sin(one.yaw)), abs(math.cos(one.yaw))
        width, height, depth = one.size
        reach = (cos * width + sin * depth) / 2, height / 2, (sin * width + cos * depth) / 2
        low.append([c - r for c, r in zip(one.centre, reach, strict=True)])
        high.append([c + r for c, r in zip(one.centre, reach, strict=True)])
    return np.stack((np.min(low, 0), np.max(high, 0)), 1)


def legs(name: str, tone: Paint, size: Vector, thick: float, shape: str = "box") -> Things:
    """Four legs in the corners of a box of `size` that stands on the ground."""
    width, height, depth = size
    return [
        Solid(shape, name, tone, (i * (width - thick) / 2, height / 2, k * (depth - thick) / 2), (thick, height, thick))
        for i in (-1, 1)
        for k in (-1, 1)
    ]
