"""Learning rates, tuned on the tuning set by the same grid for every arm."""

import math
import statistics
from pathlib import Path
from typing import Any

import yaml

from mtlkit import files, paths, records
from mtlkit.errors import MtlkitError
from mtlkit.metrics import HIGHER_IS_BETTER
from mtlkit.parameters import seeds
from mtlkit.studies import Study


def choose(study: Study, scale: str, folder: Path) -> Path:
    """Write `params/tuned/<study>.<scale>.yaml` from the records of the tuning runs below `folder`.

    The rate with the best mean of the tuning metric, at the last epoch, over all conditions and seeds is chosen; where
    every task counts (`tables: every_task`), also over tasks. A rate with a run that did not finish is not. All scores
    are kept in the file. Where a chosen rate is the first or the last that was tried, this is said: the arm needs
    `more_rates`, or the scale other `rates`.

    Raises:
        MtlkitError: An arm has no rate with all its runs.
    """
    arms, edges = {}, []
    found = records.read(folder)
    for arm in study.tuned_arms(scale):
        scores = _scores(study, scale, [record for record in found if record["arm"] == arm], arm)
        best = min(scores, key=lambda rate: (scores[rate], rate))
        if scores[best] == math.inf:
            raise MtlkitError(
                f"no learning rate of {arm} has all its tuning runs below {folder}; `make tune` makes them."
            )
        if best in (min(scores), max(scores)):
            edges.append(f"{arm} ({best:g})")
        shown = {f"{rate:g}": round(_sign(study) * score, 6) for rate, score in scores.items() if score < math.inf}
        arms[arm] = {"learning_rate": best, "scores": shown}
    head = {name: study.tuning[name] for name in ("metric", "seeds", "conditions")}
    path = paths.PARAMS / "tuned" / f"{study.name}.{scale}.yaml"
    try:
        path.parent.mkdir(exist_ok=True)
        files.write(path, "# Written by `make tune`.\n" + yaml.safe_dump(head | {"arms": arms}, sort_keys=False))
    except OSError as error:
        raise MtlkitError(f"the tuned rates cannot be written to {path} ({error.strerror}).") from None
    if edges:
        by = f"`rates` of {scale}" if "rates" in study.scale(scale) else "`more_rates`"
        print(f"tuned rates at an end of what was tried, to be extended by {by}: {', '.join(edges)}")
    return path


def _sign(study: Study) -> int:
    return -1 if HIGHER_IS_BETTER[study.tuning["metric"]] else 1


def _scores(study: Study, scale: str, found: list[dict[str, Any]], arm: str) -> dict[float, float]:
    """Learning rate -> mean score, lower is better; infinite where a run is missing, because it did not finish."""
    runs = [(condition, seed) for condition in study.tuning["conditions"] for seed in seeds(study.tuning["seeds"])]
    scores = {}
    for rate in study.rates(scale, arm):
        rate = records.rounded(rate * study.arms[arm].get("rate_factor", 1))
        values = {(record["condition"], record["seed"]): _score(study, record)
                  for record in found if record["parameters"]["learning_rate"] == rate}  # fmt: skip
        known = [values.get(run) for run in runs]
        scores[rate] = math.inf if None in known else statistics.fmean(_sign(study) * value for value in known)
    return scores


def _score(study: Study, record: dict[str, Any]) -> float | None:
    """None where a loss was not finite."""
    last = record["evaluations"][-1]["tuning"]
    values = [one[study.tuning["metric"]] for one in (last["tasks"] if study.tables == "every_task" else [last])]
    return None if None in values else statistics.fmean(values)
