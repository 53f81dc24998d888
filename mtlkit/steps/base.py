"""What the steps of all methods share."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.data.base import Samples
from mtlkit.distributed import ALONE, Together
from mtlkit.engine.reference import Inputs, Loss, frozen_statistics, loss_rows, padded, reference_pass
from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal, Weighting, share_out, spread


@dataclass
class Outcome:
    """What a step saw and decided; everything on the device.

    Attributes:
        losses: `(T, B)`, of the whole batch, that of all processes.
        weights: `(T, B)`, of the training batch, before `reference_share` is taken off.
        skip: `()` bool: no update should follow, because a loss or a weight is not finite or all weights are zero.
    """

    losses: Tensor
    weights: Tensor
    skip: Tensor


class Step:
    """Leaves in `.grad` what a weighting method makes of one batch. `zero_grad()` before and `step()` after are yours.

    A batch can be taken in parts, one after the other (`accumulate`) and by several processes (`together`): the update
    is that of the whole batch, for every method, where the network treats samples independently and draws nothing.
    Batch normalisation sees the statistics of a micro-batch. Where weights depend on losses or gradients of the whole
    batch, micro-batches cost a second forward pass, which draws its own dropout masks; but not with methods on the
    gradients of the shared parameters, which are added up, and not with weights that lack no more than a common divisor
    (`AlignmentRule.raw`), by which the gradient is divided at the end.

    Where every task has inputs of its own (`SeparateSamples`), row t of all matrices is of task t's samples, and ends
    in zeros, without mass, where other tasks have more.

    Args:
        network: Returns the predictions of T tasks and has `shared_parameters()`; `encoder` and `heads` make it
            cheaper.
        losses: T per-sample losses, `loss(prediction, target) -> (B,)`.
        rule: A weighting method.
        class_shares: `(T, C)`, the reference set's share of every label group. With it the weights within each label
            group are scaled to these shares, for any rule, if `use_class_shares`; rules may look at it in any case.
        reference_share: In [0, 1): this share of the update is the equally weighted loss of the reference batch.
        optimizer: Needed by methods that look ahead.
        accumulate: A batch, and the reference batch, is taken in so many micro-batches; their number of samples decides
            about the memory that activations take.
        together: The processes among which every batch is divided evenly, in order.
    """

    uses_reference = False
    """Whether the method itself looks at the reference batch."""

    skips_idle = True
    """Whether no update follows where all weights are zero."""

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: Weighting, *,
                 class_shares: Tensor | None = None, use_class_shares: bool = False, reference_share: float = 0.0,
                 optimizer: Optimizer | None = None, accumulate: int = 1,
                 together: Together = ALONE) -> None:  # fmt: skip
        if not 0 <= reference_share < 1:
            raise MtlkitError(f"reference_share is {reference_share!r}, which is not in [0, 1).")
        if use_class_shares and class_shares is None:
            raise MtlkitError("class_shares needs label groups and a reference set; these data have none.")
        self.network, self.losses, self.rule = network, list(losses), rule
        self.class_shares, self.use_class_shares = class_shares, use_class_shares
        self.reference_share, self.optimizer = reference_share, optimizer
        self.accumulate, self.together = accumulate, together
        self.needs_reference = reference_share > 0 or self.uses_reference

    def __call__(self, batch: Samples, reference: Samples | None = None) -> Outcome:
        """Weights of one batch and their gradients.

        Args:
            batch: The training batch, or this process's part of it.
            reference: The reference batch, where the rule or `reference_share` asks for one.
        """
        if self.needs_reference and reference is None:
            raise MtlkitError("this method needs a reference batch as well; the step was given none.")
        losses, weights = self.gradients(batch, reference)
        self.together.add_up(self.network.parameters())
        return self.outcome(losses, weights)

    def outcome(self, losses: Tensor, weights: Tensor) -> Outcome:
        """Losses and weights `(T, B)`, and whether an update should follow."""
        wasted = torch.zeros((), dtype=torch.bool, device=losses.device)
        if self.skips_idle and self.reference_share == 0:
            wasted = (weights == 0).all()
        return Outcome(losses, weights, wasted | ~torch.isfinite((weights * losses).sum()))

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of this process's samples; returns losses and weights of the whole batch, `(T, B)`, both
        detached."""
        raise NotImplementedError

    def after(self, batch: Samples) -> None:
        """Shows the losses of the same batch after the update to rules that look at them; nothing for the others."""
        if self.rule.looks_after:
            self.rule.after(self.signal(batch, self.seen(batch)))

    def state_dict(self) -> dict[str, Any]:
        """What a step keeps from the one before, apart from the rule's own state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a kept state."""

    def rows(self, inputs: Inputs, targets: Iterable[Tensor]) -> list[Tensor]:
        """The losses of every task, T tensors `(b_t,)`."""
        return loss_rows(self.losses, self.network(inputs), targets)

    def matrix(self, inputs: Inputs, targets: Iterable[Tensor]) -> Tensor:
        """The loss matrix `(T, b)`."""
        return padded(self.rows(inputs, targets))

    def parts(self, batch: Samples, *along: Tensor | None) -> Iterable[tuple]:
        """Inputs and targets of the micro-batches, and their columns of what is `along` samples in dimension 1."""
        if self.accumulate == 1:
            return [(batch.inputs, batch.targets, *along)]
        size = math.ceil(len(batch) / self.accumulate)
        separate = not isinstance(batch.inputs, Tensor)
        inputs = _each_split(batch.inputs, size) if separate else batch.inputs.split(size)
        columns = (repeat(None) if values is None else values.split(size, 1) for values in along)
        return zip(inputs, _each_split(batch.targets, size), *columns, strict=False)

    def seen(self, batch: Samples) -> Tensor:
        """The losses `(T, b)` of this process's samples, without a graph and without traces in the network."""
        with torch.no_grad(), frozen_statistics(self.network):
            return joined([self.matrix(*part) for part in self.parts(batch)])

    def backward(self, batch: Samples, weights: Tensor) -> Tensor:
        """Adds the gradient of `(W * L).sum()` with W `(T, b)`, this process's; returns L."""
        losses = []
        for *part, columns in self.parts(batch, weights):
            matrix = self.matrix(*part)
            (columns * matrix).sum().backward()
            losses.append(matrix.detach())
        return joined(losses)

    def forward(self, batch: Samples) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """The losses `(T, b)` and their `backward(W)`; with micro-batches, that passes through the network again."""
        if self.accumulate > 1:
            return self.seen(batch), partial(self.backward, batch)
        matrix = self.matrix(batch.inputs, batch.targets)
        return matrix.detach(), lambda weights: (weights * matrix).sum().backward()

    def signal(self, batch: Samples, losses: Tensor, *, alignment: Tensor | None = None,
               gram: Tensor | None = None) -> Signal:  # fmt: skip
        """What a rule may see of the whole batch, given this process's losses and scores `(T, b)`."""
        whole, gather = self.together.labels(batch), self.together.gather
        return Signal(gather(losses), whole.mass, whole.groups, self.class_shares, whole.flipped,
                      None if alignment is None else gather(alignment), gram, whole.index)  # fmt: skip

    def weights(self, signal: Signal) -> Tensor:
        """The rule's weights, `(T, B)`."""
        weights = spread(self.rule(signal), signal.mass)
        if not self.use_class_shares:
            return weights
        return share_out(weights, signal.groups, self.class_shares) * weights.sum(1, keepdim=True)

    def equal(self, batch: Samples) -> Tensor:
        """Equal weighting of the whole batch, `(T, B)`."""
        mass = self.together.labels(batch).mass
        return spread(torch.full_like(mass[:, 0], 1 / len(mass)), mass)

    def take_step(self) -> None:
        """A step of the optimizer within a step, with what the processes have in `.grad`, which it clears."""
        self.together.add_up(self.network.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad()

    def reference_pass(self, of: Samples, parameters: Sequence[Tensor], main: Tensor | None,
                       update: Tensor | None) -> list[Tensor] | None:  # fmt: skip
        """`engine.reference_pass` over a whole batch, with weights `main` `(1, B)` and `update` `(T, B)` of it; leaves
        this process's part of the update, and returns the gradient of the whole batch."""
        total, mine = None, [None if weights is None else self.together.mine(weights) for weights in (main, update)]
        for inputs, targets, first, every in self.parts(of, *mine):
            found = reference_pass(self.network, self.losses, inputs, targets, parameters,
                                   None if first is None else first[0], every)  # fmt: skip
            total = found if total is None else torch._foreach_add(total, found)
        return None if total is None else list(self.together.sum(total))

    def reference_update(self, reference: Samples | None) -> None:
        """Adds the reference batch's share of the update."""
        if self.reference_share > 0:
            self.reference_pass(reference, [], None, self.equal(reference) * self.reference_share)


def _each_split(tensors: Sequence[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    """Micro-batches of T tensors."""
    parts = [tensor.split(size) for tensor in tensors]
    if len({len(of_one) for of_one in parts}) > 1:
        raise MtlkitError(f"micro-batches of {size} samples leave some without a sample of every task, of which this "
                          f"batch has {', '.join(str(len(one)) for one in tensors)}; choose a smaller accumulate."
                          )  # fmt: skip
    return list(zip(*parts, strict=True))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Micro-batches `(T, b)` side by side."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)
