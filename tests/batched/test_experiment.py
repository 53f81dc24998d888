"""Records of seeds that are trained as one: the same as one by one, to rounding, read and written alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtlkit import batched, experiment, nets, records
from mtlkit.data import toy
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError
from mtlkit.parameters import Parameters
from tests.batched.test_training import assert_close


def parameters(runs: Path, **changes: Any) -> Parameters:
    return Parameters(
        {
            "weighting": "slgrad", "network": "mlp", "epochs": 3, "batch_size": 8, "reference_batch": 8,
            "learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.99, "evaluations": 2, "noise": 0.3, "runs": str(runs),
            "device": "cpu", "threads": 1, "fresh": False, "study": "small", "condition": "noisy", "arm": "slgrad",
            "seeds": [0, 1, 2], "batched_seeds": True,
        } | changes
    )  # fmt: skip


def problem(seed: int, *, dropout: float = 0.0, broken: int = -1) -> tuple[Dataset, nn.Module]:
    data = toy.load(seed, input_dimension=4, noise=0.3, train=32, reference=20, tuning=16, test=30)
    if seed == broken:
        data.train.inputs[:] = torch.inf
    encoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout))
    return data, nets.SharedEncoder(encoder, [nn.Linear(16, 1) for _ in range(2)])


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of seeds of every batched training."""
    sizes: list[int] = []

    class Seen(batched.Batched):
        def fit(self, **options: Any) -> list[Any]:
            sizes.append(len(self.runs))
            return super().fit(**options)

    monkeypatch.setattr(batched, "Batched", Seen)
    return sizes


def test_records_are_those_of_seeds_alone(tmp_path: Path, together: list[int]) -> None:
    alone = experiment.run_seeds("toy", parameters(tmp_path / "alone", batched_seeds=False), problem)
    assert together == []
    found = experiment.run_seeds("toy", parameters(tmp_path / "together"), problem)
    assert together == [3] and [record["seed"] for record in found] == [0, 1, 2]
    assert [record["id"] for record in found] == [record["id"] for record in alone]
    for mine, theirs in zip(alone, found, strict=True):
        assert not records.is_stale(theirs) and theirs["environment"]["batched_seeds"] == 3
        for name in ("train_loss", "evaluations", "steps", "network", "parameters", "data"):
            assert_close(mine[name], theirs[name], rel=1e-3, abs=1e-5)
    assert not list((tmp_path / "together" / "checkpoints").glob("*.pt*"))


def test_only_what_is_missing_is_trained(tmp_path: Path, together: list[int], capsys: pytest.CaptureFixture) -> None:
    first = experiment.run("toy", parameters(tmp_path), 1, problem)
    found = experiment.run_seeds("toy", parameters(tmp_path), problem)
    assert together == [2] and found[1] == first
    assert experiment.run_seeds("toy", parameters(tmp_path), problem) == found and together == [2]
    assert "seed 1: record of" in capsys.readouterr().out


def test_what_is_not_possible_together_is_said_and_done_alone(
    tmp_path: Path, together: list[int], capsys: pytest.CaptureFixture
) -> None:
    def dropping(seed: int) -> tuple[Dataset, nn.Module]:
        return problem(seed, dropout=0.2)

    found = experiment.run_seeds("toy", parameters(tmp_path / "a"), dropping)
    said = capsys.readouterr().out
    assert "the seeds are trained one after the other, because dropout would draw other masks" in said
    alone = [experiment.run("toy", parameters(tmp_path / "b"), seed, dropping) for seed in range(3)]
    assert together == [] and list(map(records.comparable, found)) == list(map(records.comparable, alone))


def test_a_seed_that_fails_keeps_no_other_from_its_record(tmp_path: Path, together: list[int]) -> None:
    def breaking(seed: int) -> tuple[Dataset, nn.Module]:
        return problem(seed, broken=1)

    with pytest.raises(MtlkitError, match=r"seed 1: the loss of task .* was (nan|inf)"):
        experiment.run_seeds("toy", parameters(tmp_path), breaking)
    assert together == [3]
    assert sorted(path.name[:5] for path in tmp_path.rglob("*.json")) == ["seed0", "seed2"]
