"""Whether committed records come out again: on this machine, and with today's code.

`again` repeats a sample of them in full. On the machine that made them they are the same to the last digit; elsewhere
rounding differs, and grows with every step: the data, the network and the number of steps must still be the same, the
losses of the first epoch nearly so, and the last ones within a tolerance.

`against`: a record carries a hash of the code that made it, and any change of that code makes it stale. Today's code
and that of an older commit run the same short training for every arm of a study; where all results agree to the last
digit, `figures/records/equivalent.yaml` says so, and the records are no longer stale.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mtlkit import files, paths, records
from mtlkit.errors import MtlkitError

SHORT = {"epochs": 2, "evaluations": 1, "fresh": True}
"""What a run is shortened to: all code of a step has run, and an evaluation."""

COMPUTED = ("toy", "digits")
"""Variants of data that every machine computes itself: functions, and digits that are enlarged. Rounding may differ."""

FIRST, LAST = 1e-3, 0.1
"""Largest relative differences on another machine: of the first epoch's training loss, and of the last test loss, where
seeds do not differ by more."""


def again(count: int = 5, jobs: int = 2, seed: int = 0) -> None:
    """Repeat `count` committed records, of as many studies as there are, and print how far each is from what it was.

    Args:
        count: Records.
        jobs: Runs side by side.
        seed: Of the choice.

    Raises:
        MtlkitError: A record did not come out again, within `FIRST` and `LAST`; or there are none.
    """
    found = records.read(paths.COMMITTED_RECORDS)
    if not found:
        raise MtlkitError(f"there are no committed records below {paths.COMMITTED_RECORDS}.")
    studies: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in random.Random(seed).sample(found, len(found)):
        studies[record["study"]].append(record)
    turns = [one for turn in range(count) for some in studies.values() for one in some[turn : turn + 1]]
    named = {" ".join((*(one[key] for key in ("study", "condition", "arm")), f"seed {one['seed']}")): one
             for one in turns[:count]}  # fmt: skip
    minutes = sum(one["cost"]["seconds"] for one in named.values()) / 60
    print(f"repeating {len(named)} records, which took {minutes:.1f} minutes of training", flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        runs = pool.map(lambda run: _run(paths.ROOT, *run, Path(folder), {"fresh": True}), named.items())
        for (name, old), new in zip(named.items(), runs, strict=True):
            said, passed = how_far(old, new, _spread(found, old))
            print(f"{name}: {said}", flush=True)
            failed += [] if passed else [name]
    if failed:
        raise MtlkitError(f"{len(failed)} of {len(named)} records did not come out again: {'; '.join(failed)}.")


def _spread(found: Sequence[dict[str, Any]], record: Mapping[str, Any]) -> float:
    """Standard deviation of the last test loss over the seeds of a record's cell, relative to its own loss."""
    cell = ("study", "condition", "arm")
    losses = [_last(one) for one in found if all(one[key] == record[key] for key in cell)]
    return statistics.stdev(losses) / abs(_last(record)) if len(losses) > 1 else 0.0


def _last(record: Mapping[str, Any]) -> float:
    return record["evaluations"][-1]["test"]["loss"]


def how_far(old: Mapping[str, Any], new: Mapping[str, Any], spread: float = 0.0) -> tuple[str, bool]:
    """What to say of a repeated run, and whether it is the record's: where rounding alone moves a run far, it may move
    by as much as another seed does, `spread`."""
    if not (different := _different(old, new)):
        return "the same to the last digit", True
    exact = [name for name in different if name.startswith(("network ", "data "))]
    exact += ["number of steps"] if sum(old["steps"].values()) != sum(new["steps"].values()) else []
    if old["data"]["variant"] in COMPUTED and exact == ["data checksum"]:
        exact = []
    if exact:
        return f"another {', '.join(exact)}", False
    losses, most = [(one["train_loss"][0], _last(one)) for one in (old, new)], max(LAST, spread)
    first, last = (abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    passed = first <= FIRST and last <= most
    said = f"first training loss differs by {first:.1e} ({FIRST:g} at most), last test loss by {last:.1e} ({most:.2g})"
    return said, passed


def against(commit: str, jobs: int = 2) -> Path:
    """Compare today's code with that of `commit` for all committed records that are stale, and write what agrees.

    Args:
        commit: A commit whose code made these records.
        jobs: Runs side by side.

    Raises:
        MtlkitError: The commit is unknown, its code (or what gave the same) made none of them, or a result differs.
    """
    stale = [record for record in records.read(paths.COMMITTED_RECORDS) if records.is_stale(record)]
    kinds = _one_of_each(stale)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        then = Path(folder) / "then"
        _git("worktree", "add", "--detach", "--quiet", str(then), commit)
        try:
            runs = [(root, name, record) for name, record in kinds.items() for root in (then, paths.ROOT)]
            done = list(pool.map(lambda run: _run(*run, Path(folder) / run[0].name, SHORT), runs))
        finally:
            _git("worktree", "remove", "--force", str(then))
    agreed = defaultdict(list)
    passed_over = []
    for (name, record), old, new in zip(kinds.items(), done[::2], done[1::2], strict=True):
        if old["code"] != record["code"] and old["code"] not in records.same_as(record["code"]):
            passed_over.append(name)
            continue
        if different := _different(old, new):
            raise MtlkitError(f"{name}: today's code gives another {', '.join(different)} than {commit}; run it again.")
        print(f"{name}: the same", flush=True)
        agreed[old["code"], new["code"]].append(name)
    if passed_over:
        print(f"made by other code than that of {commit}, and not compared: {', '.join(passed_over)}")
    if not agreed:
        raise MtlkitError(
            f"none of the stale records was made by the code of {commit}; name a commit whose code it was."
        )
    new = [{"old": old, "new": new, "commit": commit, "checked": f"{datetime.now(UTC):%Y-%m-%d}", "arms": names}
           for (old, new), names in sorted(agreed.items())]  # fmt: skip
    text = yaml.safe_dump(records.equivalent() + new, sort_keys=False)
    try:
        files.write(records.EQUIVALENT, f"# Written by `python -m mtlkit verify`.\n{text}")
    except OSError as error:
        raise MtlkitError(f"{records.EQUIVALENT} cannot be written ({error.strerror}).") from None
    return records.EQUIVALENT


def _one_of_each(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A record of every arm of every study, with wrong labels where there are any."""
    kinds: dict[str, dict[str, Any]] = {}
    for record in sorted(found, key=lambda one: not one["weights"]["flipped_fraction"]):
        kinds.setdefault(f"{record['study']} {record['arm']}", record)
    return kinds


def _run(root: Path, name: str, record: Mapping[str, Any], runs: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run with the parameters of `record` and `changes`, by the code below `root`."""
    given = {key: value for key, value in record["parameters"].items() if value != ""}
    given |= {**changes, "seeds": str(record["seed"]), "runs": str(runs / name.replace(" ", "-"))}
    given["threads"] = record["environment"]["threads"]
    file = Path(given["runs"]) / "parameters.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-m", "mtlkit", "run", record["experiment"], "-f", str(file), "-o"]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": str(given["threads"])}
    done = subprocess.run([*command, str(file.with_suffix(".ipynb"))], cwd=root, env=environment, capture_output=True,
                          text=True)  # fmt: skip
    if done.returncode:
        raise MtlkitError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    (made,) = (file.parent / "records").rglob("*.json")
    return json.loads(made.read_text())


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the results that both have and that are not the same."""
    last = [one["evaluations"][-1] for one in (old, new)]
    both = [*((f"{split} {name}", *(one[split].get(name) for one in last)) for split in ("tuning", "test", "training")
              for name in last[0].get(split, {}).keys() & last[1].get(split, {}).keys()),
            *((f"{part} {name}", old[part][name], new[part][name]) for part in ("network", "data")
              for name in old[part].keys() & new[part].keys())]  # fmt: skip
    pairs = sorted(both, key=str) + [(name, old[name], new[name]) for name in ("train_loss", "weights", "steps")]
    return [name for name, before, now in pairs if before != now]


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise MtlkitError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
