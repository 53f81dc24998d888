"""Drawn faces with forty attributes that can be seen in the picture: the stand-in for CelebA.

Attributes have CelebA's names but for `Attractive`, which cannot be drawn: in its place the face has `Freckles`. `Male`
is a broad jaw and neck, `Young` a forehead without wrinkles. How often each occurs is about as in CelebA (rare ones
more often), and so is what goes together: beards with a broad jaw, lipstick with make-up, grey hair with wrinkles.
What would be hidden is not there: a bald head has no bangs, and one under a hat is not called bald.
"""

import numpy as np

from mtlkit.data.faces.drawing import HAIR, Array, Drawing

CHANCES = {
    "5_o_Clock_Shadow": (0.4, 0.0), "Arched_Eyebrows": (0.08, 0.4), "Freckles": (0.15, 0.25),
    "Bags_Under_Eyes": (0.3, 0.14), "Bald": (0.14, 0.0), "Bangs": (0.1, 0.22), "Big_Lips": (0.15, 0.3),
    "Big_Nose": (0.4, 0.12), "Black_Hair": (0.3, 0.2), "Blond_Hair": (0.06, 0.24), "Blurry": (0.08, 0.06),
    "Brown_Hair": (0.2, 0.26), "Bushy_Eyebrows": (0.26, 0.06), "Chubby": (0.13, 0.05), "Double_Chin": (0.1, 0.06),
    "Eyeglasses": (0.16, 0.06), "Goatee": (0.35, 0.0), "Gray_Hair": (0.13, 0.03), "Heavy_Makeup": (0.0, 0.6),
    "High_Cheekbones": (0.3, 0.4), "Male": (1.0, 0.0), "Mouth_Slightly_Open": (0.4, 0.5), "Mustache": (0.14, 0.0),
    "Narrow_Eyes": (0.13, 0.11), "No_Beard": (0.6, 1.0), "Oval_Face": (0.22, 0.34), "Pale_Skin": (0.05, 0.08),
    "Pointy_Nose": (0.18, 0.36), "Receding_Hairline": (0.16, 0.05), "Rosy_Cheeks": (0.02, 0.15),
    "Sideburns": (0.25, 0.0), "Smiling": (0.4, 0.54), "Straight_Hair": (0.24, 0.2), "Wavy_Hair": (0.15, 0.58),
    "Wearing_Earrings": (0.03, 0.32), "Wearing_Hat": (0.1, 0.05), "Wearing_Lipstick": (0.0, 0.6),
    "Wearing_Necklace": (0.03, 0.2), "Wearing_Necktie": (0.18, 0.01), "Young": (0.65, 0.85),
}  # fmt: skip
"""Of every attribute, in CelebA's order: for faces with a broad jaw, for others. The rules of `attributes` follow."""

ATTRIBUTES = tuple(CHANCES)
BROAD = 0.42
"""Share of broad jaws."""

CHUNK = 64
"""Faces that are drawn at a time."""


def draw(count: int, size: int, seed: int) -> tuple[Array, Array]:
    """The first `count` faces of a seed: images (N, 3, size, size) uint8 and attributes (N, 40) in {0, 1}, uint8."""
    images = np.empty((count, 3, size, size), np.uint8)
    seen = np.empty((count, len(ATTRIBUTES)), np.uint8)
    for start in range(0, count, CHUNK):
        random = np.random.default_rng([seed, start])
        here = slice(start, min(start + CHUNK, count))
        has = attributes(random)
        drawn = Drawing(has, size, random).finished()
        images[here] = (drawn.clip(0, 1) * 255).round()[: here.stop - start]
        seen[here] = np.stack(list(has.values()), 1)[: here.stop - start]
    return images, seen


def attributes(random: np.random.Generator) -> dict[str, Array]:
    """The attributes of `CHUNK` faces, by name, (N,) bool."""
    chances = np.array(list(CHANCES.values()))
    broad = random.random(CHUNK) < BROAD
    drawn = random.random((CHUNK, len(CHANCES))) < np.where(broad[:, None], chances[:, 0], chances[:, 1])
    has = dict(zip(CHANCES, drawn.T, strict=True))
    tone = random.random(CHUNK)  # one hair colour at most, in the proportions of their chances
    edges = np.where(broad, *(np.cumsum([CHANCES[name][k] for name in HAIR])[:, None] for k in (0, 1)))
    for name, low, high in zip(HAIR, np.vstack([0 * tone, edges[:-1]]), edges, strict=True):
        has[name] = (low <= tone) & (tone < high)
    has["Young"] &= ~has["Gray_Hair"]
    has["Bald"] &= ~has["Wearing_Hat"]
    for name in ("Bangs", "Receding_Hairline"):
        has[name] &= ~has["Bald"] & ~has["Wearing_Hat"]
    has["Receding_Hairline"] &= ~has["Bangs"]
    for name in (*HAIR, "Straight_Hair", "Wavy_Hair", "Sideburns"):
        has[name] &= ~has["Bald"]
    has["Wavy_Hair"] &= ~has["Straight_Hair"]
    has["Sideburns"] &= ~has["Straight_Hair"] & ~has["Wavy_Hair"]
    has["Goatee"] &= ~has["No_Beard"]
    has["5_o_Clock_Shadow"] &= has["No_Beard"]
    has["Wearing_Lipstick"] |= has["Heavy_Makeup"] & (random.random(CHUNK) < 0.7)
    has["High_Cheekbones"] |= has["Smiling"] & (random.random(CHUNK) < 0.4)
    has["Chubby"] &= ~has["Oval_Face"]
    has["Double_Chin"] |= has["Chubby"] & (random.random(CHUNK) < 0.4)
    has["Wearing_Necktie"] &= ~has["Wearing_Necklace"]
    has["Rosy_Cheeks"] &= ~has["Freckles"]
    return has
