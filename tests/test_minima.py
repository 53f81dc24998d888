"""Sharpness at equal training loss, from records."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mtlkit import claims, minima
from mtlkit.drawing import draw_study
from mtlkit.errors import MtlkitError
from tests import factory
from tests.test_plots import assert_texts_apart

ARMS = ["ew", "rlw_normal"]
CONDITIONS = {name: factory.CONDITIONS[name] for name in ("none", "uniform_0.3")}


def curve(factor: float, last: float, points: int = 8) -> list[dict[str, float]]:
    """Training loss from 1 to `last`, sharpness `factor / loss`."""
    return [{"loss": float(loss), "sharpness": float(factor / loss)} for loss in np.geomspace(1, last, points)]


def measured(study, last: float = 0.05) -> list[dict]:
    """Random weights have half the sharpness, and stop at twice the training loss."""
    found = factory.records(study)
    for one in found:
        ew = one["arm"] == "ew"
        luck = 1 + 0.02 * one["seed"]
        points = curve(0.01 * luck * (1 if ew else 0.5), last * (1 if ew else 2))
        for entry, here in zip(one["evaluations"], points, strict=True):
            entry["training"] = here
    return found


@pytest.fixture
def study():
    return factory.study(ARMS, CONDITIONS, seeds=5)


def test_the_lowest_loss_that_both_have_reached_counts() -> None:
    here, there = (minima.path({"evaluations": [{"training": point} for point in points]})
                   for points in (curve(0.03, 0.01), curve(0.01, 0.2, points=5)))  # fmt: skip
    assert minima.at_equal_loss(here, there) == pytest.approx(np.log2(3))
    assert minima.at_equal_loss(there, here) == pytest.approx(-np.log2(3))


def test_a_run_that_was_past_that_loss_from_the_start_cannot_be_compared() -> None:
    early, late = np.log2([[0.1, 1], [0.05, 2]]), np.log2([[1, 1], [0.5, 2]])
    assert np.isnan(minima.at_equal_loss(early, late))
    assert minima.at_equal_loss(late, late) == 0


def test_sharpness_that_is_not_above_zero_is_none() -> None:
    flat = minima.path({"evaluations": [{"training": {"loss": 0.5, "sharpness": -1e-9}}]})
    assert np.isnan(flat[0, 1]) and flat[0, 0] == -1
    assert np.isnan(minima.at_equal_loss(flat, flat))


def test_table_and_claim_say_the_same_and_mark_what_is_missing(study, tmp_path: Path) -> None:
    some = [one for one in measured(study) if (one["arm"], one["seed"]) != ("rlw_normal", 3)]
    table = minima.sharpness_table(some, study, "desk")
    ratio = ("no noise", "log₂ of its ratio to EW at equal training loss ↓")
    assert table.frame.loc["EW", ratio] == "0"
    assert table.frame.loc["RLW, normal", ratio] == "−1.00 ±0.00 (4/5)"
    assert "RLW, normal, no noise: seed 3" in table.notes[0]
    comparison = {"arm": "rlw_normal", "against": "ew", "conditions": "all", "metric": "sharpness", "margin": 0.1}
    family = {"question": "?", "study": study.name, "scale": "desk", "comparisons": [comparison]}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"families": {"flat": family}}))
    (found,) = claims.claims(measured(study), path, lambda name: study)
    assert found.numbers["mean"].to_numpy() == pytest.approx([-1, -1])
    assert list(found.frame["verdict"]) == ["better"] * 2 and set(found.frame["seeds"]) == {"5/5"}


def test_runs_that_saw_other_data_are_refused(study) -> None:
    some = measured(study)
    some[0]["data"] = some[0]["data"] | {"checksum": "other"}
    with pytest.raises(MtlkitError, match="did not see the same data with seed 0"):
        minima.differences(some, "none", "rlw_normal", "ew")


def test_figure_shows_the_path_of_every_method(study) -> None:
    figure = minima.sharpness_figure(measured(study), study)
    assert_texts_apart(figure)
    line = next(line for line in figure.axes[0].lines if line.get_label() == "EW")
    assert line.get_xdata() == pytest.approx(np.geomspace(1, 0.05, 8))
    assert line.get_ydata()[-1] == pytest.approx(0.2 * np.exp(np.mean(np.log(1 + 0.02 * np.arange(5)))))


def test_only_studies_that_measured_it_draw_it(study, tmp_path: Path) -> None:
    without, with_it = (draw_study(study, records, tmp_path / name, "desk")
                        for name, records in (("a", factory.records(study)), ("b", measured(study))))  # fmt: skip
    assert {path.stem for path in with_it} - {path.stem for path in without} == {"sharpness"}
