"""One record per parameters and seed: everything that a table or figure needs. Written whole or not at all."""

import ast
import hashlib
import inspect
import json
import math
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mtlkit import files, paths
from mtlkit.errors import MtlkitError
from mtlkit.parameters import checked

SCHEMA = 1
MAXIMUM_BYTES = 250_000
"""Of a record that is committed; what a run has found is kept whatever its size."""

NOT_COMPARED = ("cost", "environment", "created")
"""What may differ between two runs of the same thing."""

PLUMBING = ("data_root", "runs", "device", "threads", "workers", "fresh", "seeds", "batched_seeds", "study",
            "condition", "arm")  # fmt: skip
"""Parameters that say where and how, not what; they are no part of a record's identity."""


CODE_OF_STEPS = {
    "losses": ["steps/by_losses"],
    "alignment": ["steps/by_alignment", "engine/alignment", "engine/forward_mode"],
    "gradients": ["steps/by_gradients", "steps/per_task", "engine/task_gradients"],
    "direction": ["steps/by_gradients", "steps/per_task", "engine/task_gradients"],
    "bilevel": [
        "steps/bilevel",
        "steps/per_task",
        "steps/by_alignment",
        "engine/alignment",
        "engine/forward_mode",
        "engine/task_gradients",
    ],
}
"""What a step of every kind runs, beside what all of them do."""


def identity(experiment: str, parameters: Mapping[str, Any], seed: int, data: Mapping[str, Any]) -> str:
    """16 hex digits that name a run: the same experiment, parameters (as far as they are given), seed and data give the
    same."""
    what = {key: value for key, value in parameters.items() if key not in PLUMBING and value != ""}
    text = json.dumps([experiment, what, seed, data["variant"], data["checksum"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_of(parameters: Mapping[str, Any], data: str) -> str:
    """The hash of the code that a run with these parameters uses."""
    return code_hash(parameters["weighting"], parameters["network"], data, parameters.get("measure", ""))


@cache
def code_hash(weighting: str, network: str, data: str, measure: str = "") -> str:
    """16 hex digits of the code that a run uses: comments, docstrings and layout do not count."""
    from mtlkit.nets import DENSE, EVERY, TEXT
    from mtlkit.weighting import METHODS, RANDOM_FIRST

    package = Path(__file__).parent
    names = ["tasks", "optimizers", "schedules", "order", "summary", "evaluation", "training", "forward", "reading",
             "distributed", "batch_norm", "steps/base", "engine/reference"]  # fmt: skip
    names += [measure] if measure else []
    names += ["dense", "pixels"] if network in DENSE else []
    names += ["text_tasks", "pixels", "pretrained"] if network in TEXT else []
    method = METHODS.get(weighting.removeprefix(RANDOM_FIRST))
    if method is not None:
        names += CODE_OF_STEPS[method.needs]
    chosen = [Path(inspect.getfile(one)) for one in (method, EVERY.get(network)) if one is not None]
    chosen += [package / "weighting/rgw.py"] if weighting.startswith(RANDOM_FIRST) else []
    chosen = _with_imports([package / f"data/{data}.py", *chosen], package)
    return _hash_of((*(package / f"{name}.py" for name in names), *chosen))


def _with_imports(files: list[Path], package: Path) -> list[Path]:
    """The files of data sets, networks and methods, and what they import from those of others, and so on."""
    found, todo = set(files), list(files)
    while todo:
        new = _imported(todo.pop(), package) - found
        todo += sorted(new)
        found |= new
    return sorted(found)


@cache
def _imported(file: Path, package: Path) -> frozenset[Path]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())) if file.is_file() else ():
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(OF_A_KIND):
            module = package.parent / str(node.module).replace(".", "/")
            modules = [module, *(module / alias.name for alias in node.names)]
            found += [one for of in modules for one in (of.with_suffix(".py"), of / "__init__.py")]
    return frozenset(one for one in found if one.is_file())


OF_A_KIND = ("mtlkit.data", "mtlkit.nets", "mtlkit.weighting")
"""Packages of which a run uses some files."""


def _hash_of(files: Iterable[Path]) -> str:
    text = "".join(f"{file.name}\n{_code_in(file)}\n" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code_in(file: Path) -> str:
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return _shape(tree)


def _shape(node: Any) -> str:
    """What `ast.dump` says, without empty fields: newer versions of Python add some."""
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: getattr(node, name, None) for name in node._fields}
    shown = (f"{name}={_shape(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(shown)})"


def _is_text(node: ast.stmt) -> bool:
    """A docstring, of whatever it describes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


EQUIVALENT = paths.COMMITTED_RECORDS / "equivalent.yaml"
"""Pairs of code hashes that `python -m mtlkit verify` has seen give the same results."""


def is_stale(record: Mapping[str, Any]) -> bool:
    """Whether other code than today's, or its equal, made this record."""
    today = code_of(record["parameters"], record["data"]["name"])
    return record["code"] != today and today not in same_as(record["code"])


@cache
def same_as(code: str) -> frozenset[str]:
    """The later codes that gave the same as `code`."""
    found, todo = set(), [code]
    while todo:
        later = {pair["new"] for pair in equivalent() if pair["old"] == todo[-1]} - found
        todo = todo[:-1] + sorted(later)
        found |= later
    return frozenset(found)


@cache
def equivalent() -> list[dict[str, Any]]:
    """The pairs, each with the commit of the older code and the arms that were compared."""
    if not EQUIVALENT.is_file():
        return []
    from mtlkit.studies import read_yaml

    pairs = read_yaml(EQUIVALENT, list)
    for number, pair in enumerate(pairs, 1):
        if not _has(pair, {"old": str, "new": str}):
            raise MtlkitError(f"{EQUIVALENT}, entry {number}: {pair!r} should have old and new, two hashes.")
    return pairs


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions, device and commit."""
    import numpy
    import torch

    name = torch.cuda.get_device_name(device) if "cuda" in device else "cpu"
    return {"torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version(), "device": name,
            "threads": threads, "commit": _commit()}  # fmt: skip


@cache
def _commit() -> str | None:
    """The commit of the repository, with `+` if its files were changed since; None outside of git."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def rounded(value: Any, digits: int = 6) -> Any:
    """`value` with every float in it rounded to `digits` significant digits; NaN becomes None."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    return [rounded(item, digits) for item in value] if isinstance(value, list | tuple) else value


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write a record whole or not at all.

    Raises:
        MtlkitError: The folder cannot be written to.
    """
    text = json.dumps(record | {"checksum": _checksum(record)}, allow_nan=False, separators=(",", ":")) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text)
    except OSError as error:
        raise MtlkitError(f"the record cannot be written to {path.parent} ({error.strerror}); choose another folder "
                          "with the parameter `runs`.") from None  # fmt: skip


def _checksum(record: Any) -> str:
    """16 hex digits of what a record says: an edit by hand shows."""
    return hashlib.sha256(json.dumps(record, separators=(",", ":")).encode()).hexdigest()[:16]


def load(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        MtlkitError: The file is no whole record of this schema, or says something else than when it was written (which
            older records, without a checksum, do not tell).
    """
    try:
        record = json.loads(path.read_text())
        checksum = record.pop("checksum", None) if isinstance(record, dict) else None
        as_written = checksum in (None, _checksum(record))
    except (OSError, ValueError, RecursionError) as error:
        raise MtlkitError(f"{path} is not a record ({type(error).__name__}); delete it and run again.") from None
    if not _has(record, RECORD) or record["schema"] != SCHEMA:
        raise MtlkitError(f"{path} is not a record of schema {SCHEMA}; delete it and run again.")
    if not as_written:
        raise MtlkitError(f"{path} was changed after it was written (its checksum says so); delete it and run again.")
    return record


RECORD: dict[str, Any] = {
    "schema": int, "id": str, "experiment": str, "study": str | None, "condition": str, "arm": str, "seed": int,
    "code": str, "parameters": {"weighting": str, "network": str}, "data": {"name": str, "variant": str},
    "evaluations": list, "weights": dict, "cost": dict, "environment": dict,
}  # fmt: skip
"""What every record has."""


def _has(value: Any, shape: Any) -> bool:
    if not isinstance(shape, dict):
        return isinstance(value, shape)
    return isinstance(value, dict) and all(name in value and _has(value[name], of) for name, of in shape.items())


def read(folder: Path | str) -> list[dict[str, Any]]:
    """All records below a folder, in the order of their paths."""
    return [load(path) for path in sorted(Path(folder).rglob("[!.]*.json"))]


def drop_superseded(folder: Path, parameters: Mapping[str, Any]) -> list[Path]:
    """Delete the records in `folder` whose parameters contradict those given, and return their paths: a cell of a study
    that was run again, say at another learning rate, has one record per seed."""
    dropped = []
    for path in sorted(folder.glob("[!.]*.json")):
        there = load(path)["parameters"]
        known = {key: there[key] for key in parameters if key in there}
        wanted = checked({key: parameters[key] for key in known}, {key: type(value) for key, value in known.items()})
        if dict(wanted) != known:
            path.unlink()
            dropped.append(path)
    return dropped


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without timings, dates and versions: what two runs of the same thing share to the last digit."""
    return {key: value for key, value in record.items() if key not in NOT_COMPARED}


def to_frame(records: Iterable[Mapping[str, Any]]):
    """A `pandas.DataFrame` with one row per record and evaluation; metrics as `tuning_<metric>`, `test_<metric>`."""
    import pandas

    rows = []
    for record in records:
        parameters = record["parameters"]
        head = {key: record[key] for key in ("experiment", "study", "condition", "arm", "seed", "code")}
        head |= {"stale": is_stale(record), "variant": record["data"]["variant"]}
        head |= {key: parameters.get(key) for key in ("weighting", "learning_rate")}
        head |= {key: record["cost"][key] for key in ("seconds_per_step", "peak_memory_mb")}
        for evaluation in record["evaluations"]:
            metrics = {f"{split}_{name}": value for split in ("tuning", "test")
                       for name, value in evaluation[split].items() if not isinstance(value, list)}  # fmt: skip
            rows.append(head | {"epoch": evaluation["epoch"]} | metrics)
    return pandas.DataFrame(rows)
