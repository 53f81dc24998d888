"""Settings of the process that trains."""

import ctypes
import sys
import warnings

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the options in glibc's `malloc.h`."""


def prepare(threads: int) -> None:
    """Use `threads` CPU threads, and keep memory that was freed for the next step.

    By default the C library hands large blocks back to the system, which then fills new ones with zeros page by page: a
    tenth of a ResNet-18 step. Results do not depend on it; where there is no glibc, nothing changes.
    """
    torch.set_num_threads(threads)
    # torchmetrics imports transformers, which asks for a widget that nothing here draws.
    warnings.filterwarnings("ignore", "IProgress not found")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # the most that glibc takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
