"""What the start page says of data sets and records."""

import json
from pathlib import Path

import pytest

from mtlkit import cli, overview, paths, records
from mtlkit.errors import MtlkitError
from tests import factory


def test_every_data_set_has_a_row_and_a_notebook(tmp_path: Path) -> None:
    frame = overview.data_sets(str(tmp_path))
    assert list(frame["data set"]) == list(overview.DATA_SETS)
    assert set(frame["there"]) == {"no"}
    assert all(said.endswith(", built in") for said in frame["what `source: auto` uses"])
    assert all(frame["how to get it"])
    for notebook, _ in overview.DATA_SETS.values():
        assert (paths.NOTEBOOKS / f"{notebook}.ipynb").is_file()


@pytest.mark.parametrize("name", overview.DATA_SETS)
def test_what_is_said_of_a_missing_data_set(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Where it would be looked for, what is used instead, where it comes from, and how it is prepared."""
    cli.main(["data", "status", name, "--data-root", str(tmp_path)])
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.strip().splitlines())
    assert said["there"] == "no" and said["data set"] == name and said["licence"]
    assert said["looked for"].startswith(f"below {tmp_path}: ")
    assert said["without it"].endswith(", built in") and said["source"].startswith("http")
    assert name in said["how to prepare"] or str(tmp_path) in said["how to prepare"]


def test_a_damaged_data_set_says_so(tmp_path: Path) -> None:
    (tmp_path / "cifar10.npz").write_bytes(b"not an archive")
    row = overview.data_sets(str(tmp_path)).set_index("data set").loc["cifar10"]
    assert row["there"] == "damaged" and "cifar10.npz" in row["how to get it"]


def test_a_misspelt_data_set() -> None:
    with pytest.raises(MtlkitError, match=r"did you mean 'cifar10'"):
        overview.data_set("cifar")


@pytest.fixture
def nothing_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", tmp_path / "committed")
    return tmp_path


def test_studies_without_records_are_listed(nothing_committed: Path) -> None:
    frame = overview.records_there(str(nothing_committed)).set_index("study")
    assert overview.committed() == []
    assert set(frame["records"]) == {"none"} and set(frame["stale"]) == {"–"}
    toy = frame.loc["toy"]
    assert (toy["conditions"], toy["arms"], toy["seeds"], toy["there"]) == (4, 11, 9, "0 of 396")


def test_records_are_counted_against_their_study(nothing_committed: Path) -> None:
    """One that no arm of the study asks for does not count; neither scale takes the other's."""
    folder = nothing_committed / "quick" / "records" / "toy"
    of = {"experiment": "toy_regression", "study": "toy", "condition": "noise_0.2", "arm": "ew"}
    for seed in (0, 1):
        records.write(factory.record(seed=seed) | of, folder / f"{seed}.json")
    records.write(factory.record(seed=0) | of | {"arm": "gone", "code": "older"}, folder / "gone.json")
    frame = overview.records_there(str(nothing_committed)).set_index("study")
    row = frame.loc["toy"]
    assert (row["records"], row["scale"], row["there"]) == ("local", "quick", "2 of 66")
    assert row["stale"] == "1"
    assert row["newest"] == factory.record()["created"][:10]


def test_runs_of_their_own_are_listed(nothing_committed: Path) -> None:
    alone = factory.record(seed=0) | {"study": "", "condition": "", "arm": ""}
    records.write(alone, nothing_committed / "records" / "cifar_flip" / "0.json")
    row = overview.records_there(str(nothing_committed)).iloc[-1]
    assert (row["study"], row["records"], row["there"]) == ("(on its own)", "local", "1 of 1")


def test_the_start_page_links_every_notebook() -> None:
    cells = json.loads((paths.NOTEBOOKS / "start.ipynb").read_text())["cells"]
    text = "".join(line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"])
    others = [path.stem for path in paths.NOTEBOOKS.glob("*.ipynb") if path.stem != "start"]
    assert all(f"[{name}]({name}.ipynb)" in text for name in others)
