"""The environment is described once, and every file that leans on the description agrees with it."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# torch 2.x goes with torchvision 0.(x+15), with the same patch number.
TORCHVISION_MINOR_AHEAD = 15


def canonical(name: str) -> str:
    """A package name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.fixture(scope="module")
def pins(environment: dict) -> list[str]:
    sections = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert len(sections) == 1, "environment.yml has one pip section"
    return sections[0]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_part_is_python_and_pip(environment: dict, project: dict) -> None:
    assert set(environment) == {"name", "channels", "dependencies"}
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert conda == [f"python{project['requires-python']}", "pip"]
    assert isinstance(environment["dependencies"][-1], dict), "conda wants the pip section last"


def test_every_pin_is_exact_and_in_order(pins: list[str]) -> None:
    loose = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==\d+(\.\d+)*", pin)]
    assert not loose, f"not of the form name==version: {loose}"
    names = [canonical(pin.split("==")[0]) for pin in pins]
    assert names == sorted(set(names))


def test_torch_and_torchvision_match(pins: list[str]) -> None:
    versions = dict(pin.split("==") for pin in pins)
    _, minor, patch = versions["torch"].split(".")
    assert versions["torchvision"] == f"0.{int(minor) + TORCHVISION_MINOR_AHEAD}.{patch}"


def test_installed_versions_are_the_pinned_ones(pins: list[str]) -> None:
    installed = {pin: version(pin.split("==")[0]).split("+")[0] for pin in pins}
    differing = {pin: found for pin, found in installed.items() if pin.split("==")[1] != found}
    assert not differing


def test_project_names_what_is_pinned_and_no_version(pins: list[str], project: dict) -> None:
    named = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    assert sorted(named) == sorted(pin.split("==")[0] for pin in pins)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_makefile_reads_exactly_the_pins(pins: list[str], tmp_path: Path) -> None:
    def extracted(folder: Path) -> list[str]:
        command = ["make", "--silent", "--no-print-directory", "pins"]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()

    assert extracted(ROOT) == pins
    shutil.copy(ROOT / "Makefile", tmp_path)
    lines = ["dependencies:", "  - pip==26.3", "  - pip:", "    # - a==1", "    - b==2.0  # why", "    - c_d.e==3"]
    (tmp_path / "environment.yml").write_text("\n".join(lines) + "\n")
    assert extracted(tmp_path) == ["b==2.0", "c_d.e==3"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_makefile_installs_once(tmp_path: Path) -> None:
    """A finished environment is left alone until one of the two files that describe it is newer."""

    def plan() -> str:
        return subprocess.run(["make", "-n", "test"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for name in ("Makefile", "environment.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    assert "pip install" in plan()
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    assert "pip install" not in plan()
    later = stamp.stat().st_mtime_ns + 10**9
    for name in ("environment.yml", "pyproject.toml"):
        before = (tmp_path / name).stat()
        os.utime(tmp_path / name, ns=(later, later))
        assert "pip install" in plan(), name
        os.utime(tmp_path / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_door_has_its_help_line() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    assert {"run", "test", "figures", "reproduce", "tune", "lab", "bench"} <= phony
    assert phony == set(re.findall(r"^([a-z-]+):.* ## \S", text, re.MULTILINE))


def test_no_file_names_a_machine_path() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git clone to know which files belong to the project")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    # Folders in which people and machines keep clones; a path that goes on from a name, as in a URL, is not absolute.
    clones = r"/(?:home|root|Users|tmp|work|workspace|mnt)/\w|[A-Z]:\\Users|" + re.escape(str(ROOT)) + r"(?!\w)"
    machine_path = re.compile(rf"(?<![\w.)}}])(?:{clones})")
    found = []
    for path in (ROOT / name for name in names if name):
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # an image, or a deletion that is not committed yet
            continue
        found += [f"{path.name}:{text.count(chr(10), 0, hit.start()) + 1}" for hit in machine_path.finditer(text)]
    assert not found


def test_licence_and_citation(project: dict) -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith(f"{project['license']} License")
    assert project["authors"][0]["name"] in licence

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"]
    assert citation["title"] == project["name"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == [{"name": project["authors"][0]["name"]}]
    slgrad, rlw = citation["references"]
    assert slgrad["doi"] == "10.1007/s10489-024-05300-9" and slgrad["url"].endswith("2306.04519")
    assert rlw["url"].endswith("2111.10603")
    for paper in (slgrad, rlw):
        assert {"type", "title", "authors", "journal", "year"} <= set(paper)
        assert all(set(author) == {"given-names", "family-names"} for author in paper["authors"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_use_the_kernel_that_everybody_has(path: Path) -> None:
    assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"


def test_readme_names_the_two_commands() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    for command in ("make run", "make test"):
        assert command in readme.read_text()
