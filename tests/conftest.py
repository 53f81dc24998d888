"""What all tests share: one thread, the real data where there are any, and repeatable property tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.faults.table import pytest_collection_modifyitems, pytest_terminal_summary, tried

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "tried"]

ROOT = Path(__file__).resolve().parents[1]

# Kernels and commands that tests start read this before they load torch.
os.environ["OMP_NUM_THREADS"] = "1"

# What `make test` was called with is not meant for the `make` that tests call.
for name in ("MAKEFLAGS", "ARGS"):
    os.environ.pop(name, None)

# The same examples on every machine, and no deadline: shared cores stall now and then.
settings.register_profile("mtlkit", deadline=None, derandomize=True)
settings.load_profile("mtlkit")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One torch thread: tests share few cores, and sums keep their order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with real data: `MTLKIT_DATA`, else `../shared/data` beside the clone; skips tests without either."""
    root = Path(os.environ.get("MTLKIT_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("needs real data: set MTLKIT_DATA to the folder that holds them")
    return root
