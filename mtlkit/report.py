"""Tables from records and study files. Never trains, and no number is typed in here.

The epoch rules `at` and `by` of every function are those of `selection`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mtlkit import statistics
from mtlkit.cells import Cells, arm_labels, decimals
from mtlkit.errors import one_of
from mtlkit.metrics import HIGHER_IS_BETTER, LABELS
from mtlkit.selection import EPOCH_RULES, in_study, metrics_of, of_cell, one_variant, select, unlike, with_direction
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
    cells = _cells(records, study, scale, metrics, at, by)
    columns = {}
    for condition, options in study.conditions.items():
        for metric in metrics:
            digits = decimals(cells.frame[metric])
            columns[options["label"], with_direction(metric)] = [
                cells.mean(condition, arm, metric, digits) for arm in study.arms
            ]
    columns |= {("", label): column for label, column in cells.costs().items()}
    frame = pd.DataFrame(columns, index=arm_labels(study, study.arms))
    caption = (
        f"{study.name}: test metrics of the main task {EPOCH_RULES[at].format(LABELS[by])}, mean ± half-width "
        f"of the 95 % t interval over {len(study.seeds(scale))} seeds. Data: {cells.variant}. "
        f"Time: median per step over that of {study.arms[study.baseline]['label']}."
    )
    return Table(frame, caption, cells.notes(), pd.DataFrame(cells.numbers))


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
    cells = _cells(records, study, scale, [metric], at, by)
    arms = [arm for arm in study.arms if arm != baseline]
    columns, numbers = {}, []
    for condition, options in study.conditions.items():
        column = columns[options["label"]] = []
        for arm in arms:
            if not {(condition, arm), (condition, baseline)} <= cells.planned:
                column.append("")
                continue
            values = paired(cells.runs, condition, arm, baseline, metric)
            result = statistics.difference(values)
            word = "" if margin is None else statistics.verdict(result, margin, HIGHER_IS_BETTER[metric])
            text = f"{span(result, decimals(cells.frame[metric]))} {word}".rstrip()
            column.append(text + cells.mark(condition, arm, values.index, [(condition, baseline)]))
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
    return Table(pd.DataFrame(columns, index=arm_labels(study, arms)), caption, notes, pd.DataFrame(numbers))


def paired(runs: Mapping[tuple[str, str], pd.DataFrame], condition: str, arm: str, against: str,
           metric: str) -> pd.Series:  # fmt: skip
    """Differences arm - against of `metric` by seed, where both exist; `runs` as from `selection.by_cell`.

    Raises MtlkitError if the two runs of a seed did not see the same data.
    """
    one, other = (of_cell(runs, condition, name, metric) for name in (arm, against))
    values = (one - other).dropna()
    seen, others = (of_cell(runs, condition, name, "checksum").reindex(values.index) for name in (arm, against))
    unequal = (seen != others).to_numpy()
    if unequal.any():
        raise unlike(condition, arm, against, values.index[unequal][0])
    return values


def span(result: statistics.Difference, decimals: int) -> str:
    """`mean [low, high]` of paired differences, signs shown."""
    signed = [number(value, decimals, signed=True) for value in (result.mean, result.low, result.high)]
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


def _cells(records: Sequence[dict], study: Study, scale: str, metrics: Sequence[str], at: str, by: str) -> Cells:
    records = in_study(records, study, scale)
    one_variant(records)
    for metric in metrics:
        one_of("metric", metric, metrics_of(records))
    return Cells(study, scale, select(records, at, by))
