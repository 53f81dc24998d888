"""How faces are drawn: shapes, and the layers that are painted with them, for many faces at once."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Number = Array | float
"""One for all faces, or one for each, (N,)."""

Pick = Callable[[Number], Any]
Shape = Callable[[Array, Array, Pick], Array]
"""`shape(u, v, of)` gives about the distance of places (u, v) from the edge of a shape, negative inside; `of` gives
a number in a form that goes with u and v."""

HAIR = {
    "Black_Hair": (0.07, 0.06, 0.06),
    "Blond_Hair": (0.93, 0.8, 0.42),
    "Brown_Hair": (0.36, 0.22, 0.11),
    "Gray_Hair": (0.72, 0.72, 0.74),
}
"""Colours by attribute; hair with none of them is red."""


def _ellipse(x: Number, y: Number, a: Number, b: Number) -> Shape:
    """About (x, y), with half-axes a and b."""
    return lambda u, v, of: (np.hypot((u - of(x)) / of(a), (v - of(y)) / of(b)) - 1) * np.minimum(of(a), of(b))


def _box(left: Number, right: Number, top: Number, bottom: Number) -> Shape:
    return lambda u, v, of: np.maximum(np.maximum(of(left) - u, u - of(right)), np.maximum(of(top) - v, v - of(bottom)))


def _stroke(x: Number, y: Number, half: Number, bend: Number, width: Number, taper: bool = False) -> Shape:
    """A stroke about (x, y), 2 half long and 2 width thick, whose ends lie lower than its middle by `bend`."""

    def shape(u: Array, v: Array, of: Pick) -> Array:
        along = ((u - of(x)) / of(half)) ** 2
        thick = of(width) * (1 - along) if taper else of(width)
        return np.maximum(np.abs(v - of(y) - of(bend) * along) - thick, (along - 1) * of(half))

    return shape


def _slash(x: Number, y: Number, slope: float, half: float, width: float) -> Shape:
    """A straight stroke about (x, y), whose right end is lower for a positive slope."""
    return lambda u, v, of: np.maximum(np.abs(v - of(y) - slope * (u - of(x))) - width, np.abs(u - of(x)) - half)


def _all(*shapes: Shape) -> Shape:
    """What lies in every one of the shapes."""
    return lambda u, v, of: np.maximum.reduce([shape(u, v, of) for shape in shapes])


def _any(*shapes: Shape) -> Shape:
    """What lies in one of the shapes."""
    return lambda u, v, of: np.minimum.reduce([shape(u, v, of) for shape in shapes])


def _not(shape: Shape) -> Shape:
    return lambda u, v, of: -shape(u, v, of)


def _pair(shape: Shape) -> Shape:
    """The shape and its mirror image."""
    return lambda u, v, of: shape(np.abs(u), v, of)


class Drawing:
    """Faces, painted layer by layer, each in a frame of its own: u to the right and v down, the eyes at v = -0.14, the
    chin at about 0.5. Where the frame lies, its tilt and its scale differ from face to face, as do colours and light.
    """

    def __init__(self, has: Mapping[str, Array], size: int, random: np.random.Generator) -> None:
        self.has, self.size, self.random, self.count = has, size, random, len(has["Male"])
        steps = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[:, None]
        left, up = self._number(-0.05, 0.05), self._number(-0.05, 0.05)
        tilt, self.scale = self._number(-0.12, 0.12), self._number(0.92, 1.08)
        x, y = steps.T - left[:, None, None], steps - up[:, None, None]
        cosine, sine = (turn(tilt)[:, None, None] / self.scale[:, None, None] for turn in (np.cos, np.sin))
        self.u, self.v = cosine * x + sine * y, cosine * y - sine * x
        top, bottom = self._colour(0.2, 0.95)[..., None, None], self._colour(0.2, 0.95)[..., None, None]
        self.image = top + (bottom - top) * (steps + 1) / 2 + np.zeros((1, 1, 1, size), np.float32)

    def finished(self) -> Array:
        """(N, 3, size, size), about in [0, 1]."""
        self._choose()
        self._behind()
        self._head()
        self._eyes()
        self._nose_and_cheeks()
        self._mouth()
        self._beard()
        self._hair()
        self._brows()
        self._worn()
        return self._photographed()

    def _number(self, low: float, high: float) -> Array:
        return self.random.uniform(low, high, self.count).astype(np.float32)

    def _colour(self, low: float, high: float) -> Array:
        return self.random.uniform(low, high, (self.count, 3)).astype(np.float32)

    def _if(self, name: str, yes: float, no: float) -> Array:
        return np.where(self.has[name], np.float32(yes), np.float32(no))

    def _paint(self, limits: tuple[float, float], shape: Shape, colour: Any, where: Array | None = None,
               strength: float = 1.0) -> None:  # fmt: skip
        """Paint a shape, which lies between these limits of v, onto the faces `where`."""
        pick = slice(None) if where is None else np.flatnonzero(where)
        low, high = (edge * 1.08 + 1 + slack for edge, slack in zip(limits, (-0.2, 0.2), strict=True))
        rows = slice(max(int(low * self.size / 2), 0), int(high * self.size / 2) + 1)

        def of(number: Number) -> Any:
            return number[pick][:, None, None] if isinstance(number, np.ndarray) else np.float32(number)

        distance = shape(self.u[pick, rows], self.v[pick, rows], of)
        alpha = (0.5 - distance * of(self.scale) * (self.size / 2)).clip(0, 1) * np.float32(strength)
        colour = np.asarray(colour, np.float32)
        colour = (colour[pick] if colour.ndim == 2 else colour[None])[..., None, None]
        self.image[pick, :, rows] += alpha[:, None] * (colour - self.image[pick, :, rows])

    def _choose(self) -> None:
        """Colours and measures that several layers share."""
        has, dark = self.has, self._number(0, 1)[:, None]
        self.skin = np.float32([0.93, 0.72, 0.56]) * (1 - dark) + np.float32([0.5, 0.33, 0.23]) * dark
        self.skin[has["Pale_Skin"]] = [1.0, 0.93, 0.9]
        self.shade = self.skin * 0.68
        self.hair = np.tile(np.float32([0.62, 0.2, 0.08]), (self.count, 1))
        for name, colour in HAIR.items():
            self.hair[has[name]] = colour
        self.hair += self._colour(-0.04, 0.04)
        self.half = self._number(-0.02, 0.02) + 0.48 + self._if("Chubby", 0.12, 0) - self._if("Oval_Face", 0.07, 0)
        self.high = self._number(-0.02, 0.02) + 0.57 + self._if("Oval_Face", 0.09, 0)
        self.chin = self.high - 0.08

    def _skull(self, more: float = 0.0) -> Shape:
        """The outline of the face: an ellipse whose lower half is nearly square where the jaw is broad."""
        power = self._if("Male", 3.2, 2.0)

        def shape(u: Array, v: Array, of: Pick) -> Array:
            x, y = np.abs(u) / of(self.half + np.float32(more)), (v + 0.08) / of(self.high + np.float32(more))
            p = np.where(y > 0, of(power), 2)
            return ((x**p + np.abs(y) ** p) ** (1 / p) - 1) * of(self.half)

        return shape

    def _behind(self) -> None:
        """Long hair, the neck and the shoulders."""
        wave = self._number(0, 6)

        def long(u: Array, v: Array, of: Pick) -> Array:
            edge = of(self.half) + 0.14 + of(self._if("Wavy_Hair", 0.07, 0)) * np.sin(17 * v + of(wave))
            return np.maximum(np.abs(u) - edge, np.maximum(v - 0.72, -0.35 - v))

        self._paint((0.7, 1.1), _ellipse(0, 1.18, self._if("Male", 0.98, 0.8), 0.42), self._colour(0.1, 0.9))
        self._paint((-0.4, 0.8), long, self.hair * 0.85, self.has["Straight_Hair"] | self.has["Wavy_Hair"])
        neck = self._if("Male", 0.31, 0.19)
        self._paint((0.2, 0.9), _box(-neck, neck, 0.2, 0.86), self.shade)
        self._paint((0.7, 1.0), _ellipse(0, 0.84, neck, 0.08), self.shade)

    def _head(self) -> None:
        """Ears, face, a second chin, wrinkles."""
        self._paint((-0.2, 0.1), _pair(_ellipse(self.half, -0.04, 0.08, 0.13)), self.shade)
        double = self.has["Double_Chin"]
        self._paint((0.2, 0.8), _ellipse(0, self.chin - 0.03, self.half * 0.75, 0.17), self.skin * 0.9, double)
        self._paint((-0.75, 0.65), self._skull(), self.skin)
        self._paint((0.2, 0.7), _stroke(0, self.chin - 0.01, 0.3, -0.16, 0.022), self.shade, double)
        old = ~self.has["Young"]
        lines = _any(_stroke(0, -0.36, 0.24, 0.02, 0.013), _stroke(0, -0.43, 0.18, 0.02, 0.013))
        self._paint((-0.5, -0.3), lines, self.shade, old)
        self._paint((0.1, 0.3), _pair(_slash(0.22, 0.18, 2, 0.05, 0.035)), self.shade, old)

    def _eyes(self) -> None:
        has, height = self.has, self._if("Narrow_Eyes", 0.025, 0.065)
        eye, look = _pair(_ellipse(0.21, -0.14, 0.11, height)), self._number(-0.02, 0.02)
        powder = self.random.permuted(np.tile(np.float32([0.25, 0.35, 0.75]), (self.count, 1)), axis=1)
        self._paint((-0.3, 0), _pair(_ellipse(0.21, -0.18, 0.15, 0.1)), powder, has["Heavy_Makeup"], 0.75)
        self._paint((-0.15, 0.1), _pair(_stroke(0.21, 0, 0.11, -0.05, 0.02)), self.skin * 0.55, has["Bags_Under_Eyes"])
        self._paint((-0.25, 0), eye, (0.97, 0.97, 0.97))
        for radius, colour in ((0.052, self._colour(0.1, 0.5)), (0.024, (0.02, 0.02, 0.02))):
            both = _any(_ellipse(0.21 + look, -0.14, radius, radius), _ellipse(look - 0.21, -0.14, radius, radius))
            self._paint((-0.25, 0), _all(eye, both), colour)
        lid = _stroke(0.21, -0.14 - height, 0.12, 0.04, self._if("Heavy_Makeup", 0.024, 0.011))
        self._paint((-0.25, -0.05), _pair(lid), (0.1, 0.07, 0.06))

    def _nose_and_cheeks(self) -> None:
        has = self.has
        cheek = _pair(_ellipse(0.31, 0.09, 0.13, 0.1))
        dots = _all(cheek, lambda u, v, of: (0.25 - np.sin(46 * u) * np.sin(46 * v)) / 46)
        self._paint((-0.1, 0.25), cheek, (0.95, 0.35, 0.4), has["Rosy_Cheeks"], 0.55)
        self._paint((-0.1, 0.25), dots, self.skin * 0.5, has["Freckles"])
        self._paint((0, 0.3), _pair(_slash(0.33, 0.15, -0.7, 0.11, 0.03)), self.shade, has["High_Cheekbones"])
        width, tip, flesh = self._if("Big_Nose", 0.15, 0.085), self._if("Big_Nose", 0.14, 0.11), self.skin * 0.74

        def wedge(u: Array, v: Array, of: Pick) -> Array:
            return np.maximum(np.abs(u) - of(width) * (v + 0.2) / of(tip + 0.2), v - of(tip))

        self._paint((-0.2, 0.2), wedge, flesh, has["Pointy_Nose"])
        round_tip = _ellipse(0, tip - 0.04, width, self._if("Big_Nose", 0.085, 0.055))
        self._paint((-0.1, 0.2), round_tip, flesh, ~has["Pointy_Nose"])
        self._paint((0, 0.2), _pair(_ellipse(width * 0.45, tip - 0.02, 0.025, 0.018)), self.skin * 0.35)

    def _mouth(self) -> None:
        has, open_ = self.has, self.has["Mouth_Slightly_Open"]
        bend, half = self._if("Smiling", -0.11, 0.02), self._if("Smiling", 0.24, 0.17)
        y, gap = self._if("Smiling", 0.31, 0.28), self._if("Mouth_Slightly_Open", 0.055, 0)
        lips = np.where(has["Wearing_Lipstick"][:, None], np.float32([0.78, 0.05, 0.2]), self.skin * [0.85, 0.6, 0.6])
        within = _stroke(0, y, half * 0.85, bend * 0.72, gap, taper=True)
        self._paint((0.1, 0.45), _stroke(0, y, half, bend, self._if("Big_Lips", 0.095, 0.035) + gap, taper=True), lips)
        self._paint((0.1, 0.45), within, (0.2, 0.03, 0.05), open_)
        self._paint((0.1, 0.45), _all(within, _stroke(0, y - 0.025, half, bend, 0.025)), (0.97, 0.97, 0.95), open_)
        self._paint((0.1, 0.45), _stroke(0, y, half, bend, 0.012, taper=True), lips * 0.5, ~open_)

    def _beard(self) -> None:
        has, hair = self.has, self.hair * 0.9
        bare = _any(_ellipse(0, 0.06, 0.34, 0.16), _ellipse(0, 0.28, 0.25, 0.1), _box(-1, 1, -1, 0.14))
        below = _all(self._skull(), _not(bare))
        self._paint((0.1, 0.6), below, (0.3, 0.32, 0.36), has["5_o_Clock_Shadow"], 0.4)
        self._paint((0.1, 0.6), below, hair, ~has["No_Beard"] & ~has["Goatee"])
        self._paint((0.3, 0.7), _ellipse(0, self.chin - 0.03, 0.13, 0.12), hair, has["Goatee"])
        self._paint((0.1, 0.3), _stroke(0, 0.18, 0.22, 0.05, 0.035), hair, has["Mustache"])
        burns = _pair(_box(self.half - 0.1, self.half + 0.01, -0.3, 0.16))
        self._paint((-0.3, 0.2), burns, self.hair, has["Sideburns"])

    def _hair(self) -> None:
        has, fringe = self.has, self._number(0, 6)
        line = -0.44 + self._if("Bangs", 0.2, 0) - self._if("Receding_Hairline", 0.04, 0)
        slope, teeth = self._if("Receding_Hairline", -0.35, 0.0), self._if("Bangs", 0.03, 0)

        def cap(u: Array, v: Array, of: Pick) -> Array:
            edge = of(line) + of(slope) * np.abs(u) + 0.5 * u**2 + of(teeth) * np.sin(30 * u + of(fringe))
            return v - edge

        self._paint((-0.85, 0.1), _all(self._skull(0.09), cap), self.hair, ~has["Bald"])
        locks = _pair(_box(self.half - 0.06, self.half + 0.14, -0.35, 0.5))
        self._paint((-0.4, 0.5), _all(locks, _not(self._skull(-0.05))), self.hair, has["Straight_Hair"])
        self._paint((-0.6, -0.4), _ellipse(-0.14, -0.5, 0.11, 0.06), (1, 1, 1), has["Bald"], 0.45)

    def _brows(self) -> None:
        """Above the fringe, which would hide them."""
        brow = _stroke(0.21, self._if("Arched_Eyebrows", -0.36, -0.28), 0.15, self._if("Arched_Eyebrows", 0.15, 0),
                       self._if("Bushy_Eyebrows", 0.05, 0.017))  # fmt: skip
        self._paint((-0.45, -0.15), _pair(brow), self.hair * 0.45)

    def _worn(self) -> None:
        has, hat = self.has, self._colour(0.1, 0.9)
        rim = _ellipse(0.22, -0.13, 0.16, 0.13)
        frame = _pair(lambda u, v, of: np.abs(rim(u, v, of)) - 0.016)
        bars = _pair(_any(_box(-0.07, 0.07, -0.17, -0.14), _box(0.38, 0.5, -0.16, -0.13)))
        self._paint((-0.3, 0.05), _any(frame, bars), self._colour(0, 0.2), has["Eyeglasses"])
        drop = _pair(_ellipse(self.half + 0.06, 0.15, 0.055, 0.075))
        self._paint((0, 0.3), drop, (0.95, 0.8, 0.25), has["Wearing_Earrings"])
        self._paint((0.6, 1), _stroke(0, 0.84, 0.27, -0.16, 0.034), (0.97, 0.94, 0.85), has["Wearing_Necklace"])
        self._paint((0.7, 1), _ellipse(0, 0.84, 0.34, 0.1), (0.97, 0.97, 0.97), has["Wearing_Necktie"])
        tie = lambda u, v, of: np.maximum(np.abs(u) - 0.06 - 0.25 * (v - 0.78), 0.76 - v)  # noqa: E731
        self._paint((0.7, 1.2), tie, self._colour(0, 0.7), has["Wearing_Necktie"])
        dome = _all(_ellipse(0, -0.42, self.half + 0.12, 0.5), _box(-1, 1, -1, -0.38))
        self._paint((-1, -0.3), dome, hat, has["Wearing_Hat"])
        brim = _pair(_box(-1, self.half + 0.22, -0.44, -0.35))
        self._paint((-0.5, -0.3), brim, hat * 0.6, has["Wearing_Hat"])

    def _photographed(self) -> Array:
        """Light from one side, a blur where there is one, and the grain of the camera."""
        across = np.linspace(-1, 1, self.size, dtype=np.float32)
        light = self._number(0.85, 1.1)[:, None] + self._number(-0.15, 0.15)[:, None] * across
        image = self.image * light[:, None, None]
        at = np.flatnonzero(self.has["Blurry"])
        for _ in range(max(1, self.size // 10)):
            for axis in (2, 3):
                ahead, back = (image[at].take((np.arange(self.size) + step).clip(0, self.size - 1), axis)
                               for step in (1, -1))  # fmt: skip
                image[at] = (ahead + 2 * image[at] + back) / 4
        return image + self.random.normal(0, 0.02, image.shape).astype(np.float32)
