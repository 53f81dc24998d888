"""Where things stand: a furnished room, a street, and a photograph of one thing. Sizes in metres."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from mtlkit.data.rooms import figures, furniture
from mtlkit.data.rooms.parts import Random, Things, extent, paint, place
from mtlkit.data.rooms.places import TRIES, Floor, Hall, Spot, against_wall, facing
from mtlkit.data.rooms.ray_caster import Camera, Lens, Light, Paint, Scene, Solid

KINECT = Lens(480, 640, 518.86, 519.47, 325.58, 253.74)
"""The colour camera of NYUv2."""

STEREO = Lens(1024, 2048, 2262.52, 2265.30, 1096.98, 513.14)
"""The left camera of CityScapes."""

SQUARE = Lens(512, 512, 480.0, 480.0, 255.5, 255.5)
"""A camera for photographs."""

FAR = 150.0

FURNITURE = {  # along the walls, the most important first; in the middle
    "bedroom": ((furniture.bed, furniture.cabinet, furniture.cabinet, furniture.shelf, furniture.desk), ()),
    "living": ((furniture.sofa, furniture.media, furniture.shelf, partial(furniture.sofa, single=True)),
               (partial(furniture.table, low=True),)),
    "dining": ((furniture.cabinet, furniture.cabinet, furniture.shelf, furniture.media), (furniture.table,)),
    "study": ((furniture.desk, furniture.shelf, furniture.shelf, furniture.cabinet, furniture.sofa), ()),
}  # fmt: skip

CLUTTER = (furniture.chair, furniture.pile, furniture.plant, *[partial(furniture.small, scale=1.8)] * 2)

INDOORS = {
    "bottle": figures.bottle,
    "cat": partial(figures.animal, name="cat"),
    "chair": furniture.chair,
    "table": furniture.table,
    "dog": partial(figures.animal, name="dog"),
    "person": figures.person,
    "pottedplant": partial(furniture.plant, name="pottedplant"),
    "sofa": furniture.sofa,
    "tv": furniture.media,
}

OUTDOORS = {
    "aeroplane": figures.aeroplane,
    "bicycle": figures.cycle,
    "bird": figures.bird,
    "boat": figures.boat,
    "bus": figures.coach,
    "car": figures.car,
    "cow": partial(figures.animal, name="cow"),
    "dog": partial(figures.animal, name="dog"),
    "horse": partial(figures.animal, name="horse"),
    "motorbike": partial(figures.cycle, name="motorbike"),
    "person": figures.person,
    "sheep": partial(figures.animal, name="sheep"),
    "train": partial(figures.coach, name="train"),
}


def room(random: Random) -> Scene:
    """A furnished room with a closed shell, seen from near a corner."""
    hall = Hall(*random.uniform((3.2, 3.2, 2.4), (6, 6, 2.9)))
    half, side = np.array([hall.width, hall.depth]) / 2, random.choice([-1.0, 1.0], 2)
    eye, spot = side * half * random.uniform((0.55, 0.75), (0.85, 0.85)), -side * half * random.uniform(0, 0.8, 2)
    camera = facing(_upright(eye, random.uniform(1.1, 1.7)), _upright(spot, random.uniform(0.4, 1.1)), KINECT)
    floor = Floor(hall.width, hall.depth)
    for share, reach in ((0, 0.45), (0.3, 0.35)):  # nothing stands right before the camera
        middle = eye + share * (spot - eye)
        floor.take(np.stack((middle - reach, middle + reach), 1))

    def anywhere() -> Iterator[Spot]:
        for x, z, turn in random.uniform(-1, 1, (TRIES, 3)) * (*half, 0.3):
            yield x, z, turn + random.choice([0, math.pi / 2])

    solids = hall.shell(random)
    by_wall, free = FURNITURE[random.choice(list(FURNITURE))]
    for make in by_wall:
        if random.random() < 0.85:
            solids += against_wall(random, make(random), hall, floor)
    for make in free:
        centre = floor.put(make(random), anywhere())
        solids += centre
        if centre and make is furniture.table:
            solids += _chairs(random, centre[0], floor)
    for make in CLUTTER:
        if random.random() < 0.7:
            solids += floor.put(make(random), anywhere())
    for make, most in ((furniture.window, 3), (furniture.picture, 5)):
        for _ in range(random.integers(1, most)):
            solids += hall.hung(random, make)
    if random.random() < 0.5:
        x, z, turn = random.uniform((1.2, 1.2, -0.1), (2.2, 2.2, 0.1))
        solids.append(Solid("box", "floor", paint(random, "carpet"), (0, 0.005, 0), (x, 0.02, z), turn))
    return Scene(solids, camera, hall.lamps(random), *random.uniform((0.35, 0.38, 0.01), (0.6, 0.52, 0.03)))


def _upright(ground: np.ndarray, height: float) -> np.ndarray:
    """A point above the ground."""
    return np.array([ground[0], height, ground[1]])


def _chairs(random: Random, top: Solid, floor: Floor) -> Things:
    """Chairs that face a table from its sides."""
    made: Things = []
    for side in range(4):
        if random.random() < 0.8:
            reach = (top.size[2], top.size[0])[side % 2] / 2 + random.uniform(0.22, 0.4)
            yaw = top.yaw + side * math.pi / 2
            x, z = top.centre[0] - math.sin(yaw) * reach, top.centre[2] - math.cos(yaw) * reach
            made += floor.put(furniture.chair(random), [(x, z, yaw + random.normal(0, 0.1))])
    return made


def street(random: Random) -> Scene:
    """A street with pavements, houses, trees, traffic and people, seen from a car."""
    height, turn, pitch, strength = random.uniform((1.2, -0.05, -0.04, 0.3), (1.5, 0.05, 0.02, 0.8))
    parking = random.random() < 0.6
    left, right = -random.uniform(5.5, 9), random.uniform(4.3, 5) if parking else random.uniform(2.3, 3)
    middle, asphalt = (left + right) / 2, paint(random, "asphalt")
    line = Paint((0.85, 0.85, 0.82), asphalt.colour, (0, 0, 1 / 6))
    solids = [
        Solid("box", "terrain", paint(random, "grass"), (0, -0.4, 0), (4 * FAR, 0.4, 4 * FAR)),
        Solid("box", "road", asphalt, (middle, -0.1, 0), (right - left, 0.2, 2 * FAR)),
        Solid("box", "road", line, (middle - 0.3, 0, 0), (0.15, 0.02, 2 * FAR)),
    ]
    for side, edge in ((-1, left), (1, right)):
        solids += _pavement(random, side, edge)
    floor = Floor(2 * FAR, 2 * FAR)
    parked, lanes = [(left + 1, 0.0)] + [(right - 1, math.pi)] * parking, [(left / 2, 0.0), (0.0, math.pi)]
    for lane, cars, nearest in ((parked, 6, 6), (lanes, 2, 12)):
        for x, yaw in lane:
            for _ in range(random.integers(0, cars + 1)):
                solids += floor.put(_vehicle(random), [(x, -z, yaw) for z in random.uniform(nearest, 60, TRIES)])
    if random.random() < 0.4:
        solids += floor.put(figures.person(random), random.uniform((left, -25, -3), (right, -9, 3), (TRIES, 3)))
    camera = Camera((0, height, 0), turn, pitch, STEREO)
    return Scene(solids, camera, [_sun(random, strength)], *random.uniform((0.45, 0.35, 0.01), (0.65, 0.5, 0.025)))


def _sun(random: Random, strength: float) -> Light:
    """Light from far away."""
    x, z = random.uniform(-400, 400, 2)
    return Light((x, 400, z), (strength, 0.97 * strength, 0.9 * strength), 1e6)


def _vehicle(random: Random) -> Things:
    """A car mostly, a bus, or somebody on a bicycle."""
    kind = random.random()
    if kind < 0.75:
        return figures.car(random)
    return figures.coach(random) if kind < 0.87 else figures.cycle(random) + place(figures.person(random), y=0.15)


def _pavement(random: Random, side: int, edge: float) -> Things:
    """A pavement with posts, trees and people, and the houses, parks and walls behind it."""
    wide, inwards = random.uniform(2, 3.5), -side * math.pi / 2
    stone = paint(random, "stone")
    made = [Solid("box", "sidewalk", stone, (edge + side * wide / 2, -0.02, 0), (wide, 0.34, 2 * FAR))]
    for z in np.arange(random.uniform(4, 14), 70, random.uniform(10, 22)):
        make = figures.post if random.random() < 0.6 else figures.tree
        made += place(make(random), edge + side * 0.6, -z, inwards, 0.15)
    for _ in range(random.integers(0, 5)):
        x, z, yaw = random.uniform((0.9, 5, -3), (wide, 30, 3))
        made += place(figures.person(random), edge + side * x, -z, yaw, 0.15)
    if random.random() < 0.5:
        bin_ = Solid("box", "bin", paint(random, "bright"), (0, 0.55, 0), (0.6, 1.1, 0.6))
        made += place([bin_], edge + side * 1.2, -random.uniform(6, 15), 0, 0.15)
    z, edge = 12.0, edge + side * wide
    while z > -FAR:
        length, kind, out = random.uniform((8, 0, 0), (18, 1, 1.5))
        spot = edge + side * out, z - length / 2, inwards
        if kind < 0.65:
            made += place(figures.building(random, length), *spot)
        elif kind < 0.9:
            hedge = Solid("box", "hedge", paint(random, "leaf"), (0, 0.5, 0), (length, 1.2, 0.7))
            made += place([hedge, *place(figures.tree(random), 0, -4), *place(figures.tree(random), 3, -7)], *spot)
        else:
            made += place([Solid("box", "fence", stone, (0, 0.9, 0), (length, 1.9, 0.3))], *spot)
        z -= length + 0.3
    if random.random() < 0.25:  # a house across the end of the street
        made += place(figures.building(random, 60), 0, -random.uniform(60, 120))
    return made


def photograph(random: Random) -> Scene:
    """One thing of a class of PASCAL VOC near the middle, at times others beside it; indoors or outdoors.

    What it shows is salient, also where something hides a part of it; what stands beside it is not.
    """
    name = "person" if random.random() < 0.2 else random.choice(sorted({*INDOORS, *OUTDOORS}))
    inside = name in INDOORS and (name not in OUTDOORS or random.random() < 0.5)
    makers = INDOORS if inside else OUTDOORS
    main = place(makers[name](random), yaw=random.uniform(-1.2, 1.2))
    main = [one._replace(salient=one.name == name) for one in main]
    bounds = extent([one for one in main if one.salient])
    size, middle = float((bounds[:, 1] - bounds[:, 0])[:2].max()), float(bounds[1].mean())
    away, up, aim = random.uniform((0.7 * size, 0, -0.12 * size), (1.2 * size, 0.25 * size, 0.12 * size))
    eye = np.array([0.0, max(middle + up, 0.3), away + bounds[2, 1] + 0.2])
    camera = facing(eye, np.array([aim, middle, 0.0]), SQUARE)

    hall = Hall(max(2 * eye[2] + 1, 5), 2 * eye[2] + random.uniform(2, 4), max(2.7, bounds[1, 1] + 0.5))
    floor = Floor(hall.width, hall.depth) if inside else Floor(2 * FAR, 2 * FAR)
    floor.take(extent(main)[[0, 2]])
    floor.take(np.array([[-0.4, 0.4], [bounds[2, 1], eye[2]]]))

    def behind(near: float, far: float, turn: float) -> Iterator[Spot]:
        """Spots in view, between two distances behind the thing, turned by at most `turn` to either side."""
        for across, back, yaw in random.uniform((-0.6, near, -turn), (0.6, far, turn), (TRIES, 3)):
            yield across * (eye[2] + back), -back, yaw

    solids = main
    for _ in range(random.integers(0, 4) * (name != "boat")):
        make = figures.person if random.random() < 0.4 else makers[random.choice(list(makers))]
        solids = solids + floor.put(make(random), behind(-0.5 * eye[2], size + 3, 3))
    scenery = _indoors(random, hall, floor) if inside else _outdoors(random, floor, name == "boat", behind)
    lights = hall.lamps(random) if inside else [_sun(random, random.uniform(0.35, 0.8))]
    return Scene(solids + scenery, camera, lights, *random.uniform((0.4, 0.38, 0.01), (0.6, 0.52, 0.025)))


def _indoors(random: Random, hall: Hall, floor: Floor) -> Things:
    """A hall with furniture that no class stands for."""
    made = hall.shell(random)
    for make, most in ((furniture.window, 3), (furniture.picture, 5)):
        for _ in range(random.integers(0, most)):
            made += hall.hung(random, make)
    for make in (furniture.cabinet, furniture.shelf):
        made += against_wall(random, make(random), hall, floor)
    return made


def _outdoors(random: Random, floor: Floor, afloat: bool, behind: Callable[..., Iterator[Spot]]) -> Things:
    """Ground or water, trees and houses."""
    style = "water" if afloat else random.choice(["grass", "grass", "asphalt", "stone"])
    made = [Solid("box", "ground", paint(random, style), (0, -0.2, 0), (20 * FAR, 0.4, 20 * FAR))]
    for _ in range(random.integers(3, 12)):
        thing = figures.tree(random) if random.random() < 0.6 else figures.building(random, random.uniform(6, 14))
        made += floor.put(thing, behind(12, 60, 0.5))
    return made
