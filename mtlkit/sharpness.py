"""How sharp the training loss is where a run has come to, measured at its evaluations; `minima` compares runs by it."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtlkit.data.base import Samples
from mtlkit.steps import Outcome
from mtlkit.tasks import Task
from mtlkit.training import Run

RADIUS = 0.1
"""Length of a perturbation of a filter, relative to that of the filter."""

PAIRS = 8
"""Directions; each is taken forwards and backwards."""

SAMPLES = 2000
"""Of the training set, at most."""


class Measured(Run):
    """A run whose evaluations have `training`, what `sharpness` says of the training set."""

    def _end_of_epoch(self, outcomes: Sequence[Outcome], whole: Tensor, start: float) -> None:
        super()._end_of_epoch(outcomes, whole, start)
        done = self.history["evaluations"]
        if done and done[-1]["epoch"] == self.epoch:
            at_once = self.settings.evaluation_batch
            done[-1]["training"] = sharpness(self.network, self.tasks, self.train, batch=at_once)


def sharpness(network: nn.Module, tasks: Sequence[Task], samples: Samples, *, batch: int = 500) -> dict[str, float]:
    """`loss`, the mean over all tasks and samples, and `sharpness`, its mean rise when the parameters are perturbed.

    A perturbation is Gaussian noise of which every filter (row of a matrix, whole bias) has RADIUS times the length of
    the filter (Li et al. 2018, arXiv 1712.09913, section 4), so that scaling a layer up and the next one down changes
    nothing. Noise is taken with both signs: the slope cancels, and what is left is curvature, half RADIUS squared times
    a trace of the Hessian that is scaled so. All networks of one shape see the same noise. Without dropout.

    Args:
        network: Its parameters are left as they are.
        tasks: T tasks.
        samples: The first SAMPLES of them are used; missing labels do not count.
        batch: Samples at a time.
    """
    samples = samples.take(torch.arange(min(SAMPLES, len(samples)), device=samples.mass.device))
    loss = partial(_loss, network, tasks, samples, batch)
    own = {name: parameter.detach() for name, parameter in network.named_parameters()}
    random = torch.Generator().manual_seed(0)
    training = network.training
    network.eval()
    here, rises = loss(own), []
    for _ in range(PAIRS):
        noise = {name: RADIUS * _filterwise(parameter, random) for name, parameter in own.items()}
        around = [loss({name: own[name] + sign * noise[name] for name in own}) for sign in (1, -1)]
        rises.append(fmean(around) - here)
    network.train(training)
    return {"loss": here, "sharpness": fmean(rises)}


def _filterwise(parameter: Tensor, random: torch.Generator) -> Tensor:
    """Noise whose rows have the lengths of the parameter's."""
    noise = torch.randn(parameter.shape, generator=random).to(parameter)
    shape = (len(parameter), -1) if parameter.ndim > 1 else (1, -1)
    rows, lengths = noise.reshape(shape), parameter.reshape(shape).norm(dim=1, keepdim=True)
    return (rows * (lengths / rows.norm(dim=1, keepdim=True))).reshape(parameter.shape)


@torch.no_grad()
def _loss(network: nn.Module, tasks: Sequence[Task], samples: Samples, batch: int,
          parameters: Mapping[str, Tensor]) -> float:  # fmt: skip
    """The mean over tasks of their mean losses."""
    total = torch.zeros(len(tasks), dtype=torch.float64, device=samples.mass.device)
    for index in torch.arange(len(samples), device=samples.mass.device).split(batch):
        some = samples.take(index)
        predictions = functional_call(network, dict(parameters), (some.inputs,))
        for t, (task, prediction, target) in enumerate(zip(tasks, predictions, some.targets, strict=True)):
            total[t] += (some.mass[t] * task.loss(prediction, target)).double().sum()
    return float((total / samples.mass.double().sum(1).clamp_min(1)).mean())
