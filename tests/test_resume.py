"""A run that was stopped goes on to the same result."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtlkit.errors import MtlkitError
from mtlkit.training import Run
from tests.test_training import problem, run


class Killed(Exception):
    pass


def kill_after(last: int):
    """A progress callback that ends the run when epoch `last + 1` is done but not saved."""

    def progress(epoch: int, *_: object) -> None:
        if epoch > last:
            raise Killed

    return progress


def result(made: Run, history: dict[str, Any]) -> tuple[dict, list]:
    """History without timings, and the final parameters."""
    return {key: value for key, value in history.items() if key != "epoch_seconds"}, [
        parameter.tolist() for parameter in made.network.parameters()
    ]


CASES = {
    "ew": ("ew", {}, {}),
    "ew, adam": ("ew", {}, {"optimizer": "adam"}),
    "rlw": ("rlw", {"law": "bernoulli"}, {}),
    "slgrad, shuffle": ("slgrad", {"shuffle": True, "normalisation": "task_label"}, {"reference_share": 0.3}),
    "slgrad, refresh": ("slgrad", {"refresh": 5}, {"class_shares": True}),
    "slgrad, published": ("slgrad", {"update": "published"}, {"learning_rate": 1.0}),
    "slgrad, look_ahead, adam": ("slgrad", {"update": "look_ahead"}, {"optimizer": "adam"}),
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_anywhere_the_result_is_the_same(case: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Dropout, draws, momentum, orders, directions and weights of the batch before go on where they were."""
    name, options, settings = CASES[case]

    def fresh() -> Run:
        made = run(problem(), name, options | {"seed": 1}, epochs=4, **settings)
        torch.manual_seed(2)
        return made

    whole = fresh()
    expected = result(whole, whole.fit())
    for last in (1, 3):
        file = tmp_path / f"{last}.pt"
        with pytest.raises(Killed):
            fresh().fit(checkpoint=file, identity="a", every=-1, progress=kill_after(last))
        resumed = fresh()
        torch.manual_seed(99)  # the random state comes from the file
        capsys.readouterr()
        assert result(resumed, resumed.fit(checkpoint=file, identity="a")) == expected
        assert f"resumed after epoch {last} of 4" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.pt", "3.pt"], "nothing half-written is left"


def stopped(tmp_path: Path) -> Path:
    """The checkpoint of a run that was stopped after its first epoch."""
    file = tmp_path / "run.pt"
    with pytest.raises(Killed):
        run(problem()).fit(checkpoint=file, identity="a", every=-1, progress=kill_after(1))
    return file


def test_checkpoint_of_other_parameters_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = stopped(tmp_path)
    first, second = run(problem()), run(problem())
    torch.manual_seed(2)
    expected = result(first, first.fit())
    torch.manual_seed(2)
    assert result(second, second.fit(checkpoint=file, identity="b")) == expected
    assert "starting from the beginning" in capsys.readouterr().out


def test_checkpoints_are_not_written_too_often(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    run(problem()).fit(checkpoint=file, identity="a", every=1000)
    assert not file.exists()


@pytest.mark.faults("checkpoint cut off, or another file")
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "foreign"])
def test_damaged_checkpoint_ends_in_one_sentence(damage: str, tmp_path: Path) -> None:
    file = stopped(tmp_path)
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(MtlkitError, match=r"the checkpoint .*run\.pt .*delete it"):
        run(problem()).fit(checkpoint=file, identity="a")
