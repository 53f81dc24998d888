"""Runs per hour: seeds that are trained as one, beside one run at a time, both by the training loop itself."""

from statistics import median, quantiles
from typing import Any

import torch

from mtlkit.batched import Batched
from mtlkit.bench.steps import PROBLEMS
from mtlkit.bench.timing import Method, paired
from mtlkit.data.base import Dataset
from mtlkit.tasks import Task
from mtlkit.training import Run, Settings
from mtlkit.weighting import build

NAMES = ("ew", "slgrad", "pcgrad")
SEEDS = (1, 4, 9)
CELLS = [("lenet", 10, 64), ("mlp", 2, 64)]
"""Network, T, B: what launches bind on a GPU, and what Python binds on the CPU as well."""

REFERENCE = 16
LENGTH = 480
"""Steps of a run: 40 epochs of 12, as in the study of CIFAR-10 with flipped labels."""

MEASURED = 6
"""Steps of the epochs that are measured."""


def contenders(device: str) -> dict[str, tuple[int, bool]]:
    """Number of seeds, and whether their step is captured, which needs a GPU."""
    return {f"{seeds}{', captured' if captured else ''}": (seeds, captured)
            for captured in (False, True)[: 1 + ("cuda" in device)] for seeds in SEEDS}  # fmt: skip


def make(rule: str, cell: tuple[str, int, int], seed: int, device: str) -> Run:
    """A run on random data; it never evaluates."""
    name, tasks, size = cell
    problem = PROBLEMS[name]
    torch.manual_seed(seed)
    train, reference = (problem.batch(tasks, count, seed=seed) for count in (MEASURED * size, 200))
    data = Dataset("random", "random", "", [], "binary", train, *[reference] * 3, facts={})
    settings = Settings(epochs=10**6, evaluations=1, batch_size=size, reference_batch=REFERENCE, learning_rate=1e-3,
                        seed=seed, device=device)  # fmt: skip
    named = [Task(f"task {t}", problem.loss, lambda: None) for t in range(tasks)]
    return Run(problem.network(tasks), named, build(rule, tasks, {"seed": seed}), data, settings)


def measure(rule: str, cell: tuple[str, int, int], seconds: float, device: str) -> dict[str, Any]:
    """Runs per hour one at a time, and by how much seeds trained as one multiply them: quartiles within a repetition.
    Loading data and evaluation are left out."""
    row: dict[str, Any] = {"part": "runs", "method": rule} | dict(zip(("network", "tasks", "batch"), cell, strict=True))
    methods: dict[str, Method] = {"plain": make(rule, cell, 0, device)._epoch}
    for name, (seeds, captured) in contenders(device).items():
        runs = [make(rule, cell, seed, device) for seed in range(seeds)]
        methods[name] = Batched(runs, capture=captured)._epoch
    for method in methods.values():
        method()
    taken = paired(methods, seconds, device, least=3)
    step = median(taken["plain"]) / MEASURED
    row["plain"] = {"ms": 1e3 * step, "runs": 3600 / (step * LENGTH)}
    for name, (seeds, _) in contenders(device).items():
        gain = [seeds * alone / together for together, alone in zip(taken[name], taken["plain"], strict=True)]
        row[name] = {"gain": quantiles(gain, method="inclusive"), "repetitions": len(gain),
                     "runs": seeds * 3600 * MEASURED / (median(taken[name]) * LENGTH)}  # fmt: skip
    return row
