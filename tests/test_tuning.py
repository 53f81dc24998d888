"""Learning rates are chosen on the tuning set, from whole grids."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mtlkit import paths, records, tuning
from mtlkit.errors import MtlkitError
from mtlkit.studies import Study
from tests import factory

RATES = [0.05, 0.1, 0.2, 0.4]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two arms and a control, tuned in two conditions with two seeds; its parameters lie in a scratch folder."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    conditions = {name: {"label": name} for name in ("none", "some", "untuned")}
    arms = {"ew": {"label": "EW"}, "slow": {"label": "slow"}, "control": {"label": "control", "rates_as": "ew"}}
    how = {"rates": RATES, "seeds": "0-1", "conditions": ["none", "some"], "metric": "loss"}
    return Study("small", "toy", "ew", {"desk": {"seeds": "0"}}, conditions, arms, how)


def write_runs(folder: Path, arm: str, losses: dict[float, list], metric: str = "loss") -> None:
    """Tuning records; every rate has its values for the (condition, seed) pairs in order, None for one that ended."""
    pairs = [(condition, seed) for condition in ("none", "some") for seed in (0, 1)]
    for rate, values in losses.items():
        for (condition, seed), value in zip(pairs, values, strict=True):
            if value is None:
                continue
            evaluations = [
                {"epoch": epoch, "test": factory.metrics(9.0), "tuning": factory.metrics(v) | {metric: v}}
                for epoch, v in ((1, 0.0), (2, value))
            ]
            made = factory.record("ew", condition, seed, "small", evaluations=evaluations) | {"arm": arm}
            made["parameters"]["learning_rate"] = rate
            records.write(made, folder / condition / arm / f"seed{seed}-{rate}.json")


def test_where_every_task_counts_its_mean_decides(study: Study, tmp_path: Path) -> None:
    study = replace(study, tables="every_task")
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.3, 0.35, 0.6))
    for path in (tmp_path / "r").rglob("*.json"):
        record = records.load(path)
        main, rate = record["evaluations"][-1]["tuning"]["loss"], record["parameters"]["learning_rate"]
        record["evaluations"][-1]["tuning"]["tasks"] = [{"loss": main}, {"loss": 1.0 - rate}]
        records.write(record, path)
    scores = chosen(study, tmp_path / "r")["arms"]["ew"]
    assert scores["learning_rate"] == 0.2 and scores["scores"]["0.1"] == pytest.approx((0.3 + 0.9) / 2)


def grid(*means: float) -> dict[float, list[float]]:
    """Losses of a whole grid; the conditions differ much, the seeds a little."""
    return {rate: [m - 0.11, m - 0.09, m + 0.09, m + 0.11] for rate, m in zip(RATES, means, strict=True)}


def chosen(study: Study, folder: Path) -> dict:
    return yaml.safe_load(tuning.choose(study, "desk", folder).read_text())


def test_best_mean_over_conditions_and_seeds(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_runs(tmp_path / "r", "ew", grid(0.5, 0.3, 0.35, 0.6))
    write_runs(tmp_path / "r", "slow", grid(0.5, 0.4, 0.35, 0.36))
    content = chosen(study, tmp_path / "r")
    assert {arm: entry["learning_rate"] for arm, entry in content["arms"].items()} == {"ew": 0.1, "slow": 0.2}
    assert content["arms"]["ew"]["scores"] == {"0.05": 0.5, "0.1": 0.3, "0.2": 0.35, "0.4": 0.6}, "all scores are kept"
    assert content["metric"] == "loss"
    assert not capsys.readouterr().out
    assert study.tuned("desk") == content["arms"]


def test_rate_on_the_edge_is_said(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_runs(tmp_path / "r", "ew", grid(0.5, 0.4, 0.35, 0.3))
    write_runs(tmp_path / "r", "slow", grid(0.2, 0.4, 0.35, 0.3))
    chosen(study, tmp_path / "r")
    assert "to be extended by `more_rates`: ew (0.4), slow (0.05)" in capsys.readouterr().out
    study.scales["desk"]["rates"] = RATES
    chosen(study, tmp_path / "r")
    assert "to be extended by `rates` of desk: ew (0.4), slow (0.05)" in capsys.readouterr().out


def test_higher_is_better_for_a_ranking_metric(study: Study, tmp_path: Path) -> None:
    study.tuning["metric"] = "auc"
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.7, 0.6, 0.4), "auc")
    ew = chosen(study, tmp_path / "r")["arms"]["ew"]
    assert ew["learning_rate"] == 0.1 and ew["scores"]["0.1"] == 0.7


@pytest.mark.parametrize("ended", [[None, None, None, None], [0.01, 0.01, None, None], [0.01, 0.01, 0.01, None]])
def test_a_run_that_did_not_finish_counts_as_worst(study: Study, tmp_path: Path, ended: list) -> None:
    """A rate that diverges in one condition must not win by the mean of the other, and is no edge either."""
    runs = grid(0.5, 0.4, 0.3, 0.9)
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, runs | {0.4: ended})
    assert chosen(study, tmp_path / "r")["arms"]["ew"]["learning_rate"] == 0.2


def test_best_rate_below_one_that_diverges_is_not_on_the_edge(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.4, 0.3, 0.9) | {0.4: [None] * 4})
    content = chosen(study, tmp_path / "r")
    assert not capsys.readouterr().out
    assert list(content["arms"]["ew"]["scores"]) == ["0.05", "0.1", "0.2"]


def test_a_loss_that_was_not_finite_counts_as_worst(study: Study, tmp_path: Path) -> None:
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.4, 0.3, 0.2))
    path = tmp_path / "r" / "some" / "ew" / "seed1-0.4.json"
    made = records.load(path)
    made["evaluations"][-1]["tuning"]["loss"] = None
    records.write(made, path)
    assert chosen(study, tmp_path / "r")["arms"]["ew"]["learning_rate"] == 0.2


def test_rates_outside_the_grid_do_not_count(study: Study, tmp_path: Path) -> None:
    """Left over from an earlier grid, which other arms may not have been tried with."""
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.4, 0.3, 0.6) | {0.8: [0.01] * 4})
    assert chosen(study, tmp_path / "r")["arms"]["ew"]["learning_rate"] == 0.2
    study.arms["ew"]["more_rates"] = [0.8]
    content = chosen(study, tmp_path / "r")["arms"]
    assert [content[arm]["learning_rate"] for arm in ("ew", "slow")] == [0.8, 0.2]


def test_factor_of_an_arm(study: Study, tmp_path: Path) -> None:
    study.arms["slow"]["rate_factor"] = 16
    write_runs(tmp_path / "r", "ew", grid(0.5, 0.4, 0.3, 0.6))
    write_runs(tmp_path / "r", "slow", {16 * rate: values for rate, values in grid(0.5, 0.3, 0.4, 0.6).items()})
    assert chosen(study, tmp_path / "r")["arms"]["slow"]["learning_rate"] == 1.6


def test_missing_runs_are_said(study: Study, tmp_path: Path) -> None:
    write_runs(tmp_path / "r", "ew", grid(0.5, 0.4, 0.3, 0.6))
    with pytest.raises(MtlkitError, match="no learning rate of slow has all its tuning runs below"):
        tuning.choose(study, "desk", tmp_path / "r")
    assert not (paths.PARAMS / "tuned" / "small.desk.yaml").exists()


def test_written_whole_or_not_at_all(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.4, 0.3, 0.6))
    before = tuning.choose(study, "desk", tmp_path / "r").read_text()
    write_runs(tmp_path / "r", "ew", grid(0.5, 0.1, 0.3, 0.6))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        tuning.choose(study, "desk", tmp_path / "r")
    assert (paths.PARAMS / "tuned" / "small.desk.yaml").read_text() == before
