"""Paired timing, and memory, of one call."""

import os
import random
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

import torch
from torch.autograd.profiler import profile

Method = Callable[[], Any]
"""Something to measure; what it allocates is gone at its end, gradients included."""

LIMIT = 8e9
"""Bytes; what would need more is skipped."""


def paired(methods: Mapping[str, Method], seconds: float, device: str, least: int = 5) -> dict[str, list[float]]:
    """Seconds of every method, by repetition: at least `least`, at most 200, and about `seconds` in all. The methods
    should have been called before: first calls are slow."""

    def clock() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    taken: dict[str, list[float]] = {name: [] for name in methods}
    end = time.monotonic() + seconds
    for repetition in range(200):
        if repetition >= least and time.monotonic() > end:
            break
        for name in random.sample(list(methods), len(methods)):
            start = clock()
            methods[name]()
            taken[name].append(clock() - start)
    return taken


def ratio(taken: Mapping[str, list[float]], name: str) -> list[float]:
    """Lower quartile, median and upper quartile of the ratio to `plain` within each repetition."""
    return quantiles([a / b for a, b in zip(taken[name], taken["plain"], strict=True)], method="inclusive")


def peak_bytes(method: Method, device: str) -> int:
    """High-water mark of what one call allocates; the second call is measured."""
    method()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        method()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler would complain that there is no GPU
    with profile(profile_memory=True) as events:
        method()
    changes = [event for event in events.kineto_results.events() if event.name() == "[memory]"]
    level = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        level += change.nbytes()
        peak = max(peak, level)
    return peak


def compare(methods: Mapping[str, Method], seconds: float, device: str, least: int = 5) -> dict[str, dict[str, Any]]:
    """Time and memory of every method, one of which is `plain`: quartiles of the ratio to it, `ms`, repetitions."""
    peaks = {key: peak_bytes(method, device) for key, method in methods.items()}
    taken = paired(methods, seconds, device, least)
    return {key: {"time": ratio(taken, key), "memory": peaks[key] / peaks["plain"], "ms": 1e3 * median(taken[key]),
                  "repetitions": len(taken[key])} for key in methods}  # fmt: skip
