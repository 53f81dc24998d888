"""Studies in which every task counts: their runs with all metrics of all tasks, and how these move against a baseline.

Tasks are matched by name: which of them is the main one, and so comes first in a record, may differ between runs.
Deltas are those of `mtlkit.deltas`, a run against the baseline's run of the same seed; the loss never counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtlkit.deltas import delta_m, delta_p
from mtlkit.errors import MtlkitError
from mtlkit.metrics import HIGHER_IS_BETTER, LABELS
from mtlkit.selection import EPOCH_RULES, by_task, one_variant, select, unlike
from mtlkit.studies import Study

AVERAGE = "average"
"""In place of a task: the mean over tasks, where all have the same metrics."""

SINGLE_TASK = "one network per task"
OF_KIND = {"p": delta_p, "m": delta_m}

Tasks = dict[str, list[str]]
"""The metrics that count, by task."""


@dataclass(frozen=True)
class Delta:
    """A column of deltas.

    Attributes:
        kind: `p`, mean over metrics and then tasks, better when higher; `m`, mean over metrics, better when lower.
        against: How the baseline is called.
        arms: Task -> the arm that is its baseline.
        condition: The baseline's; None: that of the run.
    """

    kind: str
    against: str
    arms: Mapping[str, str]
    condition: str | None = None

    @property
    def label(self) -> str:
        return delta_label(self.kind, self.against)

    @property
    def column(self) -> str:
        """In the frame of `judge`."""
        return f"delta_{self.kind}" + (" single_task" if self.against == SINGLE_TASK else "")


@dataclass(frozen=True)
class Judged:
    """Runs of a study, all tasks judged.

    Attributes:
        frame: As from `selection.select`, with columns `<task>: <metric>`, `average: <metric>` where all tasks have the
            same, a column per delta, and `<task>: gain`, the task's part in the first of them.
        tasks: By condition; tasks and metrics in the order of `metrics.LABELS`.
        deltas: By condition; the first is Delta_p to the study's baseline.
        undefined: By condition, the arms that have a run without delta because a value of the baseline is not above 0.
    """

    frame: pd.DataFrame
    tasks: dict[str, Tasks]
    deltas: dict[str, list[Delta]]
    undefined: dict[str, list[str]]


def judge(records: Sequence[dict], study: Study, at: str = "last") -> Judged:
    """Every task of every run at an epoch: the last, or the first one with the best mean over tasks of the tuning
    metric that the study names.

    Raises:
        MtlkitError: Several data variants, two records for one seed, a run that judged the main task alone, a task
            without any metric that counts, runs of one seed that did not see the same data.
    """
    one_variant(records)
    frame = select(records, at, study.tuning.get("metric", "loss"), judged="all")
    everywhere = _tasks(records, study)
    tasks = {}
    for condition in study.conditions:
        here = _tasks([record for record in records if record["condition"] == condition], study)
        if here:
            tasks[condition] = {task: metrics for task, metrics in everywhere.items() if task in here}
    for condition, some in tasks.items():
        rows = frame["condition"] == condition
        for metric in averaged(some):
            columns = [f"{task}: {metric}" for task in some]
            frame.loc[rows, f"{AVERAGE}: {metric}"] = frame.loc[rows, columns].mean(axis=1, skipna=False)
    found = {condition: _deltas(study, condition, some) for condition, some in tasks.items()}
    frame, undefined = _with_deltas(frame, tasks, found)
    return Judged(frame, tasks, found, undefined)


def epoch_rule(study: Study, at: str) -> str:
    """`selection.EPOCH_RULES`, for captions."""
    by = LABELS[study.tuning.get("metric", "loss")]
    return EPOCH_RULES[at].format(f"{by}, the mean over tasks")


def averaged(tasks: Tasks) -> list[str]:
    """The metrics that all tasks have, if there are several tasks and no other metrics."""
    first, *others = tasks.values()
    return first if others and all(other == first for other in others) else []


def delta_label(kind: str, against: str) -> str:
    """`Δp to EW, % ↑`"""
    return f"Δ{kind} to {against}, % {'↑' if kind == 'p' else '↓'}"


def _tasks(records: Sequence[dict], study: Study) -> Tasks:
    """In the order of their first metrics, as papers have them, and then of the first record."""
    chosen = study.delta.get("metrics", [name for name in LABELS if name != "loss"])
    found: dict[str, set[str]] = {}
    for record in records:
        for task, metrics in by_task(record, record["evaluations"][-1]["test"]).items():
            found.setdefault(task, set()).update(metrics)
    tasks = {task: [name for name in LABELS if name in names and name in chosen] for task, names in found.items()}
    for task, metrics in tasks.items():
        if not metrics:
            raise MtlkitError(f"study {study.name}: the task {task!r} has none of the metrics that count, "
                              f"{', '.join(chosen)}; name one of its own in delta.")  # fmt: skip
    return dict(sorted(tasks.items(), key=lambda pair: list(LABELS).index(pair[1][0])))


def _deltas(study: Study, condition: str, tasks: Tasks) -> list[Delta]:
    base = study.delta.get("condition")
    other = f" ({study.label(base)})" if base not in (None, condition) else ""
    found = [Delta("p", study.label(study.baseline) + other, dict.fromkeys(tasks, study.baseline), base)]
    single = study.delta.get("single_task", {})
    if set(single) >= set(tasks):
        found += [Delta(kind, SINGLE_TASK, {task: single[task] for task in tasks}, base) for kind in "pm"]
    return found


def _with_deltas(frame: pd.DataFrame, tasks: dict[str, Tasks],
                 found: dict[str, list[Delta]]) -> tuple[pd.DataFrame, dict[str, list[str]]]:  # fmt: skip
    rows = {(row["condition"], row["arm"], row["seed"]): row for row in frame.to_dict("records")}
    undefined: dict[str, dict[str, None]] = {condition: {} for condition in tasks}
    for (condition, arm, seed), row in rows.items():
        some = tasks[condition]
        row |= dict.fromkeys((f"{task}: gain" for task in some), np.nan)
        for delta in found[condition]:
            row[delta.column] = np.nan
            bases = {t: rows.get((delta.condition or condition, base, seed)) for t, base in delta.arms.items()}
            if None in bases.values():
                continue
            for base in bases.values():
                if base["checksum"] != row["checksum"]:
                    raise unlike(condition, arm, base["arm"], seed)
            mine, theirs = _values(dict.fromkeys(some, row), some), _values(bases, some)
            numbers = [list(of.values()) for side in (mine, theirs) for of in side.values()]
            if not np.isfinite(np.concatenate(numbers)).all():
                continue
            if min(min(of.values()) for of in theirs.values()) <= 0:
                undefined[condition][arm] = None
                continue
            row[delta.column] = OF_KIND[delta.kind](mine, theirs, HIGHER_IS_BETTER, some)
            if delta is found[condition][0]:
                row |= {f"{task}: gain": delta_p(mine, theirs, HIGHER_IS_BETTER, {task: some[task]}) for task in some}
    return pd.DataFrame(list(rows.values())), {condition: list(arms) for condition, arms in undefined.items()}


def _values(rows: Mapping[str, dict], tasks: Tasks) -> dict[str, dict[str, float]]:
    """Metrics by task, those of every task from a row of its own."""
    return {task: {name: rows[task][f"{task}: {name}"] for name in names} for task, names in tasks.items()}
