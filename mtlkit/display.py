"""What notebooks show between training and figures."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mtlkit.data.base import Dataset
from mtlkit.metrics import LABELS
from mtlkit.selection import metrics_of, with_direction

if TYPE_CHECKING:
    import pandas

    from mtlkit.style import Figure


def facts(data: Dataset, network: nn.Module) -> None:
    """Print what a run is about; the same on every machine."""
    sizes = ", ".join(f"{size} {name}" for name, size in data.facts["sizes"].items())
    print(f"data: {data.variant}; {sizes}")
    print(textwrap.fill(f"tasks: {', '.join(data.task_names)} (the first is the main one)", 112))
    print(f"noise: {data.facts['noise']}; {data.facts['wrong_main_labels']} wrong main labels in training")
    parameters(network)


def parameters(network: nn.Module) -> None:
    """Print how large a network is."""
    shared = sum(parameter.numel() for parameter in network.shared_parameters())
    total = sum(parameter.numel() for parameter in network.parameters())
    print(f"network: {total:,} parameters, {shared:,} of them shared")


def results(records: Sequence[dict]) -> "pandas.DataFrame":
    """The main task's test metrics after the last epoch: a row per seed, and their mean."""
    import pandas

    metrics = metrics_of(records)
    rows = {f"seed {record['seed']}": [record["evaluations"][-1]["test"][name] for name in metrics]
            + [1000 * record["cost"]["seconds_per_step"]] for record in records}  # fmt: skip
    columns = [with_direction(name) for name in metrics] + ["ms per step"]
    frame = pandas.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)
    if len(rows) > 1:
        frame.loc["mean"] = frame.mean()
    first = records[0]
    frame.index.name = f"{first['parameters']['weighting']}, {first['data']['variant']}"
    return frame.round(4)


def every_task(records: Sequence[dict], constant: Mapping[str, Mapping[str, float]]) -> "pandas.DataFrame":
    """Every task's test metrics after the last epoch, mean over seeds, beside those of a constant answer: a row per
    task and metric."""
    import pandas

    rows = {}
    for t, task in enumerate(constant):
        found = [record["evaluations"][-1]["test"]["tasks"][t] for record in records]
        for name in (name for name in LABELS if name in found[0]):
            values = [float("nan") if one[name] is None else one[name] for one in found]
            rows[task, with_direction(name)] = [sum(values) / len(values), constant[task][name]]
    weighting = records[0]["parameters"]["weighting"]
    index = pandas.MultiIndex.from_tuples(rows, names=["task", "metric"])
    return pandas.DataFrame(list(rows.values()), index, [weighting, "constant"]).round(4)


def images(data: Dataset, count: int = 12) -> "Figure":
    """Training images, the first row with right and the second with wrong main labels; the label seen is above."""
    from mtlkit import style

    labels, flipped = data.train.groups[0], data.train.flipped[0]
    binary = data.kind == "binary"
    with style.style():
        figure, axes = style.panels(2, count // 2, style.PAGE, 2.6)
        for row, (kind, name) in enumerate(((~flipped, "right"), (flipped, "wrong"))):
            half = count // 4 if binary else count // 2
            shown = [(kind & (labels == label) if binary else kind).nonzero().flatten()[:half] for label in (1, 0)]
            for ax, index in zip(axes[row], torch.cat(shown if binary else shown[:1]).tolist(), strict=False):
                picture = data.train.inputs[index].permute(1, 2, 0)
                low, high = picture.min(), picture.max()
                ax.imshow((picture - low) / (high - low).clamp_min(1e-6), cmap="gray")
                said = f"{'' if labels[index] else 'not '}{data.task_names[0]}" if binary else str(int(labels[index]))
                ax.set_title(f"{said} ({name})", fontsize=6)
            for ax in axes[row]:
                ax.set_axis_off()
    return figure


def targets(data: Dataset, bins: int = 40) -> "Figure":
    """Histogram of the main task's training targets, right and spoilt."""
    from mtlkit import style

    values, flipped = data.train.targets[0].reshape(len(data.train), -1)[:, 0], data.train.flipped[0]
    with style.style():
        figure, axes = style.panels(1, 1, style.COLUMN, 2.0)
        kinds = [("right", values[~flipped]), ("spoilt", values[flipped])]
        axes[0, 0].hist([kind.numpy() for _, kind in kinds], bins, stacked=True, label=[name for name, _ in kinds],
                        color=[style.COLOURS[0], style.COLOURS[1]])  # fmt: skip
        axes[0, 0].set_xlabel("training target of the main task")
        axes[0, 0].set_ylabel("samples")
        axes[0, 0].legend()
    return figure
