"""Tables in which every task counts: numbers by hand, matching by name, marks, and published rows that never mix."""

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from mtlkit import claims, published, selection, studies
from mtlkit.drawing import draw_study
from mtlkit.errors import MtlkitError
from mtlkit.every_task import judge
from mtlkit.metrics import HIGHER_IS_BETTER
from mtlkit.tables import Table, csv, latex
from mtlkit.task_tables import every_task_tables
from tests import task_factory as factory

NETWORKS = {"hps": factory.HPS, "mtan": {"label": "MTAN", "network": "mtan"}}
ALONE = {task: f"{task}_alone" for task in factory.TASKS}
PAPER = published.Published(
    "a paper", "Somebody, somewhere", "nyuv2-mtan", {"network": "deeplab"}, {"epochs": 300},
    [("segmentation", "miou"), ("depth", "abs_err"), ("", "Δp to EW, % ↑")],
    {"EW": [53.77, 0.3845, 0], "RLW": [54.1, 0.3809, 1.04], "NTKMTL": [None, None, -2.5]}, {"EW": "ew", "RLW": "rlw"},
)  # fmt: skip


@pytest.fixture
def study():
    return factory.study()


@pytest.fixture
def records(study):
    return factory.records(study)


def metrics(record: dict, place: int = -1) -> dict[str, dict[str, float]]:
    """Test metrics by task and metric, without the loss, the obvious way."""
    tasks = zip(record["tasks"], record["evaluations"][place]["test"]["tasks"], strict=True)
    return {task: {name: value for name, value in found.items() if name != "loss"} for task, found in tasks}


def gains(record: dict, base: dict | Mapping[str, dict]) -> dict[str, list[float]]:
    """In per cent of a record, or of one record per task, by task."""
    theirs = metrics(base) if "seed" in base else {task: metrics(one)[task] for task, one in base.items()}
    return {task: [100 * (value / theirs[task][name] - 1) * (1 if HIGHER_IS_BETTER[name] else -1)
                   for name, value in found.items()] for task, found in metrics(record).items()}  # fmt: skip


def delta_p(record: dict, base: dict | Mapping[str, dict]) -> float:
    return float(np.mean([np.mean(some) for some in gains(record, base).values()]))


def of(records: list[dict], arm: str, condition: str = "hps") -> list[dict]:
    return [one for one in records if (one["arm"], one["condition"]) == (arm, condition)]


def cell(values: list[float], digits: int, sign: str = "") -> str:
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return f"{sign}{np.mean(values):.{digits}f} ±{(high - low) / 2:.{digits}f}"


def table(records: list[dict], study, at: str = "last", paper=(), condition: str = "hps") -> Table:
    return every_task_tables(records, study, "desk", at, paper)[condition]


def ours(found: Table) -> pd.DataFrame:
    """Rows for the CSV file without those of papers."""
    return found.numbers if "source" not in found.numbers else found.numbers[found.numbers["source"].isna()]


# Numbers


def test_cells_hold_means_and_intervals_in_the_order_of_the_papers(study, records):
    found = table(records, study)
    assert [head for head in found.frame.columns if head[0]] == [
        ("segmentation", "mIoU, % ↑"), ("segmentation", "pixel accuracy, % ↑"), ("depth", "absolute error ↓"),
        ("depth", "relative error ↓"), ("normals", "mean angle, ° ↓"), ("normals", "median angle, ° ↓"),
        ("normals", "within 11.25°, % ↑"), ("normals", "within 22.5°, % ↑"), ("normals", "within 30°, % ↑"),
    ]  # fmt: skip
    miou = [metrics(one)["segmentation"]["miou"] for one in of(records, "rlw")]
    error = [metrics(one)["depth"]["abs_err"] for one in of(records, "cagrad")]
    assert found.frame.loc["RLW", ("segmentation", "mIoU, % ↑")] == cell(miou, 2)
    assert found.frame.loc["CAGrad", ("depth", "absolute error ↓")] == cell(error, 4)
    row = found.numbers.query("arm == 'rlw' and task == 'segmentation' and metric == 'miou'").iloc[0]
    assert row["mean"] == pytest.approx(np.mean(miou)) and row["n"] == row["expected"] == 5
    assert list(found.frame["", "learning rate"]) == ["0.0001"] * 3 and found.notes == []
    assert "at the last epoch" in found.caption and "nyuv2-mtan" in found.caption


def test_delta_p_is_that_of_the_same_seed(study, records):
    np.random.default_rng(0).shuffle(records)
    base = {one["seed"]: one for one in of(records, "ew")}
    by_hand = [delta_p(one, base[one["seed"]]) for one in of(records, "rlw")]
    found = table(records, study)
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")] == cell(by_hand, 2, "+")
    assert found.frame.loc["EW", ("", "Δp to EW, % ↑")] == "0"
    paired = stats.sem(by_hand)
    assert paired < 0.5 * np.hypot(*(stats.sem([delta_p(one, base[0]) for one in of(records, arm)])
                                     for arm in ("rlw", "ew")))  # fmt: skip


def test_the_loss_does_not_count(study, records):
    before = table(records, study)
    for one in records:
        for task in one["evaluations"][-1]["test"]["tasks"]:
            task["loss"] = 1e6 * (1 + one["seed"])
    assert str(table(records, study)) == str(before)
    assert not any("loss" in name for _, name in before.frame.columns)


def test_gains_of_tasks_make_up_delta_p(study, records):
    frame = judge(records, study).frame
    row = frame.query("arm == 'cagrad' and seed == 3").iloc[0]
    (one,), (base,) = ([some for some in of(records, arm) if some["seed"] == 3] for arm in ("cagrad", "ew"))
    by_hand = {task: np.mean(some) for task, some in gains(one, base).items()}
    assert {task: row[f"{task}: gain"] for task in by_hand} == pytest.approx(by_hand)
    assert row["delta_p"] == pytest.approx(np.mean(list(by_hand.values())))


def test_tasks_are_matched_by_name(study, records):
    """The main task comes first in a record, and which one that is may differ between arms and conditions."""
    expected = table(records, study)
    for one in of(records, "rlw") + of(records, "cagrad")[:2]:
        one["tasks"] = one["tasks"][::-1]
        for evaluation in one["evaluations"]:
            for split in ("test", "tuning"):
                evaluation[split]["tasks"] = evaluation[split]["tasks"][::-1]
    for at in ("last", "tuned"):
        assert str(table(records[::-1], study, at)) == str(table(records, study, at))
    assert str(table(records, study)) == str(expected)


def test_older_records_number_their_tasks(study, records):
    for one in records:
        del one["tasks"]
    found = table(records, study)
    assert [head[0] for head in found.frame.columns if head[0]] == ["task 0"] * 2 + ["task 1"] * 2 + ["task 2"] * 5


def test_tasks_of_one_kind_have_an_average_and_the_study_says_what_counts():
    study = factory.study(delta={"metrics": ["accuracy"]})
    records = factory.records(study, tasks=factory.DOMAINS, variant="office31")
    found = table(records, study)
    heads = [head for head in found.frame.columns if head[0]]
    assert heads == [(task, "accuracy ↑") for task in ("amazon", "dslr", "webcam", "average")]
    means = [np.mean([task["accuracy"] for task in metrics(one).values()]) for one in of(records, "rlw")]
    assert found.frame.loc["RLW", ("average", "accuracy ↑")] == cell(means, 4)
    base = of(records, "ew")
    by_hand = [np.mean([100 * (found["accuracy"] / metrics(base[one["seed"]])[task]["accuracy"] - 1)
                        for task, found in metrics(one).items()]) for one in of(records, "rlw")]  # fmt: skip
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")] == cell(by_hand, 2, "+")
    with pytest.raises(MtlkitError, match="task 'amazon' has none of the metrics that count, miou"):
        table(records, factory.study(delta={"metrics": ["miou"]}))


def test_many_tasks_are_shown_by_their_average_and_written_one_by_one():
    study = factory.study()
    many = {f"attribute {k}": {"loss": 0.2, "accuracy": 0.9 - k / 100} for k in range(12)}
    found = table(factory.records(study, tasks=many), study)
    assert [head for head in found.frame.columns if head[0]] == [("average", "accuracy ↑")]
    assert set(many) < set(found.numbers["task"].dropna())


def test_the_epoch_is_chosen_by_the_mean_over_tasks_of_the_tuning_metric(study, records):
    one = of(records, "rlw")[0]
    for evaluation, losses in zip(one["evaluations"], [(9, 1, 5), (1, 2, 3), (0, 4, 4), (1, 3, 3)], strict=True):
        evaluation["tuning"]["loss"] = losses[0]
        for task, loss in zip(evaluation["tuning"]["tasks"], losses, strict=True):
            task["loss"] = loss
    assert selection.evaluation(one, "tuned", "loss", "all")["epoch"] == 150
    assert selection.evaluation(one, "tuned", "loss")["epoch"] == 225  # the main task alone
    row = judge(records, study, "tuned").frame.query("arm == 'rlw' and seed == 0").iloc[0]
    assert row["epoch"] == 150
    assert row["depth: abs_err"] == pytest.approx(metrics(one, 1)["depth"]["abs_err"])
    assert "best tuning loss, the mean over tasks" in table(records, study, "tuned").caption


def test_a_score_is_better_when_higher_and_an_unknown_one_never_chosen():
    study = factory.study(["ew"], seeds=1, tuning={"metric": "accuracy"})
    (one,) = factory.records(study, tasks=factory.DOMAINS)
    for evaluation, score in zip(one["evaluations"], [0.5, 0.9, 0.7, None], strict=True):
        evaluation["tuning"]["tasks"][1]["accuracy"] = score
    assert judge([one], study, "tuned").frame["epoch"].iloc[0] == 150


def test_what_cannot_be_chosen_or_judged(study, records):
    with pytest.raises(MtlkitError, match=r"by \(depth\) is 'miou', which is not one of loss, abs_err, rel_err"):
        table(records, factory.study(tuning={"metric": "miou"}), "tuned")
    del records[0]["evaluations"][0]["tuning"]["tasks"]
    assert table(records, study).frame.shape[0] == 3
    with pytest.raises(MtlkitError, match="ew, seed 0: only the main task was judged; run it with judged: all"):
        table(records, study, "tuned")
    with pytest.raises(MtlkitError, match="no records"):
        every_task_tables([], study, "desk")


# Other baselines


def test_a_condition_may_be_the_baseline_of_all():
    study = factory.study(conditions=NETWORKS, delta={"condition": "hps"})
    records = factory.records(study)
    base = of(records, "ew")
    by_hand = [delta_p(one, base[one["seed"]]) for one in of(records, "rlw", "mtan")]
    frame = table(records, study, condition="mtan").frame
    assert frame.loc["RLW", ("", "Δp to EW (HPS), % ↑")] == cell(by_hand, 2, "+")
    assert frame.loc["EW", ("", "Δp to EW (HPS), % ↑")] != "0"
    assert table(records, study).frame.loc["EW", ("", "Δp to EW, % ↑")] == "0"
    own = [delta_p(one, of(records, "ew", "mtan")[one["seed"]]) for one in of(records, "rlw", "mtan")]
    found = table(records, factory.study(conditions=NETWORKS), condition="mtan")
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")] == cell(own, 2, "+")


def test_single_task_arms_are_a_baseline_by_task_and_show_their_own_task_alone():
    study = factory.study(["ew", "rlw", *ALONE.values()], delta={"single_task": ALONE})
    records = factory.records(study)
    found = table(records, study)
    bases = [{task: of(records, arm)[seed] for task, arm in ALONE.items()} for seed in range(5)]
    p = [delta_p(one, bases[one["seed"]]) for one in of(records, "rlw")]
    m = [-np.mean([*chain(*gains(one, bases[one["seed"]]).values())]) for one in of(records, "rlw")]
    sign = ["+" if np.mean(some) > 0 else "" for some in (m, p)]
    assert found.frame.loc["RLW", ("", "Δm to one network per task, % ↓")] == cell(m, 2, sign[0])
    assert found.frame.loc["RLW", ("", "Δp to one network per task, % ↑")].replace("−", "-") == cell(p, 2, sign[1])
    alone = found.frame.loc["depth alone"]
    assert alone["depth"].str.contains("±").all() and (alone["normals"] == "").all()
    assert alone["", "Δp to EW, % ↑"] == "" and "Δm: loss" in found.caption


# Marks


def test_missing_seeds_are_marked_and_named_and_deltas_need_both_sides(study, records):
    records = [one for one in records if (one["arm"], one["seed"]) not in (("ew", 0), ("rlw", 4))]
    found = table(records, study)
    assert found.frame.loc["EW", ("depth", "relative error ↓")].endswith(" (4/5)")
    assert found.frame.loc["RLW", ("depth", "relative error ↓")].endswith(" (4/5)")
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")].endswith(" (3/5)")
    assert found.frame.loc["CAGrad", ("", "Δp to EW, % ↑")].endswith(" (4/5)")
    (note,) = found.notes
    assert note.startswith("Incomplete") and "RLW, HPS: seeds 0, 4" in note and "CAGrad, HPS: seed 0" in note


def test_an_arm_without_records_and_one_that_is_not_planned(study, records):
    study.arms["cagrad"]["conditions"] = []
    found = table([one for one in records if one["arm"] == "ew"], study)
    assert list(found.frame.index) == ["EW", "RLW"]
    assert found.frame.loc["RLW", ("segmentation", "mIoU, % ↑")] == "– (0/5)"


def test_stale_records_are_marked_and_mark_the_deltas_to_them(study, records):
    of(records, "ew")[1]["code"] = "old"
    found = table(records, study)
    assert found.frame.loc["EW", ("depth", "relative error ↓")].endswith(" †")
    assert "†" not in found.frame.loc["RLW", ("depth", "relative error ↓")]
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")].endswith(" †")
    assert found.notes == ["† rests on records made with other code than today's."]


def test_no_delta_to_a_baseline_of_zero_or_from_an_unknown_value(study, records):
    of(records, "ew")[2]["evaluations"][-1]["test"]["tasks"][2]["within_11"] = 0.0
    of(records, "rlw")[1]["evaluations"][-1]["test"]["tasks"][0]["miou"] = None
    found = table(records, study)
    assert found.frame.loc["RLW", ("", "Δp to EW, % ↑")].endswith(" (3/5)")
    assert found.frame.loc["RLW", ("segmentation", "mIoU, % ↑")].endswith(" (4/5)")
    assert "Runs without a delta, because a value of the baseline is not above 0: EW; RLW; CAGrad." in found.notes


def test_pairs_must_have_seen_the_same_data(study, records):
    of(records, "rlw")[3]["data"] |= {"checksum": "f" * 16}
    with pytest.raises(MtlkitError, match="hps: rlw and ew did not see the same data with seed 3"):
        table(records, study)


# Published rows


def test_published_rows_stand_below_and_say_so(study, records):
    plain, found = table(records, study), table(records, study, paper=[PAPER])
    assert list(found.frame.index) == ["EW", "RLW", "CAGrad", "a paper:", "EW (published)", "RLW (published)",
                                       "NTKMTL (published)"]  # fmt: skip
    pd.testing.assert_frame_equal(found.frame.iloc[:3], plain.frame)
    assert (found.frame.loc["a paper:"] == "").all()
    row = found.frame.loc["RLW (published)"]
    assert row["segmentation", "mIoU, % ↑"] == "54.10" and row["", "Δp to EW, % ↑"] == "+1.04"
    assert row["segmentation", "pixel accuracy, % ↑"] == row["", "learning rate"] == ""
    assert found.frame.loc["NTKMTL (published)", ("depth", "absolute error ↓")] == "–"
    assert found.notes == ["a paper, published: Somebody, somewhere."]
    assert "published" in latex(found, "x") and r"$\Delta$p" in latex(found, "x")


def test_differences_to_published_values_are_in_the_csv_file(study, records):
    found = table(records, study, paper=[PAPER])
    pd.testing.assert_frame_equal(ours(found)[table(records, study).numbers.columns], table(records, study).numbers)
    theirs = found.numbers[found.numbers["source"].notna()].set_index(["arm", "metric"])
    miou = np.mean([metrics(one)["segmentation"]["miou"] for one in of(records, "rlw")])
    assert theirs.loc[("RLW", "miou"), "mean"] == 54.1
    assert theirs.loc[("RLW", "miou"), "difference"] == pytest.approx(miou - 54.1)
    delta = np.mean([delta_p(one, base) for one, base in zip(of(records, "rlw"), of(records, "ew"), strict=True)])
    assert theirs.loc[("RLW", "Δp to EW, % ↑"), "difference"] == pytest.approx(delta - 1.04)
    assert np.isnan(theirs.loc[("NTKMTL", "Δp to EW, % ↑"), "difference"])
    assert "Somebody" in csv(found)


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        ({"variant": "nyuv2-jpeg"}, "data nyuv2-mtan there, nyuv2-jpeg here"),
        ({"parameters": {"epochs": 20}}, "epochs 300 there, 20 here"),
        ({"parameters": {"epochs": None}}, "epochs 300 there, None here"),
    ],
)
def test_other_data_or_settings_are_never_compared(study, records, change, apart):
    for one in records:
        one["data"] |= {"variant": change.get("variant", "nyuv2-mtan")}
        one["parameters"] |= change.get("parameters", {})
    found = table(records, study, paper=[PAPER])
    assert found.notes == [f"a paper, published: Somebody, somewhere. Not to be compared with ours: {apart}."]
    assert found.numbers["difference"].isna().all()
    assert set(ours(found)["variant"].dropna()) == {change.get("variant", "nyuv2-mtan")}


def test_an_arm_with_options_is_not_the_published_method(study, records):
    study.arms["rlw"]["law"] = "uniform"
    found = table(records, study, paper=[PAPER])
    assert found.numbers.query("arm == 'RLW'")["difference"].isna().all()
    assert found.numbers.query("arm == 'EW' and metric == 'miou'")["difference"].notna().all()


def test_other_networks_and_tasks_are_not_shown():
    study = factory.study(conditions=NETWORKS)
    records = factory.records(study)
    assert "a paper:" not in table(records, study, paper=[PAPER], condition="mtan").frame.index
    domains = factory.records(factory.study(), tasks=factory.DOMAINS)
    assert "a paper:" not in table(domains, factory.study(), paper=[PAPER]).frame.index


def test_deltas_to_another_baseline_have_a_column_of_their_own(study, records):
    columns = [("", "Δp to one network per task, % ↑")]
    other = published.Published("b", "B", "nyuv2-mtan", {}, {}, columns, {"RLW": [-1.1]}, {"RLW": "rlw"})
    found = table(records, study, paper=[PAPER, other])
    assert found.frame.loc["RLW (published)"].iloc[1][columns[0]] == "−1.1"
    assert found.frame.loc["RLW", columns[0]] == ""
    assert np.isnan(found.numbers.query("source == 'B'")["difference"].iloc[0])


# A whole study


def test_draw_study_writes_these_tables_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published, "load", lambda name: [PAPER])
    study = factory.study(["ew", "rlw"], seeds=3, figures=["boxes"])
    written = [draw_study(study, factory.records(study), tmp_path / name, "desk") for name in ("a", "b")]
    assert {path.stem for path in written[0]} == {"tasks_hps_last", "tasks_hps_tuned", "gains_last", "gains_tuned",
                                                  "boxes_last", "task_weights"}  # fmt: skip
    for one, other in zip(*written, strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes(), one.name
    text = (tmp_path / "a" / "tasks_hps_last.md").read_text()
    assert re.search(r"^\| RLW \(published\) +\| 54\.10", text, re.MULTILINE)


def test_draw_study_shows_the_tuned_epoch_only_where_all_tasks_were_judged(tmp_path: Path):
    study = factory.study(["ew"], seeds=1)
    records = factory.records(study)
    del records[0]["evaluations"][0]["tuning"]["tasks"]
    assert not any("tuned" in path.stem for path in draw_study(study, records, tmp_path, "desk"))


def test_claims_about_all_tasks_compare_deltas(tmp_path: Path) -> None:
    study = factory.study()
    records = factory.records(study)
    comparisons = [{"arm": "cagrad", "against": other, "conditions": "all", "metric": "delta_p", "margin": 0.5}
                   for other in ("ew", "rlw")]  # fmt: skip
    family = {"question": "?", "study": "dense", "scale": "desk", "comparisons": comparisons}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"families": {"one": family}}))
    (table,) = claims.claims(records, path, lambda name: study)
    gains = judge(records, study).frame.pivot(index="seed", columns="arm", values="delta_p")
    assert table.numbers["mean"].to_numpy() == pytest.approx(
        [gains["cagrad"].mean(), (gains["cagrad"] - gains["rlw"]).mean()]
    )
    assert list(table.frame["metric"]) == ["Δp, % ↑"] * 2
    spread = comparisons[1] | {"metric": "spread", "margin": 1e-4}
    path.write_text(yaml.safe_dump({"families": {"one": family | {"comparisons": [spread]}}}))
    (table,) = claims.claims(records, path, lambda name: study)
    away = (gains - gains.median()).abs().mean()
    assert table.numbers["mean"].to_numpy() == pytest.approx([away["cagrad"] - away["rlw"]])
    for record in records:
        for metrics in record["evaluations"][-1]["test"]["tasks"] if record["arm"] == "rlw" else ():
            factor = (0.9, 0.9, 1, 1.1, 1.1)[record["seed"]]
            metrics |= {name: value * (factor if HIGHER_IS_BETTER[name] else 1 / factor)
                        for name, value in metrics.items()}  # fmt: skip
    (table,) = claims.claims(records, path, lambda name: study)
    assert table.numbers["mean"].item() < 0 and list(table.frame["verdict"]) == ["better"]
    for wrong in ("loss", "weight"):
        path.write_text(
            yaml.safe_dump({"families": {"one": family | {"comparisons": [comparisons[0] | {"metric": wrong}]}}})
        )
        with pytest.raises(MtlkitError, match=f"'{wrong}', which is not one of delta_p"):
            claims.load(path, lambda name: study)


def test_published_tables_of_the_experiment_serve_its_studies() -> None:
    languages = studies.load("xtreme_udpos")
    assert [one.where for one in published.load(languages)] == [{"problem": "pawsx"}, {"problem": "udpos"}]
