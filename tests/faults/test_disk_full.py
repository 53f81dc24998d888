"""Whatever is written is there whole or not at all when the disk is full, and one sentence says so."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtlkit import cli, paths, plots, records, style, tables, training, tuning
from mtlkit.data import sources, stored
from mtlkit.errors import MtlkitError
from mtlkit.studies import Study
from tests import factory
from tests.faults.disk import full
from tests.test_experiment import ROOT, run, stop_at
from tests.test_tuning import grid, study, write_runs

__all__ = ["study"]  # a fixture

Tried = Callable[..., None]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(what: Callable[[], object], folder: Path, sizes: tuple[int, ...]) -> None:
    """`what` ends in one sentence on disks with so many bytes left, and `folder` is as it was before."""
    before = files(folder)
    for left in sizes:
        with full(left), pytest.raises(MtlkitError) as info:
            what()
        assert "\n" not in str(info.value) and "too large" in str(info.value), info.value
        assert files(folder) == before


@pytest.mark.faults("disk full while a record is written")
def test_record(tmp_path: Path, tried: Tried) -> None:
    path, made = tmp_path / "x.json", records.rounded(factory.record())
    records.write(made | {"seed": 1}, path)
    refused(lambda: records.write(made, path), tmp_path, (0, 1, 100, 4096))
    records.write(made, path)
    assert records.load(path) == made
    tried(4)


@pytest.mark.faults("disk full while a record is written")
def test_record_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = run(tmp_path / "whole")
    with full(500), pytest.raises(MtlkitError, match=r"the record cannot be written to .*parameter `runs`"):
        run(tmp_path / "r")
    assert not files(tmp_path / "r")
    assert records.comparable(run(tmp_path / "r")) == records.comparable(expected)


@pytest.mark.faults("disk full while a checkpoint is written")
def test_checkpoint(tmp_path: Path, tried: Tried, capsys: pytest.CaptureFixture) -> None:
    expected = run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, 15)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "r")
    assert len(before := files(tmp_path / "r")) == 1, "the checkpoint"
    sizes = (0, 100, 5000, 10_000)
    for left in sizes:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(training.Run.fit.__kwdefaults__, "every", -1.0)
            with full(left), pytest.raises(MtlkitError, match="the checkpoint cannot be written to") as info:
                run(tmp_path / "r")
        assert "\n" not in str(info.value)
        assert files(tmp_path / "r") == before, "the checkpoint before is still there, and nothing else"
    capsys.readouterr()
    assert records.comparable(run(tmp_path / "r")) == records.comparable(expected)
    assert "resumed after epoch 2 of 5" in capsys.readouterr().out
    tried(len(sizes))


@pytest.mark.faults("disk full while a data set is prepared")
def test_prepared_set(tmp_path: Path, tried: Tried, capsys: pytest.CaptureFixture) -> None:
    origin = tmp_path / "source"
    origin.write_text("four images")
    label = sources.Field("label", "segmentation", np.int8, classes=3)
    items = {split: [{"image": f"image {k}", "seed": k} for k in range(2)] for split in ("train", "test")}

    def read(item: sources.Item) -> dict[str, np.ndarray]:
        random = np.random.default_rng(item["seed"])
        return {"image": random.integers(0, 256, (6, 8, 3), dtype=np.uint8), "label": random.integers(0, 3, (6, 8))}

    source, folder = sources.Source("small", (label,), items, read, [origin]), tmp_path / "prepared"
    folder.mkdir()
    refused(lambda: stored.prepare(source, (6, 8), folder), folder, (0, 100, 150, 250))
    assert len(stored.open_prepared(stored.prepare(source, (6, 8), folder)).of["train"]["image"]) == 2
    tried(4)


@pytest.mark.faults("disk full while tables, figures or tuned rates are written")
def test_tables_and_figures(tmp_path: Path, tried: Tried) -> None:
    table = tables.Table(pd.DataFrame({"a": ["1" * 50]}))
    figure, _ = style.panels(1, 1, 1, 1)
    refused(lambda: tables.write_table(table, tmp_path, "t"), tmp_path, (0, 10))
    refused(lambda: plots.save(figure, tmp_path, "f"), tmp_path, (0, 100))
    tables.write_table(table, tmp_path, "t")
    plots.save(figure, tmp_path, "f")
    assert sorted(files(tmp_path)) == ["f.pdf", "f.png", "t.csv", "t.md", "t.tex"]
    tried(4)


@pytest.mark.faults("disk full while tables, figures or tuned rates are written")
def test_tuned_rates(study: Study, tmp_path: Path, tried: Tried) -> None:
    for arm in study.tuned_arms("desk"):
        write_runs(tmp_path / "r", arm, grid(0.5, 0.4, 0.3, 0.6))
    tuning.choose(study, "desk", tmp_path / "r")
    refused(lambda: tuning.choose(study, "desk", tmp_path / "r"), paths.PARAMS, (0, 100))
    tried(2)


@pytest.mark.faults("disk full while records are adopted or exported")
def test_adopted_records(tmp_path: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
                         ) -> None:  # fmt: skip
    committed = tmp_path / "committed"
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", committed)
    for folder in ("r", "committed/cifar_flip"):
        records.write(records.rounded(factory.record(seed=3)), tmp_path / folder / "x.json")
    before = files(tmp_path)
    for arguments in (["adopt", tmp_path / "r"], ["export", tmp_path / "r", "-o", tmp_path / "out.csv"]):
        with full(100), pytest.raises(SystemExit) as ended:
            cli.main(["records", *map(str, arguments)])
        said = capsys.readouterr().err
        assert ended.value.code == 1 and said.startswith("mtlkit: ") and said.count("\n") == 1
        assert files(tmp_path) == before
    tried(2)


@pytest.mark.slow
@pytest.mark.faults("disk full while a notebook is executed")
def test_notebook(tmp_path: Path) -> None:
    code = ("import sys; from mtlkit import cli; from tests.faults.disk import full\n"
            "with full(20_000): cli.main(sys.argv[1:])")  # fmt: skip
    given = ["run", "toy_regression", "-f", paths.PARAMS / "toy_regression.smoke.yaml", "-o", tmp_path / "out.ipynb"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, given), "-p", "runs", str(tmp_path / "runs")],
                          cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("mtlkit: ") and "cannot" in done.stderr.splitlines()[-1]
    assert not [name for name in files(tmp_path) if "out" in name or "part" in name], "no half notebook"
