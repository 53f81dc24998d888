"""The workflow through a Slurm of one machine: what it gives there it gives here, a job that was cancelled included."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlkit import paths, records

pytestmark = pytest.mark.slurm

STUDIES = os.environ.get("STUDIES") or "toy"
SCRIPT = Path(__file__).with_name("one_machine.sh")
# It keeps no accounts, and its jobs are short.
NO_ACCOUNTS = "--slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the commands of a Slurm that runs are found."""
    given = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}  # those of `make slurm`
    given["PATH"] = f"{Path(sys.executable).parent}:{given['PATH']}:/usr/sbin"
    needed = ("make", "munged", "slurmctld", "slurmd", "sbatch")
    missing = [name for name in needed if not shutil.which(name, path=given["PATH"])]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: Debian's make, munge, slurmctld, slurmd and slurm-client")
    folder = tmp_path / "one"
    try:
        subprocess.run([SCRIPT, "start", folder], env=given, check=True)
        yield given | {"PATH": f"{folder / 'bin'}:{given['PATH']}"}
    finally:
        subprocess.run([SCRIPT, "stop", folder], env=given, check=True)


def reproduce(environment: dict[str, str], runs: Path, *given: str) -> subprocess.Popen:
    """`make reproduce` with the Python of this test, its output in a file beside `runs`."""
    command = ["make", "-o", ".venv/.installed", f"PYTHON={sys.executable}", "reproduce", "SCALE=quick"]
    command += [f"STUDIES={STUDIES}", *given]
    temporary = runs / "temporary"
    temporary.mkdir(parents=True)
    with runs.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, cwd=paths.ROOT, stdout=log, stderr=subprocess.STDOUT,
                                env=environment | {"MTLKIT_RUNS": str(runs), "TMPDIR": str(temporary)})  # fmt: skip


def cancel_half_way(run: subprocess.Popen, runs: Path, environment: dict[str, str]) -> str:
    """Cancel a job whose first seed is done and whose second is not; its comment, which names the cell."""

    def said(*command: str) -> str:
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    while run.poll() is None:
        time.sleep(0.2)
        jobs = said("squeue", "--noheader", "--states", "running", "--format", "%k|%i").splitlines()
        for comment, number in (job.rsplit("|", 1) for job in jobs):
            for cell in (runs / "quick" / "records").glob("*/*/*"):
                if f"_{'_'.join(cell.parts[-3:])}_" in comment and len(list(cell.glob("seed*.json"))) == 1:
                    said("scancel", number)
                    time.sleep(5)
                    if "JobState=CANCELLED" in said("scontrol", "show", "job", number):
                        return comment
    pytest.fail(f"no job was between two seeds:\n{runs.with_suffix('.log').read_text()[-3000:]}")


def content(runs: Path) -> tuple[dict, dict]:
    """Records without timings, and the bytes of figures and tables."""
    found = {
        str(path.relative_to(runs)): records.comparable(records.load(path))
        for path in runs.glob("quick/records/**/*.json")
    }
    drawn = {str(path.relative_to(runs)): path.read_bytes() for path in runs.glob("quick/figures/**/*.*")}
    return found, drawn


def test_as_without_slurm(environment: dict[str, str], tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    run = reproduce(environment, there, "PROFILE=slurm", f"ARGS={NO_ACCOUNTS}")
    try:
        comment = cancel_half_way(run, there, environment)
        assert run.wait() == 0, there.with_suffix(".log").read_text()[-3000:]
    finally:
        run.terminate()
    done = subprocess.run(["squeue", "--noheader", "--states", "all", "--format", "%k|%T"], env=environment, check=True,
                          capture_output=True, text=True).stdout  # fmt: skip
    assert {line.rsplit("|", 1)[1] for line in done.splitlines() if line.startswith(comment)} == {
        "CANCELLED",
        "COMPLETED",
    }
    assert not list((there / "temporary").glob("mtlkit-*")), "sockets are left"

    assert reproduce(environment, here, "ARGS=").wait() == 0, here.with_suffix(".log").read_text()[-3000:]
    (records_there, drawn_there), (records_here, drawn_here) = content(there), content(here)
    assert records_there == records_here and records_here
    assert drawn_there == drawn_here and drawn_here
