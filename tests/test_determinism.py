"""Every notebook that trains gives the same record again; with other threads and processors, nearly the same one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtlkit import paths, records, verify
from tests.test_notebooks import EXPERIMENTS

pytestmark = pytest.mark.slow

OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
"""What PyTorch, oneDNN and MKL may use of the processor: what those of 2008 had."""


def smoke(name: str, runs: Path, *given: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "mtlkit", "run", name, "-f", paths.PARAMS / f"{name}.smoke.yaml", *given,
               "-p", "seeds", "0", "-p", "runs", runs, "-o", runs / "out.ipynb"]  # fmt: skip
    done = subprocess.run(command, cwd=paths.ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = records.read(runs / "records")
    return record


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_same_record(name: str, tmp_path: Path) -> None:
    first = smoke(name, tmp_path / "first")
    assert records.comparable(smoke(name, tmp_path / "again")) == records.comparable(first)
    for kind, given, environment in [
        ("threads", ("-p", "threads", "2"), {"OMP_NUM_THREADS": "2"}),
        ("older", (), OLDER),
    ]:
        other = smoke(name, tmp_path / kind, *given, **environment)
        said, passed = verify.how_far(first, other)
        print(f"{name}, {kind}: {said}")
        assert passed, f"{kind}: {said}"
