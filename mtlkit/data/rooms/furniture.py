"""Furniture and what lies or hangs about: lists of solids that stand at the origin and face +z; sizes in metres.

Sizes, colours and patterns are drawn; the names of the solids are those of the 13 classes of NYUv2.
"""

import math

from mtlkit.data.rooms.parts import Random, Things, dimmed, legs, paint, place
from mtlkit.data.rooms.ray_caster import Paint, Solid


def chair(random: Random) -> Things:
    """With four legs, or an office chair."""
    tone, seat = paint(random, "wood"), paint(random, "cloth")
    width, back = random.uniform(0.42, 0.52), random.uniform(0.4, 0.6)
    made = [
        Solid("box", "chair", seat, (0, 0.45, 0), (width, 0.07, width)),
        Solid("box", "chair", seat, (0, 0.47 + back / 2, 0.03 - width / 2), (width, back, 0.06)),
    ]
    if random.random() < 0.7:
        return made + legs("chair", tone, (width, 0.45, width), 0.05)
    made.append(Solid("pillar", "chair", tone, (0, 0.25, 0), (0.07, 0.4, 0.07)))
    made.append(Solid("pillar", "chair", tone, (0, 0.05, 0), (0.55, 0.07, 0.55)))
    return made


def table(random: Random, low: bool = False) -> Things:
    """Rectangular or round, its top first, with small things on it."""
    tone, height = paint(random, "wood"), random.uniform(0.38, 0.48) if low else random.uniform(0.7, 0.78)
    width, depth = random.uniform(0.9, 1.7), random.uniform(0.55, 0.9)
    if random.random() < 0.25:
        width = depth = max(0.8, depth)
        made = [
            Solid("pillar", "table", tone, (0, height, 0), (width, 0.05, width)),
            Solid("pillar", "table", tone, (0, height / 2, 0), (0.12, height, 0.12)),
            Solid("pillar", "table", tone, (0, 0.03, 0), (0.5, 0.05, 0.5)),
        ]
    else:
        made = [Solid("box", "table", tone, (0, height, 0), (width, 0.05, depth))]
        made += legs("table", tone, (width * 0.95, height, depth * 0.92), random.uniform(0.05, 0.09))
    return made + on_top(random, height + 0.025, width, depth)


def desk(random: Random) -> Things:
    """A table with a screen, and a chair before it."""
    wood, height = paint(random, "wood"), random.uniform(0.7, 0.76)
    width, depth = random.uniform(1.0, 1.6), random.uniform(0.6, 0.8)
    return [
        Solid("box", "table", wood, (0, height, 0), (width, 0.05, depth)),
        *legs("table", wood, (width * 0.95, height, depth * 0.92), 0.06),
        *place(screen(random, random.uniform(0.5, 0.7)), random.uniform(-0.2, 0.2), -0.1, 0, height + 0.025),
        *place(chair(random), 0, 0.62, math.pi + random.uniform(-0.6, 0.6)),
    ]


def on_top(random: Random, height: float, width: float, depth: float) -> Things:
    """Up to three small things or piles of books on a surface."""
    made = []
    for _ in range(random.integers(0, 4)):
        x, z, yaw = random.uniform(-1, 1, 3) * (0.35 * width, 0.3 * depth, 3)
        made += place(pile(random) if random.random() < 0.3 else small(random), x, z, yaw, height)
    return made


def small(random: Random, scale: float = 1.0) -> Things:
    """A ball, a carton, a vase with a bush, or a lamp."""
    tone, size, kind = paint(random, "bright"), scale * random.uniform(0.12, 0.3), random.integers(4)
    if kind == 0:
        return [Solid("ball", "objects", tone, (0, size / 2, 0), (size, size, size))]
    if kind == 1:
        return [Solid("box", "objects", tone, (0, size * 0.4, 0), (size * 1.3, size * 0.8, size))]
    if kind == 2:
        leaf = paint(random, "leaf")
        return [
            Solid("pillar", "objects", tone, (0, size * 0.6, 0), (size * 0.6, size * 1.2, size * 0.6)),
            Solid("ball", "objects", leaf, (0, size * 1.5, 0), (size, size, size)),
        ]
    shade = paint(random, "linen", 0.5)
    return [
        Solid("pillar", "objects", tone, (0, size * 0.7, 0), (size * 0.15, size * 1.4, size * 0.15)),
        Solid("pillar", "objects", shade, (0, size * 1.6, 0), (size, size * 0.8, size)),
    ]


def plant(random: Random, name: str = "objects") -> Things:
    """A bush in a pot."""
    size, leaf = random.uniform(0.4, 0.9), paint(random, "leaf")
    made = [Solid("pillar", name, paint(random, "wood"), (0, 0.18 * size, 0), (0.36 * size, 0.36 * size, 0.36 * size))]
    for x, y, z in random.uniform((-0.2, 0.5, -0.2), (0.2, 0.9, 0.2), (4, 3)) * size:
        made.append(Solid("ball", name, leaf, (x, y, z), (0.45 * size, 0.4 * size, 0.45 * size)))
    return made


def pile(random: Random) -> Things:
    """Books that lie on each other."""
    turns = random.uniform(-0.3, 0.3, random.integers(2, 5))
    return [
        Solid("box", "books", paint(random, "bright"), (0, 0.025 + 0.05 * k, 0), (0.24, 0.05, 0.17), turn)
        for k, turn in enumerate(turns)
    ]


def shelf(random: Random) -> Things:
    """Boards with rows of books."""
    tone, width, boards = paint(random, "wood"), random.uniform(0.7, 1.2), random.integers(3, 6)
    pitch = random.uniform(0.34, 0.42)
    height = boards * pitch + 0.05
    made = [Solid("box", "furniture", tone, (i * width / 2, height / 2, 0), (0.04, height, 0.3)) for i in (-1, 1)]
    made.append(Solid("box", "furniture", tone, (0, height / 2, -0.14), (width, height, 0.02)))
    for board in range(boards + 1):
        base = 0.05 + board * pitch
        made.append(Solid("box", "furniture", tone, (0, base - 0.02, 0), (width, 0.035, 0.3)))
        x, end = 0.03 - width / 2, width * random.uniform(0.1, 0.48)
        while board < boards and x < end:
            thick, tall, out = random.uniform((0.05, 0.55 * pitch, -0.01), (0.12, 0.85 * pitch, 0.03))
            book = paint(random, "bright")
            made.append(Solid("box", "books", book, (x + thick / 2, base + tall / 2, out), (thick * 0.94, tall, 0.2)))
            x += thick
    return made


def cabinet(random: Random) -> Things:
    """A wardrobe, or a chest of drawers with small things on it."""
    tone, tall = paint(random, "wood"), random.random() < 0.35
    height = random.uniform(1.7, 2.1) if tall else random.uniform(0.5, 1.0)
    width, depth = random.uniform(0.7, 1.5), random.uniform(0.4, 0.6)
    gaps = (1 / 0.45, 0, 0) if tall else (0, 1 / 0.25, 0)
    front = Paint(tone.colour, dimmed(tone, 0.6).colour, gaps, (0.5, 0.1, 0), 0.85)
    made = [
        Solid("box", "furniture", front, (0, height / 2, 0), (width, height, depth)),
        Solid("box", "furniture", tone, (0, height, 0), (width + 0.04, 0.03, depth + 0.04)),
    ]
    return made if tall else made + on_top(random, height + 0.015, width, depth)


def screen(random: Random, width: float, name: str = "tv") -> Things:
    """A television or monitor on a foot."""
    height, shine, black = width * 0.6, paint(random, "black", 0.4), paint(random, "black")
    return [
        Solid("box", name, black, (0, 0.08 + height / 2, 0), (width, height, 0.06)),
        Solid("box", name, shine, (0, 0.08 + height / 2, 0.01), (width * 0.93, height * 0.9, 0.06)),
        Solid("box", name, black, (0, 0.04, 0), (width * 0.3, 0.08, 0.2)),
    ]


def media(random: Random) -> Things:
    """A television on a low cabinet."""
    height, width = random.uniform(0.4, 0.6), random.uniform(1.2, 1.7)
    base = Solid("box", "furniture", paint(random, "wood"), (0, height / 2, 0), (width, height, 0.45))
    return [base, *place(screen(random, random.uniform(0.7, 1.2)), y=height)]


def bed(random: Random) -> Things:
    """A frame, a mattress, a blanket and pillows; the head is at the back."""
    width, frame, cover = random.uniform(0.95, 1.8), paint(random, "wood"), paint(random, "cloth")
    sheet, head = paint(random, "linen"), random.uniform(0.8, 1.2)
    pillows = (0.0,) if width < 1.3 else (-0.24, 0.24)
    return [
        Solid("box", "bed", frame, (0, 0.16, 0), (width, 0.28, 2.0)),
        Solid("box", "bed", sheet, (0, 0.42, 0), (width * 0.97, 0.26, 1.95)),
        Solid("box", "bed", cover, (0, 0.45, 0.3), (width, 0.27, 1.42)),
        Solid("box", "bed", frame, (0, head / 2, -1.02), (width, head, 0.07)),
        *(Solid("ball", "bed", sheet, (x * width, 0.62, -0.72), (0.42 * width, 0.2, 0.4)) for x in pillows),
    ]


def sofa(random: Random, single: bool = False) -> Things:
    """With arms and cushions; an armchair if single."""
    width, tone = random.uniform(0.85, 1.0) if single else random.uniform(1.5, 2.3), paint(random, "cloth")
    seats, seat = 1 if single else round(width / 0.75), dimmed(tone, 1.15)
    made = [
        Solid("box", "sofa", tone, (0, 0.2, 0), (width, 0.34, 0.85)),
        Solid("box", "sofa", tone, (0, 0.45, -0.35), (width, 0.8, 0.2)),
        *(Solid("box", "sofa", tone, (i * (width - 0.18) / 2, 0.33, 0), (0.18, 0.6, 0.85)) for i in (-1, 1)),
    ]
    each = (width - 0.36) / seats
    for k in range(seats):
        x = (k - (seats - 1) / 2) * each
        made.append(Solid("box", "sofa", seat, (x, 0.42, 0.07), (each * 0.97, 0.14, 0.72)))
        if random.random() < 0.4:
            made.append(Solid("ball", "sofa", paint(random, "bright"), (x, 0.65, -0.17), (0.45, 0.4, 0.2)))
    return made


def picture(random: Random) -> Things:
    """A framed picture, its middle at the origin."""
    width, height = random.uniform((0.35, 0.3), (1.0, 0.8))
    frame, inside, blot = (paint(random, style) for style in ("wood", "bright", "bright"))
    shape = ("box", "ball")[random.integers(2)]
    return [
        Solid("box", "picture", frame, (0, 0, 0.015), (width, height, 0.03)),
        Solid("box", "picture", inside, (0, 0, 0.02), (width * 0.85, height * 0.82, 0.03)),
        Solid(shape, "picture", blot, (0.1 * width, -0.1 * height, 0.022), (width * 0.4, height * 0.4, 0.035)),
    ]


def window(random: Random) -> Things:
    """Two panes in a frame, at times between curtains, its middle at the origin."""
    width, height, day = random.uniform((0.8, 0.9, 0.75), (1.6, 1.4, 1.0))
    sky, ground = (0.75 * day, 0.87 * day, day), (0.6 * day, 0.75 * day, 0.65 * day)
    pane = Paint(sky, ground, (0, 0.5 / height, 0), (0, 0.5, 0), 0.0, 0.9)
    made = [Solid("box", "window", paint(random, "linen"), (0, 0, 0.02), (width, height, 0.04))]
    for k in (-1, 1):
        made.append(Solid("box", "window", pane, (k * width * 0.24, 0, 0.03), (width * 0.43, height * 0.9, 0.04)))
    if random.random() < 0.5:
        cloth, drawn = paint(random, "cloth"), random.uniform(0.15, 0.4)
        for k in (-1, 1):
            middle = (k * width * (0.62 - drawn / 2), -0.05, 0.07)
            made.append(Solid("box", "window", cloth, middle, (width * drawn, height * 1.2, 0.06)))
    return made
