"""Tables and claims: what is counted, what is marked, what is refused, and that files repeat themselves."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from mtlkit import claims, plots, report, selection, statistics, tables
from mtlkit.drawing import draw_study
from mtlkit.errors import MtlkitError
from mtlkit.tables import Table, latex, markdown, write_table
from tests import factory

ARMS = ["ew", "slgrad", "ew_shares_ref"]
TWO = {name: factory.CONDITIONS[name] for name in ("uniform_0.3", "background_0.6")}
UNIFORM = {"uniform_0.3": factory.CONDITIONS["uniform_0.3"]}


@pytest.fixture
def study():
    return factory.study(ARMS, TWO)


@pytest.fixture
def records(study):
    return factory.records(study)


def last(records: list[dict], arm: str, condition: str, metric: str) -> list[float]:
    """Test metric of the last epoch by seed, the obvious way."""
    mine = [one for one in records if (one["arm"], one["condition"]) == (arm, condition)]
    return [one["evaluations"][-1]["test"][metric] for one in sorted(mine, key=lambda one: one["seed"])]


def without(records: list[dict], arm: str, condition: str, seeds: list[int]) -> list[dict]:
    return [one for one in records if (one["arm"], one["condition"]) != (arm, condition) or one["seed"] not in seeds]


# Which records count


def test_tuned_epoch_is_chosen_by_the_tuning_metric_and_never_by_test():
    record = factory.record()
    for one, tuning, test in zip(
        record["evaluations"], [5, 3, 1, 1, 4, 4, 4, 4], [8, 7, 6, 5, 4, 3, 2, 1], strict=True
    ):
        one["tuning"]["loss"], one["test"]["loss"] = tuning, test
    assert selection.evaluation(record, "last")["epoch"] == 40
    assert selection.evaluation(record, "tuned")["epoch"] == 15  # the first of the best
    for one in record["evaluations"]:
        one["test"]["loss"] = -one["test"]["loss"]
    assert selection.evaluation(record, "tuned")["epoch"] == 15


def test_tuned_epoch_knows_which_way_is_better():
    record = factory.record()
    for one, auc in zip(record["evaluations"], [0.5, 0.6, 0.9, 0.8, 0.7, 0.7, 0.7, None], strict=True):
        one["tuning"]["auc"] = auc
    assert selection.evaluation(record, "tuned", "auc")["epoch"] == 15


def test_unknown_epoch_rule():
    with pytest.raises(MtlkitError, match="best"):
        selection.evaluation(factory.record(), "best")


def test_a_fresh_record_replaces_a_stale_one():
    stale, fresh = factory.record(loss=0.9, code="old"), factory.record(loss=0.4, id="f" * 16)
    assert selection.current([stale, fresh]) == [fresh]


def test_two_records_for_one_seed_are_refused():
    with pytest.raises(MtlkitError, match=r"uniform_0.3 / ew, seed 0 .*aaaa.*bbbb"):
        selection.current([factory.record(id="aaaa"), factory.record(id="bbbb")])


def test_variants_do_not_mix(study, records):
    records[0]["data"] |= {"variant": "digits"}
    with pytest.raises(MtlkitError, match="cifar10-jpeg75, digits"):
        report.table(records, study, "desk", ["loss"])
    groups = selection.by_variant(records)
    assert {name: len(group) for name, group in groups.items()} == {"cifar10-jpeg75": 53, "digits": 1}


def test_only_the_seeds_of_the_scale_count(study, records):
    odd = factory.record(seed=20, loss=99.0)
    assert str(report.table([*records, odd], study, "desk", ["loss"])) == str(
        report.table(records, study, "desk", ["loss"])
    )


# Tables


def test_table_holds_means_and_intervals(study, records):
    table = report.table(records, study, "desk", ["loss", "auc"])
    values = last(records, "slgrad", "background_0.6", "auc")
    low, high = stats.t.interval(0.95, 8, np.mean(values), stats.sem(values))
    cell = table.frame.loc["SLGrad, as meant", ("background 0.6", "ROC AUC ↑")]
    assert cell == f"{np.mean(values):.3f} ±{(high - low) / 2:.3f}"
    row = table.numbers.query("arm == 'slgrad' and condition == 'background_0.6' and metric == 'auc'").iloc[0]
    assert row["mean"] == pytest.approx(np.mean(values)) and row["n"] == row["expected"] == 9
    assert list(table.frame.index) == ["EW", "SLGrad, as meant", "EW, class shares + ref"]
    assert "cifar10-jpeg75" in table.caption and "last epoch" in table.caption and table.notes == []


def test_table_holds_costs(study, records):
    for one in records:
        one["cost"]["seconds_per_step"] = 0.02 if one["arm"] == "ew" else 0.05
        one["parameters"]["learning_rate"] = 0.05 if one["arm"] == "ew" else 0.02
    frame = report.table(records, study, "desk", ["loss"]).frame
    assert list(frame["", "time, × EW"]) == ["1.00", "2.50", "2.50"]
    assert list(frame["", "learning rate"]) == ["0.05", "0.02", "0.02"]


@pytest.mark.parametrize("other", [{"device": "NVIDIA X"}, {"batched_seeds": 9}])
def test_times_of_other_machines_are_not_compared(other, study, records):
    for one in records:
        if one["arm"] == "slgrad":
            one["environment"] |= other
    frame = report.table(records, study, "desk", ["loss"]).frame
    assert frame.loc["SLGrad, as meant", ("", "time, × EW")] == "–"


def test_memory_is_shown_where_it_was_measured(study, records):
    for one in records:
        one["cost"]["peak_memory_mb"] = None
    assert ("", "memory, MB") not in report.table(records, study, "desk", ["loss"]).frame
    records[0]["cost"]["peak_memory_mb"] = 612.4
    assert report.table(records, study, "desk", ["loss"]).frame["", "memory, MB"].iloc[0] == "612"


def test_missing_seeds_are_marked_and_named(study, records):
    records = without(records, "slgrad", "uniform_0.3", [2, 7])
    records = without(records, "ew_shares_ref", "background_0.6", list(range(9)))
    table = report.table(records, study, "desk", ["loss"])
    assert table.frame.loc["SLGrad, as meant", ("uniform 0.3", "loss ↓")].endswith(" (7/9)")
    assert table.frame.loc["EW, class shares + ref", ("background 0.6", "loss ↓")] == "– (0/9)"
    assert table.frame.loc["EW", ("uniform 0.3", "loss ↓")].count("/") == 0
    (note,) = table.notes
    assert "SLGrad, as meant, uniform 0.3: seeds 2, 7" in note
    assert "EW, class shares + ref, background 0.6: all" in note


def test_an_unknown_metric_value_counts_as_missing(study, records):
    records[0]["evaluations"][-1]["test"]["auc"] = None
    table = report.table(records, study, "desk", ["loss", "auc"])
    assert table.frame.loc["EW", ("uniform 0.3", "ROC AUC ↑")].endswith("(8/9)")
    assert "/" not in table.frame.loc["EW", ("uniform 0.3", "loss ↓")]


def test_cells_that_the_study_does_not_run_are_empty_and_not_missing(study, records):
    arms = {name: dict(options) for name, options in study.arms.items()}
    arms["slgrad"]["conditions"] = ["uniform_0.3"]
    study = dataclasses.replace(study, arms=arms)
    records = without(records, "slgrad", "background_0.6", list(range(9)))
    for table in (
        report.table(records, study, "desk", ["loss"]),
        report.difference_table(records, study, "desk", "loss"),
    ):
        assert table.frame.loc["SLGrad, as meant"].filter(like="background").tolist() == [""]
        assert table.notes == []


def test_stale_records_are_marked(study, records):
    records[0]["code"] = "old"
    table = report.table(records, study, "desk", ["loss"])
    assert table.frame.loc["EW", ("uniform 0.3", "loss ↓")].endswith(" †")
    assert "†" not in table.frame.loc["EW", ("background 0.6", "loss ↓")]
    assert table.notes == ["† rests on records made with other code than today's."]
    differences = report.difference_table(records, study, "desk", "loss").frame
    assert (
        differences["uniform 0.3"].str.endswith("†").all() and not differences["background 0.6"].str.contains("†").any()
    )


def test_one_seed_has_no_interval():
    study = factory.study(["ew"], UNIFORM, seeds=1)
    frame = report.table(factory.records(study), study, "desk", ["loss"]).frame
    assert re.fullmatch(r"0\.\d{3}", frame.iloc[0, 0])


def test_digits_follow_the_size_of_the_metric():
    study = factory.study(["ew"], UNIFORM, seeds=1)
    for loss, text in ((123.456, "123"), (12.3456, "12.3"), (0.0123456, "0.0123")):
        assert report.table([factory.record(loss=loss)], study, "desk", ["loss"]).frame.iloc[0, 0] == text


def test_no_records_and_unknown_names(study, records):
    with pytest.raises(MtlkitError, match="no records"):
        report.table([], study, "desk", ["loss"])
    with pytest.raises(MtlkitError, match=r"metric is 'acu'.*'auc'"):
        report.table(records, study, "desk", ["acu"])
    with pytest.raises(MtlkitError, match="baseline is 'ow'"):
        report.difference_table(records, study, "desk", "loss", baseline="ow")


# Differences


def test_differences_are_paired_by_seed(study, records):
    np.random.default_rng(0).shuffle(records)
    table = report.difference_table(records, study, "desk", "loss", margin=0.005)
    pairs = [last(records, arm, "uniform_0.3", "loss") for arm in ("ew_shares_ref", "ew")]
    interval = stats.ttest_rel(*pairs).confidence_interval()
    row = table.numbers.query("arm == 'ew_shares_ref' and condition == 'uniform_0.3'").iloc[0]
    assert (row["mean"] - row["half_width"], row["mean"] + row["half_width"]) == pytest.approx(tuple(interval))
    assert row["p"] == pytest.approx(stats.ttest_rel(*pairs).pvalue)
    cell = table.frame.loc["EW, class shares + ref", "uniform 0.3"]
    assert cell == f"−{-row['mean']:.3f} [−{-interval.low:.3f}, −{-interval.high:.3f}] better"
    assert list(table.frame.index) == ["SLGrad, as meant", "EW, class shares + ref"]
    assert "worse" in table.frame.loc["SLGrad, as meant", "uniform 0.3"]


def test_differences_use_the_seeds_that_both_have(study, records):
    records = without(without(records, "ew", "uniform_0.3", [0]), "slgrad", "uniform_0.3", [8])
    table = report.difference_table(records, study, "desk", "loss", margin=0.005)
    assert table.frame.loc["SLGrad, as meant", "uniform 0.3"].endswith("worse (7/9)")


def test_no_verdict_below_five_seeds_and_none_without_a_margin(study, records):
    few = [one for one in records if one["seed"] < 4]
    cells = report.difference_table(few, study, "desk", "loss", margin=0.005).frame.stack()
    assert cells.str.fullmatch(r"[+−]0\.\d+ \[.*\] \(4/9\)").all()
    assert report.difference_table(records, study, "desk", "loss").frame.stack().str.endswith("]").all()


def test_pairs_must_have_seen_the_same_data(study, records):
    next(one for one in records if one["arm"] == "slgrad" and one["seed"] == 3)["data"]["checksum"] = "f" * 16
    with pytest.raises(MtlkitError, match=r"slgrad and ew .* seed 3"):
        report.difference_table(records, study, "desk", "loss")


# Claims

COMPARISON = {"arm": "ew_shares_ref", "against": "ew", "conditions": "all", "metric": "loss", "margin": 0.005}
FAMILY = {"question": "Does the prior help?", "study": "cifar_flip", "scale": "desk", "comparisons": [COMPARISON]}


def write(path: Path, **families: dict) -> Path:
    path.write_text(yaml.safe_dump({"families": families}))
    return path


def test_claims_are_corrected_within_their_family(tmp_path, study, records):
    comparisons = [COMPARISON, COMPARISON | {"arm": "slgrad", "conditions": ["uniform_0.3"], "metric": "auc"}]
    path = write(tmp_path / "claims.yaml", one=FAMILY | {"comparisons": comparisons}, two=FAMILY)
    first, second = claims.claims(records, path, lambda name: study)
    p = first.numbers["p"]
    assert len(p) == 3 and list(first.numbers["p_holm"]) == pytest.approx(list(statistics.holm(p)))
    pairs = [last(records, arm, "uniform_0.3", "auc") for arm in ("slgrad", "ew")]
    assert p.iloc[2] == pytest.approx(stats.ttest_rel(*pairs).pvalue)
    assert list(first.frame["verdict"]) == ["better", "better", "worse"]
    assert list(second.numbers["p_holm"]) == pytest.approx(list(statistics.holm(second.numbers["p"])))
    assert "Does the prior help?" in first.caption and "3 hypotheses" in first.notes[0]


def test_verdicts_of_claims_rest_on_the_corrected_p_value(tmp_path, study, records):
    gaps = dict(zip(range(9), np.array([1, 2, -1, 3, 1, 2, -1, 2, 1]) * 0.02, strict=True))
    for one in records:
        if one["condition"] == "uniform_0.3":
            one["evaluations"][-1]["test"]["loss"] = 0.3 + gaps[one["seed"]] * (one["arm"] == "slgrad")
    claim = COMPARISON | {"arm": "slgrad", "conditions": ["uniform_0.3"]}
    alone, family = (FAMILY | {"comparisons": [claim] * count} for count in (1, 3))
    path = write(tmp_path / "claims.yaml", alone=alone, family=family)
    first, second = claims.claims(records, path, lambda name: study)
    assert first.numbers["p"].iloc[0] < 0.05 < second.numbers["p_holm"].iloc[0]
    assert list(first.frame["verdict"]) == ["worse"] and set(second.frame["verdict"]) == {"undecided"}


def test_a_claim_without_all_records_counts_and_has_no_verdict(tmp_path, study, records):
    path = write(tmp_path / "claims.yaml", one=FAMILY)
    for gone in (range(9), [4]):  # one that is missing is enough
        there = without(records, "ew", "background_0.6", list(gone))
        (table,) = claims.claims(there, path, lambda name: study)
        assert list(table.frame["seeds"]) == ["9/9", f"{9 - len(gone)}/9"] and table.frame["verdict"].iloc[1] == "–"
        assert table.frame["verdict"].iloc[0] != "–"
        assert table.numbers["p_holm"].iloc[0] == pytest.approx(2 * table.numbers["p"].iloc[0])
    (empty,) = claims.claims([], path, lambda name: study)
    assert list(empty.frame["verdict"]) == ["–", "–"] and "no records yet" in empty.caption


def test_claims_keep_variants_apart(tmp_path, study, records):
    other = factory.records(study, data={"name": "cifar10", "variant": "digits", "checksum": "0"})
    tables = claims.claims(records + other, write(tmp_path / "claims.yaml", one=FAMILY), lambda name: study)
    assert [set(table.numbers["variant"]) for table in tables] == [{"cifar10-jpeg75"}, {"digits"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "ew_share_ref"}, "'ew_shares_ref'"),
        ({"against": "nobody"}, "against"),
        ({"conditions": ["uniform_0.4"]}, "'uniform_0.3'"),
        ({"conditions": "uniform_0.3"}, "list of conditions"),
        ({"metric": "acu"}, "'auc'"),
        ({"margin": -1}, "margin is -1"),
        ({"margin": True}, "margin is True"),
        ({"margn": 0.1}, "'margin'"),
        ({"against": None}, "against"),
        ({"chance": 0.5}, "either against, an arm, or chance"),
    ],
)
def test_wrong_claims_are_refused(tmp_path, study, change, message):
    path = write(tmp_path / "claims.yaml", one=FAMILY | {"comparisons": [COMPARISON | change]})
    with pytest.raises(MtlkitError, match=message):
        claims.load(path, lambda name: study)


def test_detection_against_chance(tmp_path, study, records):
    gaps = np.array([2, 1, 3, 2, 1, 2, 3, 1, 2]) / 100
    for one in records:
        one["weights"]["detection"] = [{"task": 0, "weight": 0.9, "weight_within": 0.5 - gaps[one["seed"]],
                                        "loss_within": 0.8}]  # fmt: skip
    claim = {"arm": "slgrad", "chance": 0.5, "conditions": ["uniform_0.3"], "metric": "weight_within", "margin": 0.01}
    path = write(tmp_path / "claims.yaml", one=FAMILY | {"comparisons": [claim], "exploratory": True})
    (table,) = claims.claims(records, path, lambda name: study)
    assert table.numbers["mean"].iloc[0] == pytest.approx(-gaps.mean())
    assert list(table.frame["verdict"]) == ["worse"] and list(table.frame.index) == ["SLGrad, as meant − 0.5"]
    assert table.notes[0].startswith("Exploratory: written down after a look")
    assert "paired by seed" not in table.caption


def test_less_weight_of_a_useless_task_is_better(tmp_path, study, records):
    for one in records:
        one["parameters"]["unrelated"] = "random"
        one["weights"] |= {"epoch": [8], "task": [[0.4, 0.4, 0.2 + one["seed"] / 1000]]}
    claim = {"arm": "slgrad", "chance": 1, "conditions": ["uniform_0.3"], "metric": "useless_weight", "margin": 0.2}
    path = write(tmp_path / "claims.yaml", one=FAMILY | {"comparisons": [claim]})
    (table,) = claims.claims(records, path, lambda name: study)
    assert table.numbers["mean"].iloc[0] == pytest.approx(3 * 0.204 - 1)
    assert list(table.frame["verdict"]) == ["better"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"claim": "a", "source": "b"}, "either rests_on, a list of families, or why"),
        ({"claim": "a", "source": "b", "why": "c", "rests_on": [{"family": "one"}]}, "either rests_on"),
        ({"claim": "a", "source": "b", "rests_on": [{"family": "won"}]}, "'one'"),
        ({"claim": "a", "rests_on": [{"family": "one"}]}, "source missing"),
        ({"claim": "a", "source": "b", "why": "c", "expects": "no_wrose"}, "'no_worse'"),
    ],
)
def test_wrong_statements_are_refused(tmp_path, entry, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"families": {"one": FAMILY}, "claims": [entry]}))
    with pytest.raises(MtlkitError, match=message):
        claims.statements(path)


@pytest.mark.parametrize("text", ["", "[1]", "families: [1]", "families: {a: {question: b}}", "{"])
def test_files_without_claims_are_refused(tmp_path, text):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(MtlkitError, match="claims"):
        claims.load(tmp_path / "claims.yaml")
    with pytest.raises(MtlkitError, match="cannot be read"):
        claims.load(tmp_path / "missing.yaml")


# Files


def test_markdown_is_a_pipe_table():
    table = Table(
        pd.DataFrame({"a": ["1 | 2"], ("b"): ["x"]}, index=pd.Index(["row"], name="method")), "Caption.", ["Note."]
    )
    caption, body, note = markdown(table).strip().split("\n\n")
    assert (caption, note) == ("Caption.", "Note.")
    header, rule, row = body.splitlines()
    assert header == "| method | a      | b   |" and rule == "|--------|--------|-----|"
    assert row == r"| row    | 1 \| 2 | x   |"
    assert str(table) == markdown(table) and "Caption." in table._repr_html_()


def test_latex_escapes_and_groups(study, records):
    text = latex(report.table(records, study, "desk", ["loss", "auc"]), "results")
    assert r"\multicolumn{2}{c}{uniform 0.3}" in text and r"\cmidrule(lr){2-3}" in text
    assert r"cifar\_flip" in text and r"95 \%" in text and r"$\pm$" in text and r"\label{tab:results}" in text
    assert "±" not in text and "−" not in text and "↓" not in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = re.search(r"\\begin{tabular}{(l+)}", text)[1]
    assert {line.count(" & ") + 1 for line in rows[1:]} == {len(columns)}
    grouped = sum(int(size) for size in re.findall(r"multicolumn{(\d)}", rows[0])) + rows[0].count("&") + 1
    assert grouped - len(re.findall("multicolumn", rows[0])) == len(columns)


def test_written_tables_repeat_themselves_and_read_back(tmp_path, study, records):
    for folder in ("a", "b"):
        table = report.table(factory.records(study), study, "desk", ["loss", "auc"])
        paths = write_table(table, tmp_path / folder, "results")
    assert [path.name for path in paths] == ["results.md", "results.tex", "results.csv"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    numbers = pd.read_csv(paths[2])
    row = numbers.query("arm == 'ew' and condition == 'uniform_0.3' and metric == 'loss'").iloc[0]
    assert row["mean"] == pytest.approx(np.mean(last(records, "ew", "uniform_0.3", "loss")), rel=1e-5)


def test_any_frame_can_be_written(tmp_path):
    paths = write_table(pd.DataFrame({"x": [1.5]}, index=["a"]), tmp_path, "plain", "A caption.")
    assert "A caption." in paths[0].read_text() and paths[2].read_text() == ",x\na,1.5\n"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MtlkitError, match="cannot write the table"):
        write_table(pd.DataFrame({"x": [1]}), tmp_path / "file", "plain")


# A whole study


def test_draw_study_writes_the_same_files_again(tmp_path, study):
    study = factory.study(ARMS, UNIFORM, seeds=5)
    written = [draw_study(study, factory.records(study), tmp_path / name, "desk") for name in ("a", "b")]
    names = {path.name for path in written[0]}
    assert {
        "results_last.md",
        "results_tuned.tex",
        "differences_auc.csv",
        "results_last.png",
        "curves_loss.pdf",
    } <= names
    assert {"flipped_mass.png", "weights.pdf", "task_weights.png", "more_results_last.md"} <= names
    for one, other in zip(*written, strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes(), one.name


def test_draw_study_gives_every_variant_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save", lambda figure, folder, name: [folder / f"{name}.png"])
    study = factory.study(["ew"], {"none": factory.CONDITIONS["none"]}, seeds=1)
    digits = factory.records(study, data={"name": "cifar10", "variant": "digits", "checksum": "0"})
    paths = draw_study(study, factory.records(study) + digits, tmp_path, "desk")
    assert {path.parent.name for path in paths} == {"cifar10-jpeg75", "digits"}
    assert not any(path.stem == "flipped_mass" for path in paths)


def test_draw_study_without_records(tmp_path, study):
    with pytest.raises(MtlkitError, match="no records"):
        draw_study(study, [], tmp_path, "desk")


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(0.26, True, "+0.3"), (-0.26, True, "−0.3"), (0.04, True, "0.0"), (-0.04, True, "0.0"), (0.26, False, "0.3"),
     (-0.04, False, "0.0"), (float("nan"), True, "–")],
)  # fmt: skip
def test_what_rounds_to_zero_has_no_sign(value: float, signed: bool, text: str) -> None:
    assert tables.number(value, 1, signed) == text
