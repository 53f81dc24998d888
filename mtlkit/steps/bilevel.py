"""The step of methods that learn task weights through a tentative step of the network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.engine.alignment import SampleAlignment
from mtlkit.engine.reference import Inputs, Loss, frozen_statistics, padded, totals
from mtlkit.engine.task_gradients import or_zeros
from mtlkit.errors import MtlkitError
from mtlkit.steps.base import joined
from mtlkit.steps.by_alignment import undone
from mtlkit.steps.per_task import PerTask
from mtlkit.weighting.bilevel import Bilevel


class ByLookingAhead(PerTask):
    """A tentative step with the present weights, the reference losses' gradients there, their products with the task
    gradients here, new weights, and the update with them. One tangent pass gives the products with the main task's
    reference gradient; with those of all tasks, a backward pass per task does."""

    uses_reference = True

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: Bilevel, **options: Any) -> None:
        super().__init__(network, losses, rule, **options)
        if self.optimizer is None:
            raise MtlkitError("this method takes a tentative step and needs the optimizer.")
        alignment = partial(SampleAlignment, main_head=True, total=self.together.sum)
        self.alignment = None if rule.every_task else alignment(network, losses)
        self.parameters = [p for p in network.parameters() if p.requires_grad]

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within, together = self.within(batch), self.together
        rate, kept = self.optimizer.param_groups[0]["lr"], 1 - self.reference_share
        there = self._ahead(batch, reference, within)
        if self.accumulate == 1:
            products, losses, backward = self._compared(batch.inputs, batch.targets, together.mine(within), there)
        else:
            backward = partial(self.backward, batch)
            with frozen_statistics(self.network):
                seen = [self._compared(*part, there)[:2] for part in self.parts(batch, together.mine(within))]
            products, losses = sum(one for one, _ in seen), joined([one for _, one in seen])
        (products,) = together.sum([products])
        signal = self.signal(batch, losses)
        weights = self.rule(-rate * products, signal).to(within.dtype)[:, None] * within
        backward(together.mine(weights) * kept)
        self.reference_update(reference)
        return signal.losses, weights

    def _compared(self, inputs: Inputs, targets: Sequence[Tensor], within: Tensor,
                  there: list[list[Tensor]]) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:  # fmt: skip
        """Products `(S, T)` of S gradients with those of the task losses of a micro-batch, its losses, and their
        `backward(W)`."""
        if self.alignment is not None:
            aligned = self.alignment(inputs, targets, there[0])
            return (within * aligned.scores).sum(1)[None], aligned.losses, aligned.backward
        rows = self.rows(inputs, targets)
        products, matrix = _products(totals(within, rows), there, self.parameters), padded(rows)
        return products, matrix.detach(), lambda weights: (weights * matrix).sum().backward()

    def _ahead(self, batch: Samples, reference: Samples, within: Tensor) -> list[list[Tensor]]:
        """Gradients of the main reference loss, or of all, after the tentative step."""
        together = self.together
        with undone(self.network, self.optimizer), frozen_statistics(self.network):
            self.backward(batch, together.mine(self.rule.weights()[:, None].to(within.dtype) * within))
            self.take_step()
            if self.alignment is not None:
                return [self.reference_pass(reference, self.alignment.parameters, self.within(reference)[:1], None)]
            total = None
            for *part, columns in self.parts(reference, together.mine(self.within(reference))):
                found = [torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
                         for loss in totals(columns, self.rows(*part))]  # fmt: skip
                rows = [or_zeros(row, self.parameters) for row in found]
                total = rows if total is None else list(map(torch._foreach_add, total, rows))
            return [list(together.sum(row)) for row in total]


def _products(here: Sequence[Tensor], there: Sequence[Sequence[Tensor]], parameters: Sequence[Tensor]) -> Tensor:
    """`(S, T)`, the products of S given gradients with those of T losses."""
    columns = []
    for loss in here:
        gradient = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        columns.append(torch.stack([_dot(gradient, row) for row in there]))
    return torch.stack(columns, 1)


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)
                        if x is not None]).sum()  # fmt: skip
