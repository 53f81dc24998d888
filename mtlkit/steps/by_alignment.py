"""The step of rules that look at the alignment of every sample: one tangent pass beside the plain step."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.data.base import Samples
from mtlkit.engine.alignment import Aligned, SampleAlignment
from mtlkit.engine.reference import Loss, frozen_statistics, length, reference_pass
from mtlkit.errors import MtlkitError
from mtlkit.steps.base import Step
from mtlkit.weighting.base import AlignmentRule, share_out, spread


class ByAlignment(Step):
    """Scores every (task, sample) against the main task's gradient on the reference batch, or on the batch itself."""

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: AlignmentRule, **options: Any) -> None:
        self.uses_reference = rule.direction == "reference"
        self.skips_idle = rule.update != "published"
        super().__init__(network, losses, rule, **options)
        if rule.update != "plain" and self.optimizer is None:
            raise MtlkitError(f"update {rule.update!r} takes a step of its own and needs the optimizer.")
        self.alignment = SampleAlignment(network, losses, main_head=rule.align == "shared_and_main_head")
        self._direction: list[Tensor] | None = None
        self._previous: Tensor | None = None
        self._count = 0

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        update = {"plain": self._plain, "look_ahead": self._after_look_ahead, "published": self._as_published}
        losses, weights = update[self.rule.update](batch, reference)
        self._count += 1
        return losses, weights

    def state_dict(self) -> dict[str, Any]:
        return {"direction": self._direction, "previous": self._previous, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._direction, self._previous, self._count = state["direction"], state["previous"], state["count"]

    def _plain(self, batch: Samples, reference: Samples | None, divide_by: int = 1) -> tuple[Tensor, Tensor]:
        self._refresh(batch, reference, update=self.rule.update == "plain" and self.reference_share > 0)
        aligned = self._aligned(batch)
        weights = self.weights(self.signal(batch, aligned.losses, alignment=aligned.scores))
        aligned.backward(weights * ((1 - self.reference_share) / divide_by))
        return aligned.losses, weights

    def _after_look_ahead(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Weights from alignments after a tentative step with equal weights, which is undone before the update."""
        with _undone(self.network, self.optimizer), frozen_statistics(self.network):
            (self.equal(batch) * self.matrix(batch)).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._refresh(batch, reference)
            aligned = self._aligned(batch)
            weights = self.weights(self.signal(batch, aligned.losses, alignment=aligned.scores))
        matrix = self.matrix(batch)
        (weights * (1 - self.reference_share) * matrix).sum().backward()
        self.reference_update(reference)
        return matrix.detach(), weights

    def _as_published(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Two updates per batch, the first with the weights of the batch before; losses are divided by B once more."""
        size = len(batch.inputs)
        previous = self.equal(batch) if self._previous is None else self._previous
        if previous.shape != batch.mass.shape:
            raise MtlkitError(
                f"update 'published' uses the weights of the batch before, of shape "
                f"{tuple(previous.shape)}; this batch has {tuple(batch.mass.shape)}: keep one size."
            )
        (previous / size * self.matrix(batch)).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        losses, self._previous = self._plain(batch, reference, divide_by=size)
        self.reference_update(reference)
        return losses, self._previous

    def _refresh(self, batch: Samples, reference: Samples | None, update: bool = False) -> None:
        """The direction to align with, new where it is due; the reference batch's share of the `update` with it."""
        due = self._direction is None or self._count % self.rule.refresh == 0
        if self.rule.direction == "batch":
            if due:
                self._direction = reference_pass(self.network, self.losses, batch.inputs, batch.targets,
                                                 self.alignment.parameters, self._main(batch))  # fmt: skip
            if update:
                self.reference_update(reference)
        elif due or update:
            weights = self.equal(reference) * self.reference_share if update else None
            gradient = reference_pass(self.network, self.losses, reference.inputs, reference.targets,
                                      self.alignment.parameters, self._main(reference) if due else None,
                                      weights)  # fmt: skip
            self._direction = gradient if due else self._direction

    def _aligned(self, batch: Samples) -> Aligned:
        """The batch, its scores as if the direction had length one (zero stays zero)."""
        aligned = self.alignment(batch.inputs, batch.targets, self._direction)
        size = length(self._direction)
        aligned.scores = aligned.scores / torch.where(size > 0, size, torch.ones_like(size))
        return aligned

    def _main(self, of: Samples) -> Tensor:
        """Weights `(R,)`, total 1, of the main task's loss on a batch."""
        mass = of.mass[:1]
        if self.rule.reference_loss == "class_balanced":
            classes = 1 if self.class_shares is None else self.class_shares.shape[1]
            return share_out(mass, of.groups[:1], torch.ones_like(mass[:, :1]).expand(1, classes))[0]
        return spread(torch.ones_like(mass[:, 0]), mass)[0]


@contextmanager
def _undone(network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """What happens to the parameters and to the optimizer inside is undone at the end."""
    parameters = list(network.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    state = copy.deepcopy(optimizer.state_dict())
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, kept)
        optimizer.load_state_dict(state)
