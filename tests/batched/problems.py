"""Runs that differ in their seed alone, small and in float64."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit import nets, tasks
from mtlkit.data import toy
from mtlkit.data.base import Dataset, Samples, generator
from mtlkit.training import Run, Settings
from mtlkit.weighting import Direction, build

SEEDS = (0, 1, 2)


def double(samples: Samples) -> Samples:
    values = {field.name: getattr(samples, field.name) for field in fields(samples)}
    return replace(samples, **{name: value.double() for name, value in values.items()
                               if isinstance(value, Tensor) and value.dtype == torch.float32})  # fmt: skip


def doubled(data: Dataset) -> Dataset:
    return replace(data, **{name: double(getattr(data, name)) for name in ("train", "reference", "tuning", "test")})


def toys(seed: int, kind: str = "classification") -> tuple[Dataset, nn.Module]:
    """Three tasks of 32 samples; some labels of the main task are wrong, and some are missing."""
    data = toy.load(seed, tasks=3, input_dimension=6, kind=kind, noise=0.3, train=32, reference=20, tuning=16, test=30)
    data.train.mass[1:] = (torch.rand(2, 32, generator=generator(seed, "missing")) < 0.8).float()
    return doubled(data), nets.mlp(3, 6, shared_layers=2, shared_width=8, head_width=5)


def images(seed: int, network: str = "light_lenet") -> tuple[Dataset, nn.Module]:
    """Two one-against-rest tasks on random images."""
    draws = generator(seed, "images")

    def split(size: int) -> Samples:
        labels = torch.randint(2, (1, size), generator=draws)
        labels = torch.cat([labels, 1 - labels])
        flipped = torch.rand(2, size, generator=draws) < 0.2
        return Samples(torch.randn(size, 3, 32, 32, generator=draws), labels.float(), labels, flipped)

    data = Dataset("random", "random", "", ["a", "b"], "binary", *map(split, (12, 8, 8, 8)), facts={})
    made = {"lenet": lambda: nets.lenet(2, head_width=12), "light_lenet": lambda: nets.light_lenet(2),
            "resnet": _small_resnet}  # fmt: skip
    return doubled(data), made[network]()


def _small_resnet() -> nets.SharedEncoder:
    """Batch normalisation in encoder and heads, which then mix samples."""
    from torchvision.models.resnet import BasicBlock

    stem = [nn.Conv2d(3, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), BasicBlock(4, 4)]
    heads = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2)]
    return nets.SharedEncoder(nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten()), heads)


def made(problem: Any, seed: int, rule: str, options: dict | None = None, kind_of_run: type[Run] = Run,
         **settings: Any) -> Run:  # fmt: skip
    """A run of three epochs."""
    torch.manual_seed(seed)
    data, network = problem(seed)
    kind = tasks.binary if data.kind == "binary" else tasks.regression
    weighting = build(rule, len(data.task_names), (options or {}) | {"seed": seed}).double()
    network = network.double()
    if isinstance(weighting, Direction):
        weighting.attach(network, data.train.inputs[:2])
    settings = {"epochs": 3, "batch_size": 8, "reference_batch": 6, "learning_rate": 0.1, "evaluations": 2,
                "seed": seed} | settings  # fmt: skip
    return kind_of_run(network, [kind(name) for name in data.task_names], weighting, data, Settings(**settings))
