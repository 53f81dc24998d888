"""The gradient of the main task on the reference batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Loss = Callable[[Tensor, Tensor], Tensor]


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


def reference_pass(network: nn.Module, losses: Sequence[Loss], inputs: Tensor, targets: Sequence[Tensor],
                   parameters: Sequence[Tensor], main: Tensor | None = None,
                   update: Tensor | None = None) -> list[Tensor] | None:  # fmt: skip
    """One pass over a reference batch of `R` samples, in the network's present mode, running statistics frozen.

    Args:
        network: A network with `encoder` and `heads`, or one that returns the predictions of all tasks.
        losses: The T per-sample losses.
        inputs: `(R, ...)`.
        targets: T targets, `(R, ...)` each.
        parameters: What to differentiate with respect to.
        main: `(R,)`, weights of the main task's losses; None if its gradient is not wanted.
        update: `(T, R)`, weights with which the batch takes part in the update: `(update * L).sum()` is backpropagated
            into `.grad`. None if it takes no part.

    Returns:
        The gradient of `(main * L[0]).sum()`, one tensor per parameter (zeros where it does not depend on it), or None.
    """
    with frozen_statistics(network):
        if update is None and hasattr(network, "main"):
            matrix = losses[0](network.main(inputs), targets[0])[None]
        else:
            predictions = network(inputs)
            used = predictions if update is not None else predictions[:1]
            matrix = torch.stack([loss(p, t) for loss, p, t in zip(losses, used, targets, strict=False)])
    gradient = None
    if main is not None:
        gradient = torch.autograd.grad((main * matrix[0]).sum(), parameters, retain_graph=update is not None,
                                       allow_unused=True)  # fmt: skip
        gradient = [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, parameters, strict=True)]
    if update is not None:
        (update * matrix).sum().backward()
    return gradient


def length(direction: Sequence[Tensor]) -> Tensor:
    """The length of the direction, `()`, on its device: dividing scores by it saves a scaled copy of the direction."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(direction))))
