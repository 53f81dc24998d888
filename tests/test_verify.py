"""Records of an older code count again where today's code gives the same."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from mtlkit import paths, records, verify
from mtlkit.errors import MtlkitError
from tests import factory


def test_equivalence_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = factory.record(code="a" * 16)
    today = factory.record()["code"]
    assert records.is_stale(record)
    pairs = [{"old": "a" * 16, "new": "b" * 16}, {"old": "b" * 16, "new": today}, {"old": today, "new": "c" * 16}]
    (tmp_path / "equivalent.yaml").write_text(yaml.safe_dump(pairs))
    monkeypatch.setattr(records, "EQUIVALENT", tmp_path / "equivalent.yaml")
    for cached in (records.equivalent, records.same_as):
        cached.cache_clear()
    assert not records.is_stale(record)
    assert records.is_stale(record | {"code": "c" * 16}), "only later codes stand for earlier ones"
    assert records.is_stale(record | {"code": "d" * 16})
    for cached in (records.equivalent, records.same_as):
        cached.cache_clear()


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A stale record of one arm, and what the two short runs are to give."""
    folder = tmp_path / "records"
    stale = factory.record(code="a" * 16)
    records.write(stale, folder / "cifar_flip" / "x.json")
    records.write(factory.record("slgrad", seed=1), folder / "cifar_flip" / "fresh.json")
    today = factory.record()
    today["network"] = today.get("network", {}) | {"novelty": 1}  # what an older record did not have is not compared
    runs = {"then": stale, paths.ROOT.name: today}
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", folder)
    monkeypatch.setattr(records, "EQUIVALENT", folder / "equivalent.yaml")
    monkeypatch.setattr(records, "equivalent", list)
    monkeypatch.setattr(verify, "_git", lambda *_: None)
    monkeypatch.setattr(verify, "_run", lambda root, *_: runs[root.name])
    return runs


def test_what_agrees_is_written_down(compared: dict, capsys: pytest.CaptureFixture) -> None:
    (pair,) = yaml.safe_load(verify.against("abc").read_text())
    assert (pair["old"], pair["new"]) == ("a" * 16, compared[paths.ROOT.name]["code"])
    assert pair["arms"] == ["cifar_flip ew"] and pair["commit"] == "abc"
    assert capsys.readouterr().out == "cifar_flip ew: the same\n"


def test_a_difference_is_named_and_nothing_written(compared: dict) -> None:
    compared["then"] = compared["then"] | {"train_loss": [0.1]}
    with pytest.raises(MtlkitError, match=r"cifar_flip ew: today's code gives another train_loss than abc"):
        verify.against("abc")
    assert not records.EQUIVALENT.exists()


def test_code_that_gave_the_same_stands_for_the_records(compared: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    compared["then"] = compared["then"] | {"code": "e" * 16}
    monkeypatch.setattr(records, "same_as", lambda code: {"a" * 16: {"e" * 16}}[code])
    (pair,) = yaml.safe_load(verify.against("abc").read_text())
    assert pair["old"] == "e" * 16


def test_a_commit_that_did_not_make_the_records_is_refused(compared: dict) -> None:
    compared["then"] = compared["then"] | {"code": "e" * 16}
    with pytest.raises(MtlkitError, match="none of the stale records was made by the code of abc"):
        verify.against("abc")


def test_records_come_out_again(compared: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Of two studies one each, then more; a run is judged beside the record that it repeats."""
    for seed in range(3):
        records.write(factory.record(seed=seed, study="toy"), paths.COMMITTED_RECORDS / "toy" / f"{seed}.json")
    asked = []

    def repeated(root: Path, name: str, record: dict, runs: Path, changes: dict) -> dict:
        asked.append(record)
        return compared["change"](record)

    def moved(record: dict, by: float) -> dict:
        last = record["evaluations"][-1]
        last |= {"test": last["test"] | {"loss": last["test"]["loss"] * (1 + by)}}
        return record | {"evaluations": [*record["evaluations"][:-1], last]}

    monkeypatch.setattr(verify, "_run", repeated)
    compared["change"] = lambda record: record
    verify.again(3)
    assert sorted({record["study"] for record in asked}) == ["cifar_flip", "toy"] and len(asked) == 3
    assert capsys.readouterr().out.count(": the same to the last digit") == 3
    compared["change"] = lambda record: moved(json.loads(json.dumps(record)), 0.05)
    verify.again(2)
    assert "last test loss by 5.0e-02 (0.1)" in capsys.readouterr().out
    for change in (lambda record: moved(json.loads(json.dumps(record)), 0.2),
                   lambda record: record | {"steps": {"taken": 1, "skipped": 0}},
                   lambda record: record | {"train_loss": [one * 1.01 for one in record["train_loss"]]}):  # fmt: skip
        compared["change"] = change
        with pytest.raises(MtlkitError, match=r"2 of 2 records did not come out again: .*seed"):
            verify.again(2)


@pytest.mark.slow
def test_two_real_runs_of_the_same_code_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["git", "-C", str(paths.ROOT), "status", "--porcelain", "-uno"]
    head = subprocess.run(command, capture_output=True, text=True)
    if head.returncode or head.stdout:
        pytest.skip("needs a clean git work tree: today's code is compared with that of HEAD")
    parameters = {"weighting": "slgrad", "network": "mlp", "noise": 0.3, "epochs": 9, "learning_rate": 0.01}
    made = factory.record(study="toy", arm="slgrad", parameters=parameters)
    made |= {"experiment": "toy_regression", "data": made["data"] | {"name": "toy"}, "code": "0" * 16}
    done, run = [], verify._run

    def short(*given: object) -> dict:
        done.append(run(*given))
        return done[-1] | {"code": "0" * 16}

    monkeypatch.setattr(verify, "_run", short)
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", tmp_path)
    monkeypatch.setattr(records, "EQUIVALENT", tmp_path / "equivalent.yaml")
    records.write(made, tmp_path / "toy" / "x.json")
    verify.against("HEAD")
    assert len(done) == 2 and all(len(one["train_loss"]) == verify.SHORT["epochs"] for one in done)


def test_a_run_may_move_as_far_as_another_seed_would() -> None:
    old = factory.record()
    new = json.loads(json.dumps(old))
    new["evaluations"][-1]["test"]["loss"] *= 1.2
    assert not verify.how_far(old, new)[1] and verify.how_far(old, new, spread=0.3)[1]
    cell = [factory.record(seed=seed) for seed in range(5)]
    assert 0 < verify._spread(cell, old) < 0.1 and verify._spread(cell, factory.record("rlw_normal")) == 0
