"""kill -9 of the kernel, of Papermill and of Snakemake at random moments, until nothing is left to do.

FAULTS_KILLS sets how many kills there are: half of them hit the workflow, the others a notebook that runs alone.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtlkit import records

pytestmark = [pytest.mark.slow, pytest.mark.faults("kill -9")]

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("FAULTS_KILLS", 6))
STUDY = """
experiment: toy_regression
baseline: ew
scales:
  tiny: {seeds: 0-1, chunk: 1}
conditions:
  noisy: {label: noisy, noise: 0.3}
arms:
  ew: {label: EW, weighting: ew}
  slgrad: {label: SLGrad, weighting: slgrad}
tuning: {rates: [0.1], seeds: "0", conditions: [noisy], metric: loss}
"""
ROLES = {"kernel": b"\0ipykernel_launcher\0", "Papermill": b"\0papermill\0", "cell": b"\0cell\0",
         "Snakemake": b"\0snakemake\0"}  # fmt: skip
"""An argument of every victim; in the workflow, Papermill runs within `mtlkit cell`."""
NAMES = {"kernel": "the kernel", "cell": "Papermill"}


class Place:
    """A copy of the package with a tiny study, the processes that were started in it, and what they leave behind."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.root, self.temporary, self.mark = folder, temporary, uuid.uuid4().hex
        for name in ("mtlkit", "notebooks", "params"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "Snakefile", "environment.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        training = folder / "mtlkit" / "training.py"  # a run of seconds would not live to its first checkpoint
        training.write_text(training.read_text().replace("every: float = 10.0", "every: float = 0.05"))
        (folder / "params" / "studies" / "small.yaml").write_text(STUDY)
        (folder / "params" / "toy_regression.tiny.yaml").write_text("epochs: 40\nevaluations: 4\n")
        python = folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (folder / ".venv" / ".installed").touch()  # newer than the pins: nothing is installed

    def start(self, runs: Path, *command: str) -> subprocess.Popen:
        environment = os.environ | {"MTLKIT_RUNS": str(runs), "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1",
                                    "TMPDIR": str(self.temporary), "FAULTS_MARK": self.mark}  # fmt: skip
        with (self.temporary / "stderr").open("wb") as said:
            return subprocess.Popen(command, cwd=self.root, env=environment, stdout=subprocess.DEVNULL, stderr=said)

    def processes(self, word: bytes = b"") -> list[int]:
        """Those that were started here and live, with a word in their command line."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
                alive = b"\nState:\tZ" not in (process / "status").read_bytes()
                if alive and word in line and self.mark.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def wait(self, seconds: float = 60) -> None:
        """Until all have ended: a kernel notices that its parent is dead, a cell goes on without its Snakemake."""
        end = time.monotonic() + seconds
        while self.processes() and time.monotonic() < end:
            time.sleep(0.2)
        assert not self.processes(), "a process outlived the one that started it"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    temporary = Path(tempfile.mkdtemp(prefix="f"))  # a short path: sockets have no room for a long one
    (tmp_path / "repository").mkdir()
    made = Place(tmp_path / "repository", temporary)
    yield made
    for process in made.processes():
        os.kill(process, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)


def killed(place: Place, runs: Path, command: list[str], roles: list[str], kills: int,
           draw: random.Random) -> tuple[Counter, list[Path]]:  # fmt: skip
    """Run a command again and again, killing something now and then; the kills by role, and the folders of runs, each
    of them from the start to the end."""
    counts, laps = Counter(), [runs / "0"]
    end, wanted = time.monotonic() + 60 * (kills + 5), draw.choice(roles)
    process, at = place.start(laps[-1], *command), time.monotonic() + draw.uniform(0, 12)
    while sum(counts.values()) < kills:
        assert time.monotonic() < end, f"after {counts} it takes too long"
        time.sleep(0.02)
        if process.poll() == 0:
            laps.append(runs / str(len(laps)))
        if process.poll() is not None:
            process = place.start(laps[-1], *command)
        if time.monotonic() < at:
            continue
        victims = place.processes(ROLES[wanted])
        if victims:
            victim = draw.choice(victims)
            os.kill(victim, signal.SIGKILL)
            counts[wanted] += 1
            wanted = roles[(roles.index(wanted) + 1) % len(roles)]
            at = time.monotonic() + draw.uniform(0, 8)
    for _ in range(3):  # a kernel that was killed fails its cell: what is left to do is done by the next call
        if process.wait(300) == 0:
            break
        process = place.start(laps[-1], *command)
    assert process.wait(300) == 0
    place.wait()
    return counts, laps


def said(runs: Path) -> dict[str, str]:
    """What the records say, timings aside, to the last byte."""
    return {str(path.relative_to(runs)): json.dumps(records.comparable(records.load(path)))
            for path in sorted(runs.rglob("records/**/*.json"))}  # fmt: skip


def left(place: Place, runs: Path) -> list[str]:
    """Files of runs that are no records, figures, notebooks or empty locks, and what lies among temporary files."""
    finished = (".json", ".ipynb", ".png", ".pdf", ".md", ".tex", ".csv")
    found = [path for path in runs.rglob("*") if path.is_file() and path.stat().st_size
             and (path.suffix not in finished or path.name.startswith("."))]  # fmt: skip
    return [str(path) for path in [*found, *place.temporary.glob("mtlkit-*")]]


def check(place: Place, runs: Path, command: list[str], roles: list[str], kills: int,
          tried: Callable[..., None]) -> list[Path]:  # fmt: skip
    assert place.start(runs / "whole", *command).wait(300) == 0
    expected = said(runs / "whole")
    assert expected and not left(place, runs / "whole")
    counts, laps = killed(place, runs, command, roles, kills, random.Random(len(roles)))
    for lap in laps:
        assert said(lap) == expected
        assert not left(place, lap)
    for role, count in counts.items():
        tried(count, f"kill -9 of {NAMES.get(role, role)}")
    return laps


REPRODUCE = ["make", "reproduce", "SCALE=tiny", "STUDIES=small"]


def test_workflow(place: Place, tmp_path: Path, tried: Callable[..., None]) -> None:
    check(place, tmp_path / "runs", REPRODUCE, ["kernel", "cell", "Snakemake"], KILLS - KILLS // 2, tried)


def test_clock_set_back(place: Place, tmp_path: Path, tried: Callable[..., None]) -> None:
    """All that is there is from the future: what is missing is done again, nothing else, and nothing is lost."""
    assert place.start(tmp_path / "runs", *REPRODUCE).wait(300) == 0
    scale = tmp_path / "runs" / "tiny"
    before = {path: path.read_bytes() for path in (scale / "records").rglob("*.json")}
    for path in scale.rglob("*"):
        os.utime(path, (2**31, 2**31))
    (gone, *others) = sorted((scale / "notebooks").rglob("*.ipynb"))
    executed = {path: path.read_bytes() for path in others}
    gone.unlink()
    (scale / "figures" / "small" / "done").unlink()
    assert place.start(tmp_path / "runs", *REPRODUCE).wait(300) == 0, (place.temporary / "stderr").read_text()
    assert gone.is_file() and executed == {path: path.read_bytes() for path in others}
    assert before == {path: path.read_bytes() for path in (scale / "records").rglob("*.json")}
    tried(1, "clock set back")


def test_a_dead_kernel_is_one_sentence(place: Place, tmp_path: Path, tried: Callable[..., None]) -> None:
    command = [sys.executable, "-m", "mtlkit", "run", "toy_regression", "-p", "epochs", "500"]
    process = place.start(tmp_path / "runs", *command)
    while not list(tmp_path.rglob("runs/checkpoints/*.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    (kernel,) = place.processes(ROLES["kernel"])
    os.kill(kernel, signal.SIGKILL)
    assert process.wait(60) == 1
    said = (place.temporary / "stderr").read_text()
    assert "Traceback" not in said and said.splitlines()[-1].startswith("mtlkit: the kernel of toy_regression is gone")
    assert not list(tmp_path.rglob("runs/*.ipynb")) and not list(place.temporary.glob("mtlkit-*"))
    tried(1, "kill -9 of the kernel")


def test_notebook_alone(place: Place, tmp_path: Path, tried: Callable[..., None]) -> None:
    command = [sys.executable, "-m", "papermill", "notebooks/toy_regression.ipynb", str(tmp_path / "out.ipynb"),
               "-f", "params/toy_regression.tiny.yaml", "-p", "seeds", "0-1"]  # fmt: skip
    check(place, tmp_path / "runs", command, ["kernel", "Papermill"], KILLS // 2, tried)
