"""What a weighting method is: the signal it sees, the contract, and the small helpers that methods share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass
class Signal:
    """What a rule may look at in one step; T tasks, B samples, C label groups. Nothing here requires gradients.

    Attributes:
        losses: `(T, B)`.
        mass: `(T, B)` >= 0, zero where a label is missing.
        groups: `(T, B)` int64 in `[0, C)`, the label group of every pair (all zero for regression).
        class_shares: `(T, C)`, the reference set's share of every label group, rows total 1; None if not known.
        flipped: `(T, B)` bool, labels that were corrupted; only controls may look. None if not known.
        alignment: `(T, B)`, for rules with `needs = "alignment"`.
        gram: `(T, T)`, products of the tasks' gradients on the shared parameters, for rules with `needs = "gradients"`.
        index: `(B,)` int64, where the samples stand in the training set, or `(T, B)` where every task has its own; None
            if not known.
    """

    losses: Tensor
    mass: Tensor
    groups: Tensor
    class_shares: Tensor | None = None
    flipped: Tensor | None = None
    alignment: Tensor | None = None
    gram: Tensor | None = None
    index: Tensor | None = None

    def by_task(self, values: Tensor) -> Tensor:
        """`(T,)`, the mean of `values` `(T, B)` over every task's samples, by mass."""
        return (spread(torch.ones_like(self.mass[:, 0]), self.mass).to(values.dtype) * values).sum(1)


class Weighting(nn.Module):
    """A weighting method. State lives in buffers or in extra state, and is saved and restored with the run.

    Args:
        tasks: T >= 1.
    """

    needs: ClassVar[str] = "losses"
    """What its step must compute: a key of `mtlkit.steps.STEPS`."""

    sees_losses: ClassVar[bool] = True
    """Whether weights depend on `signal.losses`; where not, a batch in micro-batches is passed once."""

    looks_after: ClassVar[bool] = False
    """Whether `after` wants to see the losses of the same batch after the update."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks

    def prepare(self, groups: Tensor, class_shares: Tensor | None) -> None:
        """Sees, before the first step, the label groups of the training set, `(T, N)`, and the reference set's class
        shares, `(T, C)`; raises an `MtlkitError` if the method makes no sense for such data."""

    def after(self, signal: Signal) -> None:
        """Sees the losses of the same batch after the update."""

    def end_of_epoch(self) -> None:
        """Called by the training loop after every epoch."""


class Rule(Weighting):
    """Maps a signal to weights, on the signal's device and without synchronising.

    `forward(signal)` returns `(T,)` task weights, which `spread` turns into sample weights by mass, or `(T, B)`
    weights. Either way equal weighting totals 1, so that one learning rate means the same for all methods. What a rule
    learns by the optimizer are its `nn.Parameter`s; they get their gradient through the weights and `penalty`.
    """

    def forward(self, signal: Signal) -> Tensor:
        raise NotImplementedError

    def penalty(self, signal: Signal) -> Tensor | None:
        """A term `()` of what is minimised beside the weighted losses, for rules that learn parameters."""
        return None


class AlignmentRule(Rule):
    """A rule that looks at `signal.alignment`, `<grad L[t, i], v> / |v|` with a direction `v` `(P,)`.

    Attributes:
        direction: `v` is the main task's gradient on the `reference` batch or on the training `batch` itself.
        align: What is differentiated: the `shared` parameters, or `shared_and_main_head`.
        reference_loss: `mean` over the samples that give `v`, or `class_balanced`.
        refresh: `v` is computed every so many steps.
        update: `plain`, `look_ahead` or `published`; see `SLGrad`.
    """

    needs = "alignment"
    direction = "reference"
    align = "shared"
    reference_loss = "mean"
    refresh = 1
    update = "plain"
    adds_up = False
    """Whether the weights are those of `raw`, divided by their total (and zero where that is)."""

    def raw(self, signal: Signal) -> Tensor:
        """`(T, B)` >= 0, what a sample gets whatever the others are."""
        raise NotImplementedError


def spread(weights: Tensor, mass: Tensor) -> Tensor:
    """Weights `(T, B)` from task weights `(T,)`: `w_t M[t, i] / sum_i M[t, i]`; weights `(T, B)` pass through."""
    return weights if weights.ndim == 2 else weights[:, None] * _divide(mass, mass.sum(1, keepdim=True))


def share_out(weights: Tensor, groups: Tensor, shares: Tensor, spare: Tensor | None = None) -> Tensor:
    """Rescale every row so that its label groups total `shares`; rows total 1, or 0 where nothing has weight.

    Args:
        weights: `(T, B)` >= 0.
        groups: `(T, B)` int64 in `[0, C)`.
        shares: `(T, C)` >= 0. Groups without weight are left out and the others scaled up.
        spare: `(T, B)` >= 0, the weights of a group whose own are all zero; None leaves such a group out.
    """
    members = torch.nn.functional.one_hot(groups, shares.shape[1]).to(weights.dtype)
    total = torch.einsum("tb,tbc->tc", weights, members)
    if spare is not None:
        weights = torch.where(total.gather(1, groups) > 0, weights, spare)
        total = torch.einsum("tb,tbc->tc", weights, members)
    shares = torch.where(total > 0, shares.to(weights.dtype), 0)
    shares = _divide(shares, shares.sum(1, keepdim=True))
    return _divide(weights, total.gather(1, groups)) * shares.gather(1, groups)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """`a / b`, and 0 where b is 0."""
    return torch.where(b > 0, a / torch.where(b > 0, b, torch.ones_like(b)), 0)


class Draws(nn.Module):
    """Random rows from a seeded CPU generator, drawn and copied to the device a block at a time.

    CPU and GPU runs so share them, and a step neither waits for a copy nor draws on the host. The state travels with
    `state_dict`, so that a resumed run goes on where it stopped.

    Args:
        draw: `draw(rows, generator) -> (rows, ...)`.
        seed: Of the generator.
        rows: Drawn at a time.
    """

    def __init__(self, draw: Callable[[int, torch.Generator], Tensor], seed: int, rows: int = 1024) -> None:
        super().__init__()
        self._draw, self._rows = draw, rows
        self._generator = torch.Generator().manual_seed(seed)
        self._start = self._generator.get_state()
        self._block: Tensor | None = None
        self._next = rows

    def next(self, like: Tensor) -> Tensor:
        """The next row, on the device and in the dtype of `like`."""
        if self._next == self._rows:
            self._start = self._generator.get_state()
            self._block, self._next = None, 0
        if self._block is None:
            self._block = self._draw(self._rows, self._generator).to(like)
        self._next += 1
        return self._block[self._next - 1]

    def get_extra_state(self) -> dict[str, Any]:
        used_up = self._next == self._rows  # then the next block starts where the generator is now
        return {"start": self._generator.get_state() if used_up else self._start, "next": self._next}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._start, self._next, self._block = state["start"].cpu(), state["next"], None
        self._generator.set_state(self._start)
