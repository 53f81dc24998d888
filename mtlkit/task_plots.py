"""Figures of studies in which every task counts, and box plots of arms; see `plots`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtlkit.errors import one_of
from mtlkit.every_task import Judged, judge
from mtlkit.plots import styled
from mtlkit.selection import arm_of, metrics_of, one_variant, select, with_direction
from mtlkit.studies import Study
from mtlkit.task_tables import SHOWN

if TYPE_CHECKING:
    from mtlkit.style import Figure


@styled
def gains(records: Sequence[dict], study: Study, at: str = "last") -> "Figure":
    """Delta_p of every arm, a row of panels per condition: mean, interval, small dots for seeds. Beside it, where the
    tasks are not too many, the mean gain of each in per cent, in numbers and in shades, blue above 0, orange below."""
    from mtlkit import style

    judged = judge(records, study, at)
    frame, arms = judged.frame, _compared(judged, study)
    strip = max(len(tasks) for tasks in judged.tasks.values()) <= SHOWN
    rows, names = len(judged.tasks), [study.label(arm) for arm in arms]
    width, height = (style.PAGE, style.COLUMN)[not strip], rows * (0.65 + 0.165 * len(arms))
    figure, grid = style.panels(rows, 1 + strip, width, height, sharey=True)
    means = {condition: _means(judged, condition, arms) for condition in judged.tasks}
    most = max([1.0, *(np.nanmax(np.abs(some), initial=0) for some in means.values())])
    for axes, (condition, tasks) in zip(grid, judged.tasks.items(), strict=True):
        delta = judged.deltas[condition][0]
        mine = frame[frame["condition"] == condition].groupby("arm")[delta.column]
        values = {arm: some.dropna().to_numpy() for arm, some in mine}
        style.dots(axes[0], [(list(study.arms).index(arm), values.get(arm, ())) for arm in arms])
        axes[0].axvline(0, color="black", linewidth=0.6, linestyle="--", zorder=1)
        axes[0].set_xlabel(style.wrapped(axes[0], delta.label))
        if rows > 1:
            axes[0].set_title(style.wrapped(axes[0], study.label(condition)))
        if strip:
            style.shades(axes[1], means[condition], list(tasks), most)
            axes[1].set_xlabel("gain, %")
        axes[0].set_yticks(range(len(arms)), names)
        axes[0].set_ylim(len(arms) - 0.4, -0.6)
    return figure


@styled
def boxes(records: Sequence[dict], study: Study, metric: str, at: str = "last", by: str = "loss") -> "Figure":
    """A box per arm over seeds, with all of them as dots, a panel per condition; whiskers reach to the last seed within
    1.5 times the box.

    Args:
        metric: A test metric of the main task; or `delta_p` where every task counts.
    """
    from mtlkit import style

    if metric == "delta_p":
        judged = judge(records, study, at)
        frame, arms = judged.frame, _compared(judged, study)
        labels = {condition: some[0].label for condition, some in judged.deltas.items()}
    else:
        one_variant(records)
        one_of("metric", metric, metrics_of(records))
        frame, arms = select(records, at, by), [arm for arm in study.arms if arm in {arm_of(one) for one in records}]
        labels = {c: f"test {with_direction(metric)}" for c in study.conditions if c in set(frame["condition"])}
    columns = min(2, len(labels))
    rows, width = -(-len(labels) // columns), (style.COLUMN, style.PAGE)[columns - 1]
    figure, grid = style.panels(rows, columns, width, rows * (0.65 + 0.19 * len(arms)), sharey=True)
    for axes, (condition, label) in zip(grid.flat, labels.items(), strict=False):
        mine = frame[frame["condition"] == condition]
        values = [mine.loc[mine["arm"] == arm, metric].dropna().to_numpy() for arm in arms]
        style.boxes(axes, values)
        if metric == "delta_p":
            axes.axvline(0, color="black", linewidth=0.6, linestyle="--", zorder=1)
        axes.set_xlabel(style.wrapped(axes, label))
        if len(labels) > 1:
            axes.set_title(style.wrapped(axes, study.label(condition)))
        axes.set_yticks(range(len(arms)), [study.label(arm) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
    for axes in list(grid.flat)[len(labels) :]:
        axes.remove()
    return figure


def _compared(judged: Judged, study: Study) -> list[str]:
    """The arms with runs that are trained on all tasks, without the baseline where it is compared with itself alone."""
    left_out = set(study.delta.get("single_task", {}).values())
    if "condition" not in study.delta:
        left_out.add(study.baseline)
    there = [arm for arm in study.arms if arm in set(judged.frame["arm"])]
    return [arm for arm in there if arm not in left_out] or there


def _means(judged: Judged, condition: str, arms: Sequence[str]) -> np.ndarray:
    """Mean gain `(arms, tasks)`, NaN where there is none."""
    columns = [f"{task}: gain" for task in judged.tasks[condition]]
    mine = judged.frame[judged.frame["condition"] == condition]
    return mine.groupby("arm")[columns].mean().reindex(arms).to_numpy()
