"""The steps of methods that look at the tasks' gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.engine.reference import Loss
from mtlkit.engine.task_gradients import Batch, TaskGradients
from mtlkit.steps.per_task import PerTask
from mtlkit.weighting.gradients import Direction, GradientRule


class _OfGradients(PerTask):
    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: GradientRule | Direction, *,
                 keep: int | None = None, **options: Any) -> None:  # fmt: skip
        super().__init__(network, losses, rule, **options)
        self.engine = TaskGradients(network, losses, at=rule.gradients, keep=keep)


class ByGradients(_OfGradients):
    """`sum_t w_t g_t` for the shared parameters, and its own task's gradient for every head.

    Args:
        keep: Task gradients that are held at once; fewer need less memory and more backward passes.
    """

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within = self.within(batch)
        found = self.engine(batch.inputs, batch.targets, within)
        gram = found.gram() if self.rule.uses_gram else None
        signal = self.signal(batch, found.losses, gram=gram)
        weights = self.rule(signal)
        kept = 1 - self.reference_share
        found.backward(weights * kept, self.rule.heads(signal, weights) * kept)
        penalty = self.rule.penalty(signal)
        if penalty is not None:
            (penalty * kept).backward()
        self.reference_update(reference)
        return found.losses, weights.to(within.dtype)[:, None] * within


class ByDirection(_OfGradients):
    """The one gradient that a method makes of all, for the shared parameters; its own task's for every head. The
    weights that are reported are those of the heads."""

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within = self.within(batch)
        found = self.engine(batch.inputs, batch.targets, within)
        signal, kept = self.signal(batch, found.losses), 1 - self.reference_share
        heads = self.rule.heads(signal)
        found.backward_heads(heads * kept)
        if self.rule.gradients == "representation":
            direction = self.rule(torch.stack(found.at_z), signal, found.z.detach())
            found.backward_at_z(direction * kept)
        else:
            direction = self.rule(_matrix(found), signal, None)
            found.add(direction * kept)
        self.reference_update(reference)
        return found.losses, heads.to(within.dtype)[:, None] * within


def _matrix(found: Batch) -> Tensor:
    rows = found.rows()
    return rows if isinstance(rows, Tensor) else torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
