"""What a run remembers of its weights."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mtlkit.summary import EDGES, WeightSummary

N = 30


def labels(tasks: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which labels are flipped (in the first two tasks), and label groups."""
    random = torch.Generator().manual_seed(seed)
    flipped = torch.rand(tasks, N, generator=random) < 0.4
    flipped[2:] = False
    return flipped, torch.randint(0, 2, (tasks, N), generator=random)


def summary(*, epochs: int = 8, steps: int = 5, tasks: int = 2, batch: int = 4) -> tuple[WeightSummary, list, list]:
    """A summary after all its epochs, and what it was given: weights, and indices."""
    torch.manual_seed(0)
    made = WeightSummary(*labels(tasks), batch, epochs)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for epoch in range(1, epochs + 1):
        w = torch.rand(steps, tasks, batch).pow(4) / 8
        w[:, 0, 0] = 0
        seen.append((w, torch.rand(steps, tasks, batch), torch.randint(0, N, (steps, batch))))
        made.add(*seen[-1], epoch)
    return made, [w for w, _, _ in seen], seen


def test_shares() -> None:
    made, weights, seen = summary()
    result, flipped = made.result(), [labels(2)[0][0][indices] for _, _, indices in seen]
    for epoch in range(8):
        assert result["task"][epoch] == pytest.approx(weights[epoch].sum(2).mean(0).tolist(), abs=1e-5)
        main = [
            (float(w), bool(f)) for w, f in zip(weights[epoch][:, 0].flatten(), flipped[epoch].flatten(), strict=True)
        ]
        share = sum(w for w, f in main if f) / sum(w for w, _ in main)
        assert result["flipped_share"][epoch] == pytest.approx(share, abs=1e-5)
    assert result["flipped_fraction"] == pytest.approx(torch.stack(flipped).float().mean().item(), abs=1e-5)


def test_histogram_covers_the_last_quarter_of_every_noisy_task() -> None:
    made, _, seen = summary(tasks=3)
    histogram, marks = made.result()["histogram"], labels(3)[0]
    edges = [*histogram["edges"][:-1], float("inf")]
    assert histogram["edges"][-1] is None and edges == EDGES
    assert histogram["tasks"] == [0, 1]
    for task in (0, 1):
        for kind, wanted in (("clean", False), ("flipped", True)):
            counts = [0] * (len(edges) - 1)
            for w, _, indices in seen[6:]:
                for one, index in zip(w[:, task].flatten().tolist(), indices.flatten().tolist(), strict=True):
                    inside = [low <= one * 12 < high for low, high in pairwise(edges)]
                    counts[inside.index(True)] += bool(marks[task, index]) == wanted
            assert histogram[kind][task] == counts
        assert sum(histogram["clean"][task]) + sum(histogram["flipped"][task]) == 2 * 5 * 4
    assert histogram["clean"][0][0] + histogram["flipped"][0][0] > 0, "exact zeros have a bin of their own"


@pytest.mark.parametrize("tasks", [1, 3])
def test_detection_is_the_share_of_pairs_in_the_right_order(tasks: int) -> None:
    made, _, seen = summary(tasks=tasks, batch=8)
    (flipped, groups), found = labels(tasks), made.result()["detection"]
    assert [one["task"] for one in found] == [0, 1][:tasks]
    for one in found:
        task = one["task"]
        means = []
        for part in (0, 1):
            drawn: dict[int, list[float]] = {}
            for values in seen[6:]:
                for value, index in zip(values[part][:, task].flatten(), values[2].flatten(), strict=True):
                    drawn.setdefault(int(index), []).append(float(value))
            means.append({index: sum(v) / len(v) for index, v in drawn.items()})
        for name, score in (("weight", {i: -v for i, v in means[0].items()}), ("loss", means[1])):
            for key, within in ((name, False), (f"{name}_within", True)):
                pairs = [(i, j) for i in score for j in score if flipped[task, i] and not flipped[task, j]
                         and (not within or groups[task, i] == groups[task, j])]  # fmt: skip
                wins = [(score[i] > score[j]) + 0.5 * (score[i] == score[j]) for i, j in pairs]
                assert one[key] == pytest.approx(sum(wins) / len(wins), abs=2e-5)


@pytest.mark.parametrize(("epochs", "counted"), [(1, 1), (2, 1), (4, 1), (5, 2), (8, 2), (40, 10)])
def test_length_of_the_last_quarter(epochs: int, counted: int) -> None:
    made = summary(epochs=epochs)[0]
    assert int(made.counts[0].sum()) == counted * 5 * 4


@pytest.mark.parametrize(("epochs", "tasks", "rows"), [(40, 10, 40), (41, 10, 21), (300, 10, 38), (300, 40, 10)])
def test_long_runs_are_averaged_over_windows(epochs: int, tasks: int, rows: int) -> None:
    made, weights, _ = summary(epochs=epochs, tasks=tasks, batch=2)
    result = made.result()
    assert len(result["epoch"]) == len(result["task"]) == len(result["flipped_share"]) == rows
    assert result["epoch"][-1] == epochs
    for first, last, row in zip([0, *result["epoch"]], result["epoch"], result["task"], strict=False):
        wanted = torch.stack(weights[first:last]).double().sum(3).mean((0, 1))
        assert row == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize(("flips", "weight"), [(False, 1 / 8), (True, 0.0)])
def test_no_flips_and_no_weight(flips: bool, weight: float) -> None:
    made = WeightSummary(torch.full((2, 4), flips), torch.zeros(2, 4, dtype=torch.int64), 4, 1)
    made.add(torch.full((3, 2, 4), weight), torch.ones(3, 2, 4), torch.arange(4).expand(3, 4), 1)
    result = made.result()
    assert result["flipped_share"] == [None] and result["flipped_fraction"] == float(flips)
    assert result["detection"] == []


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("batch", [8, 48, 64, 100])
def test_equal_weights_fall_into_one_bin_whatever_the_sizes(tasks: int, batch: int) -> None:
    made = WeightSummary(torch.zeros(tasks, batch, dtype=torch.bool), torch.zeros(tasks, batch).long(), batch, 1)
    equal = torch.full((1, tasks, batch), 1 / tasks) / batch
    made.add(equal, equal, torch.arange(batch)[None], 1)
    holds_one = [low <= 1 < high for low, high in pairwise(EDGES)]
    assert made.counts[0, 0].nonzero().item() == holds_one.index(True)


def test_state() -> None:
    whole, _, seen = summary()
    first, second = WeightSummary(*labels(2), 4, 8), WeightSummary(*labels(2), 4, 8)
    for epoch in range(1, 8):
        first.add(*seen[epoch - 1], epoch)
    second.restore(first.state())
    second.add(*seen[7], 8)
    assert second.result() == whole.result()
