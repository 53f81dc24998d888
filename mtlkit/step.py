"""One update: what a rule needs from the engine, its weights, and the gradients they give."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.data.base import Samples
from mtlkit.engine import SampleAlignment, frozen_statistics, reference_pass, unit
from mtlkit.engine.reference import Loss
from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting import Rule, Signal, share_out, spread


@dataclass
class Outcome:
    """What a step saw and decided; everything on the device.

    Attributes:
        losses: `(T, B)`.
        weights: `(T, B)`, of the training batch, before `reference_share` is taken off.
        skip: `()` bool: no update should follow, because a loss is not finite or all weights are zero.
    """

    losses: Tensor
    weights: Tensor
    skip: Tensor


class Step:
    """Leaves in `.grad` what a weighting rule makes of one batch. `zero_grad()` before and `step()` after are yours.

    Args:
        network: Returns the predictions of T tasks and has `shared_parameters()`; `encoder` and `heads` make it
            cheaper.
        losses: T per-sample losses, `loss(prediction, target) -> (B,)`.
        rule: A weighting method.
        class_shares: `(T, C)`, the reference set's share of every label group. With it the weights within each label
            group are scaled to these shares, for any rule, if `use_class_shares`; rules may look at it in any case.
        reference_share: In [0, 1): this share of the update is the equally weighted loss of the reference batch.
        optimizer: Needed by rules that look ahead.
    """

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: Rule, *, class_shares: Tensor | None = None,
                 use_class_shares: bool = False, reference_share: float = 0.0,
                 optimizer: Optimizer | None = None) -> None:  # fmt: skip
        if not 0 <= reference_share < 1:
            raise MtlkitError(f"reference_share is {reference_share!r}, which is not in [0, 1).")
        if use_class_shares and class_shares is None:
            raise MtlkitError("class_shares needs label groups and a reference set; these data have none.")
        self.network, self.losses, self.rule = network, list(losses), rule
        self.class_shares, self.use_class_shares = class_shares, use_class_shares
        self.reference_share, self.optimizer = reference_share, optimizer
        self.looks_ahead = getattr(rule, "update", "plain")
        if self.looks_ahead != "plain" and optimizer is None:
            raise MtlkitError(f"update {self.looks_ahead!r} takes a step of its own and needs the optimizer.")
        self.alignment = None
        if rule.needs == "alignment":
            self.alignment = SampleAlignment(network, losses, main_head=rule.align == "shared_and_main_head")
        self.needs_reference = reference_share > 0 or self.alignment is not None
        self._direction: list[Tensor] | None = None
        self._previous: Tensor | None = None
        self._count = 0

    def __call__(self, batch: Samples, reference: Samples | None = None) -> Outcome:
        """Weights of one batch and their gradients.

        Args:
            batch: The training batch.
            reference: The reference batch, where the rule or `reference_share` asks for one.
        """
        if self.needs_reference and reference is None:
            raise MtlkitError("this method needs a reference batch as well; the step was given none.")
        update = self._equal(reference) * self.reference_share if self.reference_share > 0 else None
        if self.alignment is None:
            losses, weights = self._by_losses(batch)
        elif self.looks_ahead == "plain":
            losses, weights = self._by_alignment(batch, reference, update)
            update = None  # took part together with the reference gradient
        elif self.looks_ahead == "look_ahead":
            losses, weights = self._after_look_ahead(batch, reference)
        else:
            losses, weights = self._as_published(batch, reference)
        if update is not None:
            reference_pass(self.network, self.losses, reference.inputs, reference.targets, [], update=update)
        self._count += 1
        wasted = torch.zeros((), dtype=torch.bool, device=losses.device)
        if self.reference_share == 0 and self.looks_ahead != "published":
            wasted = weights.sum() == 0
        return Outcome(losses, weights, wasted | ~torch.isfinite((weights * losses).sum()))

    def state_dict(self) -> dict[str, Any]:
        """What a step keeps from the one before, apart from the rule's own state."""
        return {"direction": self._direction, "previous": self._previous, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._direction, self._previous, self._count = state["direction"], state["previous"], state["count"]

    def _by_losses(self, batch: Samples) -> tuple[Tensor, Tensor]:
        matrix = self._matrix(batch)
        weights = self._weights(batch, matrix.detach())
        (weights * (1 - self.reference_share) * matrix).sum().backward()
        return matrix.detach(), weights

    def _by_alignment(self, batch: Samples, reference: Samples, update: Tensor | None = None,
                      divide_by: int = 1) -> tuple[Tensor, Tensor]:  # fmt: skip
        self._refresh(reference, update)
        aligned = self.alignment(batch.inputs, batch.targets, self._direction)
        weights = self._weights(batch, aligned.losses, aligned.scores)
        aligned.backward(weights * ((1 - self.reference_share) / divide_by))
        return aligned.losses, weights

    def _after_look_ahead(self, batch: Samples, reference: Samples) -> tuple[Tensor, Tensor]:
        """Weights from alignments after a tentative step with equal weights, which is undone before the update."""
        with _undone(self.network, self.optimizer), frozen_statistics(self.network):
            (self._equal(batch) * self._matrix(batch)).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._refresh(reference)
            aligned = self.alignment(batch.inputs, batch.targets, self._direction)
            weights = self._weights(batch, aligned.losses, aligned.scores)
        matrix = self._matrix(batch)
        (weights * (1 - self.reference_share) * matrix).sum().backward()
        return matrix.detach(), weights

    def _as_published(self, batch: Samples, reference: Samples) -> tuple[Tensor, Tensor]:
        """Two updates per batch, the first with the weights of the batch before; losses are divided by B once more."""
        size = len(batch.inputs)
        previous = self._equal(batch) if self._previous is None else self._previous
        (previous / size * self._matrix(batch)).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        losses, self._previous = self._by_alignment(batch, reference, divide_by=size)
        return losses, self._previous

    def _matrix(self, batch: Samples) -> Tensor:
        predictions = self.network(batch.inputs)
        return torch.stack([f(p, t) for f, p, t in zip(self.losses, predictions, batch.targets, strict=True)])

    def _refresh(self, reference: Samples, update: Tensor | None = None) -> None:
        """The direction to align with, new where it is due; the reference batch's share of the update with it."""
        due = self._direction is None or self._count % self.rule.refresh == 0
        if due or update is not None:
            main = self._main(reference) if due else None
            gradient = reference_pass(self.network, self.losses, reference.inputs, reference.targets,
                                      self.alignment.parameters, main, update)  # fmt: skip
            self._direction = unit(gradient) if due else self._direction

    def _main(self, reference: Samples) -> Tensor:
        """Weights `(R,)`, total 1, of the main task's loss on the reference batch."""
        mass = reference.mass[:1]
        if self.rule.reference_loss == "class_balanced":
            classes = 1 if self.class_shares is None else self.class_shares.shape[1]
            return share_out(mass, reference.groups[:1], torch.ones_like(mass[:, :1]).expand(1, classes))[0]
        return spread(torch.ones_like(mass[:, 0]), mass)[0]

    def _equal(self, batch: Samples) -> Tensor:
        """Equal weighting, `(T, B)`."""
        return spread(torch.full_like(batch.mass[:, 0], 1 / len(batch.mass)), batch.mass)

    def _weights(self, batch: Samples, losses: Tensor, scores: Tensor | None = None) -> Tensor:
        signal = Signal(losses, batch.mass, batch.groups, self.class_shares, batch.flipped, scores)
        weights = spread(self.rule(signal), batch.mass)
        if not self.use_class_shares:
            return weights
        return share_out(weights, batch.groups, self.class_shares) * weights.sum(1, keepdim=True)


@contextmanager
def _undone(network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """What happens to the parameters and to the optimizer inside is undone at the end."""
    parameters = list(network.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    state = copy.deepcopy(optimizer.state_dict())
    yield
    with torch.no_grad():
        torch._foreach_copy_(parameters, kept)
    optimizer.load_state_dict(state)


def make_optimizer(name: str, parameters: Iterable[Tensor], *, learning_rate: float, momentum: float = 0.9,
                   betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0) -> Optimizer:  # fmt: skip
    """SGD with momentum, or Adam, in the fused form, which can leave out an update on the device (`guarded_step`)."""
    one_of("optimizer", name, ("sgd", "adam"))
    parameters = list(parameters)
    if name == "adam":
        return torch.optim.Adam(parameters, learning_rate, betas, weight_decay=weight_decay, fused=True)
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, fused=True)
    if momentum > 0:
        # The fused kernel leaves its buffer uninitialised if the very first update is left out; zeros give the same.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def guarded_step(optimizer: Optimizer, skip: Tensor) -> None:
    """`optimizer.step()` unless `skip`, decided on the device; the optimizer's state stays as it was too.

    Raises:
        MtlkitError: The optimizer was not made with `fused=True`, the form that can leave out an update.
    """
    if not optimizer.defaults.get("fused"):
        raise MtlkitError("a step can be left out on the device by a fused optimizer only; make it with fused=True.")
    optimizer.grad_scale, optimizer.found_inf = None, skip.to(torch.float32)
    optimizer.step()
    del optimizer.grad_scale, optimizer.found_inf
