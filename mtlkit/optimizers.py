"""Optimizers that can leave out an update on the device."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtlkit.errors import MtlkitError, one_of


def make_optimizer(name: str, parameters: Iterable[Tensor], *, learning_rate: float, momentum: float = 0.9,
                   betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0,
                   of_the_rule: Sequence[Tensor] = ()) -> Optimizer:  # fmt: skip
    """SGD with momentum, or Adam, in the fused form, which can leave out an update on the device (`guarded_step`).

    Args:
        name: `sgd` or `adam`.
        parameters: Of the network.
        learning_rate: Of both.
        momentum: Of SGD.
        betas: Of Adam.
        weight_decay: L2 penalty on the network's parameters, added to the gradient.
        of_the_rule: What a weighting rule learns; without weight decay.
    """
    one_of("optimizer", name, ("sgd", "adam"))
    groups = [{"params": list(parameters), "weight_decay": weight_decay}]
    if of_the_rule:
        groups.append({"params": list(of_the_rule), "weight_decay": 0.0})
    if name == "adam":
        return torch.optim.Adam(groups, learning_rate, betas, fused=True)
    optimizer = torch.optim.SGD(groups, learning_rate, momentum, fused=True)
    if momentum > 0:
        # The fused kernel leaves its buffer uninitialised if the very first update is left out; zeros give the same.
        for group in groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def guarded_step(optimizer: Optimizer, skip: Tensor) -> None:
    """`optimizer.step()` unless `skip`, decided on the device; the optimizer's state stays as it was too.

    Raises:
        MtlkitError: The optimizer was not made with `fused=True`, the form that can leave out an update.
    """
    if not optimizer.defaults.get("fused"):
        raise MtlkitError("a step can be left out on the device by a fused optimizer only; make it with fused=True.")
    optimizer.grad_scale, optimizer.found_inf = None, skip.to(torch.float32)
    optimizer.step()
    del optimizer.grad_scale, optimizer.found_inf
