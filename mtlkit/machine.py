"""Settings of the process that trains, and what is seen of its device."""

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the options in glibc's `malloc.h`."""


def prepare(threads: int) -> None:
    """Use `threads` CPU threads, and keep memory that was freed for the next step.

    By default the C library hands large blocks back to the system, which then fills new ones with zeros page by page: a
    tenth of a ResNet-18 step. Results do not depend on it; where there is no glibc, nothing changes.
    """
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    # torchmetrics imports transformers, which asks for a widget that nothing here draws.
    warnings.filterwarnings("ignore", "IProgress not found")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # the most that glibc takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


@dataclass
class Seen:
    """What is seen of a GPU during a run; of a CPU, which is deterministic, nothing.

    Attributes:
        peak_memory_mb: Allocated at most, in MB of 2^20 bytes; None on a CPU, and before the run has ended.
        not_deterministic: Operators that were used and have no deterministic algorithm: a run with any of them does not
            come out again to the last digit.
    """

    peak_memory_mb: float | None = None
    not_deterministic: set[str] = field(default_factory=set)


@contextmanager
def watch(device: str) -> Iterator[Seen]:
    """Train inside; on a GPU by deterministic algorithms, where there are any."""
    seen = Seen()
    if "cuda" not in device:
        yield seen
        return
    torch.cuda.reset_peak_memory_stats(device)
    with deterministic() as seen.not_deterministic:
        yield seen
    seen.peak_memory_mb = torch.cuda.max_memory_allocated(device) / 2**20


@contextmanager
def deterministic() -> Iterator[set[str]]:
    """Operators use deterministic algorithms, where they have any; gets the names of those that have none."""
    found: set[str] = set()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *more: Any, **named: Any) -> None:
            name, said, _ = str(message).partition(" does not have a deterministic implementation")
            if said:
                found.add(name)
            else:
                show(message, *more, **named)

        warnings.filterwarnings("always", r"\S+ does not have a deterministic implementation")
        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # it finds faults, for which there are tests
        try:
            yield found
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.utils.deterministic.fill_uninitialized_memory = filled
