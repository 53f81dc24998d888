"""A task: how one prediction is scored against one target, sample by sample."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlkit.data.base import Dataset


class Meter(Protocol):
    """Metrics of one task over a set that is seen batch by batch."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Take in a batch."""

    def result(self) -> dict[str, float]:
        """Metrics over all that was taken in, `loss` among them."""


class WholeSet:
    """A meter for metrics that need all predictions at once; they are kept where they are made.

    Args:
        metrics: `metrics(prediction, target) -> {name: value}` over a whole set, on the CPU.
    """

    def __init__(self, metrics: Callable[[Tensor, Tensor], dict[str, float]]) -> None:
        self.metrics = metrics
        self.kept: list[tuple[Tensor, Tensor]] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.kept.append((prediction, target))

    def result(self) -> dict[str, float]:
        return self.metrics(*(torch.cat(parts).cpu() for parts in zip(*self.kept, strict=True)))


@dataclass(frozen=True)
class Task:
    """One task of a multi-task problem.

    Attributes:
        name: Shown in tables.
        loss: `loss(prediction, target) -> (B,)`, the loss of every sample; finite also where a label is missing.
        meter: Makes an empty meter.
        mass: `mass(target) -> (B,)`, the share of every sample's label that is there, such as its valid pixels, in
            [0, 1]; None where a label is there or not as a whole, which the data set knows.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    meter: Callable[[], Meter]
    mass: Callable[[Tensor], Tensor] | None = None


def constant_metrics(data: Dataset) -> dict[str, dict[str, float]]:
    """Test metrics by classification task of answers that see no input: the class shares of the training set. What a
    network has learnt is beyond these."""
    found = {}
    for t, name in enumerate(data.task_names):
        seen, asked = (some.groups[t][some.mass[t] > 0] for some in (data.train, data.test))
        shares = torch.bincount(seen, minlength=int(max(seen.max(), asked.max())) + 1).clamp_min(1).log()
        meter = (binary(name) if data.kind == "binary" else multiclass(name)).meter()
        if data.kind == "binary":
            meter.update((shares[1] - shares[0]).expand(len(asked), 1), asked.float())
        else:
            meter.update(shares.expand(len(asked), -1), asked)
        found[name] = meter.result()
    return found


def binary(name: str) -> Task:
    """One-against-rest classification from logits `(B, 1)` or `(B,)` against labels in {0, 1}."""
    return Task(name, binary_loss, partial(WholeSet, binary_metrics))


def multiclass(name: str) -> Task:
    """Classification from logits `(B, C)` against labels in 0 .. C-1."""
    return Task(name, multiclass_loss, partial(WholeSet, multiclass_metrics))


def regression(name: str) -> Task:
    """Squared error, averaged over the output dimensions, of `(B, D)` predictions."""
    return Task(name, squared_error, partial(WholeSet, regression_metrics))


def binary_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats `(B,)`, stable because it never forms the probability."""
    return F.binary_cross_entropy_with_logits(prediction.reshape(target.shape), target, reduction="none")


def multiclass_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats `(B,)`."""
    return F.cross_entropy(prediction, target, reduction="none")


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every sample `(B,)`."""
    error = (prediction.reshape(target.shape) - target).square()
    return error if error.ndim == 1 else error.flatten(1).mean(1)


def binary_metrics(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Loss, ROC AUC, average precision, balanced accuracy, accuracy and F1 over a set of `N` samples.

    The ranking metrics need both classes; the caller's test sets have them, and torchmetrics warns where they do not.
    """
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

    logits, labels = prediction.reshape(-1).float(), target.reshape(-1).long()
    right = (logits > 0).long() == labels
    per_class = [right[labels == label].float().mean() for label in (0, 1)]
    return {
        "loss": float(binary_loss(logits, labels.to(logits.dtype)).mean()),
        "auc": float(binary_auroc(logits.sigmoid().double(), labels)),
        "average_precision": float(binary_average_precision(logits.sigmoid().double(), labels)),
        "balanced_accuracy": float(torch.stack(per_class).mean()),
        "accuracy": float(right.float().mean()),
        "f1": float(binary_f1_score(logits.sigmoid(), labels)),
    }


def multiclass_metrics(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Loss, accuracy, and ROC AUC of each class against the rest, averaged over classes, over a set of `N` samples."""
    from torchmetrics.functional.classification import multiclass_auroc

    return {
        "loss": float(multiclass_loss(prediction, target).mean()),
        "auc": float(multiclass_auroc(prediction.double().softmax(1), target, num_classes=prediction.shape[1])),
        "accuracy": float((prediction.argmax(1) == target).float().mean()),
    }


def regression_metrics(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Mean squared error (`loss`) and mean absolute error (`mae`) over a set, in the units of the target."""
    error = prediction.reshape(target.shape) - target
    return {"loss": float(error.square().mean()), "mae": float(error.abs().mean())}
