"""How well weights tell wrong labels from right ones, and useful tasks from useless ones; from records."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtlkit import statistics
from mtlkit.selection import arm_of, current, in_study, one_variant
from mtlkit.studies import Study
from mtlkit.tables import Table, number

COLUMNS = {
    "weight": "by weight",
    "weight_within": "by weight, within label",
    "loss_within": "by loss, within label",
    "recall": "wrong labels at zero",
    "false_alarms": "right labels at zero",
}


def of_main(record: dict[str, Any]) -> dict[str, float]:
    """The main task of one run. Areas under the ROC curve: the chance that a wrong label has less weight (or more loss)
    than a right one, of all or of those with the same label; and the shares of wrong and of right labels whose weight
    is exactly zero. All over the last quarter of the training. Empty without wrong labels."""
    found = [one for one in record["weights"]["detection"] if one["task"] == 0]
    if not found:
        return {}
    histogram = record["weights"]["histogram"]
    zero = {kind: histogram[kind][0][0] / max(1, sum(histogram[kind][0])) for kind in ("clean", "flipped")}
    return {name: found[0][name] for name in ("weight", "weight_within", "loss_within")} | {
        "recall": zero["flipped"], "false_alarms": zero["clean"]}  # fmt: skip


def of_tasks(record: dict[str, Any]) -> dict[str, float]:
    """The auxiliary tasks of one run whose last task has nothing to do with the main one, over the last quarter of the
    training: `useless_weight`, the weight of the last task, and `useful_lead`, by how much the mean weight of the other
    auxiliary tasks exceeds it; 1 is an equal share. Empty without such a task."""
    if record["parameters"].get("unrelated", "none") == "none":
        return {}
    weights = record["weights"]
    last = [row for epoch, row in zip(weights["epoch"], weights["task"], strict=True)
            if 4 * epoch > 3 * weights["epoch"][-1]]  # fmt: skip
    relative = len(last[0]) * np.mean(last, axis=0)
    return {"useless_weight": float(relative[-1]), "useful_lead": float(relative[1:-1].mean() - relative[-1])}


def detection_table(records: Sequence[dict], study: Study, scale: str) -> Table | None:
    """Rows for conditions and arms, mean ± half-width of the 95 % t interval over seeds; None without wrong labels."""
    mine = current(in_study(records, study, scale))
    variant, rows, numbers = one_variant(mine), {}, []
    for condition in study.conditions:
        for arm in study.arms:
            found = [of_main(one) for one in mine if (one["condition"], arm_of(one)) == (condition, arm)]
            found = [one for one in found if one]
            if not found:
                continue
            row = rows[study.label(condition), study.label(arm)] = {}
            for name, label in COLUMNS.items():
                values = np.array([np.nan if one[name] is None else one[name] for one in found], float)
                values = values[~np.isnan(values)]
                mean, half = statistics.interval(values)
                row[label] = number(mean, 3) + (f" ±{number(half, 3)}" if half == half else "")
                numbers.append({"variant": variant, "condition": condition, "arm": arm, "metric": name,
                                "n": len(values), "mean": mean, "half_width": half})  # fmt: skip
    if not rows:
        return None
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(rows, names=["condition", "method"])
    caption = (
        f"{study.name}: detection of the main task's wrong training labels over the last quarter of training. Area "
        "under the ROC curve by low weight and by high loss (0.5 is chance); within label: among labels that say the "
        f"same, so that knowing the class shares does not help. Data: {variant}."
    )
    return Table(frame, caption, numbers=pd.DataFrame(numbers))
