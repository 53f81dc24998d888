"""Records and checkpoints that were cut off, edited, or made by another configuration; folders that are read-only."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlkit import experiment, records
from mtlkit.data import cifar10, multi_mnist
from mtlkit.errors import MtlkitError
from tests.data import archives
from tests.test_experiment import run, stop_at

Tried = Callable[..., None]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The checkpoint of a run that was stopped in its third epoch."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, 15)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    (path,) = tmp_path.rglob("*.pt")
    return path


@pytest.mark.faults("record cut off")
def test_cut_record(tmp_path: Path, tried: Tried) -> None:
    expected = run(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_bytes()
    cuts = range(0, len(whole) - 1, len(whole) // 40)
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(MtlkitError, match=r"is not a record .*delete it and run again\.$"):
            run(tmp_path)
    path.unlink()
    assert records.comparable(run(tmp_path)) == records.comparable(expected), "made again, the same"
    tried(len(cuts))


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The places of all numbers and texts in a record."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key))
    elif value is not None:
        yield path


@pytest.mark.faults("record edited by hand")
def test_edited_record(tmp_path: Path, tried: Tried) -> None:
    run(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_text()
    places = random.Random(0).sample(list(leaves(json.loads(whole))), 60)
    for place in places:
        edited = json.loads(whole)
        within = edited
        for key in place[:-1]:
            within = within[key]
        old = within[place[-1]]
        within[place[-1]] = f"{old}x" if isinstance(old, str) else not old if isinstance(old, bool) else old + 1
        path.write_text(json.dumps(edited))
        with pytest.raises(MtlkitError, match=r"delete it and run again\.$"):
            run(tmp_path)
    path.write_text(json.dumps(json.loads(whole), indent=4))
    assert run(tmp_path) == records.load(path), "layout says nothing"
    tried(len(places))


@pytest.mark.faults("checkpoint with flipped bits")
def test_damaged_checkpoint(stopped: Path, tmp_path: Path, tried: Tried) -> None:
    expected = records.comparable(run(tmp_path / "whole"))
    whole, draw, refused = stopped.read_bytes(), random.Random(0), 0
    for _ in range(20):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        stopped.write_bytes(damaged)
        try:
            assert records.comparable(run(tmp_path)) == expected, "the bit has no meaning"
        except MtlkitError as error:
            assert "cannot be read" in str(error) and str(error).endswith("delete it.")
            refused += 1
        for path in (tmp_path / "records").rglob("*.json"):
            path.unlink()
    assert refused > 5
    stopped.unlink(missing_ok=True)
    assert records.comparable(run(tmp_path)) == expected
    tried(20)


EDITS: dict[str, Callable[[dict], object]] = {
    "no network": lambda state: state.pop("network"),
    "another layer": lambda state: state["network"].popitem(),
    "another size": lambda state: state["network"].update(dict.fromkeys(state["network"], torch.zeros(3))),
    "no optimizer": lambda state: state.update(optimizer={}),
    "a list for a rule": lambda state: state.update(rule=[1]),
    "another order": lambda state: state.update(order={"a": 1}),
    "no history": lambda state: state.pop("history"),
    "no random state": lambda state: state["random"][0].update(cpu=torch.zeros(2)),
    "a summary of nothing": lambda state: state.update(summary=None),
}


@pytest.mark.faults("checkpoint edited")
@pytest.mark.parametrize("edit", EDITS)
def test_edited_checkpoint(edit: str, stopped: Path, tmp_path: Path) -> None:
    state = torch.load(stopped, weights_only=True)
    EDITS[edit](state)
    torch.save(state, stopped)
    with pytest.raises(MtlkitError, match=r"the checkpoint .* cannot be read \(\w+\); delete it\.$"):
        run(tmp_path)


class Bomb:
    """An object whose unpickling would be noticed."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a checkpoint was unpickled",)


@pytest.mark.faults("checkpoint with a pickled payload")
def test_checkpoint_is_not_unpickled(stopped: Path, tmp_path: Path) -> None:
    torch.save(torch.load(stopped, weights_only=True) | {"history": Bomb()}, stopped)
    with pytest.raises(MtlkitError, match=r"cannot be read \(UnpicklingError\); delete it"):
        run(tmp_path)


@pytest.mark.faults("checkpoint of another configuration or version")
@pytest.mark.parametrize("other", ["parameters", "code", "seed"])
def test_checkpoint_of_something_else(other: str, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    given = {"parameters": {"learning_rate": 0.02}, "seed": {"seed": 1}, "code": {}}[other]
    if other == "code":
        monkeypatch.setattr(records, "code_hash", lambda *_: "f" * 16)
    expected = records.comparable(run(tmp_path / "whole", **given))
    (path,) = (tmp_path / "whole").rglob("*.json")
    stopped.rename(stopped.with_name(f"{path.stem}.pt"))
    capsys.readouterr()
    assert records.comparable(run(tmp_path, **given)) == expected
    assert "is of other parameters, code or processes; starting from the beginning" in capsys.readouterr().out


@pytest.mark.faults("clock set back")
def test_clock_set_back(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
                        ) -> None:  # fmt: skip
    class Then(experiment.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(1999, 1, 1, tzinfo=tz)

    expected = run(tmp_path / "whole")
    for path in (stopped, stopped.parent):
        os.utime(path, (2**32, 2**32))
    monkeypatch.setattr(experiment, "datetime", Then)
    capsys.readouterr()
    made = run(tmp_path)
    assert made["created"].startswith("1999") and "resumed after epoch 2" in capsys.readouterr().out
    assert records.comparable(made) == records.comparable(expected) and run(tmp_path) == made


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be written to, not by a superuser either: it becomes nobody meanwhile."""
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can read; pytest's own are for one user."""
    folder = Path(tempfile.mkdtemp(prefix="mtlkit-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.faults("read-only data folder")
def test_read_only_data(open_folder: Path) -> None:
    archives.write(open_folder, variant=cifar10.OFFICIAL)
    expected = archives.real(open_folder).checksum
    with read_only(open_folder):
        assert archives.real(open_folder).checksum == expected
        assert cifar10.prepare(str(open_folder)) == open_folder / "cifar10.npz", "it is there already"
    (open_folder / "cifar10.npz").unlink()
    for module in (cifar10, multi_mnist):  # MNIST's folder is made before there is any download
        with read_only(open_folder), pytest.raises(MtlkitError, match="could not be downloaded"):
            module.prepare(str(open_folder))
    assert not list(open_folder.iterdir())


@pytest.mark.faults("read-only folder of runs")
def test_read_only_runs(open_folder: Path) -> None:
    with read_only(open_folder), pytest.raises(MtlkitError, match="choose another folder with the parameter `runs`"):
        run(open_folder / "runs")
