"""What a step of every method costs beside equal weighting: records of kind `cost`, their table and figure.

Timings differ from run to run; what compares results leaves these records out.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mtlkit import records
from mtlkit.bench.steps import PROBLEMS, weighted_step
from mtlkit.bench.timing import compare
from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting import METHODS

if TYPE_CHECKING:
    import pandas

    from mtlkit.style import Figure

CONTROLS = ("main", "oracle", "label_consistency")
"""No methods: they cost what equal weighting does."""


def methods(text: str) -> list[str]:
    """`all`, or names with commas between them; equal weighting comes first in any case."""
    names = [name for name in METHODS if name not in CONTROLS]
    if text != "all":
        chosen = [name.strip() for name in text.split(",")]
        for name in chosen:
            one_of("methods", name, ["all", *names])
        names = [name for name in names if name in chosen]
    return ["ew", *(name for name in names if name != "ew")]


def cells(networks: str, tasks: str, many: int) -> list[tuple[str, int]]:
    """(network, T): every one of `networks` at every one of `tasks`, and the light LeNet at `many` (0: not)."""
    names = [name.strip() for name in networks.split(",")]
    for name in names:
        one_of("networks", name, PROBLEMS)
    try:
        counts = [int(part) for part in tasks.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise MtlkitError(f"task_counts is {tasks!r}, which is not a list of whole numbers above 0, such as 2,10.")
    found = [(name, count) for name in names for count in counts]
    return found + ([("light_lenet", many)] if many and "light_lenet" in names else [])


def measure(names: Sequence[str], network: str, tasks: int, batch: int, *, seconds: float, device: str = "cpu",
            runs: Path) -> dict[str, Any]:  # fmt: skip
    """The record of one cell, written below `runs/costs`: for every method the quartiles of its time relative to equal
    weighting in the same repetition (`time`), `ms` a step, and peak `memory` relative to equal weighting.

    Args:
        names: Methods; the first is `ew`.
        network: An entry of `mtlkit.bench.steps.PROBLEMS`.
        tasks: T.
        batch: B; the reference batch is a fourth of it, at least one.
        seconds: To spend on timing, after one call of every method.
        device: `cpu`, `cuda`, `cuda:1`.
        runs: The folder with runs.
    """
    problem = PROBLEMS[network]
    made = {}
    for name in names:
        torch.manual_seed(0)
        model = problem.network(tasks).to(device)
        sets = (problem.batch(tasks, size, device, seed) for seed, size in ((0, batch), (1, max(1, batch // 4))))
        made["plain" if name == "ew" else name] = weighted_step(model, problem.loss, *sets, rule=name)
    found = compare(made, seconds, device, least=3)
    record = {
        "schema": records.SCHEMA, "kind": "cost", "network": network, "tasks": tasks, "batch": batch,
        "methods": {"ew": found.pop("plain"), **found}, "environment": records.environment(device, 1),
        "load": os.getloadavg()[0], "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    record = records.rounded(record, 4)
    records.write(record, runs / "costs" / f"{network}-T{tasks}-B{batch}-{device.replace(':', '')}.json")
    return record


def table(found: Sequence[dict]) -> "pandas.DataFrame":
    """A row per method: time and memory relative to equal weighting, a column per cell; its own row in ms."""
    import pandas

    columns = {}
    for one in found:
        head = f"{one['network']}, T={one['tasks']}"
        columns[f"{head}: time"] = {name: cost["time"][1] for name, cost in one["methods"].items()}
        columns[f"{head}: memory"] = {name: cost["memory"] for name, cost in one["methods"].items()}
    frame = pandas.DataFrame(columns)
    frame.index.name = "relative to ew"
    return frame.round(2)


def figure(found: Sequence[dict]) -> "Figure":
    """A panel per network, a row per method, a mark per number of tasks: median and quartiles of the relative time."""
    from mtlkit import style

    networks = list(dict.fromkeys(one["network"] for one in found))
    names = [name for name in found[0]["methods"] if name != "ew"]
    with style.style():
        drawn, axes = style.panels(1, len(networks), style.PAGE, 0.9 + 0.16 * len(names), sharey=True)
        for ax, network in zip(axes[0], networks, strict=True):
            for place, one in enumerate(one for one in found if one["network"] == network):
                middle = [one["methods"][name]["time"][1] for name in names]
                ends = [[abs(one["methods"][name]["time"][k] - one["methods"][name]["time"][1]) for name in names]
                        for k in (0, 2)]  # fmt: skip
                looks = style.line_style(place) | {"linestyle": "none"}
                ax.errorbar(middle, range(len(names)), xerr=ends, label=f"T = {one['tasks']}", markersize=4, **looks)
            ax.axvline(1, color="0.5", linewidth=0.8)
            ax.set_xscale("log")
            ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
            ax.minorticks_off()
            ax.set_title(network)
            ax.set_xlabel("time of a step, × equal weighting")
            ax.legend(loc="upper right")
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
    return drawn
