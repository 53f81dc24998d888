"""Tables of studies in which every task counts, as papers have them, with published rows below ours."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mtlkit.cells import Cells, arm_labels, decimals
from mtlkit.every_task import AVERAGE, Judged, averaged, epoch_rule, judge
from mtlkit.published import Published
from mtlkit.selection import in_study, with_direction
from mtlkit.studies import NOT_PARAMETERS, Study
from mtlkit.tables import Table

DIGITS = 4
"""Significant ones of a metric, as papers print them: methods differ by one per cent."""

SHOWN = 8
"""With more tasks than these, tables have their averages alone; the CSV file has all."""

Key = tuple[str, str]
"""Of a column: task and metric; of deltas an empty text and their label."""


def every_task_tables(records: Sequence[dict], study: Study, scale: str, at: str = "last",
                      published: Sequence[Published] = ()) -> dict[str, Table]:  # fmt: skip
    """A table per condition: arms by tasks and metrics, deltas, costs; mean ± half-width of the 95 % t interval over
    seeds, with the marks of `report.table`.

    Below stand the published rows of the same tasks and network. In the CSV file they have a `source`, and a
    `difference`, ours less theirs, where nothing that their table states sets it apart from the runs.

    Raises MtlkitError as `every_task.judge` does.
    """
    records = in_study(records, study, scale)
    judged = judge(records, study, at)
    tables = {}
    for condition, tasks in judged.tasks.items():
        mine = [record for record in records if record["condition"] == condition]
        below = [one for one in published if one.belongs(mine, list(tasks))]
        tables[condition] = _table(Cells(study, scale, judged.frame), judged, condition, at, mine, below)
    return tables


def _table(cells: Cells, judged: Judged, condition: str, at: str, records: Sequence[dict],
           published: Sequence[Published]) -> Table:  # fmt: skip
    study, tasks = cells.study, judged.tasks[condition]
    arms = [arm for arm in study.arms if (condition, arm) in cells.planned]
    columns = _metrics(cells, judged, condition, arms) | _deltas(cells, judged, condition, arms)
    ours = {(row["arm"], row["task"], row["metric"]): row["mean"] for row in cells.numbers}
    if len(tasks) > SHOWN and averaged(tasks):
        columns = {key: column for key, column in columns.items() if key[0] in ("", AVERAGE)}
    columns |= {key: [""] * len(arms) for one in published for key in one.columns if not key[0] and key not in columns}
    labels, notes, numbers = list(arm_labels(study, arms)), [], []
    for one in published:
        rows = {f"{one.name}:": {}, **one.texts()}
        labels += rows
        for key, column in columns.items():
            column += [row.get(key, "") for row in rows.values()]
        apart = one.differences(records)
        note = f" Not to be compared with ours: {'; '.join(apart)}." if apart else ""
        notes.append(f"{one.name}, published: {one.source}.{note}")
        numbers += _published_numbers(one, study, condition, {} if apart else ours)
    frame = pd.DataFrame({_head(key): column for key, column in columns.items()}, index=pd.Index(labels, name="method"))
    places = [list(study.arms).index(arm) for arm in arms]
    for name, column in cells.costs(condition).items():
        frame["", name] = [column[place] for place in places] + [""] * (len(frame) - len(arms))
    if zero := [study.label(arm) for arm in study.arms if arm in judged.undefined[condition]]:
        notes.insert(0, f"Runs without a delta, because a value of the baseline is not above 0: {'; '.join(zero)}.")
    lost = " Δm: loss instead of gain, mean over all metrics at once." if any("Δm" in key[1] for key in columns) else ""
    caption = (
        f"{study.name}, {study.label(condition)}: test metrics of every task {epoch_rule(study, at)}, mean ± "
        f"half-width of the 95 % t interval over {len(cells.seeds)} seeds. Data: {cells.variant}. Δp: gain relative to "
        "the run of the same seed that is named, mean over a task's metrics and then over tasks."
        f"{lost} Time: median per step over that of {study.label(study.baseline)}."
    )
    return Table(frame, caption, cells.notes() + notes, pd.DataFrame(cells.numbers + numbers))


def _metrics(cells: Cells, judged: Judged, condition: str, arms: Sequence[str]) -> dict[Key, list[str]]:
    """A column per task and metric, and averages; an arm that is trained on one task has no others."""
    tasks = judged.tasks[condition]
    keys = [(task, metric) for task, metrics in tasks.items() for metric in metrics]
    keys += [(AVERAGE, metric) for metric in averaged(tasks)]
    alone = {arm: task for task, arm in cells.study.delta.get("single_task", {}).items()}
    columns: dict[Key, list[str]] = {}
    for task, metric in keys:
        digits = decimals(cells.frame[f"{task}: {metric}"], DIGITS)
        columns[task, metric] = [
            cells.mean(condition, arm, f"{task}: {metric}", digits, task=task, metric=metric)
            if alone.get(arm, task) == task else ""
            for arm in arms
        ]  # fmt: skip
    return columns


def _deltas(cells: Cells, judged: Judged, condition: str, arms: Sequence[str]) -> dict[Key, list[str]]:
    """A column per delta; 0 where the arm is the baseline itself."""
    columns: dict[Key, list[str]] = {}
    alone = set(cells.study.delta.get("single_task", {}).values())
    for delta in judged.deltas[condition]:
        bases = [(delta.condition or condition, arm) for arm in dict.fromkeys(delta.arms.values())]
        column = columns["", delta.label] = []
        for arm in arms:
            if bases == [(condition, arm)]:
                column.append("0")
            elif arm in alone:
                column.append("")
            else:
                facts = {"task": "", "metric": delta.label}
                column.append(cells.mean(condition, arm, delta.column, 2, signed=True, others=bases, **facts))
    return columns


def _head(key: Key) -> Key:
    task, name = key
    return (task, with_direction(name)) if task else key


def _published_numbers(one: Published, study: Study, condition: str, ours: Mapping[tuple, float]) -> list[dict]:
    """Rows for the CSV file: what was published, and `ours` less that for the arm that is the method and no more."""
    plain = {options.get("weighting"): arm for arm, options in study.arms.items()
             if not options.keys() - {"weighting", *NOT_PARAMETERS}}  # fmt: skip
    rows = []
    for method, values in one.rows.items():
        arm = plain.get(one.methods.get(method, ""))
        for key, value in zip(one.columns, values, strict=True):
            if value is not None:
                facts = {"variant": one.data, "condition": condition, "arm": method, "source": one.source}
                difference = ours.get((arm, *key), np.nan) - value
                rows.append(facts | {"task": key[0], "metric": key[1], "mean": value, "difference": difference})
    return rows
