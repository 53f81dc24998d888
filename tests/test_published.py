"""Published rows: what is typed agrees with itself, and wrong files are refused."""

from pathlib import Path

import pytest
import yaml

from mtlkit import paths, published, studies
from mtlkit.deltas import delta_m, delta_p
from mtlkit.errors import MtlkitError
from mtlkit.metrics import HIGHER_IS_BETTER
from mtlkit.published import Published
from tests import test_deltas

FILES = {path.stem: published.read(path) for path in sorted((paths.PARAMS / "published").glob("*.yaml"))}
TABLES = [(name, place) for name, tables in FILES.items() for place in range(len(tables))]
WITH_DELTA = [one for one in TABLES if len(columns := FILES[one[0]][one[1]].columns) > 1 and not columns[-1][0]]
WITH_AVERAGE = [one for one in TABLES if one not in WITH_DELTA and FILES[one[0]][one[1]].columns[-1][0]]
KNOWN = {("cityscapes", "DB-MTL paper", "DB-MTL"): 0.12}
"""Rows whose printed delta is not what their printed metrics give, and what these give."""


def table_of(study: str, place: int) -> Published:
    return FILES[study][place]


def parts(table: Published, method: str) -> tuple[dict[str, dict[str, float]], dict[str, list[str]], str]:
    """Metrics by task, names of metrics by task, and the row as it is printed."""
    values, tasks, printed = {}, {}, []
    texts = table.texts()[f"{method} (published)"]
    for key, value in zip(table.columns, table.rows[method], strict=True):
        task, metric = key
        if task:
            values.setdefault(task, {})[metric] = value
            tasks.setdefault(task, []).append(metric)
            printed.append(texts[key])
    return values, tasks, " ".join(printed)


def test_there_are_files_for_the_benchmarks_of_the_paper() -> None:
    assert set(FILES) == {"nyuv2_rlw", "cityscapes", "celeba", "office", "xtreme"}
    rows = {name: [len(table.rows) for table in tables] for name, tables in FILES.items()}
    assert rows["celeba"] == [15] and rows["xtreme"] == [15, 15] and rows["nyuv2_rlw"][0] == 15 + 9
    assert published.load(studies.load("toy")) == []


@pytest.mark.parametrize(("study", "place"), WITH_DELTA)
def test_typed_deltas_are_those_of_the_typed_metrics(study: str, place: int) -> None:
    """As closely as rounding allows: a check of our typing."""
    table = table_of(study, place)
    _, label = table.columns[-1]
    kind, base = {"p": delta_p, "m": delta_m}[label[1]], label[len("Δp to ") :].partition(",")[0]
    theirs, tasks, base_row = parts(table, base)
    assert table.rows[base][-1] == 0
    checked = 0
    for method, row in table.rows.items():
        if None in row:
            continue
        mine, _, printed = parts(table, method)
        expected = KNOWN.get((study, table.name, method), row[-1])
        slack = test_deltas.slack(printed, base_row, per_task=kind is delta_p)
        assert kind(mine, theirs, HIGHER_IS_BETTER, tasks) == pytest.approx(expected, abs=slack), method
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(("study", "place"), WITH_AVERAGE)
def test_typed_averages_are_those_of_the_typed_tasks(study: str, place: int) -> None:
    table = table_of(study, place)
    assert table.columns[-1][0] == "average"
    for method, row in table.rows.items():
        if None not in row and len(row) > 1:
            assert row[-1] == pytest.approx(sum(row[:-1]) / (len(row) - 1), abs=1.01e-4), method
        assert 0.75 < row[-1] < 1, method


@pytest.mark.parametrize(("study", "place"), TABLES)
def test_every_typed_value_is_shown_as_it_is(study: str, place: int) -> None:
    table = table_of(study, place)
    for row, cells in zip(table.rows.values(), table.texts().values(), strict=True):
        shown = [None if text == "–" else float(text.replace("−", "-")) for text in cells.values()]
        assert shown == row and list(cells) == table.columns


def test_rows_that_were_typed_twice_agree() -> None:
    """Those of tests/test_deltas.py were typed on their own."""
    rows = set()
    for study, place in WITH_DELTA:
        rows |= {tuple(row) for row in table_of(study, place).rows.values()}
    for _, row, delta in test_deltas.PER_TASK + test_deltas.PER_METRIC:
        assert (*map(float, row.split()), float(delta)) in rows, row


TABLE = {"name": "a", "source": "b", "data": "c", "columns": {"depth": ["abs_err", "rel_err"]},
         "delta": {"kind": "p", "against": "EW"}, "rows": {"EW": [0.1, 0.2, 0], "RLW": 1.5}}  # fmt: skip


def write(path: Path, entry: dict, **content) -> Path:
    file = path / "x.yaml"
    file.write_text(yaml.safe_dump({"methods": {"EW": "ew"}, "tables": [entry]} | content))
    return file


def test_reading(tmp_path: Path) -> None:
    (table,) = published.read(write(tmp_path, TABLE | {"factor": 0.01}))
    assert table.columns == [("depth", "abs_err"), ("depth", "rel_err"), ("", "Δp to EW, % ↑")]
    assert table.rows == {"EW": [0.001, 0.002, 0], "RLW": [None, None, 1.5]}
    assert table.texts()["RLW (published)"] == dict(zip(table.columns, ["–", "–", "+1.5"], strict=True))
    assert table.texts()["EW (published)"][table.columns[1]] == "0.002"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"depth": ["abs_er"]}}, r"a metric of depth .*'abs_er', which is not .*did you mean 'abs_err'"),
        ({"columns": {"depth": "abs_err"}}, "depth is 'abs_err', which should be a list of metrics"),
        ({"columns": ["abs_err"]}, "columns: .* should be a mapping"),
        ({"rows": {"EW": [0.1, 0]}}, "x.yaml, table 1, EW: 2 values for 3 columns; give all, or the last alone"),
        ({"rows": {"EW": [0.1, "0.2", 0]}}, "EW: '0.2' should be a number"),
        ({"rows": {"EW": [0.1, True, 0]}}, "EW: True should be a number"),
        ({"rows": {"EW": None}}, "EW: None should be a number"),
        ({"rows": {}}, "it has no rows"),
        ({"rows": {"RLW": 1.0}}, "a method .* is 'EW', which is not one of RLW"),
        ({"delta": {"kind": "q", "against": "EW"}}, "kind .* is 'q', which is not one of p, m"),
        ({"delta": {"kind": "p"}}, "delta: against missing"),
        ({"colums": {}}, "'colums', .*did you mean 'columns'"),
        ({"factor": "0.01"}, "factor is '0.01', which should be a number"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(MtlkitError, match=message) as error:
        published.read(write(tmp_path, TABLE | change))
    assert str(error.value).count("\n") == 0


def test_other_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MtlkitError, match="source missing"):
        published.read(write(tmp_path, {key: value for key, value in TABLE.items() if key != "source"}))
    with pytest.raises(MtlkitError, match="it needs columns, or a delta"):
        published.read(write(tmp_path, {"name": "a", "source": "b", "data": "c", "rows": {"EW": 1.0}}))
    with pytest.raises(MtlkitError, match="'rlv', which is not one of"):
        published.read(write(tmp_path, TABLE, methods={"RLW": "rlv"}))
    with pytest.raises(MtlkitError, match="tables should be a list"):
        published.read(write(tmp_path, TABLE, tables={}))
    with pytest.raises(MtlkitError, match="'table', which is not one of methods, tables"):
        published.read(write(tmp_path, TABLE, table=[]))
