"""Where things can stand or hang: free ground, and the inside of a room. Sizes in metres."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mtlkit.data.rooms.parts import Random, Things, extent, paint, place
from mtlkit.data.rooms.ray_caster import Camera, Lens, Light, Paint, Solid

TRIES, MARGIN = 12, 0.06

Maker = Callable[[Random], Things]
Spot = tuple[float, float, float]  # x, z and yaw


class Floor:
    """Ground of a size around the origin, and the rectangles of it that are taken."""

    def __init__(self, width: float, depth: float) -> None:
        self.half = np.array([width, depth]) / 2
        self.taken: list[np.ndarray] = []

    def take(self, rectangle: np.ndarray) -> None:
        """Take (2, 2), least and greatest x and z, free or not."""
        self.taken.append(rectangle)

    def put(self, things: Things, spots: Iterable[Spot]) -> Things:
        """Things at the first of the spots where they are inside and the ground is free; nothing if there is none."""
        for spot in spots:
            placed = place(things, *spot)
            low, high = extent(placed)[[0, 2]].T
            free = all((low >= other[:, 1]).any() or (high <= other[:, 0]).any() for other in self.taken)
            if free and (low >= -self.half).all() and (high <= self.half).all():
                self.take(np.stack((low - MARGIN, high + MARGIN), 1))
                return placed
        return []


class Hall(NamedTuple):
    """The inside of a room around the origin; its walls are numbered 0 to 3 from -z to the left."""

    width: float
    depth: float
    height: float

    def length(self, wall: int) -> float:
        """Of a wall."""
        return (self.width, self.depth)[wall % 2]

    def at_wall(self, wall: int, along: float, out: float) -> Spot:
        """Spot that faces the room from a wall: `along` from its middle, `out` before it."""
        yaw, back = wall * math.pi / 2, out - self.length(wall + 1) / 2
        sin, cos = math.sin(yaw), math.cos(yaw)
        return cos * along + sin * back, cos * back - sin * along, yaw

    def shell(self, random: Random) -> Things:
        """Floor, ceiling and walls with skirting boards; one wall may have another paint than the rest."""
        common, accent, skirting = paint(random, "plaster"), random.integers(8), Paint((0.9, 0.9, 0.88))
        floor = paint(random, ("wood", "tiles", "carpet")[random.integers(3)])
        above = (0, self.height + 0.1, 0)
        made = [
            Solid("box", "floor", floor, (0, -0.1, 0), (self.width, 0.2, self.depth)),
            Solid("box", "ceiling", paint(random, "ceiling"), above, (self.width, 0.2, self.depth)),
        ]
        for wall in range(4):
            tone, length = paint(random, "cloth") if wall == accent else common, self.length(wall)
            side = Solid("box", "wall", tone, (0, self.height / 2, -0.1), (length, self.height, 0.2))
            board = Solid("box", "wall", skirting, (0, 0.05, 0), (length, 0.1, 0.03))
            made += place([side, board], *self.at_wall(wall, 0, 0))
        return made

    def hung(self, random: Random, make: Maker) -> Things:
        """A picture or a window somewhere on a wall; nothing if it is too wide."""
        wall, made = random.integers(4), make(random)
        (left, right), (low, high), _ = extent(made)
        reach = (self.length(wall) - right + left) / 2 - 0.05
        if reach < 0:
            return []
        y = max(min(random.uniform(1.4, 1.75), self.height - high - 0.1), 0.2 - low)
        return place(made, *self.at_wall(wall, random.uniform(-reach, reach), 0), y)

    def lamps(self, random: Random) -> list[Light]:
        """One or two below the ceiling."""
        lamps = []
        for x, z, strength, warm, reach in random.uniform((-0.3, -0.3, 0.5, 0.8, 2.5), (0.3, 0.3, 0.9, 1, 5), (2, 5)):
            colour = (strength, strength * (1 + warm) / 2, strength * warm)
            lamps.append(Light((x * self.width, self.height - 0.3, z * self.depth), colour, reach))
        return lamps[: random.integers(1, 3)]


def against_wall(random: Random, made: Things, hall: Hall, floor: Floor) -> Things:
    """Things with their backs to any wall, where there is space."""
    (left, right), _, (back, _) = extent(made)

    def spots() -> Iterator[Spot]:
        for wall in random.integers(4, size=TRIES).tolist():
            reach = (hall.length(wall) - right + left) / 2
            yield hall.at_wall(wall, random.uniform(-1, 1) * reach, 0.04 - back)

    return floor.put(made, spots())


def facing(eye: np.ndarray, target: np.ndarray, lens: Lens) -> Camera:
    """A camera at `eye` that looks at `target`."""
    x, y, z = target - eye
    return Camera(tuple(eye), math.atan2(-x, -z), math.atan2(y, math.hypot(x, z)), lens)
