"""What a run stumbles over: memory that is short, a loss that is not finite."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlkit import experiment, records, training
from mtlkit.data.base import Dataset
from mtlkit.errors import MtlkitError
from tests.test_experiment import parameters, problem, run

OF_MEMORY = {"cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
             "cpu": RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: 8 GB"),
             "python": MemoryError()}  # fmt: skip


@pytest.mark.faults("out of memory on the device")
@pytest.mark.parametrize("what", OF_MEMORY)
@pytest.mark.parametrize("at", ["guarded_step", "evaluate"])
def test_out_of_memory(what: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The low-memory path is named, as far as the notebook has it; afterwards the run goes on."""

    def short(*_: object, **__: object) -> None:
        raise OF_MEMORY[what]

    with monkeypatch.context() as patch:
        patch.setattr(training, at, short)
        with pytest.raises(MtlkitError) as info:
            run(tmp_path, accumulate=1, checkpoint=False, precision="float32")
        with pytest.raises(MtlkitError, match=r"less is needed with a smaller batch_size\.$"):
            run(tmp_path)
    said = str(info.value)
    assert said.startswith("cpu has not enough memory") and "\n" not in said
    assert all(re.search(rf"\b{name}\b", said) for name in ("batch_size", "accumulate", "checkpoint", "precision"))
    assert records.comparable(run(tmp_path)) == records.comparable(run(tmp_path / "whole"))


@pytest.mark.faults("non-finite loss in one task of one seed")
@pytest.mark.parametrize("task", [0, 1])
def test_non_finite_loss(task: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The other seeds are trained, those after it as well."""

    def spoilt(seed: int) -> tuple[Dataset, nn.Module]:
        data, network = problem(seed)
        if seed == 1:
            data.train.targets[task, 7] = torch.nan
        return data, network

    sentence = rf"seed 1: the loss of task 'task {task}' was nan in epoch 1, .* sample 7; try a smaller learning_rate"
    for _ in range(2):  # what is there stays there
        with pytest.raises(MtlkitError, match=rf"^{sentence}.* So ended 1 of 3 seeds\.$"):
            experiment.run_seeds("toy", parameters(tmp_path, seeds=[0, 1, 2]), spoilt)
        assert not capsys.readouterr().err, "it is said once"
    made = {record["seed"]: records.comparable(record) for record in records.read(tmp_path)}
    assert made == {seed: records.comparable(run(tmp_path / "whole", seed)) for seed in (0, 2)}


def test_other_faults_end_all_seeds_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MtlkitError, match=r"^nothing can be written"):
        experiment.run_seeds("toy", parameters(tmp_path / "file", seeds=[0, 1]), problem)
