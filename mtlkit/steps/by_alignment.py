"""The step of rules that look at the alignment of every sample: one tangent pass beside the plain step."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.data.base import Samples
from mtlkit.engine.alignment import Aligned, SampleAlignment
from mtlkit.engine.reference import Inputs, Loss, frozen_statistics, length
from mtlkit.errors import MtlkitError
from mtlkit.steps.base import Step, joined
from mtlkit.weighting.base import AlignmentRule, Signal, share_out, spread


class ByAlignment(Step):
    """Scores every (task, sample) against the main task's gradient on the reference batch, or on the batch itself."""

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: AlignmentRule, **options: Any) -> None:
        self.uses_reference = rule.direction == "reference"
        self.skips_idle = rule.update != "published"
        super().__init__(network, losses, rule, **options)
        if rule.update != "plain" and self.optimizer is None:
            raise MtlkitError(f"update {rule.update!r} takes a step of its own and needs the optimizer.")
        self.alignment = SampleAlignment(network, losses, main_head=rule.align == "shared_and_main_head",
                                         total=self.together.sum)  # fmt: skip
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
        update, kept = self.rule.update == "plain" and self.reference_share > 0, (1 - self.reference_share) / divide_by
        if self.accumulate > 1 and self.rule.adds_up and not self.use_class_shares:
            self._refresh(batch, reference)
            found = self._divided_at_the_end(batch, kept)
            if update:
                self.reference_update(reference)
            return found
        self._refresh(batch, reference, update)
        signal, backward = self._aligned(batch)
        weights = self.weights(signal)
        backward(self.together.mine(weights) * kept)
        return signal.losses, weights

    def _divided_at_the_end(self, batch: Samples, kept: float) -> tuple[Tensor, Tensor]:
        """One pass over the micro-batches with weights whose divisor is known at the end."""
        losses, raw = [], []
        for inputs, targets, mass, groups in self.parts(batch, batch.mass, batch.groups):
            aligned = self._one(inputs, targets)
            signal = Signal(aligned.losses, mass, groups, self.class_shares, alignment=aligned.scores)
            losses.append(signal.losses)
            raw.append(self.rule.raw(signal))
            aligned.backward(raw[-1])
            del aligned
        raw = self.together.gather(joined(raw))
        total = raw.sum()
        total = torch.where(total > 0, total, torch.ones_like(total))
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, (kept / total).to(gradients[0].dtype))
        return self.together.gather(joined(losses)), raw / total

    def _after_look_ahead(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Weights from alignments after a tentative step with equal weights, which is undone before the update."""
        with undone(self.network, self.optimizer), frozen_statistics(self.network):
            self.backward(batch, self.together.mine(self.equal(batch)))
            self.take_step()
            self._refresh(batch, reference)
            weights = self.weights(self._aligned(batch)[0])
        losses = self.backward(batch, self.together.mine(weights) * (1 - self.reference_share))
        self.reference_update(reference)
        return self.together.gather(losses), weights

    def _as_published(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Two updates per batch, the first with the weights of the batch before; losses are divided by B, the mean
        number of labels per task, once more."""
        equal, mass = self.equal(batch), self.together.labels(batch).mass
        size = (mass.sum() / len(mass)).clamp_min(1)
        previous = equal if self._previous is None else self._previous
        if previous.shape != equal.shape:
            raise MtlkitError(
                f"update 'published' uses the weights of the batch before, of shape "
                f"{tuple(previous.shape)}; this batch has {tuple(equal.shape)}: keep one size."
            )
        self.backward(batch, self.together.mine(previous) / size)
        self.take_step()
        losses, self._previous = self._plain(batch, reference, divide_by=size)
        self.reference_update(reference)
        return losses, self._previous

    def _refresh(self, batch: Samples, reference: Samples | None, update: bool = False) -> None:
        due = self._direction is None or self._count % self.rule.refresh == 0
        if self.rule.direction == "batch":
            if due:
                self._direction = self.reference_pass(batch, self.alignment.parameters, self._main(batch), None)
            if update:
                self.reference_update(reference)
        elif due or update:
            weights = self.equal(reference) * self.reference_share if update else None
            main = self._main(reference) if due else None
            gradient = self.reference_pass(reference, self.alignment.parameters, main, weights)
            self._direction = gradient if due else self._direction

    def _one(self, inputs: Inputs, targets: Sequence[Tensor]) -> Aligned:
        """A micro-batch, its scores as if the direction had length one (zero stays zero)."""
        aligned = self.alignment(inputs, targets, self._direction)
        size = length(self._direction)
        aligned.scores = aligned.scores / torch.where(size > 0, size, torch.ones_like(size))
        return aligned

    def _aligned(self, batch: Samples) -> tuple[Signal, Callable[[Tensor], Any]]:
        """What the rule may see of the whole batch, and the `backward(W)` of `forward`."""
        if self.accumulate == 1:
            aligned = self._one(batch.inputs, batch.targets)
            return self.signal(batch, aligned.losses, alignment=aligned.scores), aligned.backward
        with frozen_statistics(self.network):
            seen = [_numbers(self._one(*part)) for part in self.parts(batch)]
        losses, scores = map(joined, zip(*seen, strict=True))
        return self.signal(batch, losses, alignment=scores), partial(self.backward, batch)

    def _main(self, of: Samples) -> Tensor:
        """Weights `(1, R)`, total 1, of the main task's loss on a batch."""
        whole = self.together.labels(of)
        mass = whole.mass[:1]
        if self.rule.reference_loss == "class_balanced":
            classes = 1 if self.class_shares is None else self.class_shares.shape[1]
            return share_out(mass, whole.groups[:1], torch.ones_like(mass[:, :1]).expand(1, classes))
        return spread(torch.ones_like(mass[:, 0]), mass)


def _numbers(aligned: Aligned) -> tuple[Tensor, Tensor]:
    """Without the graph, which is gone before the next one is built."""
    return aligned.losses, aligned.scores


@contextmanager
def undone(network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
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
