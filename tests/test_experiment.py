"""One seed, from parameters to its record: read if it is there, resumed if it was stopped, trained once."""

import copy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtlkit import experiment, nets, records, training
from mtlkit.data import toy
from mtlkit.data.base import Dataset, generator
from mtlkit.errors import MtlkitError
from mtlkit.parameters import Parameters
from mtlkit.weighting import build

ROOT = Path(__file__).resolve().parents[1]


def parameters(runs: Path, **changes: Any) -> Parameters:
    """Five epochs of six steps with everything that is random in it."""
    return Parameters(
        {
            "weighting": "slgrad", "normalisation": "task_label", "shuffle": True, "network": "mlp", "epochs": 5,
            "batch_size": 8, "reference_batch": 8, "optimizer": "adam", "learning_rate": 0.01, "beta_1": 0.9,
            "beta_2": 0.99, "evaluations": 2, "noise": 0.3, "runs": str(runs), "device": "cpu", "threads": 1,
            "fresh": False, "study": "small", "condition": "noisy", "arm": "slgrad", "seeds": [0],
        } | changes
    )  # fmt: skip


def problem(seed: int) -> tuple[Dataset, nn.Module]:
    data = toy.load(
        seed, input_dimension=4, kind="classification", noise=0.3, train=48, reference=20, tuning=16, test=30
    )
    encoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.2))
    return data, nets.SharedEncoder(encoder, [nn.Linear(16, 1) for _ in range(2)])


def run(folder: Path, seed: int = 0, **changes: Any) -> dict[str, Any]:
    return experiment.run("toy", parameters(folder, **changes), seed, problem)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an entry for every training run that was started."""
    started: list[int] = []
    train = experiment._train
    monkeypatch.setattr(experiment, "_train", lambda *a: started.append(1) or train(*a))
    return started


def test_record_is_complete(tmp_path: Path) -> None:
    record = run(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    assert path.parent == tmp_path / "records" / "small" / "noisy" / "slgrad"
    assert path.name == f"seed0-{record['id']}.json" and records.load(path) == record
    assert record["data"]["variant"] == "toy" and record["data"]["wrong_main_labels"] > 0
    assert record["network"] == {"parameters": 5 * 16 + 2 * 17, "shared": 5 * 16, "initialisation": "scratch"}
    assert [e["epoch"] for e in record["evaluations"]] == [3, 5] and len(record["train_loss"]) == 5
    assert record["steps"] == {"taken": 30, "skipped": 0}
    assert len(record["tasks"]) == len(record["evaluations"][-1]["test"]["tasks"])
    assert record["parameters"]["noise"] == 0.3 and not set(records.PLUMBING) & record["parameters"].keys()
    assert not records.is_stale(record)
    assert not list((tmp_path / "checkpoints").glob("*.pt*"))


def test_same_command_twice(tmp_path: Path, trained: list[int], capsys: pytest.CaptureFixture) -> None:
    first = run(tmp_path)
    assert run(tmp_path) == first and len(trained) == 1
    assert "nothing trained (-p fresh True trains again)" in capsys.readouterr().out
    assert records.comparable(run(tmp_path, fresh=True)) == records.comparable(first) and len(trained) == 2
    assert records.comparable(run(tmp_path / "elsewhere")) == records.comparable(first)


def test_every_seed_and_parameter_has_its_own_record(tmp_path: Path, trained: list[int]) -> None:
    made = [run(tmp_path), run(tmp_path, 1), run(tmp_path, learning_rate=0.02)]
    assert len({record["id"] for record in made}) == len(trained) == len(list(tmp_path.rglob("*.json"))) == 3
    assert made[0]["train_loss"] != made[1]["train_loss"]


def test_the_seed_reaches_the_order_and_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[training.Run] = []

    class Seen(training.Run):
        def fit(self, **options: Any) -> dict[str, Any]:
            made.append(copy.deepcopy(self))
            return super().fit(**options)

    monkeypatch.setattr(experiment, "Run", Seen)
    run(tmp_path, 7)
    expected = training.Order(48, 8, generator(7, "order")).take(6)
    assert torch.equal(made[0].order.take(6), expected)
    assert torch.equal(made[0].rule.get_extra_state(), build("slgrad", 2, {"seed": 7}).get_extra_state())


def test_stale_record_is_made_anew(tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)
    monkeypatch.setattr(records, "code_hash", lambda *_: "f" * 16)
    second = run(tmp_path)
    assert len(trained) == 2 and second["code"] == "f" * 16
    assert len(list(tmp_path.rglob("*.json"))) == 1
    assert records.comparable(first | {"code": "f" * 16}) == records.comparable(second)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Checkpoints after every epoch, and an end in the middle of one."""
    monkeypatch.setitem(training.Run.fit.__kwdefaults__, "every", -1.0)
    guarded, count = training.guarded_step, []

    def stop(*arguments: Any) -> torch.Tensor:
        count.append(1)
        if len(count) == step:
            raise KeyboardInterrupt
        return guarded(*arguments)

    monkeypatch.setattr(training, "guarded_step", stop)


@pytest.mark.parametrize("step", [3, 15, 30])
def test_stopped_anywhere_the_record_is_the_same(step: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert not list((tmp_path / "records").rglob("*")), "no half record"
    assert records.comparable(run(tmp_path)) == records.comparable(expected)
    assert (f"resumed after epoch {step // 6 - (step == 30)} of 5" in capsys.readouterr().out) == (step > 6)


def test_fresh_does_not_resume(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, 15)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    run(tmp_path, fresh=True)
    assert "resumed" not in capsys.readouterr().out


def test_who_wants_a_record_that_is_being_made_waits_for_it(tmp_path: Path, trained: list[int]) -> None:
    made = run(tmp_path / "elsewhere")
    name = f"seed0-{made['id']}"
    got: list[dict] = []
    second = threading.Thread(target=lambda: got.append(run(tmp_path)), daemon=True)
    with experiment._alone(tmp_path / "checkpoints" / f"{name}.lock"):
        second.start()
        second.join(1.0)
        assert second.is_alive() and not got, "waits"
        records.write(made, tmp_path / "records" / "small" / "noisy" / "slgrad" / f"{name}.json")
    second.join(20)
    assert got == [made] and len(trained) == 1, "and reads, instead of training again"


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        MtlkitError, match=r"nothing can be written to .*choose another folder with the parameter `runs`"
    ):
        run(tmp_path / "file")


def test_broken_record_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text()[:200])
    with pytest.raises(MtlkitError, match=r"is not a record .*; delete it and run again"):
        run(tmp_path)


def test_run_that_fails_leaves_no_record(tmp_path: Path) -> None:
    def spoilt(seed: int) -> tuple[Dataset, nn.Module]:
        data, network = problem(seed)
        data.train.inputs[3] = torch.nan
        return data, network

    with pytest.raises(MtlkitError, match=r"the loss of task 'task 0' was nan in epoch 1, .* for training sample 3"):
        experiment.run("toy", parameters(tmp_path), 0, spoilt)
    assert not list(tmp_path.rglob("*.json"))


KILLED = """
import os, signal, sys
from pathlib import Path
from mtlkit import training
from tests.test_experiment import run

training.Run.fit.__kwdefaults__["every"] = -1.0
folder, where, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
owner, name = {"step": (training, "guarded_step"), "save": (os, "replace")}[where]
usual, count = getattr(owner, name), []

def deadly(*arguments):
    count.append(1)
    if len(count) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(*arguments)

setattr(owner, name, deadly)
run(folder)
"""


@pytest.mark.slow
@pytest.mark.faults("kill -9 in a step, while a checkpoint and while a record is written")
@pytest.mark.parametrize(("where", "number"), [("step", 20), ("save", 3), ("save", 5)])
def test_kill_9(where: str, number: int, tmp_path: Path) -> None:
    """In the middle of a step, while a checkpoint is written, and while the record is."""
    expected = run(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path), where, str(number)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    assert not records.read(tmp_path / "records")
    assert records.comparable(run(tmp_path)) == records.comparable(expected)
    left = [path.name for path in tmp_path.rglob("*")
            if path.is_file() and (path.suffix != ".json" or path.name.startswith("."))]  # fmt: skip
    assert not left, "nor does anything of the killed run stay behind"


@pytest.mark.slow
@pytest.mark.faults("two processes that want the same record")
def test_two_processes_train_once(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from tests.test_experiment import run; run(Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("nothing trained") == 1
    assert records.comparable(run(tmp_path)) == records.comparable(run(tmp_path / "whole"))


def test_random_state_of_the_caller_does_not_matter(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = run(tmp_path / "a")
    torch.manual_seed(2)
    torch.rand(5)
    assert records.comparable(run(tmp_path / "b")) == records.comparable(first)
