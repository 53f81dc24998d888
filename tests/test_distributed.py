"""Two processes give the result of one: every method, in float64, through gloo."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing, nn

from mtlkit import nets, paths, records
from mtlkit.data import toy
from mtlkit.data.base import Dataset
from mtlkit.distributed import ALONE, together
from mtlkit.errors import MtlkitError
from mtlkit.training import Run
from mtlkit.weighting import METHODS, build
from tests import test_separate
from tests.test_training import run

LEFT_OUT = {"rotograd", "label_consistency"}
"""Refused, and without sense for these labels."""

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{name: (name, {}, {}) for name in [*METHODS, "rlw+cagrad"] if name not in LEFT_OUT},
    "graddrop, shared": ("graddrop", {"gradients": "shared"}, {}),
    "mgda, representation": ("mgda", {"gradients": "representation"}, {}),
    "slgrad, look_ahead": ("slgrad", {"update": "look_ahead"}, {"reference_share": 0.3}),
    "slgrad, published": ("slgrad", {"update": "published"}, {}),
    "slgrad, by task and label": ("slgrad", {"normalisation": "task_label", "refresh": 2}, {"optimizer": "adam"}),
    **{f"{name}, batch_norm": (name, {}, {"channels_last": True, "checkpoint": name == "slgrad"}) for name in
       ("ew", "uw", "slgrad", "cosine", "pcgrad", "db_mtl", "graddrop", "auto_lambda", "moml")},
    "slgrad, class shares": ("slgrad", {"shuffle": True}, {"class_shares": True, "reference_share": 0.3}),
    "ew, class shares": ("ew", {}, {"class_shares": True, "reference_share": 0.3}),
    **{f"{name}, accumulate": (name, {}, {"accumulate": 2}) for name in
       ("ew", "famo", "slgrad", "pcgrad", "db_mtl", "graddrop", "auto_lambda", "moml", "cosine")},
    **{f"separate, {name}": (name, {}, {"reference_share": 0.3}) for name in ("ew", "slgrad", "pcgrad", "moml")},
    "separate, accumulate": ("slgrad", {"normalisation": "task_label"}, {"accumulate": 2, "clip": 0.2}),
}  # fmt: skip


def problem(normalisation: nn.Module | None = None, heads: nn.Module | None = None) -> tuple[Dataset, nn.Module]:
    """Two tasks of 48 training samples, labels missing unevenly; float64."""
    data = toy.load(0, tasks=2, input_dimension=4, kind="classification", noise=0.3, train=48, reference=20, tuning=16,
                    test=30)  # fmt: skip
    random = torch.Generator().manual_seed(0)
    for split in (data.train, data.reference, data.tuning, data.test):
        split.inputs, split.targets = split.inputs.double(), split.targets.double()
        split.mass = torch.ones_like(split.targets)
    for split in (data.train, data.reference):
        split.mass = torch.rand(split.mass.shape, generator=random).double().round(decimals=1)
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 16), normalisation or nn.GroupNorm(4, 16), nn.Tanh(), nn.Linear(16, 8))
    network = nets.SharedEncoder(encoder, [nn.Linear(8, 1) for _ in range(2)]).double()
    if heads is not None:
        network.heads[0] = nn.Sequential(heads, network.heads[0])
    return data, network


def separate() -> tuple[Dataset, nn.Module]:
    """Two tasks with samples of their own; float64."""
    data, network = test_separate.problem(nn.GroupNorm(4, 16))
    for split in (data.train, data.reference, data.tuning, data.test):
        for part in split.parts:
            part.inputs, part.targets, part.mass = part.inputs.double(), part.targets.double(), part.mass.double()
        split.mass = split.mass.double()
    return data, network.double()


def trained(case: str) -> tuple[Run, dict[str, Any]]:
    name, options, settings = CASES[case]
    rule, settings = build(name, 2, options).double(), {"epochs": 2, "momentum": 0.9} | settings
    if case.startswith("separate"):
        made = test_separate.run(separate(), rule, **settings)
        return made, made.fit()
    parts = ()
    if "batch_norm" in case:
        parts = nn.BatchNorm1d(16), nn.BatchNorm1d(8, affine=False, momentum=None) if name == "slgrad" else None
    made = run(problem(*(part and part.double() for part in parts)), rule, **settings)
    return made, made.fit()


def summary(made: Run, history: dict[str, Any]) -> dict[str, Any]:
    parts = [p for of in (made.network, made.rule) for p in (*of.parameters(), *of.buffers()) if p.is_floating_point()]
    return {"parameters": torch.cat([p.detach().reshape(-1) for p in parts]),
            "losses": torch.tensor(history["train_loss"]), "skipped": history["skipped"],
            "weights": torch.tensor(history["weights"]["task"]), "evaluations": history["evaluations"]}  # fmt: skip


def refused(**settings: Any) -> str:
    try:
        run(problem(), settings.pop("name", "ew"), **settings)
    except MtlkitError as error:
        return str(error)
    return "nothing"


def resumed(folder: Path) -> dict[str, Any]:
    """A run that goes on from the checkpoint that a first one wrote; both draw dropout."""
    file = folder / "run.pt"

    def fresh() -> Run:
        data, network = problem(nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.3)))
        return run((data, network), "slgrad", epochs=3, evaluations=3)

    class Killed(Exception):
        pass

    def kill(epoch: int, *_: object) -> None:
        if epoch == 2:
            raise Killed

    whole = fresh()
    seeds = torch.initial_seed()
    expected = summary(whole, whole.fit())
    with contextlib.suppress(Killed):
        fresh().fit(checkpoint=file, identity="a", every=-1, progress=kill)
    again = fresh()
    found = summary(again, again.fit(checkpoint=file, identity="a"))
    return {"expected": expected, "found": found, "seed": seeds,
            "files": sorted(path.name for path in folder.glob("run.pt*"))}  # fmt: skip


def work(rank: int, count: int, port: int, folder: Path) -> None:
    """One of the processes: all cases, one after the other."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_PORT": str(port),
                   "MASTER_ADDR": "127.0.0.1"}  # fmt: skip
    results: dict[str, Any] = {case: summary(*trained(case)) for case in CASES}
    results["refused"] = [refused(name="rotograd"), refused(batch_size=9), refused(reference_batch=5),
                          refused(batch_size=6, accumulate=2)]  # fmt: skip
    results["resumed"] = resumed(folder)
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (2, port, folder), 2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def same(a: dict[str, Any], b: dict[str, Any], tolerance: float) -> bool:
    tensors = all(torch.allclose(a[key], b[key], rtol=tolerance, atol=tolerance)
                  for key in ("parameters", "losses", "weights"))  # fmt: skip
    return tensors and a["skipped"] == b["skipped"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_result_of_one(case: str, results: list[dict[str, Any]]) -> None:
    """Parameters and what the rule learns after twelve steps with momentum; and both processes agree to the bit."""
    first, second = (one[case] for one in results)
    assert same(first, second, 0) and first["evaluations"] == second["evaluations"]
    expected = summary(*trained(case))
    assert torch.isfinite(first["parameters"]).all()
    assert same(first, expected, 1e-10)
    for ours, theirs in zip(first["evaluations"], expected["evaluations"], strict=True):
        for one, other in ((ours["tuning"], theirs["tuning"]), (ours["test"], theirs["test"])):
            tasks = zip([one, *one.pop("tasks", [])], [other, *other.pop("tasks", [])], strict=True)
            assert all(a == pytest.approx(b, rel=1e-6) for a, b in tasks)


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_refused(results: list[dict[str, Any]]) -> None:
    for one in results:
        method, batch, reference, parts = one["refused"]
        assert "train it in one process" in method
        assert batch == "batch_size is 9, which 2 processes (accumulate: 1) cannot share evenly."
        assert "reference_batch is 5, which 2 processes" in reference
        assert batch != parts and "accumulate: 2" in parts


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_result(results: list[dict[str, Any]]) -> None:
    """Each process with its own dropout."""
    first, second = (one["resumed"] for one in results)
    assert first["seed"] != second["seed"]
    for one in (first, second):
        assert same(one["found"], one["expected"], 0) and one["found"]["evaluations"] == one["expected"]["evaluations"]
        assert one["files"] == ["run.pt"]
    assert same(first["found"], second["found"], 0)


def test_one_process_exchanges_nothing() -> None:
    assert together() is ALONE
    tensors = [torch.ones(2, 3)]
    assert ALONE.sum(tensors) is tensors and ALONE.gather(tensors[0]) is ALONE.mine(tensors[0]) is tensors[0]
    assert ALONE.first(lambda: 3) == 3


@pytest.mark.slow
def test_a_notebook_runs_in_two_processes(tmp_path: Path) -> None:
    """The record says so, and is else that of one process; one executed notebook is left."""
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m",
                   "mtlkit", "run", "toy_regression", "-f", str(paths.ROOT / "params" / "toy_regression.smoke.yaml"),
                   "-p", "runs", str(folder), "-o", str(folder / "executed.ipynb")]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        assert [path.name for path in folder.glob("*.ipynb")] == ["executed.ipynb"]
        (record,) = records.read(folder / "records")
        found.append(record)
    one, two = found
    assert [record["environment"]["processes"] for record in found] == [1, 2]
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    assert two["evaluations"][-1]["test"]["loss"] == pytest.approx(one["evaluations"][-1]["test"]["loss"], rel=1e-3)
