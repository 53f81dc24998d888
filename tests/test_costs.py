"""Records of what methods cost."""

import json
from pathlib import Path

import pytest

from mtlkit import costs
from mtlkit.errors import MtlkitError
from mtlkit.weighting import METHODS


def test_methods() -> None:
    assert costs.methods("all")[0] == "ew"
    assert set(costs.methods("all")) == set(METHODS) - set(costs.CONTROLS)
    assert costs.methods("slgrad, rlw") == ["ew", "rlw", "slgrad"]
    with pytest.raises(MtlkitError, match=r"methods is 'pcgard'.*did you mean 'pcgrad'"):
        costs.methods("rlw,pcgard")


def test_cells() -> None:
    assert costs.cells("lenet,light_lenet", "2,10", 40) == [("lenet", 2), ("lenet", 10), ("light_lenet", 2),
                                                            ("light_lenet", 10), ("light_lenet", 40)]  # fmt: skip
    assert costs.cells("mlp", "3", 40) == [("mlp", 3)]
    with pytest.raises(MtlkitError, match="networks is 'vgg'"):
        costs.cells("vgg", "2", 0)
    for wrong in ("two", "0", "2,,3"):
        with pytest.raises(MtlkitError, match=f"task_counts is '{wrong}'"):
            costs.cells("mlp", wrong, 0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("runs")
    names = ["ew", "pcgrad", "slgrad", "rotograd", "famo", "auto_lambda"]
    return costs.measure(names, "mlp", 2, 8, seconds=0.0, runs=folder), folder


def test_record(found: tuple[dict, Path]) -> None:
    record, folder = found
    (path,) = (folder / "costs").glob("*.json")
    assert json.loads(path.read_text()).items() >= record.items() and record["kind"] == "cost"
    assert not (folder / "records").exists(), "repeated runs compare what lies there"
    assert list(record["methods"]) == ["ew", "pcgrad", "slgrad", "rotograd", "famo", "auto_lambda"]
    assert record["methods"]["ew"]["time"] == [1, 1, 1] and record["methods"]["ew"]["memory"] == 1
    assert all(cost["repetitions"] >= 3 and cost["ms"] > 0 for cost in record["methods"].values())


def test_table_and_figure(found: tuple[dict, Path]) -> None:
    record, _ = found
    more = record | {"tasks": 5}
    frame = costs.table([record, more])
    assert list(frame.columns) == ["mlp, T=2: time", "mlp, T=2: memory", "mlp, T=5: time", "mlp, T=5: memory"]
    assert frame.loc["ew"].tolist() == [1, 1, 1, 1]
    (ax,) = costs.figure([record, more]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(record["methods"])[1:]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["T = 2", "T = 5"]
