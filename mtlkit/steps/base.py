"""What the steps of all methods share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.data.base import Samples
from mtlkit.engine.reference import Loss, frozen_statistics, reference_pass
from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal, Weighting, share_out, spread


@dataclass
class Outcome:
    """What a step saw and decided; everything on the device.

    Attributes:
        losses: `(T, B)`.
        weights: `(T, B)`, of the training batch, before `reference_share` is taken off.
        skip: `()` bool: no update should follow, because a loss or a weight is not finite or all weights are zero.
    """

    losses: Tensor
    weights: Tensor
    skip: Tensor


class Step:
    """Leaves in `.grad` what a weighting method makes of one batch. `zero_grad()` before and `step()` after are yours.

    Args:
        network: Returns the predictions of T tasks and has `shared_parameters()`; `encoder` and `heads` make it
            cheaper.
        losses: T per-sample losses, `loss(prediction, target) -> (B,)`.
        rule: A weighting method.
        class_shares: `(T, C)`, the reference set's share of every label group. With it the weights within each label
            group are scaled to these shares, for any rule, if `use_class_shares`; rules may look at it in any case.
        reference_share: In [0, 1): this share of the update is the equally weighted loss of the reference batch.
        optimizer: Needed by methods that look ahead.
    """

    uses_reference = False
    """Whether the method itself looks at the reference batch."""

    skips_idle = True
    """Whether no update follows where all weights are zero."""

    def __init__(self, network: nn.Module, losses: Sequence[Loss], rule: Weighting, *,
                 class_shares: Tensor | None = None, use_class_shares: bool = False, reference_share: float = 0.0,
                 optimizer: Optimizer | None = None) -> None:  # fmt: skip
        if not 0 <= reference_share < 1:
            raise MtlkitError(f"reference_share is {reference_share!r}, which is not in [0, 1).")
        if use_class_shares and class_shares is None:
            raise MtlkitError("class_shares needs label groups and a reference set; these data have none.")
        self.network, self.losses, self.rule = network, list(losses), rule
        self.class_shares, self.use_class_shares = class_shares, use_class_shares
        self.reference_share, self.optimizer = reference_share, optimizer
        self.needs_reference = reference_share > 0 or self.uses_reference

    def __call__(self, batch: Samples, reference: Samples | None = None) -> Outcome:
        """Weights of one batch and their gradients.

        Args:
            batch: The training batch.
            reference: The reference batch, where the rule or `reference_share` asks for one.
        """
        if self.needs_reference and reference is None:
            raise MtlkitError("this method needs a reference batch as well; the step was given none.")
        losses, weights = self.gradients(batch, reference)
        wasted = torch.zeros((), dtype=torch.bool, device=losses.device)
        if self.skips_idle and self.reference_share == 0:
            wasted = (weights == 0).all()
        return Outcome(losses, weights, wasted | ~torch.isfinite((weights * losses).sum()))

    def gradients(self, batch: Samples, reference: Samples | None) -> tuple[Tensor, Tensor]:
        """Leaves the gradients; returns losses and weights `(T, B)`, both detached."""
        raise NotImplementedError

    def after(self, batch: Samples) -> None:
        """Shows the losses of the same batch after the update to rules that look at them; nothing for the others."""
        if self.rule.looks_after:
            with torch.no_grad(), frozen_statistics(self.network):
                self.rule.after(self.signal(batch, self.matrix(batch)))

    def state_dict(self) -> dict[str, Any]:
        """What a step keeps from the one before, apart from the rule's own state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a kept state."""

    def matrix(self, batch: Samples) -> Tensor:
        """The loss matrix `(T, B)`."""
        predictions = self.network(batch.inputs)
        return torch.stack([f(p, t) for f, p, t in zip(self.losses, predictions, batch.targets, strict=True)])

    def signal(self, batch: Samples, losses: Tensor, **more: Tensor) -> Signal:
        """What a rule may see of a batch."""
        return Signal(losses, batch.mass, batch.groups, self.class_shares, batch.flipped, index=batch.index, **more)

    def weights(self, signal: Signal) -> Tensor:
        """The rule's weights, `(T, B)`."""
        weights = spread(self.rule(signal), signal.mass)
        if not self.use_class_shares:
            return weights
        return share_out(weights, signal.groups, self.class_shares) * weights.sum(1, keepdim=True)

    def equal(self, batch: Samples) -> Tensor:
        """Equal weighting, `(T, B)`."""
        return spread(torch.full_like(batch.mass[:, 0], 1 / len(batch.mass)), batch.mass)

    def reference_update(self, reference: Samples | None) -> None:
        """Adds the reference batch's share of the update."""
        if self.reference_share > 0:
            update = self.equal(reference) * self.reference_share
            reference_pass(self.network, self.losses, reference.inputs, reference.targets, [], update=update)
