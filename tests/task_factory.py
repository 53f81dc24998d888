"""Records and studies in which every task counts, for the tests of their tables and figures; see `factory`."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtlkit.metrics import HIGHER_IS_BETTER
from mtlkit.records import code_hash
from mtlkit.studies import Study
from tests import factory

TASKS = {
    "segmentation": {"loss": 1.5, "miou": 53.77, "pixel_accuracy": 75.45},
    "depth": {"loss": 0.3845, "abs_err": 0.3845, "rel_err": 0.1605},
    "normals": {"loss": 0.2, "mean_angle": 23.57, "median_angle": 17.04, "within_11": 35.04, "within_22": 60.93,
                "within_30": 72.07},
}  # fmt: skip
DOMAINS = {name: {"loss": 0.3, "auc": 0.99, "accuracy": level} for name, level in
           (("amazon", 0.8273), ("dslr", 0.9672), ("webcam", 0.9611))}  # fmt: skip
ARMS = {"ew": ("EW", 0), "rlw": ("RLW", 1), "cagrad": ("CAGrad", 1.4), "rlw_cagrad": ("RLW + CAGrad", 2.2),
        "depth_alone": ("depth alone", 3), "normals_alone": ("normals alone", 4),
        "segmentation_alone": ("segmentation alone", 2)}  # fmt: skip
"""Label, and gain over equal weighting in per cent, up to luck."""

WEIGHTINGS = {"rlw_cagrad": "rlw+cagrad", **{arm: "main" for arm in ARMS if arm.endswith("alone")}}
HPS = {"label": "HPS", "network": "deeplab"}
PUBLISHED = {"network": "deeplab", "split": "795/654", "size": "288x384", "backbone": "resnet50",
             "pretrained": "imagenet", "epochs": 300}  # fmt: skip
"""Parameters of the published setting."""


def study(arms: Sequence[str] = ("ew", "rlw", "cagrad"), conditions: Mapping | None = None, seeds: int = 5,
          **changes) -> Study:  # fmt: skip
    """The study that the records below belong to."""
    options = {
        "name": "dense", "experiment": "nyuv2", "baseline": "ew", "tuning": {"metric": "loss"},
        "tables": "every_task", "scales": {"desk": {"seeds": f"0-{seeds - 1}"}},
        "conditions": dict(conditions or {"hps": HPS}),
        "arms": {arm: {"label": ARMS[arm][0], "weighting": WEIGHTINGS.get(arm, arm)} for arm in arms},
    }  # fmt: skip
    return Study(**options | changes)


def record(arm: str = "ew", condition: str = "hps", seed: int = 0, main: str = "", tasks: Mapping = TASKS,
           variant: str = "nyuv2-mtan", network: str = "deeplab", **changes) -> dict:  # fmt: skip
    """A record with four evaluations, all tasks judged, `main` first; `changes` replace entries of it."""
    random = np.random.default_rng(zlib.crc32(f"{arm}/{condition}".encode()) + seed)
    luck = np.random.default_rng(seed).normal(0, 0.01)  # shared by the arms of a seed
    order = sorted(tasks, key=lambda task: task != main)
    evaluations = []
    for epoch in (75, 150, 225, 300):
        scores = {split: [] for split in ("test", "tuning")}
        for task in order:
            gain = luck + (ARMS[arm][1] - (300 - epoch) / 30 + random.normal(0, 0.5)) / 100
            for split in scores:
                scores[split].append({name: value * (1 + gain * (1 if HIGHER_IS_BETTER[name] else -1))
                                      for name, value in tasks[task].items()})  # fmt: skip
        evaluations.append({"epoch": epoch, **{split: {**some[0], "tasks": some} for split, some in scores.items()}})
    whole = factory.record("ew", "none", seed) | {
        "id": f"{zlib.crc32(f'{arm}/{condition}/{seed}/{variant}'.encode()):016x}",
        "experiment": "nyuv2", "study": "dense", "arm": arm, "condition": condition, "tasks": order,
        "parameters": PUBLISHED | {"weighting": WEIGHTINGS.get(arm, arm), "learning_rate": 1e-4, "network": network},
        "data": {"name": "nyuv2", "variant": variant, "checksum": "0123456789abcdef"},
        "evaluations": evaluations, "code": code_hash(WEIGHTINGS.get(arm, arm), network, "nyuv2"),
    }  # fmt: skip
    return whole | changes


def records(of: Study, **changes) -> list[dict]:
    """Every record of a study, with the network of its condition."""
    runs = [(arm, condition, seed) for condition in of.conditions for arm in of.arms for seed in of.seeds("desk")]
    networks = {condition: options.get("network", "deeplab") for condition, options in of.conditions.items()}
    return [record(*run, network=networks[run[1]], study=of.name, **changes) for run in runs]
