"""What a run remembers of its weights."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

EDGES = [0.0, 1e-9, *(2.0**k for k in range(-6, 6)), float("inf")]
"""Histogram bins of a weight relative to an equal share; the first holds exact zeros."""


ROWS, NUMBERS = 40, 400
"""At most so many rows of task weights are kept, and about so many numbers: a record must stay small."""


class WeightSummary:
    """Collects, epoch by epoch, where the weight of a run goes. Long runs are averaged over windows of epochs.

    Args:
        tasks: T.
        batch: B.
        epochs: Of the whole run; the histogram covers the last quarter.
    """

    def __init__(self, tasks: int, batch: int, epochs: int) -> None:
        self.share = tasks * batch
        self.from_epoch = epochs - (epochs + 3) // 4 + 1
        self.task: list[list[float]] = []
        self.flipped_share: list[float | None] = []
        self.seen, self.flipped = 0, 0
        self.counts = torch.zeros(2, len(EDGES) - 1, dtype=torch.int64)

    def add(self, weights: Tensor, flipped: Tensor, epoch: int) -> None:
        """Take in an epoch: weights `(steps, T, B)`, and which main labels were corrupted, `(steps, B)` bool."""
        main = weights[:, 0].double()
        self.task.append(weights.double().sum(2).mean(0).tolist())
        total, wrong = main.sum(), main[flipped].sum()
        self.flipped_share.append(float(wrong / total) if flipped.any() and total > 0 else None)
        self.seen += flipped.numel()
        self.flipped += int(flipped.sum())
        if epoch >= self.from_epoch:
            relative = main * self.share * (1 + 1e-6)  # an equal share lies at an edge: no rounding below it
            bins = torch.bucketize(relative, torch.tensor(EDGES[1:-1], dtype=torch.float64), right=True)
            for row, mask in enumerate((~flipped, flipped)):
                self.counts[row] += torch.bincount(bins[mask], minlength=self.counts.shape[1])

    def result(self) -> dict[str, Any]:
        """The part `weights` of a record; `epoch` names the last epoch of every window."""
        epochs, tasks = len(self.task), len(self.task[0])
        window = math.ceil(epochs / max(1, min(ROWS, NUMBERS // tasks)))
        windows = [slice(start, min(start + window, epochs)) for start in range(0, epochs, window)]
        return {
            "epoch": [one.stop for one in windows],
            "task": [[_mean(column) for column in zip(*self.task[one], strict=True)] for one in windows],
            "flipped_share": [_mean(self.flipped_share[one]) for one in windows],
            "flipped_fraction": round(self.flipped / max(self.seen, 1), 5),
            "histogram": {"edges": [e if e != float("inf") else None for e in EDGES],
                          "clean": self.counts[0].tolist(), "flipped": self.counts[1].tolist()},
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"task": self.task, "flipped_share": self.flipped_share, "seen": self.seen, "flipped": self.flipped,
                "counts": self.counts}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.task, self.flipped_share = state["task"], state["flipped_share"]
        self.seen, self.flipped, self.counts = state["seen"], state["flipped"], state["counts"].cpu()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 5) if known else None
