"""What is compared: networks with random data, and one step of training by every method."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlkit import nets, tasks, text_tasks
from mtlkit.bench.timing import Method
from mtlkit.data.base import Samples, generator
from mtlkit.data.separate import Separate
from mtlkit.engine import reference_pass
from mtlkit.engine.reference import Loss
from mtlkit.nets.separate import SeparateInputs
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.steps import make_step
from mtlkit.weighting import Direction, build


def encoder_decoder(tasks: int, width: int = 32) -> nets.SharedEncoder:
    """Dense prediction: batch normalisation in the encoder and in every head, so that the heads mix samples."""

    def block(i: int, o: int) -> list[nn.Module]:
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    encoder = [*block(3, width), nn.MaxPool2d(2), *block(width, 2 * width), nn.MaxPool2d(2),
               *block(2 * width, 4 * width)]  # fmt: skip
    heads = [nn.Sequential(*block(4 * width, width), *block(width, width), nn.Conv2d(width, 1, 1),
                           nn.Upsample(scale_factor=4, mode="bilinear")) for _ in range(tasks)]  # fmt: skip
    return nets.SharedEncoder(nn.Sequential(*encoder), heads)


def dmtl(tasks: int) -> nets.SharedEncoder:
    """The network of NYUv2, ResNet-50 and a head per task, at a third of the size of its images."""
    return nets.deeplab([1] * tasks, backbone="resnet50", pretrained="none")


@dataclass(frozen=True)
class Problem:
    """A network for T tasks, its loss, the shape of one input and of one target, and the cells (T, B) to measure.

    Attributes:
        classes: Targets are int64 in [0, C); 0 for float targets in {0, 1}.
        pieces: Inputs are word pieces in [1, pieces); 0 for normally distributed ones.
        separate: Whether every task has B inputs of its own.
    """

    network: Callable[[int], nets.MultiTaskNetwork]
    loss: Loss
    shape: tuple[int, ...]
    target: tuple[int, ...]
    cells: list[tuple[int, int]]
    classes: int = 0
    pieces: int = 0
    separate: bool = False

    def batch(self, tasks: int, size: int, device: str = "cpu", seed: int = 0) -> Samples:
        """Random inputs `(B, *shape)` and targets `(T, B, *target)`; with `separate`, T tensors of each."""
        if self.separate:
            every = torch.arange(size, device=device).expand(tasks, -1)
            return Separate([self._samples(1, size, seed + t) for t in range(tasks)]).to(device).take(every)
        return self._samples(tasks, size, seed).to(device)

    def _samples(self, tasks: int, size: int, seed: int) -> Samples:
        draws, shape = generator(seed, "bench"), (size, *self.shape)
        inputs = (torch.randint(1, self.pieces, shape, generator=draws) if self.pieces
                  else torch.randn(shape, generator=draws))  # fmt: skip
        targets = torch.randint(self.classes or 2, (tasks, size, *self.target), generator=draws)
        return Samples(inputs, targets if self.classes else targets.float())


TAGS = [f"T{c}" for c in range(17)]
IMAGE = (3, 32, 32)
GRID = [(10, 64), *((t, b) for t in (2, 10, 40) for b in (16, 64, 256) if (t, b) != (10, 64))]
PROBLEMS = {
    "lenet": Problem(nets.lenet, tasks.binary_loss, IMAGE, (), GRID),
    "light_lenet": Problem(nets.light_lenet, tasks.binary_loss, IMAGE, (), GRID),
    "mlp": Problem(lambda t: nets.mlp(t, head_width=64), tasks.squared_error, (250,), (), [(2, 64)]),
    "resnet18": Problem(nets.resnet18, tasks.binary_loss, IMAGE, (), [(3, 32), (3, 64)]),
    "encoder_decoder": Problem(encoder_decoder, tasks.squared_error, (3, 64, 64), (1, 64, 64), [(3, 16)]),
    "dmtl": Problem(dmtl, tasks.squared_error, (3, 96, 128), (1, 96, 128), [(3, 8)]),
    "office": Problem(lambda t: nets.office(t, 7, pretrained="none"), tasks.multiclass("").loss, IMAGE, (), [(4, 32)],
                      classes=7, separate=True),
    "celeba": Problem(lambda t: nets.celeba(t, width=16), tasks.binary_loss, (3, 64, 64), (), [(40, 64)]),
    "transformer": Problem(lambda t: nets.text(t, len(TAGS), 4000), text_tasks.tagging("", TAGS).loss, (32,), (32,),
                           [(4, 32)], classes=len(TAGS), pieces=4000, separate=True),
}  # fmt: skip
"""The first cell of each is the one for a quick look."""


def plain_step(network: nn.Module, loss: Loss, batch: Samples) -> Method:
    """Equal weighting as one would write it by hand."""
    optimizer = make_optimizer("sgd", network.parameters(), learning_rate=1e-3)

    def step() -> None:
        predictions = network(batch.inputs)
        torch.stack([loss(p, t) for p, t in zip(predictions, batch.targets, strict=True)]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def weighted_step(network: nn.Module, loss: Loss, batch: Samples, reference: Samples | None,
                  rule: str = "slgrad") -> Method:  # fmt: skip
    """One of our methods."""
    method = build(rule, len(batch.targets)).to(batch.mass.device)
    if isinstance(method, Direction):
        method.attach(network, batch.inputs[:2])
    optimizer = make_optimizer("sgd", network.parameters(), learning_rate=1e-3, of_the_rule=list(method.parameters()))
    step = make_step(network, [loss] * len(batch.targets), method, optimizer=optimizer)

    def whole() -> None:
        guarded_step(optimizer, step(batch, reference).skip)
        step.after(batch)
        optimizer.zero_grad()
        if "direction" in step.state_dict():  # the memory of the next step counts it again
            step.load_state_dict(step.state_dict() | {"direction": None})

    return whole


def vmap_step(network: nn.Module, loss: Loss, batch: Samples, reference: Samples) -> Method:
    """SLGrad from the explicit gradients of all samples, by `vmap(grad)`, task after task."""
    optimizer = make_optimizer("sgd", network.parameters(), learning_rate=1e-3)
    separate = isinstance(network, SeparateInputs)
    encoder = network.backbone if separate else network.encoder
    shared = dict(encoder.named_parameters())
    main = torch.full_like(reference.mass[0], 1 / len(reference))
    inputs = batch.inputs if separate else [batch.inputs] * len(batch.targets)

    @torch.no_grad()
    def gradients(head: nn.Module, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return loss(head(torch.func.functional_call(encoder, parameters, (x[None],))), y[None])[0]

        return torch.func.vmap(torch.func.grad(one), (None, 0, 0), randomness="different")(shared, x, targets)

    def step() -> None:
        v = reference_pass(network, [loss], reference.inputs, reference.targets, list(shared.values()), main)
        each = (gradients(*of).values() for of in zip(network.heads, inputs, batch.targets, strict=True))
        rows = [sum(g.flatten(1) @ d.flatten() for g, d in zip(gs, v, strict=True)) for gs in each]
        weights = torch.stack(rows).clamp_min(0)
        matrix = torch.stack([loss(p, t) for p, t in zip(network(batch.inputs), batch.targets, strict=True)])
        (weights / weights.sum() * matrix).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def one_of_the_loop(network: nn.Module, loss: Loss, batch: Samples) -> Method:
    """What the SLGrad release does T x B times a step: a backward pass, a copy of the shared gradients, a product. Its
    T forward passes and two updates are left out."""
    shared = list(network.shared_parameters())
    direction = [torch.randn_like(parameter) for parameter in shared]
    losses = loss(network.main(batch.inputs), batch.targets[0])

    def one() -> None:
        losses[0].backward(retain_graph=True)
        gradient = copy.deepcopy([parameter.grad for parameter in shared])
        sum((g * v).sum() for g, v in zip(gradient, direction, strict=True)).item()
        network.zero_grad()

    return one


STEPS: dict[str, tuple[Callable[..., Method], float | None]] = {
    "plain": (plain_step, None),
    "B": (weighted_step, 1),
    "B/4": (weighted_step, 0.25),
    "loop": (one_of_the_loop, None),
    "vmap": (vmap_step, 0.25),
}
"""What is compared, and the size of its reference batch as a share of B."""


def make(key: str, name: str, count: int, size: int, device: str = "cpu") -> Method:
    """An entry of `STEPS` for an entry of `PROBLEMS` with T = `count` and B = `size`, and fresh parameters."""
    (step, share), problem = STEPS[key], PROBLEMS[name]
    torch.manual_seed(0)
    network = problem.network(count).to(device)
    reference = [] if share is None else [problem.batch(count, round(size * share), device, seed=1)]
    return step(network, problem.loss, problem.batch(count, size, device), *reference)
