"""People, animals, vehicles, trees and houses: lists of solids that stand at the origin and face +z; sizes in metres.

The names of the solids are classes of PASCAL VOC, or what a street is made of. Human parts are numbered as is usual for
PASCAL-Context: 1 head, 2 torso, 3 upper arms, 4 lower arms, 5 upper legs, 6 lower legs.
"""

from mtlkit.data.rooms.parts import Random, Things, dimmed, legs, paint, place, scaled
from mtlkit.data.rooms.ray_caster import Paint, Solid

PARTS = ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")

ANIMALS = {  # length, height of the back, thickness of the body, how far the head rises above its middle; fur
    "cat": (0.4, 0.3, 0.15, 0.5, "fur"),
    "dog": (0.7, 0.6, 0.22, 0.5, "fur"),
    "sheep": (1.1, 0.85, 0.5, 0.3, "linen"),
    "cow": (1.9, 1.45, 0.65, 0.2, "fur"),
    "horse": (1.9, 1.6, 0.5, 0.9, "fur"),
}

TYRE = Paint((0.07, 0.07, 0.07))


def person(random: Random) -> Things:
    """Standing or walking."""
    skin, hair, shirt, trousers = (paint(random, one) for one in ("skin", "fur", "bright", "cloth"))
    sleeve, shin = (skin if random.random() < 0.4 else one for one in (shirt, trousers))
    step, swing, scale = random.uniform((-0.18, -0.15, 0.85), (0.18, 0.15, 1.1))
    made = [
        ("ball", 1, skin, (0, 1.62, 0.02), (0.19, 0.25, 0.21)),
        ("ball", 1, hair, (0, 1.67, -0.02), (0.2, 0.2, 0.22)),
        ("pillar", 2, skin, (0, 1.5, 0), (0.1, 0.1, 0.1)),
        ("box", 2, shirt, (0, 1.18, 0), (0.4, 0.6, 0.22)),
    ]
    for side in (-1, 1):
        x, z = 0.11 * side, step * side
        made.append(("box", 5, trousers, (x, 0.68, z / 2), (0.17, 0.44, 0.18)))
        made.append(("box", 6, shin, (x, 0.26, z), (0.13, 0.42, 0.14)))
        made.append(("box", 6, hair, (x, 0.04, z + 0.05), (0.12, 0.08, 0.26)))
        if random.random() < 0.2:  # an arm that is held out
            made.append(("box", 3, shirt, (0.35 * side, 1.42, 0), (0.3, 0.11, 0.12)))
            made.append(("box", 4, sleeve, (0.63 * side, 1.42, 0), (0.28, 0.09, 0.1)))
        else:
            made.append(("box", 3, shirt, (0.26 * side, 1.3, 0), (0.11, 0.34, 0.13)))
            made.append(("box", 4, sleeve, (0.27 * side, 0.98, swing * side), (0.09, 0.32, 0.1)))
    return [
        Solid(shape, "person", tone, scaled(centre, scale), scaled(size, scale), part=part)
        for shape, part, tone, centre, size in made
    ]


def animal(random: Random, name: str) -> Things:
    """On four legs; one of `ANIMALS`."""
    *sizes, rise, style = ANIMALS[name]
    length, height, thick = (size * factor for size, factor in zip(sizes, random.uniform(0.85, 1.15, 3), strict=True))
    fur = paint(random, style)
    dark, body, head = dimmed(fur, 0.6), height - thick / 2, 0.55 * thick + 0.1 * height
    up, neck, ear = body + rise * thick, 0.4 * thick, body + (rise + 0.25) * thick + 0.45 * head
    return [
        *legs(name, dark, (0.8 * thick, body, 0.95 * length), 0.22 * thick, "pillar"),
        Solid("ball" if name == "sheep" else "box", name, fur, (0, body, 0), (thick, 1.15 * thick, length)),
        Solid("box", name, fur, (0, (body + up) / 2, 0.48 * length), (neck, up - body + 0.5 * thick, neck)),
        Solid("ball", name, fur, (0, up + 0.25 * thick, 0.5 * length + 0.4 * head), scaled((0.75, 0.8, 1.5), head)),
        Solid("box", name, dark, (-0.25 * head, ear, 0.5 * length), scaled((0.15, 0.4, 0.1), head)),
        Solid("box", name, dark, (0.25 * head, ear, 0.5 * length), scaled((0.15, 0.4, 0.1), head)),
        Solid("box", name, dark, (0, body + 0.1 * thick, -0.55 * length), scaled((0.12, 0.8, 0.12), thick)),
    ]


def bird(random: Random) -> Things:
    """With spread wings."""
    size, tone, beak = random.uniform(0.25, 0.45), paint(random, "bright"), paint(random, "wood")
    made = [
        ("ball", tone, (0, 0.6, 0), (0.5, 0.5, 1.0)),
        ("ball", tone, (0, 0.9, 0.5), (0.32, 0.32, 0.36)),
        ("box", beak, (0, 0.88, 0.72), (0.08, 0.08, 0.25)),
        ("box", tone, (0, 0.7, 0), (2.0, 0.06, 0.45)),
        ("box", tone, (0, 0.62, -0.65), (0.3, 0.05, 0.5)),
        ("pillar", beak, (-0.12, 0.2, 0), (0.05, 0.4, 0.05)),
        ("pillar", beak, (0.12, 0.2, 0), (0.05, 0.4, 0.05)),
    ]
    return [Solid(shape, "bird", tone, scaled(at, size), scaled(big, size)) for shape, tone, at, big in made]


def wheels(name: str, width: float, length: float, size: float) -> Things:
    """The four wheels of a vehicle."""
    return [
        Solid("wheel", name, TYRE, (i * (width / 2 - 0.08), size / 2, k * length * 0.32), (0.2, size, size))
        for i in (-1, 1)
        for k in (-1, 1)
    ]


def car(random: Random) -> Things:
    """A body, a cabin of glass under a roof, wheels and lamps."""
    tone, glass, lamp = paint(random, "enamel"), paint(random, "black"), paint(random, "linen", 0.6)
    width, length = random.uniform((1.65, 3.6), (1.85, 4.8))
    rear = Paint((0.7, 0.05, 0.05), glow=0.4)
    return [
        Solid("box", "car", tone, (0, 0.6, 0), (width, 0.6, length)),
        Solid("box", "car", glass, (0, 1.12, -0.1 * length), (width * 0.88, 0.46, 0.52 * length)),
        Solid("box", "car", tone, (0, 1.37, -0.1 * length), (width * 0.86, 0.06, 0.46 * length)),
        *(Solid("box", "car", lamp, (i * width * 0.38, 0.68, length / 2), (0.3, 0.16, 0.06)) for i in (-1, 1)),
        *(Solid("box", "car", rear, (i * width * 0.38, 0.68, -length / 2), (0.3, 0.16, 0.06)) for i in (-1, 1)),
        *wheels("car", width, length, 0.62),
    ]


def coach(random: Random, name: str = "bus") -> Things:
    """A bus, or a train of two waggons."""
    length, width = (random.uniform(8, 12), 2.5) if name == "bus" else (random.uniform(14, 18), 2.9)
    glass = paint(random, "black")
    waggon = [
        Solid("box", name, paint(random, "enamel"), (0, 1.75, 0), (width, 2.7, length)),
        Solid("box", name, glass, (0, 2.15, 0), (width + 0.04, 0.9, length * 0.94)),
        Solid("box", name, glass, (0, 2.1, 0), (width * 0.85, 1.0, length + 0.04)),
        *wheels(name, width, length, 0.95),
    ]
    return waggon if name == "bus" else waggon + place(waggon, z=-length - 0.5)


def cycle(random: Random, name: str = "bicycle") -> Things:
    """A bicycle or a motorbike."""
    tone, rim, seat = paint(random, "enamel"), paint(random, "metal"), paint(random, "black")
    size, thick, body = (0.66, 0.05, (0.05, 0.06, 0.9)) if name == "bicycle" else (0.6, 0.14, (0.3, 0.35, 0.8))
    return [
        *(Solid("wheel", name, TYRE, (0, size / 2, z), (thick, size, size)) for z in (-0.55, 0.55)),
        *(Solid("wheel", name, rim, (0, size / 2, z), (thick + 0.02, size * 0.7, size * 0.7)) for z in (-0.55, 0.55)),
        Solid("box", name, tone, (0, 0.6, 0), body),
        Solid("box", name, tone, (0, 0.7, -0.25), (0.05, 0.3, 0.05)),
        Solid("box", name, tone, (0, 0.75, 0.5), (0.06, 0.65, 0.06)),
        Solid("box", name, seat, (0, 0.85, -0.25), (0.2, 0.1, 0.4)),
        Solid("box", name, seat, (0, 1.05, 0.45), (0.62, 0.05, 0.05)),
    ]


def aeroplane(random: Random) -> Things:
    """On the ground, 8 to 14 m long."""
    size, tone, fin = random.uniform(8, 14), paint(random, "linen"), paint(random, "enamel")
    made = [
        ("ball", tone, (0, 0.16, 0), (0.13, 0.13, 1.0)),
        ("box", tone, (0, 0.14, 0.05), (0.95, 0.02, 0.14)),
        ("box", fin, (0, 0.25, -0.43), (0.02, 0.17, 0.1)),
        ("box", tone, (0, 0.2, -0.43), (0.36, 0.015, 0.08)),
        *(("ball", fin, (x, 0.12, 0.1), (0.05, 0.05, 0.12)) for x in (-0.2, 0.2)),
        *(("wheel", TYRE, (x, 0.05, 0), (0.02, 0.1, 0.1)) for x in (-0.06, 0.06)),
    ]
    return [Solid(shape, "aeroplane", tone, scaled(at, size), scaled(big, size)) for shape, tone, at, big in made]


def boat(random: Random) -> Things:
    """A hull with a cabin and a mast."""
    size, hull, cabin = random.uniform(4, 7), paint(random, "bright"), paint(random, "linen")
    return [
        Solid("ball", "boat", hull, (0, 0.05 * size, 0), scaled((0.34, 0.3, 1.0), size)),
        Solid("box", "boat", cabin, (0, 0.22 * size, -0.1 * size), scaled((0.22, 0.15, 0.35), size)),
        Solid("pillar", "boat", cabin, (0, 0.5 * size, 0.12 * size), scaled((0.02, 0.8, 0.02), size)),
    ]


def bottle(random: Random) -> Things:
    """30 cm high, on a small table."""
    tone, wood = paint(random, "bright"), paint(random, "wood")
    return [
        Solid("pillar", "bottle", tone, (0, 0.7, 0), (0.08, 0.2, 0.08)),
        Solid("ball", "bottle", tone, (0, 0.8, 0), (0.08, 0.08, 0.08)),
        Solid("pillar", "bottle", tone, (0, 0.85, 0), (0.03, 0.1, 0.03)),
        Solid("pillar", "table", wood, (0, 0.58, 0), (0.5, 0.04, 0.5)),
        Solid("pillar", "table", wood, (0, 0.28, 0), (0.06, 0.56, 0.06)),
    ]


def tree(random: Random) -> Things:
    """A trunk and a crown of three balls."""
    height, leaf = random.uniform(4, 9), paint(random, "leaf")
    leaf = leaf._replace(frequency=scaled(leaf.frequency, 0.3))
    made = [Solid("pillar", "tree", paint(random, "wood"), (0, 0.3 * height, 0), (0.3, 0.6 * height, 0.3))]
    for *at, w, h, d in random.uniform((-0.12, 0.6, -0.12, *[0.35] * 3), (0.12, 0.85, 0.12, *[0.55] * 3), (3, 6)):
        made.append(Solid("ball", "tree", leaf, scaled(at, height), (w * height, h * height, d * height)))
    return made


def post(random: Random) -> Things:
    """A street lamp, a traffic light or a sign."""
    metal, kind = paint(random, "metal"), random.integers(3)
    height = (7.0, 3.4, 2.6)[kind]
    made = [Solid("pillar", "pole", metal, (0, height / 2, 0), (0.14, height, 0.14))]
    if kind == 0:
        return [*made, Solid("box", "pole", metal, (0, height, 0.9), (0.25, 0.12, 2.0))]
    if kind == 1:
        lamp = Paint(((0.9, 0.1, 0.1), (0.1, 0.8, 0.2))[random.integers(2)], glow=0.8)
        made.append(Solid("box", "pole", paint(random, "black"), (0, 2.9, 0.1), (0.36, 1.0, 0.3)))
        return [*made, Solid("ball", "pole", lamp, (0, 3.1, 0.25), (0.26, 0.26, 0.1))]
    shape, face = ("box", "ball")[random.integers(2)], paint(random, "enamel")
    return [*made, Solid(shape, "pole", face, (0, 2.4, 0.1), (0.75, 0.75, 0.05))]


def building(random: Random, width: float) -> Things:
    """A block of 10 m depth with rows of windows, its front at z = 0."""
    height = random.uniform(6, 20)
    front, base, roof = (paint(random, style) for style in ("facade", "stone", "wood"))
    return [
        Solid("box", "building", front, (0, height / 2, -5), (width, height, 10)),
        Solid("box", "building", base, (0, 0.5, -5), (width + 0.1, 1.0, 10.1)),
        Solid("box", "building", roof, (0, height + 0.3, -5), (width + 0.4, 0.6, 10.8)),
    ]
