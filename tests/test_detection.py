"""The table of detected labels."""

import pytest

from mtlkit.detection import detection_table, of_main, of_tasks
from tests import factory

FOUND = {"task": 0, "weight": 0.8, "weight_within": 0.6, "loss": 0.7, "loss_within": 0.65}


def with_detection(arm: str, seed: int, condition: str = "uniform_0.3", **changes: float) -> dict:
    record = factory.record(arm, condition, seed)
    record["weights"]["detection"] = [FOUND | changes, FOUND | {"task": 3}]
    return record


def test_of_main() -> None:
    record = with_detection("slgrad", 0)
    record["weights"]["histogram"] |= {"clean": [[1, 3], [9, 9]], "flipped": [[3, 1], [9, 9]]}
    assert of_main(record) == {"weight": 0.8, "weight_within": 0.6, "loss_within": 0.65, "recall": 0.75,
                               "false_alarms": 0.25}  # fmt: skip
    assert of_main(factory.record("slgrad", "none") | {"weights": record["weights"] | {"detection": []}}) == {}


def test_table() -> None:
    study = factory.study(["ew", "slgrad"])
    records = [with_detection("slgrad", seed, weight=0.7 + 0.1 * seed) for seed in range(3)]
    records += [with_detection("ew", 0, weight_within=None)]
    table = detection_table(records, study, "desk")
    assert list(table.frame.index) == [("uniform 0.3", "EW"), ("uniform 0.3", "SLGrad, as meant")]
    assert table.frame.loc[("uniform 0.3", "SLGrad, as meant"), "by weight"].startswith("0.800 ±0.248")
    assert table.frame.loc[("uniform 0.3", "EW"), "by weight, within label"] == "–"
    assert table.numbers.query("arm == 'slgrad' and metric == 'weight'")["mean"].item() == pytest.approx(0.8)


def test_no_wrong_labels() -> None:
    record = factory.record("ew", "none", 0)
    record["weights"]["detection"] = []
    assert detection_table([record], factory.study(["ew"]), "desk") is None


def test_a_useless_task_that_is_switched_off() -> None:
    record = factory.record("slgrad", "none")
    assert of_tasks(record) == {}
    record["parameters"]["unrelated"] = "random"
    off, even = [0.5, 0.3, 0.2, 0.0], [0.25] * 4
    record["weights"] |= {"epoch": [4, 8, 12, 13, 16], "task": [even, even, even, off, off]}
    assert of_tasks(record) == pytest.approx({"useless_weight": 0.0, "useful_lead": 1.0})
