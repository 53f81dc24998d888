"""Sets in which every task has inputs of its own, such as one image domain or one language per task."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtlkit.data.base import Samples


@dataclass
class SeparateSamples(Samples):
    """A batch with inputs for every task: T tasks, `B_t` samples of task t, B of them at most. Rows end in padding.

    Attributes:
        inputs, targets: T tensors (B_t, ...) each.
        groups, flipped, mass, index: (T, B); zero, False, zero and zero where a task has fewer samples.
    """

    inputs: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Nothing is left out here: all is given."""

    def __len__(self) -> int:
        """B."""
        return self.mass.shape[1]


class Separate:
    """One of the four sets, made of one set with a single task for each of T tasks; task 0 is the main one.

    It is as long as the longest of its parts; a batch has as many samples of every task as it is asked for.

    Args:
        parts: T sets `(N_t, ...)` with one row of targets each: `Samples`, or what takes, moves and joins as they do.

    Attributes:
        sizes: N_1 .. N_T.
        groups, flipped, mass: `(T, N)`, with N the largest size; zero, False and zero beyond N_t.
    """

    def __init__(self, parts: Sequence[Samples]) -> None:
        self.parts = tuple(parts)
        self.sizes = tuple(map(len, self.parts))
        self.groups, self.flipped, self.mass = (_rows([getattr(part, name)[0] for part in self.parts])
                                                for name in ("groups", "flipped", "mass"))  # fmt: skip

    def __len__(self) -> int:
        """The largest N_t."""
        return max(self.sizes)

    def to(self, device: torch.device | str) -> "Separate":
        """The same set on `device`."""
        return Separate([part.to(device) for part in self.parts])

    def join(self, other: "Separate") -> "Separate":
        """The samples of this set followed by those of `other`, task by task."""
        return Separate([part.join(more) for part, more in zip(self.parts, other.parts, strict=True)])

    def take(self, index: Sequence[Tensor]) -> SeparateSamples:
        """The samples at T index tensors `(B_t,)`, int64 on the same device, or at the rows of one `(T, B)`."""
        taken = [part.take(at) for part, at in zip(self.parts, index, strict=True)]
        rows = (_rows([getattr(one, name)[0] for one in taken]) for name in ("groups", "flipped", "mass"))
        return SeparateSamples(tuple(one.inputs for one in taken), tuple(one.targets[0] for one in taken), *rows,
                               index=_rows([one.index for one in taken]))  # fmt: skip


def _rows(rows: Sequence[Tensor]) -> Tensor:
    """`(T, B)` from T tensors `(B_t,)`; shorter ones end in zeros."""
    return torch.stack(list(rows)) if len({len(row) for row in rows}) == 1 else pad_sequence(list(rows), True)
