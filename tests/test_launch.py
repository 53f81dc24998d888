"""Kernels of runs that go on side by side, and what a run leaves behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtlkit.launch import LONGEST

LIGHT = """\
import time
from pathlib import Path
(Path(meet) / str(number)).touch()
print("waiting", flush=True)
until = time.monotonic() + 600
while len(list(Path(meet).iterdir())) < of and time.monotonic() < until:
    time.sleep(0.05)
print(f"{number} met {len(list(Path(meet).iterdir()))}")"""
"""What a light kernel does: it waits until all the others are there."""

COMMAND = """\
import runpy, sys
from pathlib import Path
from mtlkit import paths
paths.NOTEBOOKS = Path(sys.argv.pop(1))
runpy.run_module("mtlkit", run_name="__main__")"""
"""`python -m mtlkit`, with notebooks of the test."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the light notebook."""
    given = 'number: int = 0  # its own\nof: int = 2  # how many there are\nmeet: str = ""  # where'
    cells = [{"cell_type": "code", "id": name, "source": source, "metadata": {"tags": [name]}, "execution_count": None,
              "outputs": []} for name, source in (("parameters", given), ("light", LIGHT))]  # fmt: skip
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "light.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "meet").mkdir()
    return tmp_path


def started(folder: Path, temporary: Path, *given: object) -> subprocess.Popen:
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-c", COMMAND, folder, "run", "light", "-p", "meet", folder / "meet", *given]
    return subprocess.Popen([str(part) for part in command], env=os.environ | {"TMPDIR": str(temporary)}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_kernels_side_by_side(count: int, folder: Path) -> None:
    """All are there at the same time and none is lost, though temporary files go where a socket's path is too long."""
    long = folder / ("long" * 25)
    given = ("-p", "of", count, "-p", "number")
    runs = [started(folder, long, *given, n, "-o", folder / f"{n}.ipynb") for n in range(count)]
    for number, run in enumerate(runs):
        said, wrong = run.communicate(timeout=900)
        assert run.returncode == 0, wrong[-2000:]
        assert f"{number} met {count}" in said
        assert f"{number} met {count}" in (folder / f"{number}.ipynb").read_text()


def test_told_to_end(folder: Path) -> None:
    """What `kill` and scancel do, while its kernel works: nothing stays behind."""
    temporary = folder / "t"
    if len(os.fsencode(temporary)) > LONGEST:
        pytest.skip(f"{temporary} is too long for sockets: give pytest a shorter --basetemp")
    run = started(folder, temporary, "-o", folder / "out" / "light.ipynb")
    assert "waiting" in run.stdout.readline()
    assert list(temporary.glob("mtlkit-*/kernel-*")) and list(temporary.glob("mtlkit-*/kernel.json"))
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    assert not list(temporary.iterdir())
    assert not list((folder / "out").iterdir())
