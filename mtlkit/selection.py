"""Which records count, and which of their numbers: from records to one row per run.

Epoch rules (`at`): `last`, or `tuned`, the epoch with the best tuning metric `by`; test metrics never choose.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from mtlkit.errors import MtlkitError, one_of
from mtlkit.metrics import HIGHER_IS_BETTER, LABELS
from mtlkit.records import is_stale
from mtlkit.studies import Study

EPOCH_RULES = {"last": "at the last epoch", "tuned": "at the epoch with the best tuning {}"}
KEY = ["study", "condition", "arm", "variant", "seed"]


def arm_of(record: dict) -> str:
    """The arm of a study, or the weighting of a run outside one."""
    return record["arm"] or record["parameters"].get("weighting", "")


def by_variant(records: Sequence[dict]) -> dict[str, list[dict]]:
    """Records of each data variant, in the order of names: results of different variants never share a table."""
    groups = defaultdict(list)
    for record in records:
        groups[record["data"]["variant"]].append(record)
    return dict(sorted(groups.items()))


def one_variant(records: Sequence[dict]) -> str:
    """The data variant of all `records`; raises MtlkitError if there are several, or no records."""
    variants = list(by_variant(records))
    if not variants:
        raise MtlkitError("there are no records to report on: run the study, or give its records.")
    if len(variants) > 1:
        raise MtlkitError(
            f"records of the data variants {', '.join(variants)} cannot share a table or a figure: "
            "take one of the groups that report.by_variant gives."
        )
    return variants[0]


def in_study(records: Sequence[dict], study: Study, scale: str) -> list[dict]:
    """The records that belong to the arms, conditions and seeds of `study` at `scale`."""
    seeds = set(study.seeds(scale))
    return [
        record
        for record in records
        if (record["study"] == study.name and record["seed"] in seeds)
        and (record["arm"] in study.arms and record["condition"] in study.conditions)
    ]


def current(records: Sequence[dict]) -> list[dict]:
    """One record per study, condition, arm, variant and seed: a fresh one replaces stale ones.

    Raises MtlkitError where two remain: they differ in parameters, and choosing between them is not the report's to do.
    """
    groups = defaultdict(list)
    for record in records:
        key = (record["study"], record["condition"], arm_of(record), record["data"]["variant"], record["seed"])
        groups[key].append(record)
    kept = []
    for (study, condition, arm, _, seed), group in groups.items():
        if len(group) > 1:
            group = [record for record in group if not is_stale(record)] or group
        if len(group) > 1:
            ids = ", ".join(sorted(record["id"] for record in group))
            where = " / ".join(part for part in (study, condition, arm) if part)
            raise MtlkitError(f"{where}, seed {seed} has several records ({ids}): keep the one that is meant.")
        kept += group
    return kept


def evaluation(record: dict, at: str = "last", by: str = "loss", judged: str = "main") -> dict:
    """The evaluation of a record at the last epoch, or at the first epoch with the best tuning metric `by`: that of the
    `main` task, or the mean over `all`.

    Raises:
        MtlkitError: An unknown rule or metric; all tasks are to be judged, and an evaluation or a task lacks this.
    """
    one_of("at", at, EPOCH_RULES)
    if at == "last":
        return record["evaluations"][-1]
    if judged == "main":
        one_of("by", by, metrics_of([record]))
    scores = [(one, _score(record, one["tuning"], by, judged)) for one in record["evaluations"]]
    sign = -1 if HIGHER_IS_BETTER[by] else 1
    known = [(sign * score, one) for one, score in scores if score is not None]
    return min(known, key=lambda pair: pair[0], default=(0, record["evaluations"][-1]))[1]


def _score(record: dict, metrics: dict, by: str, judged: str) -> float | None:
    if judged == "main":
        return metrics[by]
    scores = []
    for task, found in by_task(record, metrics).items():
        one_of(f"by ({task})", by, found)
        scores.append(found[by])
    return None if None in scores else fmean(scores)


def by_task(record: dict, metrics: dict) -> dict[str, dict]:
    """The metrics of every task, by its name, from those of an evaluation; older records number their tasks.

    Raises MtlkitError where only the main task was judged.
    """
    if "tasks" not in metrics:
        raise MtlkitError(
            f"{arm_of(record)}, seed {record['seed']}: only the main task was judged; run it with judged: all."
        )
    names = record.get("tasks") or [f"task {place}" for place in range(len(metrics["tasks"]))]
    return dict(zip(names, metrics["tasks"], strict=True))


def select(records: Sequence[dict], at: str = "last", by: str = "loss", judged: str = "main") -> pd.DataFrame:
    """One row per record: KEY, provenance and cost, the chosen epoch, and a column per test metric of the main task;
    with `judged="all"` also columns `<task>: <metric>`."""
    rows, values = [], []
    for record in current(records):
        chosen = evaluation(record, at, by, judged)
        values.append({name: chosen["test"].get(name) for name in metrics_of([record])})
        if judged == "all":
            values[-1] |= {f"{task}: {name}": value for task, found in by_task(record, chosen["test"]).items()
                           for name, value in found.items()}  # fmt: skip
        rows.append(
            {
                "study": record["study"],
                "condition": record["condition"],
                "arm": arm_of(record),
                "variant": record["data"]["variant"],
                "seed": record["seed"],
                "checksum": record["data"]["checksum"],
                "stale": is_stale(record),
                "learning_rate": record["parameters"]["learning_rate"],
                "machine": _machine(record["environment"]),
                "seconds_per_step": record["cost"]["seconds_per_step"],
                "peak_memory_mb": record["cost"]["peak_memory_mb"],
                "skipped": record["steps"]["skipped"] / max(1, sum(record["steps"].values())),
                "epoch": chosen["epoch"],
                **values[-1],
            }
        )
    frame = pd.DataFrame(rows).sort_values(KEY, ignore_index=True)
    numeric = ["peak_memory_mb", *dict.fromkeys(name for found in values for name in found)]
    return frame.astype(dict.fromkeys(numeric, float))  # None, where a number is not known, becomes NaN


def by_cell(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of `select` by condition and arm, each a frame with the seed as its index."""
    return dict(iter(frame.set_index("seed").groupby(["condition", "arm"])))


def of_cell(cells: Mapping[tuple[str, str], pd.DataFrame], condition: str, arm: str, column: str) -> pd.Series:
    """A column of `by_cell` for one arm in one condition, by seed; empty where it has no runs."""
    return cells[condition, arm][column] if (condition, arm) in cells else pd.Series(dtype=float)


def _machine(environment: Mapping[str, Any]) -> str:
    """What a step was timed on; one of many seeds that take it together has its share alone."""
    together = environment.get("batched_seeds", 1)
    return f"{environment['device']}, {environment['threads']} thread(s), {together} seed(s) at once"


def metrics_of(records: Sequence[dict]) -> list[str]:
    """The main task's metrics that the records hold, in the order of LABELS."""
    found = {name for record in records for name in record["evaluations"][-1]["test"]}
    return [name for name in LABELS if name in found]


def with_direction(metric: str) -> str:
    """The metric's label, and an arrow to where it is better."""
    return f"{LABELS[metric]} {'↑' if HIGHER_IS_BETTER[metric] else '↓'}"


def unlike(condition: str, arm: str, against: str, seed: int) -> MtlkitError:
    """What is raised where two runs that are to be compared did not see the same data."""
    return MtlkitError(
        f"{condition}: {arm} and {against} did not see the same data with seed {seed}: run one of them again."
    )
