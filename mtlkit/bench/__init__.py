"""What weighting costs beside plain training: `python -m mtlkit bench`.

Every number is a ratio to a plain step on the same batch in the same process: the methods take turns in random order,
and the median over the repetitions is shown with its quartiles. On the CPU, time is that of this process, so that
others on the machine matter little; on CUDA it is the wall clock between two synchronisations. Memory is the high-water
mark of what one step allocates (gradients, activations, temporaries), without parameters and momentum.
"""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import median
from textwrap import shorten
from typing import Any

import torch

from mtlkit import machine, records
from mtlkit.bench import gradients, runs
from mtlkit.bench.steps import PROBLEMS, STEPS, make
from mtlkit.bench.timing import LIMIT, compare, paired, peak_bytes, ratio
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError, one_of
from mtlkit.optimizers import make_optimizer
from mtlkit.parameters import RULES
from mtlkit.tasks import Task
from mtlkit.training import Run, Settings
from mtlkit.weighting import build

PARTS = ("fit", "gradients", "solvers", "runs")
"""What is measured apart from the step of SLGrad on every network."""

COLUMNS = {
    "plain step, ms": ("plain", "ms"),
    "SLGrad, reference B": ("B", "time"),
    "memory": ("B", "memory"),
    "SLGrad, reference B/4": ("B/4", "time"),
    "memory, B/4": ("B/4", "memory"),
    "per-sample loop, extrapolated": ("loop", "time"),
    "vmap(grad), reference B/4": ("vmap", "time"),
}


def measure_step(name: str, count: int, size: int, seconds: float, device: str) -> dict[str, Any]:
    """One cell, T = `count` and B = `size`: time and memory of each of `STEPS`, or why it was skipped."""
    row: dict[str, Any] = {"network": name, "tasks": count, "batch": size, "skipped": {}}
    for key in STEPS:
        try:
            small, large = (peak_bytes(make(key, name, count, b, device), device) for b in (8, 16))
        except RuntimeError as error:  # vmap's, where an operator cannot be batched
            row["skipped"][key] = f"fails: {shorten(str(error), 120)}"
        else:
            if small + (large - small) * (size - 8) / 8 > LIMIT:
                row["skipped"][key] = f"over {LIMIT / 1e9:g} GB"
    # The slow ones apart, so that they do not use up the time of the others.
    for keys, share, least in ((("plain", "B", "B/4"), 0.7, 5), (("plain", "loop", "vmap"), 0.3, 3)):
        if "plain" not in row["skipped"]:
            methods = {key: make(key, name, count, size, device) for key in keys if key not in row["skipped"]}
            row |= compare(methods, seconds * share, device, least)
    if "loop" in row:  # one of its T x B passes was measured
        row["loop"]["time"] = [count * size * time for time in row["loop"]["time"]]
    return row


def measure_gradients(name: str, count: int, size: int, seconds: float, device: str) -> dict[str, Any]:
    """One cell of methods on task gradients: every library's step, beside a plain one."""
    row: dict[str, Any] = {"network": name, "tasks": count, "batch": size, "part": "gradients", "skipped": {}}
    for rule in gradients.NAMES:
        methods = {"plain": make("plain", name, count, size, device)}
        for contender in gradients.CONTENDERS:
            try:
                methods[contender] = gradients.make(contender, rule, name, count, size, device)
                methods[contender]()
            except (MtlkitError, ImportError, RuntimeError, ValueError) as error:
                methods.pop(contender, None)
                row["skipped"][f"{rule} {contender}"] = shorten(str(error), 100)
        row |= {f"{rule} {key}": found for key, found in compare(methods, seconds, device).items() if key != "plain"}
    return row


def measure_solvers(count: int, matrices: int) -> dict[str, Any]:
    """Relative suboptimality of MGDA's and CAGrad's weights on hard Gram matrices, median and worst, ours and others';
    what is best of all counts as the optimum. `failed` counts matrices for which a library gave no answer."""
    row: dict[str, Any] = {"part": "solvers", "tasks": count, "matrices": matrices, "skipped": {}}
    for rule in ("mgda", "cagrad"):
        found: dict[str, list[float]] = {}
        for gram in gradients.hard_matrices(count, matrices):
            values = gradients.objectives(rule, gram)
            best = min(value for value in values.values() if isfinite(value))
            scale = max(abs(best), 1e-9 * float(gram.diagonal().mean()))
            for key, value in values.items():
                found.setdefault(key, []).append((value - best) / scale)
        for key, gaps in found.items():
            there = [gap for gap in gaps if isfinite(gap)]
            row[f"{rule} {key}"] = {"median": median(there), "worst": max(there), "failed": len(gaps) - len(there)}
    return row


def measure_fit(name: str, seconds: float, device: str) -> dict[str, Any]:
    """An epoch of `fit` with equal weighting, without evaluation, beside a loop written by hand."""
    problem, steps = PROBLEMS[name], 12
    count, size = problem.cells[0]
    network = problem.network(count).to(device)
    samples = problem.batch(count, steps * size, device)
    optimizer = make_optimizer("sgd", network.parameters(), learning_rate=1e-3)

    def plain() -> None:
        for index in torch.randperm(len(samples)).to(device).split(size):
            predictions, targets = network(samples.inputs[index]), samples.targets[:, index]
            optimizer.zero_grad()
            torch.stack([problem.loss(p, t) for p, t in zip(predictions, targets, strict=True)]).mean().backward()
            optimizer.step()

    data = Dataset("random", "random", "", [], "binary", *[samples] * 4, facts={})
    settings = Settings(epochs=10**6, evaluations=1, batch_size=size, learning_rate=1e-3, device=device)
    named = [Task(f"task {t}", problem.loss, lambda: None) for t in range(count)]
    run = Run(copy.deepcopy(network), named, build("ew", count), data, settings)
    plain()
    run._epoch()
    taken = paired({"plain": plain, "fit": run._epoch}, seconds, device)
    return {"network": name, "tasks": count, "batch": size, "plain": {"ms": 1e3 * median(taken["plain"]) / steps},
            "fit": {"time": ratio(taken, "fit")}}  # fmt: skip


def bench(*, quick: bool = False, only: str | None = None, device: str = "cpu", output: Path | None = None) -> None:
    """Measure, print tables row by row, and write all numbers to `output` as JSON.

    Args:
        quick: One cell a network, and less time for each.
        only: An entry of `PROBLEMS` or of `PARTS`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        output: The JSON file; it grows with every row.
    """
    device = RULES["device"]("device", device)
    if only is not None:
        one_of("only", only, [*PROBLEMS, *PARTS])
    if output is not None:
        try:
            output.touch()
        except OSError as error:
            raise MtlkitError(f"{output} cannot be written ({error.strerror}).") from None
    machine.prepare(threads=1)
    about = records.environment(device, 1) | {"load": os.getloadavg()[0]}
    print(f"torch {about['torch']}, {about['device']}, 1 thread, machine load {about['load']:.1f}. Time and memory are")
    print("ratios to a plain step: median (lower to upper quartile).\n")
    seconds, rows = 3 if quick else 15, []

    def measured(row: dict[str, Any]) -> dict[str, Any]:
        """Kept, and written at once: an hour's numbers must not hang on the last of them."""
        rows.append(row)
        if output is not None:
            about["load_after"] = os.getloadavg()[0]
            output.write_text(json.dumps(records.rounded({"environment": about, "rows": rows}), indent=1) + "\n")
        return row

    if only not in PARTS:
        _print(["network", "T", "B", *COLUMNS], head=True)
    for name, problem in PROBLEMS.items():
        for cell in problem.cells[: 1 if quick else None]:
            if only in (None, name):
                row = measured(measure_step(name, *cell, seconds, device))
                _print([name, *cell, *(_shown(row, *column) for column in COLUMNS.values())])
    if only in (None, "fit"):
        print("\nAn epoch of `fit`, equal weighting, beside a loop written by hand.\n")
        _print(["network", "T", "B", "by hand, ms a step", "`fit`"], head=True)
        for name in ("lenet", "mlp"):
            row = measured(measure_fit(name, seconds, device))
            _print([name, *PROBLEMS[name].cells[0], _shown(row, "plain", "ms"), _shown(row, "fit", "time")])
    if only in (None, "gradients"):
        print("\nMethods on task gradients, without a reference batch; ratio to a plain step.\n")
        _print(["network", "T", "B", "method", *gradients.CONTENDERS, *(f"memory, {c}" for c in gradients.CONTENDERS)],
               head=True)  # fmt: skip
        for cell in gradients.CELLS:
            row = measured(measure_gradients(*cell, seconds, device))
            for rule in gradients.NAMES:
                keys = [f"{rule} {contender}" for contender in gradients.CONTENDERS]
                _print([*cell, rule, *(_shown(row, key, "time") for key in keys),
                        *(_shown(row, key, "memory") if key in row else "-" for key in keys)])  # fmt: skip
    if only in (None, "solvers"):
        print("\nRelative suboptimality of weights on hard Gram matrices: median, worst.\n")
        _print(["T", "method", "ours", "TorchJD", "LibMTL"], head=True)
        for count in (2, 3, 10, 40):
            row = measured(measure_solvers(count, 30 if quick else 200))
            for rule in ("mgda", "cagrad"):
                _print([count, rule, *(_gaps(row.get(f"{rule} {key}")) for key in ("ours", "TorchJD", "LibMTL"))])
    if only in (None, "runs"):
        names = runs.contenders(device)
        print(f"\nRuns of {runs.LENGTH} steps, one at a time; and how many times as many an hour where S seeds train")
        print("as one. Without evaluation.\n")
        _print(["network", "T", "B", "method", "ms a step", "runs an hour", *(f"S = {name}" for name in names)],
               head=True)  # fmt: skip
        for cell in runs.CELLS[: 1 if quick else None]:
            for rule in runs.NAMES:
                row = measured(runs.measure(rule, cell, 2 * seconds, device))
                _print([*cell, rule, *(_digits(row["plain"][what]) for what in ("ms", "runs")),
                        *(_quartiles(row[name]["gain"]) for name in names)])  # fmt: skip


def _shown(row: Mapping[str, Any], key: str, what: str) -> str:
    if key not in row:
        return row["skipped"].get(key, "-")
    if what != "time":
        return _digits(row[key][what])
    return _quartiles(row[key][what])


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = map(_digits, values)
    return f"{middle} ({low} to {high})"


def _gaps(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "-"
    failed = f" ({found['failed']} without an answer)" if found["failed"] else ""
    return f"{found['median']:.1g}, {found['worst']:.1g}{failed}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _print(cells: list[object], *, head: bool = False) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if head:
        print(f"|{' --- |' * len(cells)}", flush=True)
