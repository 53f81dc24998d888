"""Metrics of a network over a set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.data.base import Samples
from mtlkit.data.separate import Separate
from mtlkit.reading import batches
from mtlkit.tasks import Task


def evaluate(network: nn.Module, tasks: Sequence[Task], samples: Samples | Separate, *, batch: int = 500,
             main_only: bool = False, workers: int = 0) -> dict[str, Any]:  # fmt: skip
    """Metrics of the main task over a set, and `tasks`, a list with those of every task (unless `main_only`); samples
    without a label do not count. Where every task has inputs of its own, it is evaluated on these. The set is taken
    `batch` samples at a time, read ahead by `workers` threads."""
    training = network.training
    network.eval()
    tasks = tasks[:1] if main_only else tasks
    if isinstance(samples, Separate):
        results = [_metrics(network, t, [task], part, batch, main_only, workers)[0]
                   for t, (task, part) in enumerate(zip(tasks, samples.parts, strict=False))]  # fmt: skip
    else:
        results = _metrics(network, 0, tasks, samples, batch, main_only, workers)
    network.train(training)
    return results[0] if main_only else {**results[0], "tasks": results}


def _metrics(network: nn.Module, first: int, tasks: Sequence[Task], samples: Samples, batch: int,
             main_only: bool, workers: int) -> list[dict[str, float]]:  # fmt: skip
    """Metrics of `tasks`, of which the network predicts the one with number `first` first."""
    meters = [task.meter() for task in tasks]
    labelled = samples.mass.cpu() > 0
    short = main_only and hasattr(network, "main")
    with torch.inference_mode():
        indices = torch.arange(len(samples)).split(batch)
        places = [index.to(samples.mass.device) for index in indices]
        for index, some in zip(indices, batches(samples, places, workers), strict=True):
            predictions = [network.main(some.inputs)] if short else network(some.inputs)[first:]
            for meter, prediction, target, there in zip(meters, predictions, some.targets, labelled[:, index],
                                                        strict=False):  # fmt: skip
                if there.all():
                    meter.update(prediction, target)
                elif there.any():
                    at = there.nonzero()[:, 0].to(target.device)
                    meter.update(prediction.index_select(0, at), target.index_select(0, at))
        return [meter.result() for meter in meters]
