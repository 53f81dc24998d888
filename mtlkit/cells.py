"""The records of one study as cells of a table: what a cell says, and the marks and footnotes that it calls for."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mtlkit import statistics
from mtlkit.selection import by_cell, of_cell
from mtlkit.studies import Study
from mtlkit.tables import number


class Cells:
    """Cells of arms and conditions, judged against the study file.

    Attributes:
        frame: A row per run, of one data variant, as `selection.select` gives it; any column can be shown.
        planned: The (condition, arm) pairs that the study runs.
        runs: The frame by such pairs, as `selection.by_cell` gives it.
        numbers: What the cells said so far, in full precision, a row per number.
    """

    def __init__(self, study: Study, scale: str, frame: pd.DataFrame) -> None:
        self.study, self.seeds, self.frame = study, list(study.seeds(scale)), frame
        self.variant: str = frame["variant"].iloc[0]
        self.planned = set(study.cells())
        self.runs = by_cell(frame)
        said = frame.groupby(["condition", "arm"]).agg({"stale": "sum", "epoch": "median", "learning_rate": "median"})
        self._said = said.to_dict("index")
        self.numbers: list[dict] = []
        self.missing: dict[str, list[int]] = {}
        self.any_stale = False

    def mean(self, condition: str, arm: str, column: str, digits: int, *, signed: bool = False,
             others: Iterable[tuple[str, str]] = (), **also: object) -> str:  # fmt: skip
        """Mean ± half-width of the 95 % t interval over seeds, with its marks; empty where the study runs nothing.

        Args:
            digits: After the point.
            signed: Whether the mean's plus is shown.
            others: The (condition, arm) pairs that the column compares with.
            also: What else the row of `numbers` says.
        """
        if (condition, arm) not in self.planned:
            return ""
        values = of_cell(self.runs, condition, arm, column).dropna()
        mean, half = statistics.interval(values)
        text = number(mean, digits, signed)
        text += f" ±{number(half, digits)}" if half == half else ""
        self.numbers.append(self.facts(condition, arm, column, values) | also | {"mean": mean, "half_width": half})
        return text + self.mark(condition, arm, values.index, others)

    def mark(self, condition: str, arm: str, seeds: Sequence[int], others: Iterable[tuple[str, str]] = ()) -> str:
        """What is appended to a cell that rests on `seeds` of `arm`, and on `others`, (condition, arm) pairs."""
        missing = [seed for seed in self.seeds if seed not in set(seeds)]
        used = [self._said[pair] for pair in ((condition, arm), *others) if pair in self._said]
        old = len(seeds) > 0 and any(said["stale"] for said in used)
        self.any_stale |= old
        if missing:
            self.missing[f"{self.study.label(arm)}, {self.study.label(condition)}"] = missing
        return (f" ({len(seeds)}/{len(self.seeds)})" if missing else "") + (" †" if old else "")

    def facts(self, condition: str, arm: str, metric: str, values: pd.Series) -> dict:
        """What every row of numbers starts with."""
        said = self._said.get((condition, arm), {"stale": 0, "epoch": np.nan, "learning_rate": np.nan})
        return {
            "variant": self.variant,
            "condition": condition,
            "arm": arm,
            "metric": metric,
            "n": len(values),
            "expected": len(self.seeds),
            **said,
        }

    def costs(self, condition: str | None = None) -> dict[str, list[str]]:
        """Columns of cost and learning rate, a row per arm of the study, in a condition or over all of them.

        Times are medians per step on the machine that most of the baseline's runs had, relative to the baseline's:
        times of two machines have no ratio.
        """
        frame = self.frame if condition is None else self.frame[self.frame["condition"] == condition]
        where = {} if condition is None else {"condition": condition}
        baseline = self.study.baseline
        machines = Counter(frame.loc[frame["arm"] == baseline, "machine"]) or Counter(frame["machine"])
        timed = frame[frame["machine"] == machines.most_common(1)[0][0]]
        base = timed.loc[timed["arm"] == baseline, "seconds_per_step"].median()
        names = {"time": f"time, × {self.study.label(baseline)}", "memory": "memory, MB", "rate": "learning rate",
                 "skipped": "steps skipped"}  # fmt: skip
        if not frame["peak_memory_mb"].notna().any():  # it is not measured on every device
            del names["memory"]
        if not (frame["skipped"] > 0).any():
            del names["skipped"]
        columns: dict[str, list[str]] = {label: [] for label in names.values()}
        for arm in self.study.arms:
            rows, mine = timed[timed["arm"] == arm], frame[frame["arm"] == arm]
            seconds, memory = rows["seconds_per_step"].median(), rows["peak_memory_mb"].median()
            shown = {"time": number(seconds / base, 2), "memory": number(memory, 0),
                     "rate": _range(mine["learning_rate"]), "skipped": _percent(mine["skipped"])}  # fmt: skip
            for name, label in names.items():
                columns[label].append(shown[name])
            known = {"time_ratio": seconds / base, "seconds_per_step": seconds, "peak_memory_mb": memory}
            self.numbers += [{**where, "arm": arm, "metric": name, "mean": value} for name, value in known.items()]
        return columns

    def notes(self, limit: int = 12) -> list[str]:
        """Footnotes, of all that was marked so far."""
        notes = []
        if self.missing:
            named = [f"{where}: {_seeds(seeds, len(self.seeds))}" for where, seeds in self.missing.items()]
            rest = f"; and {len(named) - limit} more cells" if len(named) > limit else ""
            notes.append(f"Incomplete (seeds there/expected); missing: {'; '.join(named[:limit])}{rest}.")
        if self.any_stale:
            notes.append("† rests on records made with other code than today's.")
        return notes


def decimals(values: pd.Series, digits: int = 3) -> int:
    """After the point, for so many significant digits of the typical value."""
    typical = float(values.abs().median())
    return int(np.clip(digits - 1 - np.floor(np.log10(typical)), 0, 6)) if typical > 0 else digits


def arm_labels(study: Study, arms: Iterable[str]) -> pd.Index:
    """The index of a table with a row per arm."""
    return pd.Index([study.label(arm) for arm in arms], name="method")


def _seeds(missing: list[int], expected: int) -> str:
    return "all" if len(missing) == expected else f"seed{'s'[: len(missing) > 1]} {', '.join(map(str, missing))}"


def _range(rates: pd.Series) -> str:
    known = sorted(set(rates))
    return f"{known[0]:g}" + (f" to {known[-1]:g}" if len(known) > 1 else "") if known else "–"


def _percent(shares: pd.Series) -> str:
    """Mean, and the greatest where runs differ."""
    if shares.empty:
        return "–"
    most = f" (up to {shares.max():.0%})" if shares.max() - shares.mean() >= 0.005 else ""
    return f"{shares.mean():.0%}{most}"
