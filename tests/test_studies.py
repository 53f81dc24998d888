"""Studies: cells, parameters, and what is wrong with a file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mtlkit import paths, studies
from mtlkit.errors import MtlkitError

BASE = "epochs: 8\nlearning_rate: 0.04\nsource: builtin\n"
STUDY = """
experiment: toy
baseline: ew
scales:
  quick: {seeds: 0-1}
  desk: {seeds: "0,4-5", epochs: 40, source: real}
conditions:
  none: {label: no noise, noise: 0.0}
  some: {label: some noise, noise: 0.3, source: auto}
arms:
  ew: {label: EW, weighting: ew}
  slow: {label: slow, weighting: slgrad, rate_factor: 16, source: digits}
  control: {label: a control, weighting: main, rates_as: slow, conditions: [some]}
tuning: {rates: [0.1, 0.2], seeds: 0-1, conditions: [some], metric: loss}
"""


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of parameters with one study, in place of the project's."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.yaml").write_text(STUDY)
    for scale in ("quick", "desk"):
        (tmp_path / f"toy.{scale}.yaml").write_text(BASE)
    return tmp_path


def test_cells(params: Path) -> None:
    study = studies.load("small")
    assert study.name == "small" and studies.names() == ["small"]
    assert sorted(study.cells()) == [
        ("none", "ew"),
        ("none", "slow"),
        ("some", "control"),
        ("some", "ew"),
        ("some", "slow"),
    ]
    assert study.seeds("quick") == [0, 1] and study.seeds("desk") == [0, 4, 5]
    assert study.label("slow") == "slow" and study.label("some") == "some noise"
    assert study.tuned_arms("desk") == ["ew", "slow"]


def test_executions_do_a_chunk_of_seeds_each(params: Path) -> None:
    study = studies.load("small")
    assert {seeds for seeds, *_ in study.executions("desk")} == {"0,4,5"}
    study.scales["desk"]["chunk"] = 2
    executions = study.executions("desk")
    assert sorted(executions) == sorted((seeds, c, a) for seeds in ("0,4", "5") for c, a in study.cells())
    assert "chunk" not in study.parameters("desk", "none", "ew")


def test_a_scale_may_have_fewer_conditions(params: Path) -> None:
    study = studies.load("small")
    study.scales["quick"]["conditions"] = ["none"]
    assert {(c, a) for _, c, a in study.executions("quick")} == {("none", "ew"), ("none", "slow")}
    assert len(study.executions("desk")) == 5 and len(study.cells()) == 5
    assert list(study.at("quick").conditions) == ["none"] and study.at("desk").cells() == study.cells()
    assert "conditions" not in study.parameters("quick", "none", "ew")
    study.scales["quick"]["conditions"] = ["nine"]
    with pytest.raises(MtlkitError, match=r"a condition of study small, scale quick, is 'nine', .* none, some"):
        study.at("quick")


def test_later_parts_win(params: Path) -> None:
    """Base file, then scale, then condition, then arm."""
    study = studies.load("small")
    wanted = {"epochs": 8, "source": "builtin", "noise": 0.0, "weighting": "ew", "seeds": "0-1", "learning_rate": 0.04}
    assert study.parameters("quick", "none", "ew") == wanted
    assert study.parameters("desk", "none", "ew")["source"] == "real"
    assert study.parameters("desk", "none", "ew")["epochs"] == 40
    assert study.parameters("desk", "some", "ew")["source"] == "auto"
    assert study.parameters("desk", "some", "slow")["source"] == "digits"


def test_learning_rates(params: Path) -> None:
    study = studies.load("small")

    def rate(arm: str, *given: float) -> float:
        return study.parameters("quick", "some", arm, *given)["learning_rate"]

    assert [rate("ew"), rate("slow"), rate("control")] == [0.04, 0.64, 0.04], "before tuning the base file's"
    assert [rate("ew", 0.1), rate("slow", 0.1), rate("control", 0.1)] == [0.1, 1.6, 0.1], "one that is tried"
    (params / "tuned").mkdir()
    (params / "tuned" / "small.quick.yaml").write_text("arms: {ew: {learning_rate: 0.2}, slow: {learning_rate: 3.2}}")
    assert [rate("ew"), rate("slow"), rate("control")] == [0.2, 3.2, 3.2], (
        "the tuned one, or the arm's named in rates_as"
    )
    assert study.parameters("desk", "some", "ew")["learning_rate"] == 0.04, "another scale's are not taken unasked"


def test_rates_of_another_scale(params: Path) -> None:
    text = STUDY.replace("quick: {", "quick: {rates_of: desk, ").replace("epochs: 40", "epochs: 40, rates: [3, 1]")
    (params / "studies" / "small.yaml").write_text(text)
    (params / "tuned").mkdir()
    (params / "tuned" / "small.desk.yaml").write_text("arms: {ew: {learning_rate: 0.2}}")
    study = studies.load("small")
    assert {study.parameters(scale, "some", "ew")["learning_rate"] for scale in study.scales} == {0.2}
    assert study.tuned_arms("quick") == [] and study.tuned_arms("desk") == ["ew", "slow"]
    study.arms["ew"]["more_rates"] = [0.05]
    assert study.rates("desk", "ew") == [1, 3] and study.rates("quick", "ew") == [0.05, 0.1, 0.2]
    for scale in study.scales:
        assert not {"rates", "rates_of"} & study.parameters(scale, "some", "ew").keys()


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("desk: {rates_of: quik, ", r"rates_of of desk \(small.yaml\) is 'quik'.*did you mean 'quick'"),
        ("desk: {rates_of: desk, ", r"rates_of of desk .* is 'desk', which is not one of quick"),
        ("desk: {rates: 0.1, ", r"small.yaml: rates of desk is 0.1, which should be a list"),
        ("desk: {rates_of: quick, rates: [0.1], ", r"small.yaml: desk takes the rates of elsewhere, so it should not"),
        ("desk: {rates: [a], ", r"small.yaml: a rate of desk is 'a', which should be a number"),
    ],
)
def test_wrong_rates_of_a_scale(params: Path, scale: str, message: str) -> None:
    (params / "studies" / "small.yaml").write_text(STUDY.replace("desk: {", scale))
    with pytest.raises(MtlkitError, match=message):
        studies.load("small")


def test_unknown_names(params: Path) -> None:
    with pytest.raises(MtlkitError, match=r"there is no study 'smal' \(did you mean 'small'\?\); there are small"):
        studies.load("smal")
    with pytest.raises(MtlkitError, match="study small has no scale 'paper'; it has quick, desk"):
        studies.load("small").parameters("paper", "none", "ew")
    with pytest.raises(MtlkitError, match="study small has no scale 'big'"):
        studies.load("small").seeds("big")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: ew\n", "", r"small\.yaml lacks or should not have: baseline"),
        ("baseline: ew\n", "baseline: ew\nrates: [1]\n", r"small\.yaml lacks or should not have: rates"),
        (STUDY, "- a\n- b\n", r"small\.yaml does not hold `name: value` lines"),
        (STUDY, "a: [1", r"small\.yaml cannot be read as YAML"),
        (STUDY, "", r"small\.yaml does not hold"),
    ],
)
def test_wrong_file(params: Path, old: str, new: str, message: str) -> None:
    (params / "studies" / "small.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(MtlkitError, match=message):
        studies.load("small")


def test_arms_of_another_study(params: Path) -> None:
    own = STUDY[STUDY.index("arms:\n") : STUDY.index("tuning:")]
    (params / "studies" / "other.yaml").write_text(STUDY.replace(own, "arms: {as: small}\n"))
    assert studies.load("other").arms == studies.load("small").arms
    (params / "studies" / "other.yaml").write_text(STUDY.replace(own, "arms: {as: smal}\n"))
    with pytest.raises(MtlkitError, match="there is no study 'smal'"):
        studies.load("other")


def test_committed_scale_can_be_given(params: Path) -> None:
    assert studies.load("small").committed == "desk"
    (params / "studies" / "small.yaml").write_text(STUDY + "committed: quick\n")
    assert studies.load("small").committed == "quick"


def test_tables_of_every_task_are_asked_for(params: Path) -> None:
    assert studies.load("small").tables == "main_task"
    asked = (
        "tables: every_task\nfigures: [boxes]\ndelta: {metrics: [accuracy], condition: none, single_task: {a: ew}}\n"
    )
    (params / "studies" / "small.yaml").write_text(STUDY + asked)
    study = studies.load("small")
    assert study.tables == "every_task" and study.delta["metrics"] == ["accuracy"]
    assert study.at("desk").delta["condition"] == "none"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tables: each_task", r"tables \(small.yaml\) is 'each_task', which is not one of main_task, every_task"),
        ("again: 2", r"small.yaml: again is 2, which should be a text"),
        ("figures: [boxs]", r"a figure \(small.yaml\) is 'boxs'.*did you mean 'boxes'"),
        ("delta: m", r"small.yaml, delta: 'm' should be a mapping with metrics, condition, single_task"),
        ("delta: {metric: [accuracy]}", r"a name \(small.yaml, delta\) is 'metric'.*did you mean 'metrics'"),
        ("delta: {metrics: [acuracy]}", r"a metric of delta .*did you mean 'accuracy'"),
        ("delta: {condition: nine}", r"the condition of delta .* is 'nine', which is not one of none, some"),
        ("delta: {single_task: {a: fast}}", r"an arm of delta .* is 'fast', which is not one of ew, slow, control"),
    ],
)
def test_wrong_wishes_for_tables(params: Path, line: str, message: str) -> None:
    (params / "studies" / "small.yaml").write_text(f"{STUDY}{line}\n")
    with pytest.raises(MtlkitError, match=message):
        studies.load("small")


def test_rates_of_another_study(params: Path) -> None:
    text = STUDY[: STUDY.index("tuning:")] + "tuning: {as: small, metric: loss}\n"
    (params / "studies" / "other.yaml").write_text(text)
    (params / "tuned").mkdir(exist_ok=True)
    (params / "tuned" / "small.quick.yaml").write_text("arms: {ew: {learning_rate: 0.123}}\n")
    other = studies.load("other")
    assert other.tuned_arms("quick") == []
    assert other.parameters("quick", "none", "ew")["learning_rate"] == 0.123


def test_missing_base_file(params: Path) -> None:
    (params / "toy.quick.yaml").unlink()
    with pytest.raises(MtlkitError, match=r"toy\.quick\.yaml cannot be read as YAML \(FileNotFoundError\)"):
        studies.load("small").parameters("quick", "none", "ew")


@pytest.mark.parametrize("name", studies.names())
def test_own_studies_hang_together(name: str) -> None:
    study = studies.load(name)
    assert study.baseline in study.arms
    assert (paths.NOTEBOOKS / f"{study.experiment}.ipynb").is_file()
    assert study.committed in study.scales
    noise = re.search(r"noise: float = ([\d.]+)", (paths.NOTEBOOKS / f"{study.experiment}.ipynb").read_text())
    if noise and float(noise[1]):  # a condition that leaves it out is not without noise, whatever its label says
        assert all("noise" in options for options in study.conditions.values())
    tuner = studies.load(study.tuning.get("as", name))
    for condition, arm in study.cells():
        assert condition in study.conditions
        for scale in study.scales:
            source = study.scale(scale).get("rates_of", scale)
            assert study.arms[arm].get("rates_as", arm) in tuner.tuned_arms(source)
    assert set(tuner.tuning) == {"rates", "seeds", "conditions", "metric"}
    assert set(tuner.tuning["conditions"]) <= set(tuner.conditions)
    assert study == tuner or set(study.tuning) == {"as", "metric"}
    labels = [part["label"] for part in (*study.arms.values(), *study.conditions.values())]
    assert len(set(labels)) == len(labels)


def planned(where: Path, scale: str, *given: str, fails: bool = False) -> str:
    """What a dry run of the whole workflow says."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", paths.ROOT / "Snakefile", "--dryrun", "--cores", "8",
               "--config", f"scale={scale}", *given]  # fmt: skip
    done = subprocess.run(
        command, cwd=where, env=os.environ | {"MTLKIT_RUNS": str(where)}, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, done.stderr + done.stdout[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["quick", "desk", "paper"])
@pytest.mark.parametrize("target", ["all", "tune"])
def test_every_scale_can_be_planned(scale: str, target: str, tmp_path: Path) -> None:
    """Each run and each rate that is tried, 5e-05 too."""
    if (scale, target) == ("quick", "tune"):
        said = planned(tmp_path, scale, "--", target, fails=True)
        assert "nothing to tune at scale quick: cifar_flip takes the rates of scale desk, multi_mnist takes" in said
        return
    tried = planned(tmp_path, scale, "--quiet", "rules", "--", target)
    counts = dict(line.split() for line in tried.splitlines() if re.fullmatch(r"\w+ +\d+", line))
    chosen = [study for study in map(studies.load, studies.names()) if scale in study.scales]
    if target == "all":
        assert int(counts["cell"]) == sum(len(study.executions(scale)) for study in chosen)
    else:
        assert int(counts["try_rate"]) == sum(len(study.rates(scale, arm)) * len(study.tuning["conditions"])
                                              for study in chosen for arm in study.tuned_arms(scale))  # fmt: skip


@pytest.mark.slow
def test_runs_share_a_card(tmp_path: Path) -> None:
    """What a run takes of it is the study's, and no parameter of the notebook."""
    told = planned(tmp_path, "paper", "studies=nyuv2_rlw,toy", "--resources", "gpu_mb=80000")
    cells = [part for part in told.split("rule cell:")[1:] if "resources:" in part]
    taken = {study: {re.search(r"gpu_mb=(\d+)", part)[1] for part in cells if f"study={study}," in part}
             for study in ("nyuv2_rlw", "toy")}  # fmt: skip
    assert taken == {"nyuv2_rlw": {"24000"}, "toy": {"2000"}}
    assert "gpu_mb" not in studies.load("nyuv2_rlw").parameters("paper", "dmtl", "ew")
