"""Learning rates over a run: the factor of the first rate, by name."""

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "constant": lambda done, epoch: 1.0,
    "step": lambda done, epoch: 0.5 ** (epoch // 100),
    "poly": lambda done, epoch: (1 - done) ** 0.9,
    "linear": lambda done, epoch: 1 - done,
    "cosine": lambda done, epoch: 0.5 * (1 + math.cos(math.pi * done)),
}
"""`factor(done, epoch)`: the share of all steps that are done, in [0, 1), and the number of epochs that are done.

`step` halves the rate every 100 epochs (RLW on NYUv2 and CityScapes), `poly` is that of PASCAL-Context there, `linear`
that of XTREME without a warm-up, `cosine` that of Auto-Lambda.
"""
