"""The loss matrix, and the gradient of the main task on the reference batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

Loss = Callable[[Tensor, Tensor], Tensor]

Inputs = Tensor | Sequence[Tensor]
"""`(B, ...)` for all tasks, or T tensors `(B_t, ...)` where every task has inputs of its own."""


def loss_rows(losses: Sequence[Loss], predictions: Iterable[Tensor], targets: Iterable[Tensor]) -> list[Tensor]:
    """The losses of every task's samples, T tensors `(B_t,)`."""
    return [loss(p, t) for loss, p, t in zip(losses, predictions, targets, strict=True)]


def padded(rows: Sequence[Tensor]) -> Tensor:
    """`(T, B)` from T tensors `(B_t,)`, B the largest B_t; shorter ones end in zeros, where there is no mass either."""
    size = max(map(len, rows))
    return torch.stack([row if len(row) == size else F.pad(row, (0, size - len(row))) for row in rows])


def totals(weights: Iterable[Tensor], rows: Iterable[Tensor]) -> list[Tensor]:
    """T weighted sums of losses; weights `(T, B)`. The gradient of one goes through no other task's losses."""
    return [(w[: len(row)].to(row.dtype) * row).sum() for w, row in zip(weights, rows, strict=True)]


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the statistics of the batch, as in training, but leaves its running averages alone."""
    layers = [m for m in network.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def reference_pass(network: nn.Module, losses: Sequence[Loss], inputs: Inputs, targets: Sequence[Tensor],
                   parameters: Sequence[Tensor], main: Tensor | None = None,
                   update: Tensor | None = None) -> list[Tensor] | None:  # fmt: skip
    """One pass over a reference batch of `R` samples, in the network's present mode, running statistics frozen.

    Args:
        network: A network with `encoder` and `heads`, or one that returns the predictions of all tasks.
        losses: The T per-sample losses.
        inputs: `(R, ...)`, or T tensors `(R_t, ...)`, R the largest.
        targets: T targets, `(R_t, ...)` each.
        parameters: What to differentiate with respect to.
        main: `(R,)`, weights of the main task's losses; None if its gradient is not wanted.
        update: `(T, R)`, weights with which the batch takes part in the update: `(update * L).sum()` is backpropagated
            into `.grad`. None if it takes no part.

    Returns:
        The gradient of `(main * L[0]).sum()`, one tensor per parameter (zeros where it does not depend on it), or None.
    """
    with frozen_statistics(network):
        if update is not None:
            rows = loss_rows(losses, network(inputs), targets)
        else:
            rows = [losses[0](network.main(inputs) if hasattr(network, "main") else network(inputs)[0], targets[0])]
    gradient = None
    if main is not None:
        gradient = torch.autograd.grad(totals([main], rows[:1]), parameters, retain_graph=update is not None,
                                       allow_unused=True)  # fmt: skip
        gradient = [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, parameters, strict=True)]
    if update is not None:
        (update * padded(rows)).sum().backward()
    return gradient


def length(direction: Sequence[Tensor]) -> Tensor:
    """The length of the direction, `()`, on its device: dividing scores by it saves a scaled copy of the direction."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(direction))))
