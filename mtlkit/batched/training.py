"""Runs that differ in nothing but their seed, trained as one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit.batched import network
from mtlkit.batched.capture import Captured, in_place
from mtlkit.batched.capture import refusal as not_captured
from mtlkit.batched.steps import STEPS, columns, interleaved
from mtlkit.data.base import Samples
from mtlkit.errors import MtlkitError
from mtlkit.forward import prepared
from mtlkit.optimizers import guarded_step
from mtlkit.steps import Outcome
from mtlkit.training import Run


def refusal(runs: Sequence[Run]) -> str | None:
    """Why these runs cannot be trained as one, in words that follow "because"; None where they can."""
    first = runs[0]
    settings = first.settings
    if any(asdict(run.settings) | {"seed": 0} != asdict(settings) | {"seed": 0} for run in runs):
        return "they differ in more than their seed"
    if first.together.count > 1:
        return "several processes share every batch"
    for name in ("checkpoint", "channels_last"):
        if getattr(settings, name):
            return f"{name} is set"
    if settings.accumulate > 1:
        return "batches are taken in micro-batches (accumulate)"
    if first.rule.needs not in STEPS:
        return "the method takes a tentative step"
    if getattr(first.rule, "update", "plain") != "plain":
        return f"update {first.rule.update!r} takes more than one step per batch"
    if first.augment is not None:
        return "images are augmented"
    if any(type(samples) is not Samples for run in runs for samples in (run.train, run.reference)):
        return "the data are no plain tensors"
    if any(len(run.train) != len(first.train) or run.steps_per_epoch != first.steps_per_epoch for run in runs):
        return "their training sets have different sizes"
    return network.refusal([run.network for run in runs])


class Batched:
    """S runs that take every step together. Each keeps its own data, order, rule, optimizer, history, checkpoint and
    evaluation, and comes to what it comes to alone, to rounding. A step that is not finite is left out for that seed
    alone.

    On a GPU the steps are captured as a CUDA graph where that is possible.

    Args:
        runs: One or more, none of which has begun. Their parameters become views of joined ones.
        capture: Whether to capture; None does so on CUDA devices where it can.

    Raises:
        MtlkitError: The runs cannot be trained as one, or not be captured.
    """

    def __init__(self, runs: Sequence[Run], *, capture: bool | None = None) -> None:
        reason = refusal(runs)
        if reason is not None:
            raise MtlkitError(f"these runs cannot be trained as one, because {reason}.")
        first = runs[0]
        self.not_captured = not_captured(runs)
        """Why steps cannot be captured; None where they can."""
        if capture and self.not_captured is not None:
            raise MtlkitError(f"the steps of these runs cannot be captured, because {self.not_captured}.")
        self.runs = list(runs)
        self.network = network.stack([run.network for run in runs])
        forward = prepared(self.network, precision=first.settings.precision)
        self.parameters = list(self.network.parameters())
        self._own = [[run.network.get_parameter(name) for run in runs] for name, _ in first.network.named_parameters()]
        self.step = STEPS[first.rule.needs](forward, [task.loss for task in first.tasks], [run.step for run in runs])
        self.train, self._starts = _joined([run.train for run in runs])
        self.reference, self._reference_starts = _joined([run.reference for run in runs])
        self.failed: dict[int, MtlkitError] = {}
        wanted = self.not_captured is None if capture is None else capture
        self._take = Captured(self._whole_step, runs) if wanted else self._whole_step

    def fit(self, *, checkpoints: Sequence[Path] | None = None, identities: Sequence[str] = (), every: float = 10.0,
            progress: Callable[[int, int, float], None] = lambda *_: None
            ) -> list[dict[str, Any] | MtlkitError]:  # fmt: skip
        """Train to the last epoch; the history of every run, as of `Run.fit`, or what stopped it.

        Args:
            checkpoints: Of every run; they are those of runs alone.
            identities: Of every run, with `checkpoints`.
            every: Least seconds between two checkpoints.
            progress: Called after each epoch with the epoch, the number of epochs and the mean training loss of all.
        """
        runs, epochs = self.runs, self.runs[0].settings.epochs
        if checkpoints is not None:
            self._resume(checkpoints, identities)
        saved = time.monotonic()
        while runs[0].epoch < epochs and len(self.failed) < len(runs):
            self._epoch()
            losses = [run.history["train_loss"][-1] for run in self._going()]
            if losses:
                progress(runs[0].epoch, epochs, sum(losses) / len(losses))
            if checkpoints is not None and runs[0].epoch < epochs and time.monotonic() - saved > every:
                self.step.hand_back()
                for s, (run, path, identity) in enumerate(zip(runs, checkpoints, identities, strict=True)):
                    if s not in self.failed:
                        run._save(path, identity)
                saved = time.monotonic()
        return [self.failed[s] if s in self.failed else run.history | {"weights": run.summary.result()}
                for s, run in enumerate(runs)]  # fmt: skip

    def _going(self) -> list[Run]:
        return [run for s, run in enumerate(self.runs) if s not in self.failed]

    def _resume(self, checkpoints: Sequence[Path], identities: Sequence[str]) -> None:
        """Takes up every run where it was stopped; one that was saved an epoch earlier than others catches up alone."""
        for run, path, identity in zip(self.runs, checkpoints, identities, strict=True):
            if path.is_file():
                run._load(path, identity)
        latest = max(run.epoch for run in self.runs)
        for s, run in enumerate(self.runs):
            try:
                while run.epoch < latest:
                    run._epoch()
            except MtlkitError as error:
                self.failed[s], run.epoch = error, latest
        self.step.take_over()

    def _epoch(self) -> None:
        first, steps = self.runs[0], self.runs[0].steps_per_epoch
        wholes = [run.order.take(steps) for run in self.runs]
        indices = _moved(wholes, first.device)
        references = [None] * steps
        if self.step.needs_reference:
            references = _moved([run.reference_order.take(steps) for run in self.runs], first.device)
        seen: list[tuple[Tensor, ...]] = []
        start = time.perf_counter()
        for k, pair in enumerate(zip(indices, references, strict=True)):
            for run in self.runs:
                run._set_rate(k)
            seen.append(self._take(*pair))
        for run in self.runs:
            with in_place([run.rule]):
                run.rule.end_of_epoch()
        losses, weights, skips = (torch.stack(parts).cpu() for parts in zip(*seen, strict=True))
        share = (time.perf_counter() - start) / len(self.runs)  # what a run would take alone is not known
        apart = zip(columns(losses, len(self.runs)), columns(weights, len(self.runs)), skips.T, wholes, strict=True)
        for s, (run, (mine, w, skip, whole)) in enumerate(zip(self.runs, apart, strict=True)):
            if s in self.failed:
                run.epoch += 1  # the learning rate goes on
                continue
            try:
                run._end_of_epoch(list(map(Outcome, mine, w, skip)), whole, time.perf_counter() - share)
            except MtlkitError as error:
                self.failed[s] = error

    def _whole_step(self, index: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """From indices `(S, B)` to updated parameters; losses and weights `(T, B S)`, and skips `(S,)`."""
        for parameter in self.parameters:
            parameter.grad = None
        for run in self.runs:
            run.optimizer.zero_grad()
        batch = self.runs[0]._complete(_batch(self.train, index, self._starts))
        held_out = None
        if reference is not None:
            held_out = self.runs[0]._complete(_batch(self.reference, reference, self._reference_starts))
        outcomes = self.step(batch, held_out)
        for parameter, own in zip(self.parameters, self._own, strict=True):
            if parameter.grad is not None:
                for mine, gradient in zip(own, parameter.grad.chunk(len(own)), strict=True):
                    mine.grad = gradient
        skips = [guarded_step(run.optimizer, one.skip) for run, one in zip(self.runs, outcomes, strict=True)]
        self.step.after(batch)
        losses, weights = (interleaved([getattr(one, name) for one in outcomes]) for name in ("losses", "weights"))
        return losses, weights, torch.stack(skips)


def _joined(sets: Sequence[Samples]) -> tuple[Samples, Tensor]:
    """The sets of all runs one after the other, and where each starts, `(S, 1)`."""
    whole = sets[0]
    for more in sets[1:]:
        whole = whole.join(more)
    sizes = torch.tensor([0, *map(len, sets[:-1])])
    return whole, sizes.cumsum(0)[:, None].to(whole.inputs.device)


def _moved(indices: Sequence[Tensor], device: str) -> Tensor:
    """`(steps, S, B)` on the device, from S times `(steps, B)`."""
    return torch.stack(list(indices), 1).to(device)


def _batch(samples: Samples, index: Tensor, starts: Tensor) -> Samples:
    """A batch in which sample `b * S + s` is sample `index[s, b]` of run s."""
    batch = samples.take((index + starts).T.flatten())
    batch.index = index.T.flatten()
    return batch
