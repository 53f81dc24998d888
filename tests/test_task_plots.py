"""Figures in which every task counts, and box plots: they show the numbers of the records and keep text apart."""

import numpy as np
import pytest

from mtlkit import plots, style, task_plots
from mtlkit.errors import MtlkitError
from mtlkit.every_task import judge
from tests import factory
from tests import task_factory as tasks
from tests.test_plots import assert_texts_apart

NETWORKS = {"hps": tasks.HPS, "mtan": {"label": "MTAN", "network": "mtan"}}
LAWS = ["ew", "rlw", "cagrad", "rlw_cagrad"]


def draw(name: str, study, records):
    return task_plots.gains(records, study) if name == "gains" else task_plots.boxes(records, study, "delta_p")


@pytest.mark.parametrize("name", ["gains", "boxes"])
@pytest.mark.parametrize("conditions", [None, NETWORKS], ids=["one", "two"])
def test_no_text_covers_other_text_or_leaves_the_page(name, conditions):
    study = tasks.study(LAWS, conditions, seeds=3)
    assert_texts_apart(draw(name, study, tasks.records(study)))


def test_gains_show_deltas_and_the_gain_of_every_task():
    study = tasks.study(LAWS, seeds=4)
    records = tasks.records(study)
    frame = judge(records, study).frame.query("arm == 'cagrad'")
    dots, strip = task_plots.gains(records, study).axes
    assert [label.get_text() for label in dots.get_yticklabels()] == ["RLW", "CAGrad", "RLW + CAGrad"]
    assert factory.means(dots)[1] == pytest.approx(frame["delta_p"].mean())
    assert dots.get_xlabel() == "Δp to EW, % ↑"
    shown = {text.get_position(): text.get_text() for text in strip.texts}
    assert len(shown) == 9 and [label.get_text() for label in strip.get_xticklabels()] == list(tasks.TASKS)
    assert shown[1, 1] == f"{frame['depth: gain'].mean():+.1f}"


def test_gains_of_many_tasks_are_not_shown_and_missing_runs_leave_gaps():
    study = tasks.study(["ew", "rlw", "cagrad"], seeds=2)
    many = {f"attribute {k}": {"loss": 0.2, "accuracy": 0.9 - k / 100} for k in range(12)}
    assert len(task_plots.gains(tasks.records(study, tasks=many), study).axes) == 1
    some = [one for one in tasks.records(study) if one["arm"] != "rlw" and (one["arm"], one["seed"]) != ("ew", 0)]
    dots, strip = task_plots.gains(some, study).axes
    assert list(factory.means(dots)) == [0] and len(strip.texts) == 3
    alone = [one for one in some if one["arm"] == "ew"]
    assert [label.get_text() for label in task_plots.gains(alone, study).axes[0].get_yticklabels()] == ["EW"]


def test_the_baseline_has_a_row_where_it_is_compared_over_conditions():
    study = tasks.study(["ew", "rlw"], NETWORKS, seeds=2, delta={"condition": "hps"})
    figure = task_plots.gains(tasks.records(study), study)
    assert [axes.get_title("left") for axes in figure.axes[::2]] == ["HPS", "MTAN"]
    assert [axes.get_xlabel() for axes in figure.axes[::2]] == ["Δp to EW, % ↑", "Δp to EW (HPS), % ↑"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["EW", "RLW"]


def test_boxes_show_every_seed_and_the_median():
    study = tasks.study(LAWS, seeds=7)
    records = tasks.records(study)
    values = judge(records, study).frame.query("arm == 'rlw'").sort_values("seed")["delta_p"].to_numpy()
    (axes,) = task_plots.boxes(records, study, "delta_p").axes
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert dots[0].get_xdata() == pytest.approx(values) and len({round(y, 6) for y in dots[0].get_ydata()}) == 7
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_color() == style.COLOURS[2]]
    assert medians[0] == pytest.approx(np.median(values)) and len(medians) == 3


def test_boxes_of_the_main_tasks_metric():
    study = factory.study(["ew", "rlw_normal"], {"none": factory.CONDITIONS["none"]}, seeds=5)
    records = factory.records(study)
    (axes,) = task_plots.boxes(records, study, "auc").axes
    values = [one["evaluations"][-1]["test"]["auc"] for one in records if one["arm"] == "rlw_normal"]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert dots[1].get_xdata() == pytest.approx(values) and axes.get_xlabel() == "test ROC AUC ↑"
    with pytest.raises(MtlkitError, match=r"metric is 'acu'.*'auc'"):
        task_plots.boxes(records, study, "acu")


def test_files_repeat_themselves(tmp_path):
    study = tasks.study(LAWS, seeds=3)
    for name in ("gains", "boxes"):
        for folder in ("a", "b"):
            paths = plots.save(draw(name, study, tasks.records(study)), tmp_path / folder, name)
        for path in paths:
            assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
