"""The only training loop."""

import math
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Dataset, Samples, generator
from mtlkit.data.separate import Separate
from mtlkit.distributed import together
from mtlkit.errors import MtlkitError, one_of
from mtlkit.evaluation import evaluate
from mtlkit.forward import PRECISIONS, prepared
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.order import Order, Orders
from mtlkit.reading import batches
from mtlkit.schedules import SCHEDULES
from mtlkit.steps import Outcome, make_step
from mtlkit.summary import WeightSummary
from mtlkit.tasks import Task
from mtlkit.weighting import Weighting

TRAIN_DATA = ("train", "reference", "both")
JUDGED = ("main", "all")


@dataclass(frozen=True)
class Settings:
    """How to train. Sizes count samples, `epochs` passes over the training set. Where every task has samples of its
    own, sizes count those of each, and epochs are passes over the longest set; others are gone through more often.

    Attributes:
        epochs: At least 1. An epoch has `len(train) // batch_size` steps, whatever `train_data` is.
        batch_size: Samples per step.
        reference_batch: Samples of the reference set per step, for methods that use it.
        optimizer: `sgd`, `adam` or `adamw`.
        learning_rate: At the start.
        schedule: How it goes on: a key of `schedules.SCHEDULES`.
        momentum: Of SGD.
        betas: Of Adam and AdamW.
        weight_decay: L2 penalty, added to the gradient; with AdamW decoupled from it.
        clip: The gradient is scaled down to this length where it is longer; 0: never.
        train_data: Train on the `train` set, on the `reference` set, or on `both`.
        class_shares: Scale the weights within each label group to the reference set's class shares.
        reference_share: Share of the update that the reference batch gets, in [0, 1).
        evaluations: The tuning and test sets are evaluated this many times, evenly spread, the last time at the end.
        evaluation_batch: Samples that are evaluated at a time.
        judged: The tasks that are evaluated each time, `main` or `all`; the last time all are.
        seed: Of the order of the samples.
        device: `cpu`, `cuda`, `cuda:1`.
        precision: Inside the network, `float32` or `bfloat16` (autocast). Parameters, losses, scores, weights, Gram
            matrices and the optimizer stay in float32.
        channels_last: Parameters and images lie in memory with the channels last, which convolutions on GPUs prefer.
        checkpoint: Activations of the encoder are computed anew for every backward pass, in place of being kept.
        accumulate: A batch is taken in so many micro-batches, for the memory of batch_size / accumulate samples; see
            `Step` for what that costs.
        workers: Threads that read the next batches of sets that do not fit on the device; 0 reads when it is needed.
    """

    epochs: int
    batch_size: int = 64
    reference_batch: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    schedule: str = "constant"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0
    train_data: str = "train"
    class_shares: bool = False
    reference_share: float = 0.0
    evaluations: int = 8
    evaluation_batch: int = 500
    judged: str = "main"
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    channels_last: bool = False
    checkpoint: bool = False
    accumulate: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        one_of("train_data", self.train_data, TRAIN_DATA)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("judged", self.judged, JUDGED)
        one_of("precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size", "reference_batch", "evaluations", "evaluation_batch", "accumulate"):
            if getattr(self, name) < 1:
                raise MtlkitError(f"{name} is {getattr(self, name)!r}, which is not at least 1.")
        if self.workers < 0:
            raise MtlkitError(f"workers is {self.workers!r}, which is not at least 0.")
        if self.batch_size % self.accumulate:
            raise MtlkitError(f"accumulate is {self.accumulate}, which does not divide batch_size, {self.batch_size}.")

    def evaluation_epochs(self) -> set[int]:
        """The epochs, counted from 1, after which the run is evaluated."""
        return {math.ceil(k * self.epochs / self.evaluations) for k in range(1, self.evaluations + 1)}


def class_shares(samples: Samples, classes: int) -> Tensor:
    """`(T, C)`, the share of each of C label groups in every task, by mass."""
    members = nn.functional.one_hot(samples.groups, classes).to(samples.mass.dtype)
    count = torch.einsum("tb,tbc->tc", samples.mass, members)
    return count / count.sum(1, keepdim=True).clamp_min(torch.finfo(count.dtype).tiny)


def _order(samples: Samples | Separate, batch: int, seed: int, purpose: str, *, stratified: bool) -> Order | Orders:
    """In which order a run sees a set. Where every task has samples of its own each has a generator, and strata."""

    def order(task: int, size: int) -> Order:
        strata = samples.groups[task, :size] if stratified else None
        return Order(size, batch, generator(seed, f"{purpose} {task}" if task else purpose), strata)

    if isinstance(samples, Separate):
        return Orders([order(task, size) for task, size in enumerate(samples.sizes)])
    return order(0, len(samples))


def _passed(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


class Run:
    """One training run that can be stopped and resumed after any epoch.

    Under `torchrun` its processes divide every batch evenly and take the steps that one process would take; see
    `mtlkit.distributed`. Batch normalisation sees whole batches; dropout and augmentation draw differently in each
    process. All evaluate, with the same result; the first one writes checkpoints.

    Args:
        network: Moved to the device.
        tasks: T tasks; task 0 is the main one.
        rule: A weighting method.
        data: The four sets.
        settings: How to train.

    Raises:
        MtlkitError: Settings, data and method do not go together.
    """

    def __init__(
        self, network: nn.Module, tasks: Sequence[Task], rule: Weighting, data: Dataset, settings: Settings
    ) -> None:
        self.together = together()
        self.device = device = self.together.device(settings.device)
        self._divisible(settings)
        if isinstance(data.train, Separate) and hasattr(network, "encoder"):
            raise MtlkitError("every task of these data has inputs of its own, but this network encodes one batch for "
                              "all tasks; use one that takes a batch of each, such as SeparateInputs.")  # fmt: skip
        self.tasks, self.settings, self.augment = list(tasks), settings, data.augment
        self.network, self.rule = network.to(device).train(), rule.to(device)
        self.together.synchronise(self.network)
        self.together.same([*self.network.parameters(), *self.network.buffers()])
        self.forward = prepared(self.network, precision=settings.precision, channels_last=settings.channels_last,
                                checkpoint=settings.checkpoint)  # fmt: skip
        self.train = {"train": data.train, "reference": data.reference, "both": data.train.join(data.reference)}[
            settings.train_data
        ].to(device)
        self.reference, self.tuning, self.test = (s.to(device) for s in (data.reference, data.tuning, data.test))
        self.steps_per_epoch = max(1, len(data.train) // settings.batch_size)
        self.optimizer = make_optimizer(settings.optimizer, self.network.parameters(),
                                        learning_rate=settings.learning_rate, momentum=settings.momentum,
                                        betas=settings.betas,
                                        weight_decay=settings.weight_decay, clip=settings.clip,
                                        of_the_rule=list(rule.parameters()))  # fmt: skip
        classes = int(max(data.train.groups.max(), data.reference.groups.max())) + 1
        shares = class_shares(data.reference, classes) if classes > 1 else None
        shares = None if shares is None else shares.to(device)
        rule.prepare(self.train.groups, shares)
        self.step = make_step(self.forward, [task.loss for task in tasks], rule, optimizer=self.optimizer,
                              class_shares=shares,
                              use_class_shares=settings.class_shares,
                              reference_share=settings.reference_share,
                              accumulate=settings.accumulate,
                              together=self.together)  # fmt: skip
        self.order = _order(self.train, settings.batch_size, settings.seed, "order", stratified=False)
        self.reference_order = _order(data.reference, settings.reference_batch, settings.seed, "reference order",
                                      stratified=shares is not None)  # fmt: skip
        rank = self.together.rank
        self.augmentation = generator(settings.seed, f"augmentation {rank}" if rank else "augmentation")
        if rank:
            torch.manual_seed(torch.initial_seed() + rank)  # parts of a batch do not share their dropout masks
        self.summary = WeightSummary(self.train.flipped, self.train.groups, settings.batch_size, settings.epochs)
        self.epoch = 0
        self.history: dict[str, Any] = {"train_loss": [], "evaluations": [], "skipped": 0, "epoch_seconds": []}

    def fit(self, *, checkpoint: Path | None = None, identity: str = "", every: float = 10.0,
            progress: Callable[[int, int, float], None] = lambda *_: None) -> dict[str, Any]:  # fmt: skip
        """Train to the last epoch and return the history.

        Args:
            checkpoint: File to resume from, if it is there and of the same identity, and to write to.
            identity: Names the parameters, seed and code; a checkpoint of another identity is not used.
            every: Least seconds between two checkpoints.
            progress: Called after each epoch with the epoch, the number of epochs and the mean training loss.

        Raises:
            MtlkitError: A loss was not finite; says in which step, task and sample.
        """
        first = self.together.first
        if checkpoint is not None and first(checkpoint.is_file):
            self._load(checkpoint, identity)
        saved = time.monotonic()
        while self.epoch < self.settings.epochs:
            self._epoch()
            progress(self.epoch, self.settings.epochs, self.history["train_loss"][-1])
            due = checkpoint is not None and self.epoch < self.settings.epochs
            if due and first(partial(_passed, saved, every)):
                self._save(checkpoint, identity)
                saved = time.monotonic()
        return self.history | {"weights": self.summary.result()}

    def _epoch(self) -> None:
        settings, device, mine = self.settings, self.device, self.together.mine
        steps = self.steps_per_epoch
        whole = self.order.take(steps)
        indices = mine(whole, -1).to(device)
        reference = mine(self.reference_order.take(steps), -1).to(device) if self.step.needs_reference else None
        outcomes: list[Outcome] = []
        start = time.perf_counter()
        train = batches(self.train, indices, settings.workers)
        references = repeat(None) if reference is None else batches(self.reference, reference, settings.workers)
        for k, pair in enumerate(zip(train, references, strict=False)):
            batch, held_out = (None if one is None else self._complete(one) for one in pair)
            self._set_rate(k)
            self.optimizer.zero_grad()
            outcome = self.step(batch, held_out)
            outcome.skip = guarded_step(self.optimizer, outcome.skip)
            self.step.after(batch)
            outcomes.append(outcome)
        self.rule.end_of_epoch()
        self._end_of_epoch(outcomes, whole, start)

    def _end_of_epoch(self, outcomes: Sequence[Outcome], whole: Tensor, start: float) -> None:
        """Takes in what the steps of an epoch saw, of the samples `whole`, since time `start`; evaluates where due."""
        settings = self.settings
        self.epoch += 1
        losses = torch.stack([outcome.losses for outcome in outcomes]).cpu()  # the epoch's first synchronisation
        self.history["epoch_seconds"].append(time.perf_counter() - start)
        weights = torch.stack([outcome.weights for outcome in outcomes]).cpu()
        self._stop_if_not_finite(losses, weights, whole)
        skipped = torch.stack([outcome.skip for outcome in outcomes]).cpu()
        self.history["skipped"] += int(skipped.sum())
        self.history["train_loss"].append(float(losses.mean()))
        self.summary.add(weights, losses, whole, self.epoch)
        if self.epoch in settings.evaluation_epochs():
            last = self.epoch == settings.epochs
            sets = {"tuning": self.tuning, "test": self.test}
            short, at_once = not last and settings.judged == "main", settings.evaluation_batch
            scores = {name: evaluate(self.forward, self.tasks, s, batch=at_once, main_only=short,
                                     workers=settings.workers)
                      for name, s in sets.items()}  # fmt: skip
            if not math.isfinite(scores["tuning"]["loss"]):
                found = scores["tuning"]["loss"]
                raise MtlkitError(f"the loss on the tuning set was {found} after epoch {self.epoch}; "
                                  f"try a smaller learning_rate than {settings.learning_rate:g}.")  # fmt: skip
            self.history["evaluations"].append({"epoch": self.epoch, **scores})

    def _complete(self, batch: Samples) -> Samples:
        """A batch as it was taken, augmented, with the mass that its targets have."""
        if self.augment is not None:
            batch = self.augment(batch, self.augmentation)
        if any(task.mass is not None for task in self.tasks):
            rows = zip(self.tasks, batch.mass, batch.targets, strict=True)
            batch.mass = torch.stack([m if task.mass is None else m * task.mass(t) for task, m, t in rows])
        return batch

    def _divisible(self, settings: Settings) -> None:
        count, accumulate = self.together.count, settings.accumulate
        for name, parts in (("batch_size", count * accumulate), ("reference_batch", count)):
            if getattr(settings, name) % parts:
                raise MtlkitError(f"{name} is {getattr(settings, name)}, which {count} processes (accumulate: "
                                  f"{accumulate}) cannot share evenly.")  # fmt: skip

    def _set_rate(self, step: int) -> None:
        """The learning rate of a step of this epoch, for the network and what the rule learns."""
        if self.settings.schedule != "constant":
            done = (self.epoch + step / self.steps_per_epoch) / self.settings.epochs
            rate = self.settings.learning_rate * SCHEDULES[self.settings.schedule](done, self.epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def _stop_if_not_finite(self, losses: Tensor, weights: Tensor, indices: Tensor) -> None:
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            step, task, sample = bad[0].tolist()
            value, name = losses[step, task, sample].item(), self.tasks[task].name
            at = indices[step, sample] if indices.ndim == 2 else indices[step, task, sample]
            raise MtlkitError(
                f"the loss of task {name!r} was {value} in epoch {self.epoch}, step {step + 1}, for training sample "
                f"{at.item()}; try a smaller learning_rate than {self.settings.learning_rate:g}."
            )
        bad = (~torch.isfinite(weights)).nonzero()
        if len(bad):
            step, task, _ = bad[0].tolist()
            raise MtlkitError(
                f"a weight of task {self.tasks[task].name!r} was not finite in epoch {self.epoch}, "
                f"step {step + 1}, though all losses were; please report it with the parameters."
            )

    def _save(self, path: Path, identity: str) -> None:
        """Write the whole state, or nothing."""
        random = self.together.each({
            "augmentation": self.augmentation.get_state(), "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if "cuda" in self.device else None,
        })  # fmt: skip
        if self.together.rank > 0:
            return
        state = {
            "identity": identity, "epoch": self.epoch, "history": self.history, "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(), "rule": self.rule.state_dict(), "step": self.step.state_dict(),
            "order": self.order.state(), "reference_order": self.reference_order.state(),
            "summary": self.summary.state(), "random": random,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            torch.save(state, partial)
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:  # PyTorch's writer has no OSError
            partial.unlink(missing_ok=True)
            said = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise MtlkitError(f"the checkpoint cannot be written to {path.parent} ({said}); is the disk full? The same "
                              "command goes on from the one before.") from error  # fmt: skip

    def _load(self, path: Path, identity: str) -> None:
        """Take up the state of a checkpoint, or, where it is of another run, say so."""
        try:
            with zipfile.ZipFile(path) as archive:  # `torch.load` compares no checksums
                if damaged := archive.testzip():
                    raise ValueError(damaged)
            state = torch.load(path, map_location=self.device, weights_only=True)
            if state["identity"] != identity or len(state["random"]) != self.together.count:
                print(f"the checkpoint {path.name} is of other parameters, code or processes; starting from the "
                      "beginning")  # fmt: skip
                return
            self._restore(state)
        except Exception as error:  # whatever the reader stumbles over, or the state does not fit
            raise MtlkitError(f"the checkpoint {path} cannot be read ({type(error).__name__}); delete it.") from error
        print(f"resumed after epoch {self.epoch} of {self.settings.epochs}")

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rule.load_state_dict(state["rule"])
        self.step.load_state_dict(state["step"])
        self.order.restore(state["order"])
        self.reference_order.restore(state["reference_order"])
        self.summary.restore(state["summary"])
        random = state["random"][self.together.rank]
        self.augmentation.set_state(random["augmentation"].cpu())
        torch.set_rng_state(random["cpu"].cpu())
        if random["cuda"] is not None:
            torch.cuda.set_rng_state(random["cuda"].cpu(), self.device)
        self.epoch, self.history = state["epoch"], state["history"]
