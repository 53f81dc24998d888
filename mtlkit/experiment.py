"""One seed of one experiment, from parameters to its record."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlkit import batched, dense, files, machine, paths, records, tasks, text_tasks
from mtlkit.data.base import Dataset
from mtlkit.data.separate import Separate
from mtlkit.distributed import together
from mtlkit.errors import MtlkitError
from mtlkit.parameters import Parameters
from mtlkit.progress import Progress
from mtlkit.sharpness import Measured
from mtlkit.training import Run, Settings
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


@dataclass
class _Seed:
    """One seed of an experiment: what it trains, and where its record and its checkpoint are."""

    experiment: str
    p: Parameters
    seed: int
    data: Dataset
    network: nn.Module

    def __post_init__(self) -> None:
        p, data = self.p, self.data
        self.facts = {"name": data.name, "variant": data.variant, "checksum": data.checksum} | data.facts
        self.id = records.identity(self.experiment, p, self.seed, self.facts)
        self.code = records.code_of(p, data.name)
        folder, name = paths.runs(p.runs), f"seed{self.seed}-{self.id}"
        self.path = folder / "records" / (p.study or self.experiment) / p.condition / p.arm / f"{name}.json"
        self.checkpoint = folder / "checkpoints" / f"{name}.pt"
        self.identity = f"{name} {self.code}"

    def alone(self) -> AbstractContextManager:
        return _alone(self.checkpoint.with_suffix(".lock"))

    def found(self) -> dict[str, Any] | None:
        """The record, if it is there, made by today's code and wanted; else None."""
        if self.p.fresh:
            self.checkpoint.unlink(missing_ok=True)
            return None
        record = records.load(self.path) if self.path.is_file() else None
        if record is None or records.is_stale(record):
            return None
        said = f"record of {record['created']} read, nothing trained (-p fresh True trains again)"
        print(f"seed {self.seed}: {said}")
        return record

    def written(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record as it is read again; the checkpoint is no longer needed."""
        records.write(records.rounded(record), self.path)
        for left in self.checkpoint.parent.glob(f"{self.checkpoint.name}*"):  # with what a killed run was writing
            left.unlink(missing_ok=True)
        return records.load(self.path)

    def training(self) -> Run:
        p, data, network = self.p, self.data, self.network
        settings = {field.name: p[field.name] for field in fields(Settings) if field.name in p}
        settings |= {"seed": self.seed, "betas": (p.beta_1, p.beta_2)}
        rule = build(p.weighting, len(data.task_names), p | {"seed": self.seed})
        if isinstance(rule, Direction):
            two = torch.arange(2)
            separate = isinstance(data.train, Separate)
            rule.attach(network, data.train.take([two] * len(data.task_names) if separate else two).inputs)
        kind = Measured if p.get("measure") else Run
        return kind(network, _tasks(data, p), rule, data, Settings(**settings))


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
    one = _seeded(experiment, p, seed, problem)
    processes = together()  # of which the first one reads and writes
    with one.alone() if processes.rank == 0 else nullcontext():
        record = processes.first(one.found)
        if record is not None:
            return record
        with _enough_memory(p):
            record = _train(one)
        return processes.first(partial(one.written, record))


def run_seeds(experiment: str, p: Parameters, problem: Problem) -> list[dict[str, Any]]:
    """The records of all `p.seeds`, one after the other; with `p.batched_seeds` those that are not there yet are
    trained as one batched model, or one after the other where that is not possible, which is said. A loss that is not
    finite ends the run of its seed alone.

    Args:
        experiment, p, problem: As for `run`.

    Raises:
        MtlkitError: What ended the first of the runs that diverged, once the other seeds are done; anything else at
            once.
    """
    first = None
    if p.get("batched_seeds", False) and len(p.seeds) > 1:
        first = _seeded(experiment, p, p.seeds[0], problem)
        reason = batched.refusal([first.training()])
        if reason is not None:
            print(f"the seeds are trained one after the other, because {reason}")
            first = None
    if first is None:
        made = {seed: _or_diverged(partial(run, experiment, p, seed, problem)) for seed in p.seeds}
    else:
        made = _together(experiment, p, problem)
    ended = [(seed, one) for seed, one in made.items() if isinstance(one, MtlkitError)]
    for seed, error in ended[1:]:
        print(f"seed {seed}: {error}", file=sys.stderr)
    if ended:
        seed, error = ended[0]
        also = f" So ended {len(ended)} of {len(made)} seeds." if len(made) > 1 else ""
        raise MtlkitError(f"seed {seed}: {error}{also}") from error
    return [made[seed] for seed in p.seeds]


def _or_diverged(train: Callable[[], dict[str, Any]]) -> dict[str, Any] | MtlkitError:
    try:
        return train()
    except MtlkitError as error:
        if DIVERGED not in str(error):
            raise
        return error


def _together(experiment: str, p: Parameters, problem: Problem) -> dict[int, dict[str, Any] | MtlkitError]:
    """The record of every seed, or what ended its run; those that are not there yet are trained as one."""
    ones = [_seeded(experiment, p, seed, problem) for seed in sorted(set(p.seeds))]
    with ExitStack() as locks:
        for one in ones:
            locks.enter_context(one.alone())
        made = {one.seed: one.found() for one in ones}
        missing = [one for one in ones if made[one.seed] is None]
        with _enough_memory(p):
            trained = _train_together(missing) if missing else []
        for one, record in zip(missing, trained, strict=True):
            made[one.seed] = record if isinstance(record, MtlkitError) else one.written(record)
    return made


def _seeded(experiment: str, p: Parameters, seed: int, problem: Problem) -> _Seed:
    machine.prepare(p.threads)
    torch.manual_seed(seed)
    return _Seed(experiment, p, seed, *problem(seed))


def _train(one: _Seed) -> dict[str, Any]:
    start = time.perf_counter()
    training = one.training()
    with Progress(f"seed {one.seed}") as progress, machine.watch(one.p.device) as seen:
        history = training.fit(checkpoint=one.checkpoint, identity=one.identity, progress=progress)
    return _record(one, training, history, time.perf_counter() - start, seen)


def _train_together(ones: Sequence[_Seed]) -> list[dict[str, Any] | MtlkitError]:
    """The records of all, or what stopped them. Of the time each has its share; memory is that of all."""
    start = time.perf_counter()
    device = ones[0].p.device
    model = batched.Batched([one.training() for one in ones])
    if "cuda" in device and model.not_captured is not None:
        print(f"steps are not captured as a CUDA graph, because {model.not_captured}")
    with Progress(f"{len(ones)} seeds") as progress, machine.watch(device) as seen:
        found = model.fit(checkpoints=[one.checkpoint for one in ones], identities=[one.identity for one in ones],
                          progress=progress)  # fmt: skip
    seconds = (time.perf_counter() - start) / len(ones)
    return [history if isinstance(history, MtlkitError) else
            _record(one, training, history, seconds, seen, len(ones))
            for one, training, history in zip(ones, model.runs, found, strict=True)]  # fmt: skip


def _record(one: _Seed, training: Run, history: dict[str, Any], seconds: float, seen: machine.Seen,
            seeds: int = 1) -> dict[str, Any]:  # fmt: skip
    p, data, network = one.p, one.data, one.network
    network.trained = True  # for a notebook that shows predictions
    return {
        "schema": records.SCHEMA,
        "experiment": one.experiment,
        "study": p.study,
        "condition": p.condition,
        "arm": p.arm,
        "parameters": {key: value for key, value in p.items() if key not in records.PLUMBING},
        "seed": one.seed,
        "tasks": data.task_names,
        "network": {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "shared": sum(parameter.numel() for parameter in network.shared_parameters()),
            "initialisation": network.initialisation,
        },
        "train_loss": history["train_loss"],
        "evaluations": history["evaluations"],
        "weights": history["weights"],
        "steps": {"taken": training.steps_per_epoch * p.epochs - history["skipped"], "skipped": history["skipped"]},
        "cost": {
            "seconds_per_step": statistics.median(history["epoch_seconds"]) / training.steps_per_epoch,
            "seconds": seconds,
            "peak_memory_mb": seen.peak_memory_mb,
        },
        "environment": records.environment(p.device, p.threads)
        | {"processes": together().count, "batched_seeds": seeds, "not_deterministic": sorted(seen.not_deterministic)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "id": one.id,
        "data": one.facts,
        "code": one.code,
    }


def _tasks(data: Dataset, p: Parameters) -> list[tasks.Task]:
    if data.kind == "dense":
        return [dense.make(data.name, task, data.facts["outputs"][task], averaging=p.averaging)
                for task in data.task_names]  # fmt: skip
    if data.kind == "tagging":
        return [text_tasks.make(data.kind, task, data.facts["labels"]) for task in data.task_names]
    kinds = {"binary": tasks.binary, "multiclass": tasks.multiclass, "regression": tasks.regression}
    return [kinds[data.kind](task) for task in data.task_names]


@contextmanager
def _enough_memory(p: Parameters) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
            ways = ", ".join(way for name, way in LESS_MEMORY.items() if name in p)
            raise MtlkitError(f"{p.device} has not enough memory for this run; less is needed with {ways}.") from error
        raise


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends."""
    try:
        with files.alone(lock):
            yield
    except OSError as error:
        raise MtlkitError(f"nothing can be written to {lock.parent} ({error.strerror}); choose another folder with the "
                          "parameter `runs`.") from None  # fmt: skip
