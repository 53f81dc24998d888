"""The batches of a set, one after the other: taken where they lie, or read ahead of the step that needs them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

from torch import Tensor

from mtlkit.data.base import Samples
from mtlkit.data.separate import Separate
from mtlkit.data.stored import Stored

AHEAD = 2
"""Batches that are read or wait, per worker thread."""


def batches(samples: Samples | Stored | Separate, indices: Sequence[Tensor], workers: int = 0) -> Iterator[Samples]:
    """The batches at `indices`, `(B,)` or `(T, B)` each, in order, on the device of the set.

    Args:
        samples: A set on its device.
        indices: As for `take`.
        workers: Threads that read the next batches of a set that is not on a GPU as a whole, and put them into pinned
            memory if they go to one; 0 reads a batch when it is asked for. What a thread raises is raised here.
    """
    parts = samples.parts if isinstance(samples, Separate) else (samples,)
    if workers and any(isinstance(part, Stored) and not part.rows.is_cuda for part in parts):
        yield from _ahead(samples, indices, workers)
    else:
        yield from map(samples.take, indices)


def _ahead(samples: Stored | Separate, indices: Sequence[Tensor], workers: int) -> Iterator[Samples]:
    device = samples.mass.device
    here = samples.to("cpu")

    def read(index: Tensor) -> Samples:
        batch = here.take(index)
        return _each(batch, Tensor.pin_memory) if device.type == "cuda" else batch

    pool, waiting = ThreadPoolExecutor(workers, "read"), deque()
    try:
        for index in [index.cpu() for index in indices]:
            waiting.append(pool.submit(read, index))
            if len(waiting) > AHEAD * workers:
                yield _each(waiting.popleft().result(), lambda values: values.to(device, non_blocking=True))
        while waiting:
            yield _each(waiting.popleft().result(), lambda values: values.to(device, non_blocking=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _each(batch: Samples, change: Callable[[Tensor], Tensor]) -> Samples:
    """A batch with all its tensors changed."""
    values = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    return replace(batch, **{name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
                             for name, value in values if value is not None})  # fmt: skip
