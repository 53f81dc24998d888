"""Records as figures need them: by arm and condition, in the order and with the labels of their study."""

from collections.abc import Sequence

import numpy as np

from mtlkit.selection import arm_of, current, evaluation, one_variant
from mtlkit.studies import Study

NEAR = 0.02
"""A weight on flipped samples this near to their share of the samples is not drawn: lines would hide each other."""


class View:
    """Records of one data variant by arm and condition.

    Attributes:
        arms, conditions: Labels by name, of those that have records, in the order of the study.
        places: An arm's place in the study, which gives it the same colour in every figure.
        options: The study's entry of every condition.

    Raises:
        MtlkitError: No records, several data variants, two records for one seed.
    """

    def __init__(self, records: Sequence[dict], study: Study | None) -> None:
        one_variant(records)
        self.records = current(records)
        self._cells: dict[tuple[str, str], list[dict]] = {}
        for record in self.records:
            self._cells.setdefault((arm_of(record), record["condition"]), []).append(record)
        arms = {arm_of(record): {"label": arm_of(record)} for record in records}
        conditions = {record["condition"]: {"label": record["condition"]} for record in records}
        order = {name: study.arms[name] for name in study.arms} if study else {}
        order |= {name: options for name, options in arms.items() if name not in order}
        self.places = {name: place for place, name in enumerate(order)}
        self.arms = {name: options["label"] for name, options in order.items() if name in arms}
        known = {name: study.conditions[name] for name in study.conditions if name in conditions} if study else {}
        self.options = known | {name: options for name, options in conditions.items() if name not in known}
        self.conditions = {name: options["label"] for name, options in self.options.items()}

    def of(self, arm: str, condition: str | None = None) -> list[dict]:
        """The records of an arm, in one condition or in all."""
        if condition is not None:
            return self._cells.get((arm, condition), [])
        return [one for (name, _), found in self._cells.items() if name == arm for one in found]

    def test(self, arm: str, condition: str, metric: str, at: str, by: str) -> np.ndarray:
        """Test metric `(seeds,)`, finite values only."""
        values = [evaluation(one, at, by)["test"].get(metric) for one in self.of(arm, condition)]
        values = np.asarray(values, float)
        return values[np.isfinite(values)]

    def labels(self, arms: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Labels of `arms`, or of all where there are none, and of the conditions."""
        return {arm: self.arms[arm] for arm in arms or self.arms}, self.conditions

    def left_out(self, drawn: Sequence[str], why: str) -> str:
        """A line that names the arms that are not drawn, to be broken between names only."""
        names = [label.replace(" ", "\N{NO-BREAK SPACE}") for arm, label in self.arms.items() if arm not in drawn]
        return f"Not drawn ({why}): {'; '.join(names)}" if drawn and names else ""

    def noise(self) -> dict[str, float] | None:
        """Noise by condition, if the conditions are a grid of it: three or more that differ in nothing else."""
        levels = {name: options.get("noise") for name, options in self.options.items()}
        kinds = [
            {key: value for key, value in options.items() if key not in ("label", "noise")}
            for options in self.options.values()
            if options.get("noise")  # without noise, its kind says nothing
        ]
        grid = len(set(levels.values())) == len(levels) >= 3 and None not in levels.values()
        return levels if grid and all(kind == kinds[0] for kind in kinds) else None


def shares(record: dict) -> np.ndarray:
    """Share of the weight by epoch and task `(epochs, T)`, NaN where an epoch had none; weights need not total 1."""
    weights = np.asarray(record["weights"]["task"], float)
    total = weights.sum(1, keepdims=True)
    return np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)


def moves(record: dict) -> bool:
    """Whether a task's share changes over the epochs by so much that it can be seen."""
    values = shares(record)
    known = values[np.isfinite(values).all(1)]
    return len(known) > 0 and bool(np.ptp(known, 0).max() > 1e-3)


def detects(records: list[dict]) -> bool:
    """Whether the weight on flipped samples leaves their share of the samples, over seeds and a quarter of training."""
    if not records:
        return False
    curves = np.asarray([one["weights"]["flipped_share"] for one in records], float)
    gaps = curves - np.array([[one["weights"]["flipped_fraction"]] for one in records])
    quarters = [part[np.isfinite(part)] for part in np.array_split(gaps, 4, axis=1)]
    return any(abs(part.mean()) > NEAR for part in quarters if part.size)


def spread(record: dict) -> bool:
    """Whether weights differ: more than one bin of the histogram is filled."""
    histogram = record["weights"]["histogram"]
    return np.count_nonzero(np.asarray(histogram["clean"][0]) + np.asarray(histogram["flipped"][0])) > 1
