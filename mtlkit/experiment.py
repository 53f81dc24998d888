"""One seed of one experiment, from parameters to its record."""

import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlkit import dense, files, machine, paths, records, tasks, text_tasks, training
from mtlkit.data.base import Dataset
from mtlkit.data.separate import Separate
from mtlkit.distributed import together
from mtlkit.errors import MtlkitError
from mtlkit.parameters import Parameters
from mtlkit.progress import Progress
from mtlkit.training import Settings
from mtlkit.weighting import Direction, build

Problem = Callable[[int], tuple[Dataset, nn.Module]]

LESS_MEMORY = {
    "batch_size": "a smaller batch_size",
    "accumulate": "accumulate: 2 or more (micro-batches)",
    "checkpoint": "checkpoint: True (activations are computed anew)",
    "precision": "precision: bfloat16",
    "evaluation_batch": "a smaller evaluation_batch",
}
"""What a run does that is short of memory, by the parameter that its notebook needs for it."""

DIVERGED = "try a smaller learning_rate"
"""What every sentence about a loss that is not finite says."""


def run_seeds(experiment: str, p: Parameters, problem: Problem) -> list[dict[str, Any]]:
    """The records of all seeds, by `run`. A loss that is not finite ends the run of its seed alone.

    Raises:
        MtlkitError: What ended the first of these runs, once the other seeds are done; anything else at once.
    """
    made, ended = [], []
    for seed in p.seeds:
        try:
            made.append(run(experiment, p, seed, problem))
        except MtlkitError as error:
            if DIVERGED not in str(error):
                raise
            print(f"seed {seed}: {error}", file=sys.stderr)
            ended.append((seed, error))
    if ended:
        also = f" So ended {len(ended)} of {len(p.seeds)} seeds." if len(p.seeds) > 1 else ""
        raise MtlkitError(f"seed {ended[0][0]}: {ended[0][1]}{also}") from ended[0][1]
    return made


def run(experiment: str, p: Parameters, seed: int, problem: Problem) -> dict[str, Any]:
    """The record of one seed: read if it is there and made by today's code, else trained.

    A run that was stopped goes on from its last checkpoint, to the same result. Two processes that want the same record
    do not train it twice: the second waits for the first.

    Args:
        experiment: Name of the notebook.
        p: Checked parameters.
        seed: Seeds data, initialisation, order, and everything else that is random.
        problem: `problem(seed) -> (data, network)`.
    """
    machine.prepare(p.threads)
    torch.manual_seed(seed)
    data, network = problem(seed)
    facts = {"name": data.name, "variant": data.variant, "checksum": data.checksum} | data.facts
    name = f"seed{seed}-{records.identity(experiment, p, seed, facts)}"
    code = records.code_hash(p.weighting, p.network, data.name)
    folder = paths.runs(p.runs)
    path = folder / "records" / (p.study or experiment) / p.condition / p.arm / f"{name}.json"
    checkpoint = folder / "checkpoints" / f"{name}.pt"
    processes = together()  # of which the first one reads and writes
    with _alone(checkpoint.with_suffix(".lock")) if processes.rank == 0 else nullcontext():
        record = processes.first(partial(_found, path, checkpoint, seed, p.fresh))
        if record is not None:
            return record
        with _enough_memory(p):
            record = _train(experiment, p, seed, data, network, checkpoint, f"{name} {code}")
        record |= {"id": name.split("-")[1], "data": facts, "code": code}
        return processes.first(partial(_written, record, path, checkpoint))


def _found(path: Path, checkpoint: Path, seed: int, fresh: bool) -> dict[str, Any] | None:
    """The record, if it is there, made by today's code and wanted; else None."""
    if fresh:
        checkpoint.unlink(missing_ok=True)
        return None
    record = records.load(path) if path.is_file() else None
    if record is None or records.is_stale(record):
        return None
    print(f"seed {seed}: record of {record['created']} read, nothing trained (-p fresh True trains again)")
    return record


def _written(record: dict[str, Any], path: Path, checkpoint: Path) -> dict[str, Any]:
    """The record as it is read again; the checkpoint is no longer needed."""
    records.write(records.rounded(record), path)
    for left in checkpoint.parent.glob(f"{checkpoint.name}*"):  # with what a killed run was writing
        left.unlink(missing_ok=True)
    return records.load(path)


def _train(experiment: str, p: Parameters, seed: int, data: Dataset, network: nn.Module, checkpoint: Path,
           identity: str) -> dict[str, Any]:  # fmt: skip
    start = time.perf_counter()
    settings = {field.name: p[field.name] for field in fields(Settings) if field.name in p}
    settings |= {"seed": seed, "betas": (p.beta_1, p.beta_2)}
    rule = build(p.weighting, len(data.task_names), p | {"seed": seed})
    if isinstance(rule, Direction):
        two = torch.arange(2)
        separate = isinstance(data.train, Separate)
        rule.attach(network, data.train.take([two] * len(data.task_names) if separate else two).inputs)
    trained = Run(network, _tasks(data, p), rule, data, Settings(**settings))
    if "cuda" in p.device:
        torch.cuda.reset_peak_memory_stats(p.device)
    with Progress(f"seed {seed}") as progress:
        history = trained.fit(checkpoint=checkpoint, identity=identity, progress=progress)
    network.trained = True  # for a notebook that shows predictions
    memory = torch.cuda.max_memory_allocated(p.device) / 2**20 if "cuda" in p.device else None
    return {
        "schema": records.SCHEMA,
        "experiment": experiment,
        "study": p.study,
        "condition": p.condition,
        "arm": p.arm,
        "parameters": {key: value for key, value in p.items() if key not in records.PLUMBING},
        "seed": seed,
        "tasks": data.task_names,
        "network": {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "shared": sum(parameter.numel() for parameter in network.shared_parameters()),
            "initialisation": network.initialisation,
        },
        "train_loss": history["train_loss"],
        "evaluations": history["evaluations"],
        "weights": history["weights"],
        "steps": {"taken": trained.steps_per_epoch * p.epochs - history["skipped"], "skipped": history["skipped"]},
        "cost": {
            "seconds_per_step": statistics.median(history["epoch_seconds"]) / trained.steps_per_epoch,
            "seconds": time.perf_counter() - start,
            "peak_memory_mb": memory,
        },
        "environment": records.environment(p.device, p.threads) | {"processes": together().count},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tasks(data: Dataset, p: Parameters) -> list[tasks.Task]:
    if data.kind == "dense":
        return [dense.make(data.name, task, data.facts["outputs"][task], averaging=p.averaging)
                for task in data.task_names]  # fmt: skip
    if data.kind == "tagging":
        return [text_tasks.make(data.kind, task, data.facts["labels"]) for task in data.task_names]
    kinds = {"binary": tasks.binary, "multiclass": tasks.multiclass, "regression": tasks.regression}
    return [kinds[data.kind](task) for task in data.task_names]


class Run(training.Run):
    """One whose checkpoint fails in one sentence: it is damaged, edited, or does not fit on the disk."""

    def _load(self, path: Path, identity: str) -> None:
        try:
            with zipfile.ZipFile(path) as archive:  # `torch.load` compares no checksums
                if damaged := archive.testzip():
                    raise ValueError(damaged)
            super()._load(path, identity)
        except MtlkitError:
            raise
        except Exception as error:  # whatever the state does not fit
            raise MtlkitError(f"the checkpoint {path} cannot be read ({type(error).__name__}); delete it.") from error

    def _save(self, path: Path, identity: str) -> None:
        try:
            super()._save(path, identity)
        except (OSError, RuntimeError) as error:  # PyTorch's writer has no OSError
            for left in path.parent.glob(f"{path.name}.{os.getpid()}.part"):
                left.unlink(missing_ok=True)
            raise MtlkitError(f"the checkpoint cannot be written to {path.parent} ({_first_line(error)}); is the disk "
                              "full? The same command goes on from the one before.") from error  # fmt: skip


@contextmanager
def _enough_memory(p: Parameters) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
            ways = ", ".join(way for name, way in LESS_MEMORY.items() if name in p)
            raise MtlkitError(f"{p.device} has not enough memory for this run; less is needed with {ways}.") from error
        raise


def _first_line(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends."""
    try:
        with files.alone(lock):
            yield
    except OSError as error:
        raise MtlkitError(f"nothing can be written to {lock.parent} ({error.strerror}); choose another folder with the "
                          "parameter `runs`.") from None  # fmt: skip
