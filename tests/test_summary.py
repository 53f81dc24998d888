"""What a run remembers of its weights."""

from itertools import pairwise

import pytest
import torch

from mtlkit.summary import EDGES, WeightSummary


def summary(*, epochs: int = 8, steps: int = 5, tasks: int = 2, batch: int = 4) -> tuple[WeightSummary, list, list]:
    """A summary after all its epochs, and what it was given."""
    torch.manual_seed(0)
    made = WeightSummary(tasks, batch, epochs)
    weights, flipped = [], []
    for epoch in range(1, epochs + 1):
        w = torch.rand(steps, tasks, batch).pow(4) / 8
        w[:, 0, 0] = 0
        weights.append(w)
        flipped.append(torch.rand(steps, batch) < 0.4)
        made.add(w, flipped[-1], epoch)
    return made, weights, flipped


def test_shares() -> None:
    made, weights, flipped = summary()
    result = made.result()
    for epoch in range(8):
        assert result["task"][epoch] == pytest.approx(weights[epoch].sum(2).mean(0).tolist(), abs=1e-5)
        main = [
            (float(w), bool(f)) for w, f in zip(weights[epoch][:, 0].flatten(), flipped[epoch].flatten(), strict=True)
        ]
        share = sum(w for w, f in main if f) / sum(w for w, _ in main)
        assert result["flipped_share"][epoch] == pytest.approx(share, abs=1e-5)
    assert result["flipped_fraction"] == pytest.approx(torch.stack(flipped).float().mean().item(), abs=1e-5)


def test_histogram_covers_the_last_quarter() -> None:
    made, weights, flipped = summary()
    histogram = made.result()["histogram"]
    edges = [*histogram["edges"][:-1], float("inf")]
    assert histogram["edges"][-1] is None and edges == EDGES
    for kind, wanted in (("clean", False), ("flipped", True)):
        counts = [0] * (len(edges) - 1)
        for epoch in (6, 7):
            for w, f in zip(weights[epoch][:, 0].flatten().tolist(), flipped[epoch].flatten().tolist(), strict=True):
                inside = [low <= w * 8 < high for low, high in pairwise(edges)]
                counts[inside.index(True)] += f == wanted
        assert histogram[kind] == counts
        assert counts[0] > 0, "exact zeros have a bin of their own"
    assert sum(histogram["clean"]) + sum(histogram["flipped"]) == 2 * 5 * 4


@pytest.mark.parametrize(("epochs", "counted"), [(1, 1), (2, 1), (4, 1), (5, 2), (8, 2), (40, 10)])
def test_length_of_the_last_quarter(epochs: int, counted: int) -> None:
    made = summary(epochs=epochs)[0]
    assert int(made.counts.sum()) == counted * 5 * 4


@pytest.mark.parametrize(("epochs", "tasks", "rows"), [(40, 10, 40), (41, 10, 21), (300, 10, 38), (300, 40, 10)])
def test_long_runs_are_averaged_over_windows(epochs: int, tasks: int, rows: int) -> None:
    made, weights, _ = summary(epochs=epochs, tasks=tasks, batch=2)
    result = made.result()
    assert len(result["epoch"]) == len(result["task"]) == len(result["flipped_share"]) == rows
    assert result["epoch"][-1] == epochs
    for first, last, row in zip([0, *result["epoch"]], result["epoch"], result["task"], strict=False):
        wanted = torch.stack(weights[first:last]).double().sum(3).mean((0, 1))
        assert row == pytest.approx(wanted.tolist(), abs=1e-5)


def test_no_flips_and_no_weight() -> None:
    made = WeightSummary(2, 4, 1)
    made.add(torch.full((3, 2, 4), 1 / 8), torch.zeros(3, 4, dtype=torch.bool), 1)
    assert made.result()["flipped_share"] == [None] and made.result()["flipped_fraction"] == 0
    made = WeightSummary(2, 4, 1)
    made.add(torch.zeros(3, 2, 4), torch.ones(3, 4, dtype=torch.bool), 1)
    assert made.result()["flipped_share"] == [None] and made.result()["flipped_fraction"] == 1


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("batch", [8, 48, 64, 100])
def test_equal_weights_fall_into_one_bin_whatever_the_sizes(tasks: int, batch: int) -> None:
    made = WeightSummary(tasks, batch, 1)
    equal = torch.full((1, tasks, batch), 1 / tasks) / batch
    made.add(equal, torch.zeros(1, batch, dtype=torch.bool), 1)
    holds_one = [low <= 1 < high for low, high in pairwise(EDGES)]
    assert made.counts[0].nonzero().item() == holds_one.index(True)


def test_state() -> None:
    whole, weights, flipped = summary()
    first, second = WeightSummary(2, 4, 8), WeightSummary(2, 4, 8)
    for epoch in range(1, 8):
        first.add(weights[epoch - 1], flipped[epoch - 1], epoch)
    second.restore(first.state())
    second.add(weights[7], flipped[7], 8)
    assert second.result() == whole.result()
