"""Controls: rules that a method has to be compared with, though nobody would publish them."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Rule, Signal, spread


class MainTask(Rule):
    """The main task alone: weight 1 for task 0, none for the auxiliary tasks."""

    sees_losses = False

    def forward(self, signal: Signal) -> Tensor:
        weights = torch.zeros_like(signal.losses[:, 0])
        weights[0] = 1
        return weights


class Oracle(Rule):
    """Equal weighting of the labels that were not corrupted: what perfect detection would give."""

    sees_losses = False

    def forward(self, signal: Signal) -> Tensor:
        if signal.flipped is None:
            raise MtlkitError("the oracle needs to know which labels were flipped; these data do not say.")
        return _equal(signal.mass * ~signal.flipped)


class LabelConsistency(Rule):
    """Equal weighting without the main label of every sample whose labels do not total 1.

    For one-against-rest tasks over all classes: exactly one of a sample's labels is 1, so a flip of the main label
    shows in their sum, without anything being learnt. With flips in the main task alone it is the oracle.
    """

    sees_losses = False

    def forward(self, signal: Signal) -> Tensor:
        if signal.index is not None and signal.index.ndim == 2:
            raise MtlkitError("label_consistency compares the labels of one sample, but here every task has samples of "
                              "its own; choose another weighting.")  # fmt: skip
        mass = signal.mass.clone()
        mass[0] *= signal.groups.sum(0) == 1
        return _equal(mass)

    def prepare(self, groups: Tensor, class_shares: Tensor | None) -> None:
        if class_shares is None or class_shares.shape[1] != 2 or abs(float(class_shares[:, 1].sum()) - 1) > 1e-3:
            raise MtlkitError("label_consistency needs one-against-rest tasks that cover all classes, so that exactly "
                              "one of a sample's labels is 1; choose another weighting, or all tasks.")  # fmt: skip


def _equal(mass: Tensor) -> Tensor:
    return spread(torch.full_like(mass[:, 0], 1 / mass.shape[0]), mass)
