"""The step of methods that learn task weights through a tentative step of the network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data.base import Samples
from mtlkit.engine.alignment import SampleAlignment
from mtlkit.engine.reference import Loss, frozen_statistics
from mtlkit.engine.task_gradients import or_zeros
from mtlkit.errors import MtlkitError
from mtlkit.steps.by_alignment import _undone as undone
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
        self.alignment = None if rule.every_task else SampleAlignment(network, losses, main_head=True)
        self.parameters = [p for p in network.parameters() if p.requires_grad]

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        within = self.within(batch)
        rate, kept = self.optimizer.param_groups[0]["lr"], 1 - self.reference_share
        if self.alignment is not None:
            (there,) = self._ahead(batch, reference, within, self.alignment.parameters)
            aligned = self.alignment(batch.inputs, batch.targets, there)
            products, losses = (within * aligned.scores).sum(1)[None], aligned.losses
        else:
            there = self._ahead(batch, reference, within, self.parameters)
            matrix = self.matrix(batch)
            products, losses = _products((within * matrix).sum(1), there, self.parameters), matrix.detach()
        weights = self.rule(-rate * products, self.signal(batch, losses)).to(within.dtype)[:, None] * within
        if self.alignment is not None:
            aligned.backward(weights * kept)
        else:
            (weights * kept * matrix).sum().backward()
        self.reference_update(reference)
        return losses, weights

    def _ahead(self, batch: Samples, reference: Samples, within: Tensor,
               parameters: Sequence[Tensor]) -> list[list[Tensor]]:  # fmt: skip
        """Gradients of the main reference loss, or of all, after the tentative step."""
        with undone(self.network, self.optimizer), frozen_statistics(self.network):
            (self.rule.weights()[:, None].to(within.dtype) * within * self.matrix(batch)).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses = (self.within(reference) * self.matrix(reference)).sum(1)
            losses = losses if self.rule.every_task else losses[:1]
            found = [torch.autograd.grad(loss, parameters, retain_graph=k + 1 < len(losses), allow_unused=True)
                     for k, loss in enumerate(losses)]  # fmt: skip
        return [or_zeros(row, parameters) for row in found]


def _products(here: Tensor, there: Sequence[Sequence[Tensor]], parameters: Sequence[Tensor]) -> Tensor:
    """`(S, T)`, the products of S given gradients with those of T losses."""
    columns = []
    for loss in here:
        gradient = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        columns.append(torch.stack([_dot(gradient, row) for row in there]))
    return torch.stack(columns, 1)


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)
                        if x is not None]).sum()  # fmt: skip
