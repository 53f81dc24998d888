"""Sample selection by alignment with the main task's reference gradient, remembered over epochs."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import AlignmentRule, Signal, share_out, spread


class AlignedSelection(AlignmentRule):
    """Keeps, of every label group, as many samples as can be right, those that were aligned best (ours).

    A negative result, kept for the record: it did not beat EW with class shares and a larger `reference_share`.

    The alignment of one step says little about one sample. This rule keeps a running mean of it, of every task and
    sample, `e[t, i] <- decay e[t, i] + (1 - decay) <grad L[t, i], v> / |v|`, with SLGrad's `v`. At the end of every
    epoch, from `warm` on, the `pi[t, c] N_t` samples of every label group with the largest `e` are kept, the others are
    dropped until the next; `pi` `(T, C)` are the reference set's class shares, and `N_t` is the number of samples. Kept
    samples weigh alike, and within a task every label group keeps the share `pi[t, c]` of the weight, as with EW and
    `class_shares`; a group of which a batch has no kept sample spreads its share by mass. Scale: weights total 1.

    A group that wrong labels have not made larger than its share is kept whole: where flips leave the class shares as
    they were (as among ten balanced classes), this is EW with class shares. In a loop of your own call `prepare` first:
    without it nothing is remembered, and nothing dropped. Meant for use with a `reference_share`.

    Args:
        tasks: T >= 1.
        main_head: Whether the alignment is taken on the main task's head too, or on the shared parameters alone.
        decay: Of the running mean, per visit, in [0, 1).
        warm: Epochs before the first selection, at least 1.
    """

    def __init__(self, tasks: int, *, main_head: bool = True, decay: float = 0.9, warm: int = 2) -> None:
        super().__init__(tasks)
        if not 0 <= decay < 1:
            raise MtlkitError(f"decay is {decay!r}, which is not in [0, 1).")
        if warm < 1:
            raise MtlkitError(f"warm is {warm!r}, which is not at least 1.")
        self.align = "shared_and_main_head" if main_head else "shared"
        self.decay, self.warm = decay, warm
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("evidence", torch.zeros(tasks, 1))
        self.register_buffer("seen", torch.zeros(tasks, 1, dtype=torch.bool))
        self.register_buffer("kept", torch.ones(tasks, 1, dtype=torch.bool))
        self._groups: Tensor | None = None

    def prepare(self, groups: Tensor, class_shares: Tensor | None) -> None:
        if class_shares is None:
            raise MtlkitError(
                "aligned_selection needs label groups, which these tasks do not have; choose another one."
            )
        self._groups, self._shares = groups, class_shares
        tasks, size = groups.shape
        self.evidence = self.evidence.new_zeros(tasks, size + 1)  # one place more, for pairs without a label
        self.seen = torch.zeros_like(self.evidence, dtype=torch.bool)
        self.kept = torch.ones_like(self.evidence, dtype=torch.bool)

    def forward(self, signal: Signal) -> Tensor:
        kept = signal.mass if self._groups is None else signal.mass * self._remembered(signal)
        if signal.class_shares is None:
            return spread(torch.ones_like(kept[:, 0]), kept) / self.tasks
        return share_out(kept, signal.groups, signal.class_shares, spare=signal.mass) / self.tasks

    def _remembered(self, signal: Signal) -> Tensor:
        """Takes the batch into the memory; whether its pairs are kept, `(T, B)`."""
        places = torch.where(signal.mass > 0, signal.index, self.evidence.shape[1] - 1)
        old, new = self.evidence.gather(1, places), signal.alignment.to(self.evidence.dtype)
        mean = self.decay * old + (1 - self.decay) * new
        self.evidence.scatter_(1, places, torch.where(self.seen.gather(1, places), mean, new))
        self.seen.scatter_(1, places, True)
        return self.kept.gather(1, places)

    def end_of_epoch(self) -> None:
        self.epochs += 1
        if self._groups is None:
            return
        seen = self.seen[:, :-1]
        by_evidence = self.evidence[:, :-1].where(seen, -torch.inf).argsort(dim=1, descending=True, stable=True)
        order = by_evidence.gather(1, self._groups.gather(1, by_evidence).argsort(dim=1, stable=True))
        groups = self._groups.gather(1, order)
        sizes = torch.nn.functional.one_hot(self._groups, self._shares.shape[1]).sum(1)
        place = torch.arange(groups.shape[1], device=groups.device) - (sizes.cumsum(1) - sizes).gather(1, groups)
        most = self._shares.gather(1, groups) * seen.sum(1, keepdim=True)
        chosen = (place < most) | (self.epochs < self.warm)
        self.kept[:, :-1].scatter_(1, order, chosen)
