"""The benchmark measures what it says, and compares steps that do the same."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlkit import bench, cli
from mtlkit.bench import runs, steps, timing

CELL = ("mlp", 2, 16)


def test_methods_take_turns_until_the_time_is_over() -> None:
    called = []
    methods = {name: lambda name=name: called.append(name) for name in "ab"}
    taken = timing.paired(methods, 0.0, "cpu", least=7)
    assert {name: len(times) for name, times in taken.items()} == {"a": 7, "b": 7}
    assert all(sorted(called[i : i + 2]) == ["a", "b"] for i in range(0, 14, 2))
    assert called != sorted(called)


def test_ratio_is_taken_within_a_repetition() -> None:
    taken = {"plain": [1.0, 10.0, 100.0], "other": [2.0, 30.0, 200.0]}
    assert timing.ratio(taken, "other") == [2.0, 2.0, 2.5]


def test_peak_counts_what_is_alive_together() -> None:
    def method() -> None:
        first = torch.ones(250_000)
        second = first + 1
        del first
        torch.ones(10)
        del second
        torch.ones(250_000)

    assert timing.peak_bytes(method, "cpu") == pytest.approx(2e6, rel=0.01)


def test_vmap_makes_the_same_step() -> None:
    problem = steps.PROBLEMS["mlp"]
    torch.manual_seed(0)
    ours = problem.network(2)
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours)
    batches = problem.batch(2, 16), problem.batch(2, 4, seed=1)
    steps.weighted_step(ours, problem.loss, *batches)()
    steps.vmap_step(theirs, problem.loss, *batches)()
    for a, b, start in zip(ours.parameters(), theirs.parameters(), before.parameters(), strict=True):
        assert not torch.equal(a, start)
        assert torch.allclose(a - start, b - start, rtol=1e-3, atol=3e-8)  # a parameter rounds at 4e-9


@pytest.mark.parametrize("key", ["plain", "B/4", "loop", "vmap"])
def test_tasks_with_inputs_of_their_own(key: str) -> None:
    batch = steps.PROBLEMS["transformer"].batch(3, 8)
    assert len(batch.inputs) == len(batch.targets) == 3
    assert not torch.equal(batch.inputs[0], batch.inputs[1])
    steps.make(key, "transformer", 3, 8)()


@pytest.mark.parametrize("key", steps.STEPS)
def test_nothing_outlives_a_step(key: str) -> None:
    network = steps.PROBLEMS["mlp"].network(2)
    step, share = steps.STEPS[key]
    batch = steps.PROBLEMS["mlp"].batch(2, 8)
    step(network, steps.PROBLEMS["mlp"].loss, batch, *([batch] if share else []))()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_cell() -> None:
    row = bench.measure_step(*CELL, 0.01, "cpu")
    assert row["skipped"] == {}
    assert row["plain"]["time"] == [1.0, 1.0, 1.0]
    assert 1 < row["B/4"]["time"][1] < row["loop"]["time"][1]
    assert row["B"]["memory"] > 1


def test_what_needs_too_much_memory_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LIMIT", 1.0)
    row = bench.measure_step(*CELL, 0.01, "cpu")
    assert set(row["skipped"]) == set(steps.STEPS)
    assert bench._shown(row, "B", "time").startswith("over")


def test_a_method_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(steps.PROBLEMS["encoder_decoder"], shape=(3, 8, 8), target=(1, 8, 8))
    monkeypatch.setitem(steps.PROBLEMS, "encoder_decoder", small)
    row = bench.measure_step("encoder_decoder", 1, 4, 0.0, "cpu")
    assert set(row["skipped"]) == {"vmap"}
    assert "in-place" in bench._shown(row, "vmap", "time")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PROBLEMS", {name: bench.PROBLEMS[name] for name in ("mlp",)})
    row = {"skipped": {"vmap": "fails: x"}, "B": {"time": [1.0, 2.0, 3000.0], "memory": 1.5}}
    monkeypatch.setattr(bench, "measure_step", lambda *cell: {"network": cell[0]} | row)
    cli.main(["bench", "--quick", "--only", "mlp", "-o", str(tmp_path / "bench.json")])
    lines = capsys.readouterr().out.splitlines()
    header, row = (next(line for line in lines if line.startswith(start)) for start in ("| network", "| mlp | 2 | 64"))
    assert header.count("|") == row.count("|")
    assert "| 2 (1 to 3000) |" in row
    assert "| fails: x |" in row
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["environment"]["threads"] == 1
    assert [r["network"] for r in written["rows"]] == ["mlp"]


def test_runs_beside_seeds_trained_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SEEDS", (1, 2))
    assert list(runs.contenders("cpu")) == ["1", "2"]
    assert runs.contenders("cuda:1") == {"1": (1, False), "2": (2, False), "1, captured": (1, True),
                                         "2, captured": (2, True)}  # fmt: skip
    row = runs.measure("slgrad", CELL, 0.0, "cpu")
    assert row["2"]["repetitions"] == 3 and row["2"]["gain"][1] > 0
    assert row["plain"]["runs"] == pytest.approx(3600 / (row["plain"]["ms"] / 1e3 * runs.LENGTH))


def test_training_loop_beside_a_loop_by_hand() -> None:
    row = bench.measure_fit("mlp", 0.01, "cpu")
    assert row["fit"]["time"][1] > 0
    assert row["plain"]["ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "lnet"], "did you mean 'lenet'"),
        (["--device", "gpu"], "device is 'gpu'"),
        (["-o", "no/such/folder/x.json"], "cannot be written"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *arguments])
    assert stop.value.code == 1
    assert said in capsys.readouterr().err
