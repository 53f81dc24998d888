"""Learning rates, tuned on the tuning set by the same grid for every arm."""

import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mtlkit import paths, records
from mtlkit.errors import MtlkitError
from mtlkit.studies import Study
from mtlkit.tasks import HIGHER_IS_BETTER


def choose(study: Study, folder: Path) -> Path:
    """Write `params/tuned/<study>.yaml` from the records of the tuning runs below `folder`.

    The rate with the best mean of the tuning metric, at the last epoch, over all conditions and seeds is chosen; a run
    that did not finish counts as worst. All scores are kept in the file.

    Raises:
        MtlkitError: A chosen rate lies on the edge of the grid (the grid must be extended), or runs are missing.
    """
    arms, edges = {}, []
    for arm in study.tuned_arms():
        scores = _scores(study, folder, arm)
        best = min(scores, key=lambda rate: (scores[rate], rate))
        if best in (min(scores), max(scores)):
            edges.append(f"{arm} ({best:g})")
        arms[arm] = {"learning_rate": best, "scores": {f"{rate:g}": round(score, 6) for rate, score in scores.items()}}
    head = {name: study.tuning[name] for name in ("metric", "seeds", "conditions")}
    path = paths.PARAMS / "tuned" / f"{study.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text("# Written by `make tune`.\n" + yaml.safe_dump(head | {"arms": arms}, sort_keys=False))
    os.replace(partial, path)
    if edges:
        print(f"tuned rates on the edge of the grid, which should be extended there: {', '.join(edges)}")
    return path


def _sign(study: Study) -> int:
    return -1 if HIGHER_IS_BETTER[study.tuning["metric"]] else 1


def _scores(study: Study, folder: Path, arm: str) -> dict[float, float]:
    """Learning rate -> mean score, lower is better."""
    found: dict[float, list[float]] = {}
    for record in [r for r in records.read(folder) if r["arm"] == arm]:
        value: Mapping[str, Any] = record["evaluations"][-1]["tuning"]
        score = value[study.tuning["metric"]]
        found.setdefault(record["parameters"]["learning_rate"], []).append(
            math.inf if score is None else _sign(study) * score
        )
    if not found:
        raise MtlkitError(f"there are no tuning runs of {arm} below {folder}; `make tune` makes them.")
    return {rate: statistics.fmean(values) for rate, values in sorted(found.items())}
