"""The steps of S seeds as one: the passes through the network are those of one step, on a network that `stack` made.

The loss of a seed depends on its own part of the parameters alone. So one backward pass of the sum over all seeds gives
every seed's gradient, and one tangent pass along the stacked directions all alignments. What a rule sees and answers
stays apart: every seed keeps its own step, with its rule, class shares and state.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.distributed import Labels
from mtlkit.engine.alignment import Aligned
from mtlkit.engine.reference import Inputs
from mtlkit.engine.task_gradients import Batch
from mtlkit.steps import Outcome, Step
from mtlkit.steps.by_alignment import ByAlignment
from mtlkit.steps.by_gradients import ByDirection, ByGradients
from mtlkit.steps.by_losses import ByLosses
from mtlkit.steps.per_task import PerTask
from mtlkit.weighting import Signal


def columns(values: Tensor, seeds: int) -> list[Tensor]:
    """S matrices `(T, B)` from one, `(T, B S)`, in which every seed has each S-th column."""
    return [values[..., seed::seeds] for seed in range(seeds)]


def interleaved(parts: Sequence[Tensor]) -> Tensor:
    """The inverse of `columns`."""
    return torch.stack(list(parts), -1).flatten(-2)


class Rules:
    """The rules of all seeds in place of one. Options are those of the first; what is computed, each does for itself.

    Args:
        steps: Each seed's own step.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.steps[0].rule, name)

    def __call__(self, signal: Signal) -> Tensor:
        """Weights `(T, B S)`."""
        pairs = zip(self.steps, self.split(signal), strict=True)
        return interleaved([step.weights(one) for step, one in pairs])

    def penalty(self, signal: Signal) -> Tensor | None:
        """The sum of the seeds' penalties: what each learns depends on its own."""
        pairs = zip(self.steps, self.split(signal), strict=True)
        found = [penalty for step, one in pairs if (penalty := step.rule.penalty(one)) is not None]
        return torch.stack(found).sum() if found else None

    def after(self, signal: Signal) -> None:
        for step, one in zip(self.steps, self.split(signal), strict=True):
            step.rule.after(one)

    def split(self, signal: Signal) -> list[Signal]:
        """What every seed's rule may see."""
        seen = (signal.losses, signal.mass, signal.groups, signal.flipped, signal.alignment, signal.index)
        apart = zip(*([None] * len(self.steps) if one is None else columns(one, len(self.steps)) for one in seen),
                    strict=True)  # fmt: skip
        return [
            Signal(losses, mass, groups, step.class_shares, flipped, alignment, None, index)
            for step, (losses, mass, groups, flipped, alignment, index) in zip(self.steps, apart, strict=True)
        ]


class OfSeeds(Step):
    """A step on batches `(B S, ...)`.

    Args:
        network: The stacked network, or what `prepared` made of it.
        losses: T per-sample losses.
        steps: Each seed's own step, of which everything is taken but the passes through the network.
    """

    def __init__(self, network: nn.Module, losses: Sequence[Callable], steps: Sequence[Step]) -> None:
        super().__init__(network, losses, Rules(steps), reference_share=steps[0].reference_share)
        self.steps, self.seeds = steps, len(steps)

    def outcome(self, losses: Tensor, weights: Tensor) -> list[Outcome]:
        """That of every seed."""
        parts = zip(self.steps, columns(losses, self.seeds), columns(weights, self.seeds), strict=True)
        return [step.outcome(*one) for step, *one in parts]

    def equal(self, batch: Samples) -> Tensor:
        return self._each("equal", batch)

    def take_over(self) -> None:
        """Takes up what the seeds' own steps keep from the one before."""

    def hand_back(self) -> None:
        """Gives them what this one keeps."""

    def _each(self, method: str, batch: Samples) -> Tensor:
        """What the seeds' own steps make of their labels, side by side."""
        apart = zip(*(columns(one, self.seeds) for one in (batch.mass, batch.groups, batch.flipped)), strict=True)
        return interleaved([getattr(step, method)(Labels(*labels, None))
                            for step, labels in zip(self.steps, apart, strict=True)])  # fmt: skip


class OfLosses(OfSeeds, ByLosses):
    """Any number of seeds for one forward and one backward pass."""


class OfAlignment(OfSeeds, ByAlignment):
    """Any number of seeds for one tangent pass beside the plain step."""

    def take_over(self) -> None:
        states = [step.state_dict() for step in self.steps]
        self._count = states[0]["count"]
        if states[0]["direction"] is not None:
            self._direction = [torch.cat(parts) for parts in zip(*(s["direction"] for s in states), strict=True)]

    def hand_back(self) -> None:
        apart = [[None] * self.seeds] if self._direction is None else [d.chunk(self.seeds) for d in self._direction]
        for step, direction in zip(self.steps, zip(*apart, strict=True), strict=True):
            mine = None if self._direction is None else [part.clone() for part in direction]
            step.load_state_dict({"direction": mine, "previous": None, "count": self._count})

    def _one(self, inputs: Inputs, targets: Sequence[Tensor]) -> Aligned:
        aligned = self.alignment(inputs, targets, self._direction)
        lengths = [torch.linalg.vector_norm(part.reshape(self.seeds, -1), dim=1) for part in self._direction]
        size = torch.linalg.vector_norm(torch.stack(lengths), dim=0)
        scores = aligned.scores.unflatten(1, (-1, self.seeds))
        aligned.scores = (scores / torch.where(size > 0, size, torch.ones_like(size))).flatten(1)
        return aligned

    def _main(self, of: Samples) -> Tensor:
        return self._each("_main", of)


class OfTaskGradients(OfSeeds, PerTask):
    """What the methods on task gradients share: any number of seeds for one backward pass per task."""

    def within(self, batch: Samples) -> Tensor:
        return self._each("within", batch)

    def rows(self, found: Batch) -> Tensor:
        """`(S, T, P)`, the task gradients of every seed on the shared parameters."""
        rows = found.rows()
        sizes = [p.numel() for p in self.engine.shared]
        parts = rows.split(sizes, 1) if isinstance(rows, Tensor) else map(torch.stack, zip(*rows, strict=True))
        return torch.cat([part.reshape(len(part), self.seeds, -1) for part in parts], 2).transpose(0, 1)

    def add(self, found: Batch, gradients: Tensor) -> None:
        """Adds gradients `(S, P)` to those of the shared parameters."""
        parts = gradients.split([p.numel() // self.seeds for p in self.engine.shared], 1)
        found.add(torch.cat([part.reshape(-1) for part in parts]))

    def backward_heads(self, found: Batch, weights: Tensor) -> None:
        """Gives every head its own task's gradient, times what its seed's rule says, `(S, T)`."""
        for gradients, factor in zip(found.head_gradients(), weights.T, strict=True):
            for parameter, gradient in zip(self.engine.own, gradients, strict=True):
                if gradient is not None:
                    scaled = gradient.reshape(self.seeds, -1) * factor.to(gradient.dtype)[:, None]
                    parameter.grad = scaled.view_as(parameter)

    def spread(self, weights: Tensor, within: Tensor) -> Tensor:
        """`(T, B S)` from weights `(S, T)`."""
        apart = zip(weights, columns(within, self.seeds), strict=True)
        return interleaved([w.to(one.dtype)[:, None] * one for w, one in apart])


class OfGradients(OfTaskGradients, ByGradients):
    """Gram matrices and weights of every seed."""

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within, kept = self.within(batch), 1 - self.reference_share
        found = self.found(batch, within)
        at_z, gram = self.rule.gradients == "representation", self.rule.uses_gram
        rows = (self._at_z(found) if at_z else self.rows(found)) if gram else None
        signal = self.signal(batch, found.losses)
        weights, heads, penalties = [], [], []
        for seed, (step, one) in enumerate(zip(self.steps, self.rule.split(signal), strict=True)):
            one.gram = rows[seed] @ rows[seed].T if gram else None
            weights.append(step.rule(one))
            heads.append(step.rule.heads(one, weights[-1]))
            penalties.append(step.rule.penalty(one))
        weights = torch.stack(weights)
        self.backward_heads(found, torch.stack(heads) * kept)
        if gram and not at_z:
            self.add(found, torch.einsum("st,stp->sp", weights.to(rows.dtype) * kept, rows))
        else:
            every = weights.T.repeat(1, len(batch) // self.seeds) * kept  # (T, B S)
            pairs = zip(found.at_z, every, strict=True)
            found.backward_at_z(sum(g * w.to(g.dtype).view(-1, *[1] * (g.ndim - 1)) for g, w in pairs))
        if penalties[0] is not None:
            (torch.stack(penalties).sum() * kept).backward()
        self.reference_update(reference)
        return signal.losses, self.spread(weights, within)

    def _at_z(self, found: Batch) -> Tensor:
        """`(S, T, B Z)`, the task gradients of every seed at the representation."""
        return torch.stack([torch.stack([g[seed :: self.seeds].flatten() for g in found.at_z])
                            for seed in range(self.seeds)])  # fmt: skip


class OfDirection(OfTaskGradients, ByDirection):
    """The one gradient that every seed's method makes of those of its tasks."""

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within, kept = self.within(batch), 1 - self.reference_share
        found = self.found(batch, within)
        signal = self.signal(batch, found.losses)
        rules = [(step.rule, one) for step, one in zip(self.steps, self.rule.split(signal), strict=True)]
        heads = torch.stack([rule.heads(one) for rule, one in rules])
        self.backward_heads(found, heads * kept)
        if self.rule.gradients == "representation":
            parts = [[g[seed :: self.seeds] for g in (*found.at_z, found.z.detach())] for seed in range(self.seeds)]
            directions = [rule(torch.stack(at_z), one, z)
                          for (rule, one), (*at_z, z) in zip(rules, parts, strict=True)]  # fmt: skip
            found.backward_at_z(torch.stack(directions, 1).flatten(0, 1) * kept)
        else:
            pairs = zip(rules, self.rows(found), strict=True)
            self.add(found, torch.stack([rule(rows, one, None) for (rule, one), rows in pairs]) * kept)
        self.reference_update(reference)
        return signal.losses, self.spread(heads, within)


STEPS: dict[str, type[OfSeeds]] = {"losses": OfLosses, "alignment": OfAlignment, "gradients": OfGradients,
                                   "direction": OfDirection}  # fmt: skip
"""By what a method `needs`."""
