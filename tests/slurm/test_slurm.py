"""The workflow through a Slurm of one machine: what it gives there it gives here, a job that was cancelled included."""

import os
import shutil
import signal
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
TIMES = ("seconds_per_step", "time_ratio")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the commands of a Slurm that runs are found."""
    given = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"}
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
        return subprocess.Popen(command, cwd=paths.ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                env=environment | {"MTLKIT_RUNS": str(runs), "TMPDIR": str(temporary)})  # fmt: skip


def squeue(environment: dict[str, str], form: str, *given: str) -> list[str]:
    """A line for every job, of those that are over too."""
    command = ["squeue", "--noheader", "--states", "all", "--format", form, *given]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def cancel_half_way(run: subprocess.Popen, runs: Path, environment: dict[str, str]) -> str:
    """Cancel a job whose first seed is done and whose second is not; returns its comment, which names the cell."""
    while run.poll() is None:
        time.sleep(0.2)
        for comment, number in (job.split("|") for job in squeue(environment, "%k|%i", "--states", "running")):
            for cell in (runs / "quick" / "records").glob("*/*/*"):
                if f"_{'_'.join(cell.parts[-3:])}_" in comment and len(list(cell.glob("seed*.json"))) == 1:
                    subprocess.run(["scancel", number], env=environment, check=True)
                    while (state := squeue(environment, "%T", "--jobs", number)[0]) in ("RUNNING", "COMPLETING"):
                        time.sleep(0.2)
                    if state == "CANCELLED":  # it was not just done
                        return comment
    pytest.fail(f"no job was between two seeds:\n{runs.with_suffix('.log').read_text()[-3000:]}")


def content(runs: Path) -> dict[str, object]:
    """What two runs share to the last digit or byte, by path: not times, in which tables for people have a column."""
    found = {path: records.comparable(records.load(path)) for path in runs.glob("quick/records/**/*.json")}
    found |= {path: path.read_bytes() for path in runs.glob("quick/figures/*/*.p*")}
    for path in runs.glob("quick/figures/*/*.csv"):
        found[path] = [line for line in path.read_text().splitlines() if not any(time in line for time in TIMES)]
    return {str(path.relative_to(runs)): one for path, one in found.items()}


def test_as_without_slurm(environment: dict[str, str], tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    run = reproduce(environment, there, "PROFILE=slurm", f"ARGS={NO_ACCOUNTS}")
    try:
        cancelled = cancel_half_way(run, there, environment)
        assert run.wait() == 0, there.with_suffix(".log").read_text()[-3000:]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGTERM)
    jobs = [job.split("|") for job in squeue(environment, "%k|%T")]
    assert sorted(state for comment, state in jobs if comment == cancelled) == ["CANCELLED", "COMPLETED"]
    assert not list((there / "temporary").glob("mtlkit-*")), "sockets are left"

    assert reproduce(environment, here, "ARGS=").wait() == 0, here.with_suffix(".log").read_text()[-3000:]
    expected, got = content(here), content(there)
    assert {path.split("/")[1] for path in expected} == {"records", "figures"}
    assert sorted(got) == sorted(expected)
    assert [path for path in expected if got[path] != expected[path]] == []
