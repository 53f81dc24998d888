"""Settings of the process, in a process of its own, and what is seen of its device."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from mtlkit import machine

FAULTS = """
import resource, torch
from mtlkit import machine
{first}
def faults():
    for _ in range(3):
        blocks = [torch.ones(1_000_000) for _ in range(40)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(torch.get_num_threads(), faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_freed_memory_is_kept() -> None:
    def run(first: str) -> tuple[int, int]:
        greedy = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
        command = [sys.executable, "-c", FAULTS.format(first=first)]
        done = subprocess.run(command, capture_output=True, text=True, env=greedy)
        return tuple(map(int, done.stdout.split()))

    threads, kept = run("machine.prepare(3)")
    assert threads == 3
    assert kept < 1000 < run("torch.set_num_threads(1)")[1]


def test_operators_without_a_deterministic_algorithm_are_named() -> None:
    """Without a line on the terminal for each; other warnings come through."""
    values, ones = torch.zeros(3), torch.ones(2)
    before = torch.utils.deterministic.fill_uninitialized_memory
    with pytest.warns(UserWarning, match="another") as shown, machine.deterministic() as found:
        assert torch.are_deterministic_algorithms_enabled()
        for _ in range(2):
            values.put_(torch.tensor([0, 1]), ones)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert found == {"put_"} and len(shown) == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is before


def test_of_a_cpu_nothing_is_seen() -> None:
    with machine.watch("cpu") as seen:
        assert not torch.are_deterministic_algorithms_enabled()
    assert seen == machine.Seen(None, set())
