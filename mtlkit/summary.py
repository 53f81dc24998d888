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
    """Collects, epoch by epoch, where the weight of a run goes. Long runs are averaged over windows of epochs; the
    histogram and the detection of flipped labels cover the last quarter.

    Args:
        flipped: `(T, N)` bool, which labels of the training set were corrupted.
        groups: `(T, N)` int64, label groups.
        batch: B.
        epochs: Of the whole run.
    """

    def __init__(self, flipped: Tensor, groups: Tensor, batch: int, epochs: int) -> None:
        self.all_flipped, self.groups = flipped.cpu(), groups.cpu()
        self.share = len(flipped) * batch
        self.from_epoch = epochs - (epochs + 3) // 4 + 1
        self.noisy = [t for t in range(len(flipped)) if t == 0 or bool(self.all_flipped[t].any())]
        self.task: list[list[float]] = []
        self.flipped_share: list[float | None] = []
        self.seen, self.flipped = 0, 0
        self.counts = torch.zeros(len(self.noisy), 2, len(EDGES) - 1, dtype=torch.int64)
        self.totals = torch.zeros(2, len(self.noisy), flipped.shape[1], dtype=torch.float64)
        self.drawn = torch.zeros(len(self.noisy), flipped.shape[1], dtype=torch.int64)

    def add(self, weights: Tensor, losses: Tensor, indices: Tensor, epoch: int) -> None:
        """Take in an epoch: weights and losses `(steps, T, B)`, and which training samples they are of, `(steps, B)`,
        or `(steps, T, B)` where every task has samples of its own."""
        indices = indices.view(len(indices), -1, indices.shape[-1]).expand_as(weights)
        flipped = self.all_flipped[0][indices[:, 0]]
        main = weights[:, 0].double()
        self.task.append(weights.double().sum(2).mean(0).tolist())
        total, wrong = main.sum(), main[flipped].sum()
        self.flipped_share.append(float(wrong / total) if flipped.any() and total > 0 else None)
        self.seen += flipped.numel()
        self.flipped += int(flipped.sum())
        if epoch >= self.from_epoch:
            self._last_quarter(*(values[:, self.noisy] for values in (weights.double(), losses.double(), indices)))

    def _last_quarter(self, weights: Tensor, losses: Tensor, indices: Tensor) -> None:
        relative = weights * self.share * (1 + 1e-6)  # an equal share lies at an edge: no rounding below it
        bins = torch.bucketize(relative, torch.tensor(EDGES[1:-1], dtype=torch.float64), right=True)
        for k, task in enumerate(self.noisy):
            flipped = self.all_flipped[task][indices[:, k]]
            for row, mask in enumerate((~flipped, flipped)):
                self.counts[k, row] += torch.bincount(bins[:, k][mask], minlength=self.counts.shape[2])
            for sums, values in zip(self.totals, (weights, losses), strict=True):
                sums[k].index_add_(0, indices[:, k].flatten(), values[:, k].flatten())
            self.drawn[k] += torch.bincount(indices[:, k].flatten(), minlength=self.drawn.shape[1])

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
            "histogram": {"edges": [e if e != float("inf") else None for e in EDGES], "tasks": self.noisy,
                          "clean": self.counts[:, 0].tolist(), "flipped": self.counts[:, 1].tolist()},
            "detection": self._detection(),
        }  # fmt: skip

    def _detection(self) -> list[dict[str, Any]]:
        """How well low weight, and high loss, tell flipped from clean labels: the area under the ROC curve of every
        training sample's mean over the last quarter, over all of a task's labels and `within` label groups."""
        found = []
        for k, task in enumerate(self.noisy):
            drawn = self.drawn[k] > 0
            flipped, groups = self.all_flipped[task][drawn], self.groups[task][drawn]
            if not flipped.any() or flipped.all():
                continue
            weight, loss = (sums[k][drawn] / self.drawn[k][drawn] for sums in self.totals)
            one: dict[str, Any] = {"task": task}
            for name, score in (("weight", -weight), ("loss", loss)):
                one[name] = _auc(score, flipped, torch.zeros_like(groups))
                one[f"{name}_within"] = _auc(score, flipped, groups)
            found.append(one)
        return found

    def state(self) -> dict[str, Any]:
        return {"task": self.task, "flipped_share": self.flipped_share, "seen": self.seen, "flipped": self.flipped,
                "counts": self.counts, "totals": self.totals, "drawn": self.drawn}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.task, self.flipped_share = state["task"], state["flipped_share"]
        self.seen, self.flipped, self.counts = state["seen"], state["flipped"], state["counts"].cpu()
        self.totals, self.drawn = state["totals"].cpu(), state["drawn"].cpu()


def _auc(score: Tensor, positive: Tensor, groups: Tensor) -> float | None:
    """The chance that a positive has a higher score than a negative of its own group; ties count half. None where no
    group has both."""
    from scipy.stats import rankdata

    wins = pairs = 0.0
    for group in groups.unique():
        here = groups == group
        ranks, hits = rankdata(score[here].numpy()), positive[here].numpy()
        count = int(hits.sum())
        wins += float(ranks[hits].sum()) - count * (count + 1) / 2
        pairs += count * (len(hits) - count)
    return round(wins / pairs, 5) if pairs else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 5) if known else None
