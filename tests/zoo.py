"""Tiny problems of every supported kind, and the slow and obvious oracle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit import nets
from mtlkit.optimizers import make_optimizer
from mtlkit.steps import Step, make_step
from mtlkit.tasks import binary_loss
from mtlkit.weighting import Direction, build


@dataclass
class Problem:
    """A network, its losses and a batch, in float64."""

    network: nn.Module
    losses: list[Callable]
    inputs: Tensor
    targets: Tensor
    path: str  # the path that `auto` must choose


class EncoderDecoder(nets.SharedEncoder):
    """Convolutions with batch normalisation in the encoder and in every head, a per-pixel output."""

    def __init__(self, tasks: int, width: int = 8) -> None:
        def block(i: int, o: int) -> list[nn.Module]:
            return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

        encoder = nn.Sequential(*block(3, width), nn.MaxPool2d(2), *block(width, 2 * width), nn.MaxPool2d(2))
        heads = [nn.Sequential(*block(2 * width, width), *block(width, width), nn.Conv2d(width, 1, 1),
                               nn.Upsample(scale_factor=4, mode="bilinear")) for _ in range(tasks)]  # fmt: skip
        super().__init__(encoder, heads)


class Attention(nn.Module):
    """Two transformer layers over a sequence, mean-pooled; dropout is on."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.embed = nn.Linear(3, width)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(self.embed(inputs)).mean(1)


class Unsplit(nn.Module):
    """A network without the encoder and heads attributes."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8))
        self.tops = nn.ModuleList(nn.Linear(8, 1) for _ in range(tasks))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.body(inputs)
        return [top(features) for top in self.tops]

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())


class NoForwardMode(torch.autograd.Function):
    """A cube whose backward can be differentiated but that has no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Cube(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NoForwardMode.apply(x)


class NoSecondDerivative(torch.autograd.Function):
    """Neither forward mode nor a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class OpaqueCube(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NoSecondDerivative.apply(x)


def pixel_loss(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().flatten(1).mean(1)


def _heads(width: int, tasks: int) -> list[nn.Module]:
    return [nn.Linear(width, 1) for _ in range(tasks)]


def _conv(normalisation: nn.Module, *more: nn.Module) -> nn.Module:
    grouped = nn.Conv2d(4, 6, 3, groups=2, stride=2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), normalisation, nn.ReLU(), grouped, *more, nn.Flatten())


def _tied() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh())


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], str]] = {
    "mlp": (lambda t: nets.mlp(t, 6, head_width=4, shared_width=8), (6,), "representation"),
    "lenet": (nets.lenet, (3, 32, 32), "representation"),
    "light_lenet": (nets.light_lenet, (3, 32, 32), "representation"),
    "resnet18": (nets.resnet18, (3, 32, 32), "representation"),
    "encoder_decoder": (EncoderDecoder, (3, 16, 16), "network"),
    "group_norm": (lambda t: nets.SharedEncoder(_conv(nn.GroupNorm(2, 4)), _heads(54, t)), (3, 9, 9), "representation"),
    "group_norm_heads": (
        lambda t: nets.SharedEncoder(
            nn.Linear(6, 8), [nn.Sequential(nn.GroupNorm(2, 8), nn.Linear(8, 1)) for _ in range(t)]
        ),
        (6,),
        "representation",
    ),
    "batch_norm_plain": (
        lambda t: nets.SharedEncoder(_conv(nn.BatchNorm2d(4, affine=False)), _heads(54, t)),
        (3, 9, 9),
        "representation",
    ),
    "dropout": (
        lambda t: nets.SharedEncoder(
            nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5)),
            [nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 1)) for _ in range(t)],
        ),
        (6,),
        "representation",
    ),
    "attention": (lambda t: nets.SharedEncoder(Attention(), _heads(8, t)), (5, 3), "representation"),
    "unsplit": (Unsplit, (6,), "network"),
    "tied": (lambda t: nets.SharedEncoder(_tied(), _heads(6, t)), (6,), "representation"),
    "no_forward_mode": (
        lambda t: nets.SharedEncoder(nn.Sequential(nn.Linear(6, 5), Cube()), _heads(5, t)),
        (6,),
        "double_backward",
    ),
}


def problem(name: str, tasks: int = 3, batch: int = 5, seed: int = 0) -> Problem:
    """A problem of the zoo, in training mode and float64."""
    torch.manual_seed(seed)
    build, shape, path = NETWORKS[name]
    network = build(tasks).double().train()
    inputs = torch.randn(batch, *shape, dtype=torch.float64)
    if name == "encoder_decoder":
        return Problem(network, [pixel_loss] * tasks, inputs, torch.randn(tasks, batch, 1, 16, 16).double(), path)
    return Problem(network, [binary_loss] * tasks, inputs, (torch.rand(tasks, batch) > 0.5).double(), path)


def matrix(problem: Problem) -> Tensor:
    """The loss matrix, by the obvious loop; batch normalisation keeps its running statistics out of it."""
    predictions = problem.network(problem.inputs)
    return torch.stack([f(p, t) for f, p, t in zip(problem.losses, predictions, problem.targets, strict=True)])


def step_of(name: str, network: nn.Module, losses: list[Callable], inputs: Tensor, options: dict | None = None,
            **more: Any) -> Step:  # fmt: skip
    """The step of a method, with all that it may need."""
    rule = build(name, len(losses), options or {})
    if isinstance(rule, Direction):
        rule.attach(network, inputs)
        network.to(inputs)
    more.setdefault("optimizer", make_optimizer("sgd", network.parameters(), learning_rate=0.01))
    return make_step(network, losses, rule, **more)


NEED_HEADS = {"l2rw", "auto_lambda", "graddrop", "rotograd", "aligned_selection"}
"""Methods that refuse a network without `encoder` and `heads`."""


def loop_scores(problem: Problem, parameters: list[Tensor], direction: list[Tensor]) -> Tensor:
    """`<grad L[t, i], v>` by one backward pass for every task and sample."""
    losses = matrix(problem)
    scores = torch.zeros_like(losses)
    for t in range(losses.shape[0]):
        for i in range(losses.shape[1]):
            gradient = torch.autograd.grad(losses[t, i], parameters, retain_graph=True, allow_unused=True)
            scores[t, i] = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True) if g is not None)
    return scores.detach()
