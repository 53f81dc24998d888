"""The steps of methods that look at the tasks' gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.engine.reference import Loss
from mtlkit.engine.task_gradients import Batch, TaskGradients
from mtlkit.errors import MtlkitError
from mtlkit.steps.per_task import PerTask
from mtlkit.weighting.gradients import Direction, GradientRule


class _OfGradients(PerTask):
    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: GradientRule | Direction, *,
                 keep: int | None = None, **options: Any) -> None:  # fmt: skip
        super().__init__(network, losses, rule, **options)
        batched = None if self.together.count == 1 else False  # sums over processes have no batched backward pass
        self.engine = TaskGradients(network, losses, at=rule.gradients, keep=keep, batched=batched,
                                    total=self.together.sum)  # fmt: skip
        if keep is not None and self.accumulate > 1:
            raise MtlkitError("keep computes task gradients anew where accumulate adds them up: use one of them.")

    def found(self, batch: Samples, within: Tensor) -> Batch:
        """The task gradients of this process's samples."""
        parts = list(self.parts(batch, self.together.mine(within)))
        return self.engine(*parts[0]) if len(parts) == 1 else self.engine.summed(parts)


class ByGradients(_OfGradients):
    """`sum_t w_t g_t` for the shared parameters, and its own task's gradient for every head.

    Args:
        keep: Task gradients that are held at once; fewer need less memory and more backward passes.
    """

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within = self.within(batch)
        found = self.found(batch, within)
        gram = found.gram() if self.rule.uses_gram else None
        signal = self.signal(batch, found.losses, gram=gram)
        weights = self.rule(signal)
        kept = 1 - self.reference_share
        found.backward(weights * kept, self.rule.heads(signal, weights) * kept)
        penalty = self.rule.penalty(signal)
        if penalty is not None:
            (penalty * kept).backward()
        self.reference_update(reference)
        return signal.losses, weights.to(within.dtype)[:, None] * within


class ByDirection(_OfGradients):
    """The one gradient that a method makes of all, for the shared parameters; its own task's for every head. The
    weights that are reported are those of the heads."""

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: Direction, **options: Any) -> None:
        super().__init__(network, losses, rule, **options)
        if self.together.count > 1 and type(rule).attach is not Direction.attach:
            raise MtlkitError("this method sets the gradients of its own layers, which several processes would add up: "
                              "train it in one process.")  # fmt: skip

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within, together = self.within(batch), self.together
        found = self.found(batch, within)
        signal, kept = self.signal(batch, found.losses), 1 - self.reference_share
        heads = self.rule.heads(signal)
        found.backward_heads(heads * kept)
        if self.rule.gradients == "representation":
            at_z, z = together.gather(torch.stack(found.at_z)), together.gather(found.z.detach(), 0)
            direction = self.rule(at_z, signal, z)
            found.backward_at_z(together.mine(direction, 0) * kept)
        else:
            (whole,) = together.sum([_matrix(found)])
            direction = self.rule(whole, signal, None)
            found.add(direction * (kept / together.count))  # all processes add the same
        self.reference_update(reference)
        return signal.losses, heads.to(within.dtype)[:, None] * within


def _matrix(found: Batch) -> Tensor:
    rows = found.rows()
    return rows if isinstance(rows, Tensor) else torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
