"""Every notebook: its form, a smoke run under nbval, and what a user sees who mistypes a parameter."""

import ast
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mtlkit import paths
from mtlkit.weighting import METHODS

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
EXPERIMENTS = [path.stem for path in NOTEBOOKS if "weighting: str" in path.read_text()]
"""Notebooks that train."""


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def papermill(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def last_line(text: str) -> str:
    return [line for line in text.splitlines() if line.strip()][-1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_form(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert 8 <= len(notebook["cells"]) <= 16
    assert notebook["cells"][0]["cell_type"] == "markdown"
    text = json.dumps(notebook)
    assert not re.search(r"/(home|root|tmp|work|Users)/", text), "a machine's path"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert tags(code[0]) == ["parameters"]
    for cell in code[1:]:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 20 and "class " not in source
        assert not re.search(r"""open\(|["']\.\./""", source), "relative paths do not survive Papermill"
    for cell in code:
        compared = "nbval-check-output" in tags(cell)
        assert bool(cell["outputs"]) == compared, "outputs are committed where nbval compares them, and only there"
        assert (cell["execution_count"] is not None) or not compared, "nbval does not compare a cell without a count"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_parameters_cell(path: Path) -> None:
    (cell,) = [cell for cell in cells(path) if tags(cell) == ["parameters"]]
    for line in "".join(cell["source"]).splitlines():
        assert re.fullmatch(r"[a-z_0-9]+: (str|int|float|bool) = \S.*  # .+", line), line
        assert line.count("=") == 1, "Papermill passes over lines with more"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_no_cell_overwrites_a_parameter(path: Path) -> None:
    """In JupyterLab the cell that checks the parameters is run again after others."""
    first, *others = ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]
    names = {node.target.id for node in ast.parse(first).body}
    for source in others:
        stored = [node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)
                  and isinstance(node.ctx, ast.Store)]  # fmt: skip
        assert not names & set(stored), source


def test_nbval(tmp_path: Path) -> None:
    """All notebooks at smoke scale, outputs of marked cells compared."""
    for name in NAMES:
        done = papermill("--prepare-only", paths.NOTEBOOKS / f"{name}.ipynb", tmp_path / f"{name}.ipynb",
                         "-f", paths.PARAMS / f"{name}.smoke.yaml", "-p", "runs", tmp_path / "runs")  # fmt: skip
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-q",
         "--rootdir", tmp_path, "-c", os.devnull, *sorted(tmp_path.glob("*.ipynb"))],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "passed" in done.stdout
    assert len(list((tmp_path / "runs" / "records").rglob("*.json"))) == len(EXPERIMENTS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["-p", "weigthing", "ew"], "MtlkitError: unknown parameter 'weigthing' (did you mean 'weighting'?)."),
        (["-p", "noise", "1.5"], "MtlkitError: noise is 1.5, which is not at least 0 and at most 1."),
    ],
)
def test_a_wrong_parameter_ends_in_one_sentence(given: list[str], sentence: str, tmp_path: Path) -> None:
    done = papermill(paths.NOTEBOOKS / "cifar_flip.ipynb", tmp_path / "out.ipynb", *given,
                     "-p", "runs", tmp_path / "runs")  # fmt: skip
    assert done.returncode != 0
    assert last_line(done.stderr) == sentence
    assert not (tmp_path / "runs").exists(), "nothing ran"


@pytest.mark.slow
def test_missing_real_data(tmp_path: Path) -> None:
    given = ["-p", "source", "real", "-p", "data_root", tmp_path, "-p", "runs", tmp_path / "runs"]
    done = papermill(paths.NOTEBOOKS / "cifar_flip.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert last_line(done.stderr).startswith("MtlkitError: CIFAR-10 is not below")
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    given = ["-f", paths.PARAMS / "toy_regression.smoke.yaml", "-p", "learning_rate", "1e30", "-p", "runs", tmp_path]
    done = papermill(paths.NOTEBOOKS / "toy_regression.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert re.search(r"the loss of task .* was (nan|inf) in epoch 1", last_line(done.stderr))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    given = ["-f", paths.PARAMS / "toy_regression.smoke.yaml", "-p", "runs", tmp_path / "file" / "runs"]
    done = papermill(paths.NOTEBOOKS / "toy_regression.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert "choose another folder" in last_line(done.stderr)


EVERY = ("toy_regression", "cifar_flip")
"""Notebooks in which all methods are tried; in the others, one of every kind."""
KINDS = ("rlw", "slgrad", "rlw+cagrad", "graddrop", "db_mtl", "auto_lambda", "famo")
REFUSED = {
    ("toy_regression", "label_consistency"): "label_consistency needs one-against-rest tasks",
    ("toy_regression", "aligned_selection"): "aligned_selection needs label groups",
    ("office", "graddrop"): "gradients at the representation need a network with `encoder`",
    ("xtreme", "graddrop"): "gradients at the representation need a network with `encoder`",
}
"""Methods that a notebook's data or network cannot have, and how the sentence begins."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_methods_in_notebooks(name: str, tmp_path: Path) -> None:
    """One after the other in one kernel, as in a JupyterLab that stays open: parameters, then all cells below."""
    tried = [*METHODS, "rlw+cagrad"] if name in EVERY else KINDS
    tried = [weighting for weighting in tried if (name, weighting) not in REFUSED]
    smoke = yaml.safe_load((paths.PARAMS / f"{name}.smoke.yaml").read_text())
    notebook = load_notebook_node(str(paths.NOTEBOOKS / f"{name}.ipynb"))
    many = nbformat.v4.new_notebook(metadata=notebook.metadata)
    for weighting in tried:
        given = smoke | {"weighting": weighting, "runs": str(tmp_path)}
        ready = parameterize_notebook(copy.deepcopy(notebook), given)
        many.cells += [cell for cell in ready.cells if cell.cell_type == "code"]
    for number, cell in enumerate(many.cells):
        cell.id = f"cell-{number}"
    nbformat.write(many, tmp_path / "many.ipynb")
    done = papermill(tmp_path / "many.ipynb", tmp_path / "out.ipynb")
    assert done.returncode == 0, done.stderr[-3000:]
    written = [json.loads(record.read_text()) for record in (tmp_path / "records").rglob("*.json")]
    assert sorted(record["parameters"]["weighting"] for record in written) == sorted(tried)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weighting"), REFUSED)
def test_methods_that_a_notebook_cannot_have(name: str, weighting: str, tmp_path: Path) -> None:
    given = ["-f", paths.PARAMS / f"{name}.smoke.yaml", "-p", "weighting", weighting, "-p", "runs", tmp_path]
    done = papermill(paths.NOTEBOOKS / f"{name}.ipynb", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert last_line(done.stderr).startswith(f"MtlkitError: {REFUSED[name, weighting]}")
    assert not list(tmp_path.rglob("*.json"))
