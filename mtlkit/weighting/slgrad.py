"""Sample-level weighting by alignment with the main task's reference gradient."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError, one_of
from mtlkit.weighting.base import AlignmentRule, Signal, share_out

ALIGN = ("shared", "shared_and_main_head")
NORMALISATION = ("joint", "task", "task_label")
GROUP_SHARES = ("reference", "batch")
STRENGTH = ("proportional", "sign")
REFERENCE_LOSS = ("mean", "class_balanced")
UPDATE = ("plain", "look_ahead", "published")


class SLGrad(AlignmentRule):
    """Weights every sample of every task by its alignment (Grégoire et al., arXiv 2306.04519).

    `a[t, i] = max(0, <grad L[t, i], v>)`, `W = a / sum(a)`, where `v` `(P,)` is the gradient of the main task's loss on
    a reference batch that takes no part in training. Samples whose gradient would raise the reference loss get no
    weight. If no sample is aligned, all weights are zero and no step is taken. Scale: `W` totals 1, as equal weighting
    does.

    Departures from the release: reference and sample gradients are taken at the same current parameters, and one batch
    gives one update (the release updates twice, first with the weights of the previous batch); the loss is not
    divided by B again; and all of `(T, B)` comes from one tangent pass. `update="published"` restores the release's
    behaviour. The paper's text could not be had; where it and the release differ is not known.

    Args:
        tasks: T >= 1.
        align: `shared` (the encoder's parameters, as released) or `shared_and_main_head`.
        normalisation: `joint` over all pairs, as released; `task`: every task totals 1/T; `task_label`: within a task,
            every label group keeps its share. In the last two, a group with no aligned sample keeps its share, spread
            by mass.
        group_shares: For `task_label`: the class shares of the `reference` set or of the `batch`.
        strength: `proportional` to the alignment, or its `sign`: keep or drop.
        reference_loss: `mean` over the reference batch, or `class_balanced`: every class of the main task counts alike.
        refresh: The reference gradient is computed every so many steps; above 1 is an approximation.
        update: `plain`; `look_ahead`: alignments are taken after a tentative step with equal weights, which is then
            undone; `published`: the release's two updates per batch and its division by B.
        shuffle: A control: SLGrad's weights, shuffled among the samples of the same task and label group.
        seed: Of the shuffling.
    """

    def __init__(self, tasks: int, *, align: str = "shared", normalisation: str = "joint",
                 group_shares: str = "reference", strength: str = "proportional", reference_loss: str = "mean",
                 refresh: int = 1, update: str = "plain", shuffle: bool = False, seed: int = 0) -> None:  # fmt: skip
        super().__init__(tasks)
        one_of("align", align, ALIGN)
        one_of("normalisation", normalisation, NORMALISATION)
        one_of("group_shares", group_shares, GROUP_SHARES)
        one_of("strength", strength, STRENGTH)
        one_of("reference_loss", reference_loss, REFERENCE_LOSS)
        one_of("update", update, UPDATE)
        if refresh < 1:
            raise MtlkitError(f"refresh is {refresh!r}, which is not at least 1.")
        self.align, self.normalisation, self.group_shares, self.strength = align, normalisation, group_shares, strength
        self.reference_loss, self.refresh, self.update, self.shuffle = reference_loss, refresh, update, shuffle
        self.adds_up = normalisation == "joint" and not shuffle
        self._generator = torch.Generator().manual_seed(seed)

    def raw(self, signal: Signal) -> Tensor:
        positive = signal.alignment.clamp_min(0)
        if self.strength == "sign":
            positive = (positive > 0).to(signal.losses.dtype)
        return positive * signal.mass

    def forward(self, signal: Signal) -> Tensor:
        weights = self._normalised(self.raw(signal), signal)
        return self._shuffled(weights, torch.where(signal.mass > 0, signal.groups, -1)) if self.shuffle else weights

    def _normalised(self, weights: Tensor, signal: Signal) -> Tensor:
        if self.normalisation == "joint":
            total = weights.sum()
            return weights / torch.where(total > 0, total, torch.ones_like(total))
        if self.normalisation == "task":
            groups, shares = torch.zeros_like(signal.groups), torch.ones_like(signal.losses[:, :1])
        elif self.group_shares == "batch" or signal.class_shares is None:
            groups, shares = signal.groups, self._batch_shares(signal)
        else:
            groups, shares = signal.groups, signal.class_shares
        return share_out(weights, groups, shares, spare=signal.mass) / self.tasks

    def _batch_shares(self, signal: Signal) -> Tensor:
        if signal.class_shares is None:
            raise MtlkitError("normalisation 'task_label' needs label groups; these tasks have none: use 'task'.")
        members = torch.nn.functional.one_hot(signal.groups, signal.class_shares.shape[1])
        return torch.einsum("tb,tbc->tc", signal.mass, members.to(signal.mass.dtype))

    def _shuffled(self, weights: Tensor, groups: Tensor) -> Tensor:
        keys = torch.rand(groups.shape, generator=self._generator).to(weights.device, non_blocking=True)
        here, there = torch.argsort(groups, dim=1, stable=True), torch.argsort(groups + keys, dim=1)
        return torch.zeros_like(weights).scatter(1, here, weights.gather(1, there))

    def get_extra_state(self) -> Tensor:
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self._generator.set_state(state.cpu())
