"""Records and studies out of thin air, in the format of the real ones, for the tests of tables and figures."""

import zlib

import numpy as np

from mtlkit.records import code_hash
from mtlkit.studies import Study
from mtlkit.summary import EDGES

CONDITIONS = {
    "none": {"label": "no noise", "noise": 0.0},
    "uniform_0.3": {"label": "uniform 0.3", "noise_kind": "uniform", "noise": 0.3},
    "background_0.6": {"label": "background 0.6", "noise_kind": "background", "noise": 0.6},
    "human_worst": {"label": "human labels", "noise_kind": "human", "noise": 0.4},
}
ARMS = {
    "ew": ("EW", 0.40, 1.0),
    "rlw_normal": ("RLW, normal", 0.41, 1.0),
    "slgrad_published": ("SLGrad, as released", 0.52, 0.55),
    "slgrad": ("SLGrad, as meant", 0.50, 0.45),
    "slgrad_task_label_ref": ("SLGrad, per task and label + ref", 0.278, 0.5),
    "slgrad_sign_ref": ("SLGrad, sign, per task and label + ref", 0.281, 0.6),
    "slgrad_shuffled_ref": ("SLGrad, weights shuffled + ref", 0.287, 0.9),
    "ew_ref": ("EW + ref", 0.36, 1.0),
    "ew_shares_ref": ("EW, class shares + ref", 0.284, 0.8),
    "reference_only": ("reference set only", 0.301, 1.0),
    "main_ref": ("main task alone + ref", 0.31, 1.0),
    "label_consistency_ref": ("label consistency + ref", 0.27, 0.1),
    "oracle_ref": ("oracle + ref", 0.262, 0.0),
}
"""Label, test loss at the end, share of their mass that flipped samples keep."""

EPOCHS, EVERY, TASKS = 40, 5, 10


def study(arms: list[str] | None = None, conditions: dict | None = None, seeds: int = 9) -> Study:
    """The study that the records below belong to."""
    return Study(
        name="cifar_flip",
        experiment="cifar_flip",
        baseline="ew",
        scales={"desk": {"seeds": f"0-{seeds - 1}"}},
        conditions=dict(CONDITIONS if conditions is None else conditions),
        arms={arm: {"label": ARMS[arm][0], "weighting": arm.split("_")[0]} for arm in arms or ARMS},
        tuning={"metric": "loss"},
    )


def record(
    arm: str = "ew", condition: str = "uniform_0.3", seed: int = 0, study: str | None = "cifar_flip", **changes
) -> dict:
    """A record; `changes` replace entries of it, `loss` sets the test loss of the last epoch."""
    random = np.random.default_rng(zlib.crc32(f"{arm}/{condition}".encode()) + seed)
    _, level, kept = ARMS[arm]
    options = CONDITIONS.get(condition, {"noise": 0.3})
    if condition == "none":
        level = 0.26 + 0.1 * (level - 0.26)
    luck = np.random.default_rng(seed).normal(0, 0.006)  # shared by the arms of a seed, as data and flips are
    loss = changes.pop("loss", level + luck + random.normal(0, 0.004))
    evaluations = []
    for epoch in range(EVERY, EPOCHS + 1, EVERY):
        now = loss + 0.25 * (np.exp(-epoch / 8) - np.exp(-EPOCHS / 8))
        evaluations.append({"epoch": epoch, "test": metrics(now), "tuning": metrics(now + random.normal(0, 0.01))})
    for split in ("test", "tuning"):
        evaluations[-1][split] |= {"tasks": [metrics(now)] * TASKS}
    flipped = options["noise"]
    share = flipped * kept / (flipped * kept + 1 - flipped)
    settle = 1 - np.exp(-np.arange(EPOCHS) / 4)
    shares = flipped + (share - flipped) * settle + random.normal(0, 0.01 * (kept < 1), EPOCHS)
    task = np.full((EPOCHS, TASKS), 1 / TASKS)
    if arm.startswith(("slgrad", "rlw")):
        task = random.dirichlet(np.full(TASKS, 80.0), EPOCHS)
        task[:, 0] += 0.15 * settle * arm.startswith("slgrad")
        task /= task.sum(1, keepdims=True)
    whole = {
        "schema": 1,
        "id": f"{zlib.crc32(f'{arm}/{condition}/{seed}'.encode()):016x}",
        "experiment": "cifar_flip",
        "study": study,
        "arm": arm if study else "",
        "condition": condition if study else "",
        "parameters": {"weighting": arm.split("_")[0], "network": "lenet", "learning_rate": 0.05},
        "seed": seed,
        "data": {"name": "cifar10", "variant": "cifar10-jpeg75", "checksum": "0123456789abcdef"},
        "network": {"parameters": 1019034, "shared": 2584},
        "train_loss": list(0.3 + 0.4 * np.exp(-np.arange(EPOCHS) / 8)),
        "evaluations": evaluations,
        "weights": {
            "epoch": list(range(1, EPOCHS + 1)),
            "task": task.tolist(),
            "flipped_share": shares.clip(0).tolist() if flipped else [None] * EPOCHS,
            "flipped_fraction": flipped,
            "histogram": histogram(random, arm, kept, flipped),
            "detection": [],
        },
        "steps": {"taken": 520, "skipped": 0},
        "cost": {
            "seconds_per_step": (0.026 if kept == 1 else 0.036) * random.uniform(0.95, 1.05),
            "seconds": 20.0,
            "peak_memory_mb": 610.0 + 40 * (kept < 1),
        },
        "environment": {"torch": "2", "numpy": "2", "python": "3", "device": "cpu", "threads": 1, "commit": "0" * 40},
        "code": code_hash(arm.split("_")[0], "lenet", "cifar10"),
        "created": "2026-01-01",
    }
    return whole | changes


def metrics(loss: float) -> dict:
    """Metrics that go with a test loss."""
    auc = float(np.clip(1.1 - loss, 0.5, 1.0))
    return {
        "loss": float(loss),
        "auc": auc,
        "average_precision": auc - 0.3,
        "balanced_accuracy": auc - 0.15,
        "accuracy": 0.9,
    }


def histogram(random: np.random.Generator, arm: str, kept: float, flipped: float) -> dict:
    """Weights of clean and flipped samples; the first bin holds those that are exactly zero."""
    counts = {}
    for kind, size, scale in (("clean", 1 - flipped, 1.0), ("flipped", flipped, kept)):
        weights = np.full(round(3200 * size), scale)
        if arm.startswith("slgrad"):
            weights = random.lognormal(0, 0.8, len(weights)) * scale
            weights[random.random(len(weights)) < 0.45 - 0.3 * scale * (kind == "clean")] = 0
        counts[kind] = [np.histogram(weights, EDGES)[0].tolist()]
    return {"edges": [edge if np.isfinite(edge) else None for edge in EDGES], "tasks": [0], **counts}


def records(of: Study | None = None, **changes) -> list[dict]:
    """Every record of a study."""
    of = of or study()
    return [
        record(arm, condition, seed, of.name, **changes)
        for condition in of.conditions
        for arm in of.arms
        for seed in of.seeds("desk")
    ]


def means(axes) -> dict[int, float]:
    """The means that a panel of a dot plot shows, by row."""
    single = [line.get_xydata()[0] for line in axes.lines if len(line.get_xydata()) == 1 and line.get_marker() != "."]
    return {int(row): float(value) for value, row in single}
