"""How sharp minima are, compared at equal training loss; from records of runs with `measure: sharpness`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mtlkit import statistics
from mtlkit.cells import Cells, arm_labels, decimals
from mtlkit.plots import styled
from mtlkit.selection import arm_of, current, in_study, one_variant, select, unlike
from mtlkit.studies import Study
from mtlkit.tables import Table
from mtlkit.view import View

if TYPE_CHECKING:
    from mtlkit.style import Figure


def measured(record: dict[str, Any]) -> bool:
    """Whether sharpness was measured."""
    return "training" in record["evaluations"][-1]


def path(record: dict[str, Any]) -> np.ndarray:
    """`(evaluations, 2)`: log2 of the training loss and of the sharpness; NaN where sharpness is not above 0."""
    values = [(one["training"]["loss"], one["training"]["sharpness"]) for one in record["evaluations"]]
    return np.log2(np.where(np.asarray(values, float) > 0, values, np.nan))


def at_equal_loss(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Log2 of the ratio of sharpness, mine to theirs, at the lowest training loss that both have reached.

    A path gets there between two evaluations, where sharpness is interpolated along the logarithm of the loss.

    Args:
        mine, theirs: As from `path`.

    Returns:
        NaN where one of them was past that loss at its first evaluation, or has no sharpness there.
    """
    level = max(np.nanmin(one[:, 0]) for one in (mine, theirs))
    return _sharpness_at(level, mine) - _sharpness_at(level, theirs)


def _sharpness_at(level: float, points: np.ndarray) -> float:
    """At the first crossing of a training loss."""
    place = int(np.argmax(points[:, 0] <= level))
    if points[place, 0] == level:
        return float(points[place, 1])
    if place == 0:
        return np.nan
    (before, high), (after, low) = points[place - 1 : place + 1]
    return float(high + (low - high) * (level - before) / (after - before))


def differences(records: Sequence[dict], condition: str, arm: str, against: str) -> pd.Series:
    """What `at_equal_loss` says of two arms, by seed, where it says anything.

    Raises MtlkitError if the two runs of a seed did not see the same data.
    """
    runs = {(arm_of(one), one["seed"]): one for one in current(records)
            if one["condition"] == condition and measured(one)}  # fmt: skip
    found = {}
    for seed in sorted({seed for name, seed in runs if name == arm}):
        pair = [runs.get((name, seed)) for name in (arm, against)]
        if None in pair:
            continue
        if pair[0]["data"]["checksum"] != pair[1]["data"]["checksum"]:
            raise unlike(condition, arm, against, seed)
        found[seed] = at_equal_loss(*map(path, pair))
    return pd.Series(found, dtype=float).dropna()


def sharpness_table(records: Sequence[dict], study: Study, scale: str) -> Table:
    """Arms by conditions: training loss and sharpness at the last epoch, and sharpness against the baseline's at equal
    training loss; mean ± half-width of the 95 % t interval over seeds, with the marks of `report.table`."""
    records = [one for one in in_study(records, study, scale) if measured(one)]
    one_variant(records)
    frame = select(records)
    last = {(one["condition"], arm_of(one), one["seed"]): one["evaluations"][-1]["training"]
            for one in current(records)}  # fmt: skip
    keys = list(zip(frame["condition"], frame["arm"], frame["seed"], strict=True))
    frame["training_loss"], frame["sharpness"] = ([last[key][name] for key in keys] for name in ("loss", "sharpness"))
    frame["log_ratio"] = np.nan
    for condition, arm in study.cells():
        found = differences(records, condition, arm, study.baseline)
        rows = (frame["condition"] == condition) & (frame["arm"] == arm)
        frame.loc[rows, "log_ratio"] = frame.loc[rows, "seed"].map(found)
    cells, columns = Cells(study, scale, frame), {}
    heads = {"training_loss": "training loss ↓", "sharpness": "sharpness ↓",
             "log_ratio": f"log₂ of its ratio to {study.label(study.baseline)} at equal training loss ↓"}  # fmt: skip
    for condition, options in study.conditions.items():
        for name, head in heads.items():
            ratio = name == "log_ratio"
            columns[options["label"], head] = [
                "0" if ratio and arm == study.baseline else
                cells.mean(condition, arm, name, 2 if ratio else decimals(frame[name]), signed=ratio,
                           others=[(condition, study.baseline)] if ratio else ())
                for arm in study.arms
            ]  # fmt: skip
    caption = (
        f"{study.name}: mean training loss over all tasks, and its mean rise where every filter is perturbed by a "
        "tenth of its length, at the last epoch; and that rise at the lowest training loss that both runs of a seed "
        f"have reached. Mean ± half-width of the 95 % t interval over {len(study.seeds(scale))} seeds. Data: "
        f"{cells.variant}."
    )
    return Table(pd.DataFrame(columns, index=arm_labels(study, study.arms)), caption, cells.notes(),
                 pd.DataFrame(cells.numbers))  # fmt: skip


@styled
def sharpness_figure(records: Sequence[dict], study: Study) -> "Figure":
    """Sharpness against training loss along the runs, a panel per condition: small dots for the evaluations of every
    run, a line through their geometric means over seeds; training goes from right to left."""
    from mtlkit import style

    view = View([one for one in records if measured(one)], study)
    columns = min(2, len(view.conditions))
    rows, width = -(-len(view.conditions) // columns), (style.COLUMN, style.PAGE)[columns - 1]
    height = 2.3 * rows + style.legend_height(view.arms.values(), width)
    figure, grid = style.panels(rows, columns, width, height)
    used = list(grid.flat)[: len(view.conditions)]
    for axes, (condition, title) in zip(used, view.conditions.items(), strict=True):
        for arm, label in view.arms.items():
            runs = [path(one) for one in view.of(arm, condition)]
            if not runs:
                continue
            look = style.line_style(view.places[arm])
            small = {"linestyle": "none", "marker": ".", "markersize": 1.8, "alpha": 0.5, "color": look["color"]}
            axes.plot(*2 ** np.concatenate(runs).T, **small)
            length = min(map(len, runs))
            means = statistics.interval([run[:length] for run in runs])[0]
            axes.plot(*2**means.T, **look, label=label)
        for which in "xy":
            style.log_axis(axes, which)
        axes.grid()
        if len(view.conditions) > 1:
            axes.set_title(style.wrapped(axes, title))
    style.finish(figure, used, "training loss, all tasks")
    for axes in used[::columns]:
        axes.set_ylabel("sharpness")
    return figure
