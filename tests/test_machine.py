"""Settings of the process, in a process of its own."""

import os
import subprocess
import sys

import pytest

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
