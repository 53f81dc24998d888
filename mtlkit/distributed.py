"""Data-parallel training: processes that each see a part of every batch take the step that one would take with all.

Every process holds the whole network, the whole rule and the same order of samples. Rules see the signal of the whole
batch, the same in all processes, so that weights and what rules learn or draw are the same too; each process
backpropagates its own samples with their weights, and the gradients are summed.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

from mtlkit import batch_norm
from mtlkit.data.base import Samples


@dataclass
class Labels:
    """What rules see of a whole batch beside losses; as in `Samples`."""

    mass: Tensor
    groups: Tensor
    flipped: Tensor
    index: Tensor | None


class Together:
    """What the processes of a run exchange. This one is for a run of one process: nothing.

    Attributes:
        rank: Of this process.
        count: Of all.
    """

    rank, count = 0, 1

    def gather(self, part: Tensor, dim: int = 1) -> Tensor:
        """All processes' parts, joined along `dim`; they are of one size."""
        return part

    def mine(self, whole: Tensor, dim: int = 1) -> Tensor:
        """This process's part of what `gather` gives."""
        return whole

    def sum(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sums of all processes' tensors; the tensors themselves stay as they are."""
        return tensors

    def labels(self, batch: Samples) -> Samples | Labels:
        """Mass, groups, flips and indices of the whole batch."""
        return batch

    def add_up(self, parameters: Iterable[Tensor]) -> None:
        """Every `.grad` becomes the sum of all processes'."""

    def same(self, tensors: Iterable[Tensor]) -> None:
        """All tensors become the first process's."""

    def each(self, value: Any) -> list[Any]:
        """The values of all processes, in order; any objects."""
        return [value]

    def first(self, make: Callable[[], Any]) -> Any:
        """What the first process makes; any object."""
        return self.each(make() if self.rank == 0 else None)[0]

    def device(self, device: str) -> str:
        """Where this process computes."""
        return device

    def synchronise(self, network: nn.Module) -> None:
        """Batch normalisation sees whole batches from now on."""


class Processes(Together):
    """The processes that `torchrun` started."""

    def __init__(self) -> None:
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def gather(self, part: Tensor, dim: int = 1) -> Tensor:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.count)]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim)

    def mine(self, whole: Tensor, dim: int = 1) -> Tensor:
        return whole.chunk(self.count, dim)[self.rank]

    def sum(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def labels(self, batch: Samples) -> Labels:
        known = [] if batch.index is None else [batch.index.view(-1, len(batch))]
        rows = [batch.mass, batch.groups, batch.flipped, *known]
        whole = self.gather(torch.cat([row.double() for row in rows]))
        mass, groups, flipped, *index = whole.split(list(map(len, rows)))
        return Labels(mass.to(batch.mass.dtype), groups.long(), flipped.bool(),
                      index[0].long().view(*batch.index.shape[:-1], -1) if index else None)  # fmt: skip

    def add_up(self, parameters: Iterable[Tensor]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_copy_(gradients, list(self.sum(gradients)))

    def same(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)

    def each(self, value: Any) -> list[Any]:
        values = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def device(self, device: str) -> str:
        if device != "cuda":
            return device
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return f"cuda:{os.environ['LOCAL_RANK']}"

    def synchronise(self, network: nn.Module) -> None:
        batch_norm.synchronise(network)


ALONE = Together()


@cache
def together() -> Together:
    """The processes that `torchrun` started, through gloo on the CPU and nccl on GPUs; `ALONE` without it."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Processes()
