"""Where data, runs, records and figures live; the only place that knows."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository: the package is installed in editable mode, so it lies beside notebooks/ and params/."""

NOTEBOOKS = ROOT / "notebooks"
PARAMS = ROOT / "params"
FIGURES = ROOT / "figures"
COMMITTED_RECORDS = FIGURES / "records"


def data_root(parameter: str = "") -> Path:
    """The folder with prepared data: the parameter, else `MTLKIT_DATA`, else `data/` in the repository."""
    return Path(parameter or os.environ.get("MTLKIT_DATA") or ROOT / "data").expanduser()


def runs(parameter: str = "") -> Path:
    """The folder that a run writes below: the parameter, else `MTLKIT_RUNS`, else `runs/` in the repository."""
    return Path(parameter or os.environ.get("MTLKIT_RUNS") or ROOT / "runs").expanduser().resolve()
