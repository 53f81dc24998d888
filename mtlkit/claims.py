"""Claims, the comparisons that they rest on, and what the records say about them.

The file (`params/claims.yaml`):

    claims:
      - claim: "..."                    # one sentence
        source: "..."                   # who says so
        rests_on: [{family: beyond_prior, arm: slgrad}]   # `arm` is optional: only its comparisons. None yet: []
        why: "..."                      # instead of an empty rests_on: why it is open
        expects: better                 # optional, of the comparisons: better (default) or no_worse
        figures: [cifar_flip/results_last.png]            # optional, below figures/

    families:
      beyond_prior:                     # Holm's correction is within a family
        question: "..."                 # one sentence
        study: cifar_flip               # params/studies/cifar_flip.yaml
        scale: desk                     # its seeds are the ones that a claim rests on
        at: last                        # optional, default last: see selection.EPOCH_RULES
        by: loss                        # optional, default loss: the tuning metric of `at: tuned`
        exploratory: false              # optional: whether it was written after a look at the records
        comparisons:
          - arm: slgrad_task_label_ref  # arm - against, paired by seed
            against: ew_shares_ref
            conditions: [uniform_0.3, background_0.6]     # one hypothesis each; `all`: every condition of the study
            metric: loss
            margin: 0.005               # smallest difference that matters, units of the metric, not negative
            name: "alignment adds to the class prior"     # optional: shown instead of the two arms
          - arm: slgrad                 # `chance` in place of `against`: a measure of OF_WEIGHTS less that
            chance: 0.5
            conditions: all
            metric: weight_within
            margin: 0.02

In studies in which every task counts, the metric is `delta_p`: both arms' gain over the study's baseline, in per cent;
or `spread`: how far this gain is from the median of the arm. In others it is one of the main task's test metrics, or
`sharpness`, where that was measured.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mtlkit import detection, every_task, minima, report, selection, statistics, studies
from mtlkit.errors import MtlkitError, check_names, one_of
from mtlkit.metrics import HIGHER_IS_BETTER, LABELS
from mtlkit.studies import Study
from mtlkit.tables import Table, probability

FAMILY = {"question": True, "study": True, "scale": True, "comparisons": True, "at": False, "by": False,
          "exploratory": False}  # fmt: skip
COMPARISON = {"arm": True, "conditions": True, "metric": True, "margin": True, "against": False, "chance": False,
              "name": False}  # fmt: skip
CLAIM = {"claim": True, "source": True, "rests_on": False, "why": False, "figures": False, "expects": False}
"""Names of the file, and whether they are required."""

EXPECTED = ("better", "no_worse")

OF_WEIGHTS = {"weight": "detection by low weight ↑", "weight_within": "the same within label ↑",
              "useless_weight": "weight of the useless task ↓", "useful_lead": "lead of the useful task ↑"}  # fmt: skip
"""What `detection` says of weights, and its labels."""

OF_ALL_TASKS = {"delta_p": "Δp, % ↑", "spread": "distance of Δp from its median, % ↓"}
"""What `every_task` says of all tasks at once, and its label; `spread` is that of an arm over its seeds, as in the test
of Brown and Forsythe (1974), here paired."""

OF_MINIMA = {"sharpness": "log₂ sharpness at equal training loss ↓"}
"""What `minima` says of two runs, and its label."""

LABELLED = OF_WEIGHTS | OF_ALL_TASKS | OF_MINIMA
"""What a comparison can be about beside test metrics; as with these, the arrow says where it is better."""


def load(path: str | Path, load_study: Callable[[str], Study] = studies.load) -> dict[str, dict]:
    """Read and check the families of a claims file; each comes with `study` replaced by the loaded study.

    Raises MtlkitError naming the family and the wrong entry.
    """
    return {name: _family(f"{path}, {name}", one, load_study) for name, one in _read(path)["families"].items()}


def statements(path: str | Path) -> list[dict]:
    """Read and check the claims themselves.

    Raises MtlkitError naming the claim and the wrong entry.
    """
    content = _read(path)
    if not isinstance(content.get("claims", []), list):
        raise MtlkitError(f"{path}: claims should be a list.")
    for number, entry in enumerate(content.get("claims", []), 1):
        where = f"{path}, claim {number}"
        check_names(where, entry, CLAIM)
        for name in ("rests_on", "figures"):
            if not isinstance(entry.get(name, []), list):
                raise MtlkitError(f"{where}: {name} should be a list.")
        if bool(entry.get("rests_on")) == bool(entry.get("why")):
            raise MtlkitError(f"{where}: it needs either rests_on, a list of families, or why it is open.")
        one_of(f"expects ({where})", entry.get("expects", "better"), EXPECTED)
        for one in entry.get("rests_on", []):
            check_names(where, one, {"family": True, "arm": False})
            one_of(f"family ({where})", one["family"], content["families"])
    return content.get("claims", [])


def _read(path: str | Path) -> dict:
    content = studies.read_yaml(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("families"), dict):
        raise MtlkitError(f"{path} holds no claims: it must have the entry 'families', a mapping.")
    return content


def claims(records: Sequence[dict], path: str | Path, load_study: Callable[[str], Study] = studies.load) -> list[Table]:
    """One table per family and data variant: difference, p-value, Holm's p-value, verdict of every hypothesis.

    A hypothesis whose seeds are not all there has no verdict yet: who looks after every run finds what he looks for. It
    counts in the size of its family. Verdicts follow `statistics.verdict` with Holm's p-value; the interval shown is
    not adjusted. Records of other studies are passed over.
    """
    tables = []
    for name, family in load(path, load_study).items():
        mine = selection.in_study(records, family["study"], family["scale"])
        for variant, group in (selection.by_variant(mine) or {"": []}).items():
            tables.append(_table(name, family, variant, group))
    return tables


def _table(name: str, family: dict, variant: str, records: list[dict]) -> Table:
    study, seeds = family["study"], family["study"].seeds(family["scale"])
    runs, rows = _runs(family, records) if records else {}, []
    for claim in family["comparisons"]:
        for condition in claim["conditions"]:
            values = _values(f"metric ({name})", claim, condition, records, runs) if runs else pd.Series(dtype=float)
            used = [(condition, claim[side]) for side in ("arm", "against") if side in claim]
            old = sum(int(runs[pair]["stale"].sum()) for pair in used if pair in runs)
            rows.append((claim, condition, statistics.difference(values), old))
    adjusted = statistics.holm([result.p if result.n == len(seeds) else np.nan for _, _, result, _ in rows])
    cells, numbers = [], []
    for (claim, condition, result, old), p in zip(rows, adjusted, strict=True):
        label = LABELLED.get(claim["metric"]) or selection.with_direction(claim["metric"])
        word = "" if np.isnan(p) else statistics.verdict(result, claim["margin"], label.endswith("↑"), p)
        other = study.label(claim["against"]) if "against" in claim else f"{claim['chance']:g}"
        cells.append(
            {
                "comparison": claim.get("name") or f"{study.label(claim['arm'])} − {other}",
                "condition": study.conditions[condition]["label"],
                "metric": label,
                "difference [95 %]": report.span(result, _decimals(claim["margin"])),
                "margin": f"{claim['margin']:g}",
                "p": probability(result.p),
                "p (Holm)": probability(p),
                "p (Wilcoxon)": probability(result.wilcoxon),
                "seeds": f"{result.n}/{len(seeds)}" + (" †" if old else ""),
                "verdict": word or "–",
            }
        )
        keys = {"family": name, "exploratory": family["exploratory"], "variant": variant, "condition": condition}
        keys |= {key: claim.get(key) for key in ("arm", "against", "metric", "margin")}
        counts = {"n": result.n, "expected": len(seeds), "stale": old}
        numbers.append(keys | counts | report.summary(result) | {"p_holm": p, "verdict": word})
    epoch = selection.EPOCH_RULES[family["at"]].format(LABELS[family["by"]])
    if study.tables == "every_task":
        epoch = every_task.epoch_rule(study, family["at"])
    what = f"Test data {epoch}, paired by seed."
    if all("chance" in claim for claim in family["comparisons"]):
        what = "Weights over the last quarter of training; detection is an area under the ROC curve."
    caption = f"{name}: {family['question']} {what} Data: {variant or 'no records yet'}."
    table = pd.DataFrame(cells).set_index("comparison")
    return Table(table, caption, _notes(rows, study, family), pd.DataFrame(numbers))


def _runs(family: dict, records: list[dict]) -> dict[tuple[str, str], pd.DataFrame]:
    """By condition and arm; where every task counts, with what OF_ALL_TASKS names."""
    study = family["study"]
    if study.tables != "every_task":
        return selection.by_cell(selection.select(records, family["at"], family["by"]))
    frame = every_task.judge(records, study, family["at"]).frame
    gain = frame.groupby(["condition", "arm"])["delta_p"]
    frame["spread"] = (frame["delta_p"] - gain.transform("median")).abs()
    return selection.by_cell(frame)


def _values(where: str, claim: dict, condition: str, records: list[dict],
            runs: dict[tuple[str, str], pd.DataFrame]) -> pd.Series:  # fmt: skip
    """What a hypothesis is about, by seed."""
    if claim["metric"] in OF_MINIMA:
        return minima.differences(records, condition, claim["arm"], claim["against"])
    if "against" in claim:
        if claim["metric"] not in OF_ALL_TASKS:
            one_of(where, claim["metric"], selection.metrics_of(records))
        return report.paired(runs, condition, claim["arm"], claim["against"], claim["metric"])
    mine = [one for one in selection.current(records)
            if (one["condition"], selection.arm_of(one)) == (condition, claim["arm"])]  # fmt: skip
    found = {one["seed"]: (detection.of_main(one) | detection.of_tasks(one)).get(claim["metric"]) for one in mine}
    return pd.Series({seed: value - claim["chance"] for seed, value in found.items() if value is not None}, dtype=float)


def _notes(rows: list[tuple], study: Study, family: dict) -> list[str]:
    after = "Exploratory: written down after a look at these records"
    when = after if family["exploratory"] else "Written down before the runs"
    notes = [
        f"{when}. Holm's correction over {len(rows)} hypotheses. Better, worse: p (Holm) < 0.05 "
        "and at least the margin; within margin: interval inside ±margin; no verdict before "
        f"all {len(study.seeds(family['scale']))} seeds are there."
    ]
    if study.again:
        notes.append(study.again)
    if any(old for *_, old in rows):
        notes.append("† rests on records made with other code than today's.")
    return notes


def _decimals(margin: float) -> int:
    """One digit more than the margin has."""
    return int(np.clip(1 - np.floor(np.log10(margin)), 0, 6)) if margin > 0 else 3


def _family(where: str, family: dict, load_study: Callable[[str], Study]) -> dict:
    check_names(where, family, FAMILY)
    for name in ("question", "study", "scale"):
        if not isinstance(family[name], str):
            raise MtlkitError(f"{where}: {name} is {family[name]!r}, which should be a text.")
    study = load_study(family["study"]).at(family["scale"])
    family = {"at": "last", "by": "loss", "exploratory": False} | family | {"study": study}
    one_of(f"at ({where})", family["at"], selection.EPOCH_RULES)
    one_of(f"by ({where})", family["by"], HIGHER_IS_BETTER)
    if not isinstance(family["comparisons"], list) or not family["comparisons"]:
        raise MtlkitError(f"{where}: comparisons must be a list with at least one entry.")
    family["comparisons"] = [_comparison(where, claim, study) for claim in family["comparisons"]]
    return family


def _comparison(where: str, claim: dict, study: Study) -> dict:
    check_names(where, claim, COMPARISON)
    if ("against" in claim) == ("chance" in claim):
        raise MtlkitError(f"{where}: a comparison needs either against, an arm, or chance, a number.")
    if not isinstance(claim.get("chance", 0), int | float):
        raise MtlkitError(f"{where}: chance is {claim['chance']!r}, which should be a number.")
    sides = [side for side in ("arm", "against") if side in claim]
    for side in sides:
        one_of(f"{side} ({where})", claim[side], study.arms)
    of_runs = OF_ALL_TASKS if study.tables == "every_task" else HIGHER_IS_BETTER | OF_MINIMA
    one_of(f"metric ({where})", claim["metric"], of_runs if "against" in claim else OF_WEIGHTS)
    conditions = list(study.conditions) if claim["conditions"] == "all" else claim["conditions"]
    if not isinstance(conditions, list):
        raise MtlkitError(f"{where}: conditions is {conditions!r}, which should be a list of conditions, or all.")
    for condition in conditions:
        one_of(f"condition ({where})", condition, study.conditions)
        for side in sides:
            if (condition, claim[side]) not in study.cells():
                raise MtlkitError(f"{where}: the study does not run {claim[side]} in the condition {condition}.")
    margin = claim["margin"]
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < np.inf:
        raise MtlkitError(f"{where}: margin is {margin!r}, which should be a number of at least 0.")
    return claim | {"conditions": conditions}
