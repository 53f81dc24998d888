"""Tables from records and study files. Never trains, and no number is typed in here.

The epoch rules `at` and `by` of every function are those of `selection`.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mtlkit import statistics
from mtlkit.errors import MtlkitError, one_of
from mtlkit.metrics import HIGHER_IS_BETTER, LABELS
from mtlkit.selection import EPOCH_RULES, in_study, metrics_of, one_variant, select, with_direction
from mtlkit.studies import Study
from mtlkit.tables import Table, number


def table(
    records: Sequence[dict], study: Study, scale: str, metrics: Sequence[str], at: str = "last", by: str = "loss"
) -> Table:
    """Main-task test metrics: arms by conditions, mean ± half-width of the 95 % t interval over seeds, and costs.

    A cell with missing seeds, judged against the study file, ends in (there/expected); one with stale records in †.

    Raises:
        MtlkitError: No records of the study, several data variants, two records for one seed, an unknown metric.
    """
    cells = _Cells(records, study, scale, metrics, at, by)
    columns, numbers = {}, []
    for condition, options in study.conditions.items():
        for metric in metrics:
            decimals = _decimals(cells.frame[metric])
            column = columns[options["label"], with_direction(metric)] = []
            for arm in study.arms:
                if (condition, arm) not in cells.planned:
                    column.append("")
                    continue
                values = cells.values(condition, arm, metric)
                mean, half = statistics.interval(values)
                text = number(mean, decimals) + (f" ±{number(half, decimals)}" if half == half else "")
                column.append(text + cells.mark(condition, arm, values.index))
                numbers.append(cells.facts(condition, arm, metric, values) | {"mean": mean, "half_width": half})
    costs = _costs(cells.frame, study)
    columns["", f"time, × {study.arms[study.baseline]['label']}"] = [number(cost["time"], 2) for cost in costs]
    if cells.frame["peak_memory_mb"].notna().any():  # it is not measured on every device
        columns["", "memory, MB"] = [number(cost["memory"], 0) for cost in costs]
    columns["", "learning rate"] = [cost["rates"] for cost in costs]
    if (cells.frame["skipped"] > 0).any():
        columns["", "steps skipped"] = [cost["skipped"] for cost in costs]
    for arm, cost in zip(study.arms, costs, strict=True):
        named = {"time_ratio": cost["time"], "seconds_per_step": cost["seconds"], "peak_memory_mb": cost["memory"]}
        numbers += [{"arm": arm, "metric": name, "mean": value} for name, value in named.items()]
    frame = pd.DataFrame(columns, index=_arm_labels(study, study.arms))
    caption = (
        f"{study.name}: test metrics of the main task {EPOCH_RULES[at].format(LABELS[by])}, mean ± half-width "
        f"of the 95 % t interval over {len(study.seeds(scale))} seeds. Data: {cells.variant}. "
        f"Time: median per step over that of {study.arms[study.baseline]['label']}."
    )
    return Table(frame, caption, cells.notes(), pd.DataFrame(numbers))


def difference_table(
    records: Sequence[dict],
    study: Study,
    scale: str,
    metric: str,
    baseline: str | None = None,
    margin: float | None = None,
    at: str = "last",
    by: str = "loss",
) -> Table:
    """Paired differences (arm - baseline) per seed: mean [95 % t interval], and a verdict if a margin is given.

    No verdict below five seeds; BCa and Wilcoxon, in the CSV file, from nine on. See `statistics.verdict`.
    """
    baseline = baseline or study.baseline
    one_of("baseline", baseline, study.arms)
    cells = _Cells(records, study, scale, [metric], at, by)
    arms = [arm for arm in study.arms if arm != baseline]
    columns, numbers = {}, []
    for condition, options in study.conditions.items():
        column = columns[options["label"]] = []
        for arm in arms:
            if not {(condition, arm), (condition, baseline)} <= cells.planned:
                column.append("")
                continue
            values = cells.differences(condition, arm, baseline, metric)
            result = statistics.difference(values)
            word = "" if margin is None else statistics.verdict(result, margin, HIGHER_IS_BETTER[metric])
            text = f"{span(result, _decimals(cells.frame[metric]))} {word}".rstrip()
            column.append(text + cells.mark(condition, arm, values.index, baseline))
            facts = cells.facts(condition, arm, metric, values) | {"against": baseline, "verdict": word}
            numbers.append(facts | {"margin": margin} | summary(result))
    name, epoch = study.arms[baseline]["label"], EPOCH_RULES[at].format(LABELS[by])
    caption = (
        f"{study.name}: {with_direction(metric)} on test data {epoch}, "
        f"mean paired difference to {name} [95 % t interval]. Data: {cells.variant}."
    )
    notes = cells.notes()
    if margin is not None:
        notes.insert(
            0,
            f"Verdicts: better, worse: p < 0.05 and at least {margin:g}; within margin: interval inside ±{margin:g}; "
            f"none below {statistics.SEEDS_FOR_VERDICT} seeds. Exploratory, not corrected for multiplicity.",
        )
    return Table(pd.DataFrame(columns, index=_arm_labels(study, arms)), caption, notes, pd.DataFrame(numbers))


def paired(frame: pd.DataFrame, condition: str, arm: str, against: str, metric: str) -> pd.Series:
    """Differences arm - against of `metric` by seed, where both exist; `frame` as from `select`, of one variant.

    Raises MtlkitError if the two runs of a seed did not see the same data.
    """
    here = frame[(frame["condition"] == condition) & frame["arm"].isin([arm, against]) & frame[metric].notna()]
    both = here.pivot(index="seed", columns="arm", values=[metric, "checksum"]).dropna()
    if both.empty or not {arm, against} <= set(here["arm"]):
        return pd.Series(dtype=float)
    other = both.index[both["checksum", arm] != both["checksum", against]]
    if len(other):
        raise MtlkitError(
            f"{condition}: {arm} and {against} did not see the same data with seed {other[0]}: run one of them again."
        )
    return (both[metric, arm] - both[metric, against]).astype(float)


def span(result: statistics.Difference, decimals: int) -> str:
    """`mean [low, high]` of paired differences, signs shown."""
    signed = [("+" if value > 0 else "") + number(value, decimals) for value in (result.mean, result.low, result.high)]
    return signed[0] + (f" [{signed[1]}, {signed[2]}]" if result.n > 1 else "")


def summary(result: statistics.Difference) -> dict[str, float]:
    """The numbers of a difference, flat, for a CSV file."""
    low, high = result.bca or (np.nan, np.nan)
    return {
        "mean": result.mean,
        "half_width": result.half_width,
        "p": result.p,
        "bca_low": low,
        "bca_high": high,
        "wilcoxon_p": result.wilcoxon,
    }


class _Cells:
    """The records of one study as a grid of cells, with the marks and footnotes that the cells call for."""

    def __init__(
        self, records: Sequence[dict], study: Study, scale: str, metrics: Sequence[str], at: str, by: str
    ) -> None:
        self.study, self.seeds = study, list(study.seeds(scale))
        records = in_study(records, study, scale)
        self.variant = one_variant(records)
        for metric in metrics:
            one_of("metric", metric, metrics_of(records))
        self.frame = select(records, at, by)
        self.planned = set(study.cells())
        self.missing: dict[str, list[int]] = {}
        self.any_stale = False

    def values(self, condition: str, arm: str, metric: str) -> pd.Series:
        """Metric by seed."""
        rows = self.frame[(self.frame["condition"] == condition) & (self.frame["arm"] == arm)]
        return rows.set_index("seed")[metric].dropna()

    def differences(self, condition: str, arm: str, against: str, metric: str) -> pd.Series:
        return paired(self.frame, condition, arm, against, metric)

    def mark(self, condition: str, arm: str, seeds: Sequence[int], *others: str) -> str:
        """What is appended to a cell that rests on `seeds` of `arm` (and of the `others` that it is compared with)."""
        missing = [seed for seed in self.seeds if seed not in set(seeds)]
        rows = self.frame[(self.frame["condition"] == condition) & self.frame["arm"].isin([arm, *others])]
        old = len(seeds) > 0 and bool(rows["stale"].any())
        self.any_stale |= old
        if missing:
            where = f"{self.study.arms[arm]['label']}, {self.study.conditions[condition]['label']}"
            self.missing[where] = missing
        return (f" ({len(seeds)}/{len(self.seeds)})" if missing else "") + (" †" if old else "")

    def facts(self, condition: str, arm: str, metric: str, values: pd.Series) -> dict:
        """What every row of numbers starts with."""
        rows = self.frame[(self.frame["condition"] == condition) & (self.frame["arm"] == arm)]
        return {
            "variant": self.variant,
            "condition": condition,
            "arm": arm,
            "metric": metric,
            "n": len(values),
            "expected": len(self.seeds),
            "stale": int(rows["stale"].sum()),
            "epoch": rows["epoch"].median() if len(rows) else np.nan,
            "learning_rate": rows["learning_rate"].median() if len(rows) else np.nan,
        }

    def notes(self, limit: int = 12) -> list[str]:
        notes = []
        if self.missing:
            named = [f"{where}: {_seeds(seeds, len(self.seeds))}" for where, seeds in self.missing.items()]
            rest = f"; and {len(named) - limit} more cells" if len(named) > limit else ""
            notes.append(f"Incomplete (seeds there/expected); missing: {'; '.join(named[:limit])}{rest}.")
        if self.any_stale:
            notes.append("† rests on records made with other code than today's.")
        return notes


def _seeds(missing: list[int], expected: int) -> str:
    return "all" if len(missing) == expected else f"seed{'s'[: len(missing) > 1]} {', '.join(map(str, missing))}"


def _costs(frame: pd.DataFrame, study: Study) -> list[dict]:
    """Medians per arm, on the machine that most of the baseline's runs had: times of two machines have no ratio."""
    machines = Counter(frame.loc[frame["arm"] == study.baseline, "machine"]) or Counter(frame["machine"])
    timed = frame[frame["machine"] == machines.most_common(1)[0][0]]
    base = timed.loc[timed["arm"] == study.baseline, "seconds_per_step"].median()
    costs = []
    for arm in study.arms:
        rows = timed[timed["arm"] == arm]
        seconds, rates = rows["seconds_per_step"].median(), sorted(set(frame.loc[frame["arm"] == arm, "learning_rate"]))
        shown = f"{rates[0]:g}" + (f" to {rates[-1]:g}" if len(rates) > 1 else "") if rates else "–"
        memory = rows["peak_memory_mb"].median()
        costs.append({"seconds": seconds, "time": seconds / base, "memory": memory, "rates": shown,
                      "skipped": _percent(frame.loc[frame["arm"] == arm, "skipped"])})  # fmt: skip
    return costs


def _percent(shares: pd.Series) -> str:
    """Mean, and the greatest where runs differ."""
    if shares.empty:
        return "–"
    most = f" (up to {shares.max():.0%})" if shares.max() - shares.mean() >= 0.005 else ""
    return f"{shares.mean():.0%}{most}"


def _arm_labels(study: Study, arms: Sequence[str]) -> pd.Index:
    return pd.Index([study.arms[arm]["label"] for arm in arms], name="method")


def _decimals(values: pd.Series) -> int:
    """Three significant digits of the typical value."""
    typical = float(values.abs().median())
    return int(np.clip(2 - np.floor(np.log10(typical)), 0, 6)) if typical > 0 else 3
