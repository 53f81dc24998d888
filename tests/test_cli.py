"""The command line: what is wrong ends in one sentence on stderr, and what there is, is said by `--help`."""

import json
import re
import sys
from pathlib import Path

import pytest

from mtlkit import cli, paths, records
from mtlkit.arguments import parse
from mtlkit.weighting import METHODS
from tests import factory


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that the command leaves on stderr."""
    return _fails(capsys, 1, *arguments)


def misread(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The same for a command line that cannot be read."""
    return _fails(capsys, 2, *arguments)


def _fails(capsys: pytest.CaptureFixture, code: int, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit:
        cli.main([str(argument) for argument in arguments])
    assert exit.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtlkit: ")
    return line


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs and committed records in a scratch folder, which is where commands start."""
    monkeypatch.setenv("MTLKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", tmp_path / "figures" / "records")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(folder: Path, **changes: object) -> Path:
    """A folder with two records."""
    for seed in (0, 1):
        records.write(factory.record(seed=seed) | changes, folder / "uniform_0.3" / "ew" / f"{seed}.json")
    return folder


def test_misspelt_parameter(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    line = fails(capsys, "run", "cifar_flip", "-p", "wieghting", "ew")
    assert "unknown parameter 'wieghting' (did you mean 'weighting'?)." in line
    assert not list(scratch.iterdir()), "nothing is written"


def test_parameter_file(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    (scratch / "a.yaml").write_text("epoch: 3\n")
    assert "unknown parameter 'epoch' (did you mean 'epochs'?)." in fails(capsys, "run", "cifar_flip", "-f", "a.yaml")
    assert "there is no file b.yaml" in fails(capsys, "run", "cifar_flip", "-f", "b.yaml")
    (scratch / "b.yaml").write_text("a: [")
    assert "b.yaml cannot be read as YAML" in fails(capsys, "run", "cifar_flip", "-f", "b.yaml")
    (scratch / "a.yaml").write_text("[1, 2]")
    assert "a.yaml does not hold `name: value` lines" in fails(capsys, "run", "cifar_flip", "-f", "a.yaml")


def test_unknown_notebook(capsys: pytest.CaptureFixture) -> None:
    assert "there is no notebook 'cifar_filp' (did you mean 'cifar_flip'?)" in fails(capsys, "run", "cifar_filp")


def test_unwritable_output(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    (scratch / "file").touch()
    line = fails(capsys, "run", "cifar_flip", "-p", "epochs", 1, "-o", scratch / "file" / "out.ipynb")
    assert "cannot be written to" in line and "choose another folder" in line


def test_output_that_is_a_folder(capsys: pytest.CaptureFixture, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before the run, not after it."""
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("the notebook was started"))
    (scratch / "folder").mkdir()
    assert "folder" in fails(capsys, "run", "cifar_flip", "-o", scratch / "folder")


def test_names_in_studies(capsys: pytest.CaptureFixture) -> None:
    cell = ("cell", "cifar_flip", "none", "ew", "--scale", "quick", "-o", "x.ipynb")
    for name, place, message in (
        ("cifar_flop", 1, "there is no study 'cifar_flop'"),
        ("nune", 2, "the condition is 'nune', which is not one of none, "),
        ("ow", 3, "the arm is 'ow', which is not one of ew, "),
        ("quik", 5, "has no scale 'quik'"),
    ):
        assert message in fails(capsys, *cell[:place], name, *cell[place + 1 :])
    assert "there is no study" in fails(capsys, "draw", "cifar_flop", "--scale", "quick")
    assert "(did you mean 'quick'?)" in fails(capsys, "draw", "toy", "--scale", "quik")
    assert "make reproduce SCALE=quick STUDIES=toy" in fails(capsys, "draw", "toy", "--scale", "quick")
    assert "takes the rates of study cifar_flip" in fails(capsys, "choose", "sensitivity", "--scale", "desk")
    assert "takes the rates of scale desk" in fails(capsys, "choose", "cifar_flip", "--scale", "quick")
    assert "has all its tuning runs below" in fails(capsys, "choose", "cifar_flip", "--scale", "desk")


def test_show(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    outputs = [{"text": ["one\n", "two\n"]}, {"data": {"text/plain": ["three"]}}]
    cells = [{"metadata": {"tags": ["result"]}, "outputs": outputs}, {"metadata": {}, "outputs": [{"text": "no"}]}]
    (scratch / "done.ipynb").write_text(json.dumps({"cells": cells}))
    cli.main(["show", "done.ipynb"])
    assert capsys.readouterr().out.split() == ["one", "two", "three"]
    assert "there is no file missing.ipynb" in fails(capsys, "show", "missing.ipynb")
    (scratch / "new.ipynb").write_text(json.dumps({"cells": cells[1:]}))
    assert "new.ipynb has no results" in fails(capsys, "show", "new.ipynb")
    (scratch / "done.ipynb").write_text('{"cells"')
    assert "done.ipynb is not an executed notebook" in fails(capsys, "show", "done.ipynb")


def test_unknown_data_set(capsys: pytest.CaptureFixture) -> None:
    line = fails(capsys, "data", "prepare", "cifar")
    assert "the data set is 'cifar', which is not one of cifar10, mnist, nyuv2, cityscapes, pascal_context" in line

    assert "one of cifar10, mnist, " in fails(capsys, "data", "prepare")
    assert "there is no folder nowhere" in fails(capsys, "data", "status", "--data-root", "nowhere")


@pytest.mark.parametrize(("given", "sentence"), [
    ([], "the following arguments are required: COMMAND; `python -m mtlkit --help` says"),
    (["methds"], "(did you mean 'methods'?)"),
    (["data", "stats"], "(did you mean 'status'?); `python -m mtlkit data --help` says"),
    (["data", "status", "--data_root", "x"], "--data_root x (did you mean '--data-root'?)"),
    (["run", "toy_regression", "-p", "weighting=ew"], "such as -p weighting ew; `python -m mtlkit run --help`"),
    (["verify", "HEAD", "--jobs", "0"], "'0' is not a whole number of at least 1"),
])  # fmt: skip
def test_command_line_that_cannot_be_read(given: list[str], sentence: str, capsys: pytest.CaptureFixture) -> None:
    assert sentence in misread(capsys, *given)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example_that_can_be_read(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main([name, "--help"])
    assert exit.value.code == 0
    description, example = re.fullmatch(r"usage: .*?\n\n(.+?)\n\n.*example: python -m mtlkit (.+)",
                                        capsys.readouterr().out, re.DOTALL).groups()  # fmt: skip
    assert len(description.split()) > 5 and description.strip().endswith(".")
    assert parse(example.split()).command == name


def test_a_package_that_is_missing(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of the environment: a sentence that names it."""
    monkeypatch.setitem(sys.modules, "mtlkit.weighting", None)
    assert "is not installed in" in fails(capsys, "methods")


def test_export(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    cli.main(["records", "export", str(stored(scratch / "r")), "-o", "out.csv"])
    assert "16 rows from 2 records written to out.csv" in capsys.readouterr().out
    head, *rows = (scratch / "out.csv").read_text().splitlines()
    assert len(rows) == 16 and {"seed", "epoch", "test_auc", "stale"} <= set(head.split(","))


def test_export_of_nothing_or_to_nowhere(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    assert "there are no records below nowhere" in fails(capsys, "records", "export", "nowhere")
    stored(scratch / "r")
    assert "missing" in fails(capsys, "records", "export", "r", "-o", "missing/out.csv")
    (scratch / "r" / "broken.json").write_text("{")
    assert "broken.json is not a record" in fails(capsys, "records", "export", "r")


def test_adopt_replaces_the_committed_records(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    old = scratch / "figures" / "records" / "cifar_flip" / "none" / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    stored(scratch / "r")
    cli.main(["records", "adopt", "r"])
    assert "2 records adopted in figures/records/cifar_flip" in capsys.readouterr().out
    assert not old.exists()
    assert len(records.read(paths.COMMITTED_RECORDS / "cifar_flip")) == 2
    assert [p.name for p in paths.COMMITTED_RECORDS.iterdir()] == ["cifar_flip"]


def test_adopt_refuses_what_belongs_to_no_single_study(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    assert "belongs to no study" in fails(capsys, "records", "adopt", stored(scratch / "r", study=""))
    stored(scratch / "s" / "a")
    stored(scratch / "s" / "b", study="other")
    assert "other" in fails(capsys, "records", "adopt", scratch / "s")
    assert not paths.COMMITTED_RECORDS.exists()


def test_a_large_record_is_kept_but_not_adopted(capsys: pytest.CaptureFixture, scratch: Path) -> None:
    records.write(factory.record(train_loss=[0.123456] * 30_000), scratch / "r" / "large.json")
    said = fails(capsys, "records", "adopt", "r")
    assert re.search(r"large\.json has \d+ bytes, a committed record at most 250000; .*`evaluations`", said)
    assert not paths.COMMITTED_RECORDS.exists()


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("-0.5", -0.5), ("1e-3", 1e-3), ("0-8", "0-8"), ("0,2", "0,2"),
                                             ("false", "false"), ("slgrad", "slgrad"), ("", "")])  # fmt: skip
def test_literals(text: str, value: object) -> None:
    assert cli._literal(text) == value


def test_methods(capsys: pytest.CaptureFixture) -> None:
    cli.main(["methods"])
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == list(METHODS)
    assert all(len(line.split()) > 3 for line in shown), "each has a first line that says something"
    cli.main(["methods", "cagrad"])
    assert "rescale: int = 1" in capsys.readouterr().out
    assert "did you mean 'cagrad'" in fails(capsys, "methods", "cagrod")


def test_every_method_stands_in_the_readme() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"`{name}`" in text for name in METHODS)
