"""Optimizers that can leave out an update on the device."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.errors import MtlkitError, one_of

OPTIMIZERS = ("sgd", "adam", "adamw")


def make_optimizer(name: str, parameters: Iterable[Tensor], *, learning_rate: float, momentum: float = 0.9,
                   betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0, clip: float = 0.0,
                   of_the_rule: Sequence[Tensor] = ()) -> Optimizer:  # fmt: skip
    """SGD with momentum, Adam or AdamW, in the fused form, which can leave out updates on the device (`guarded_step`).

    Args:
        name: A name in `OPTIMIZERS`.
        parameters: Of the network.
        learning_rate: Of all.
        momentum: Of SGD.
        betas: Of Adam and AdamW.
        weight_decay: Of the network's parameters: an L2 penalty, added to the gradient; with AdamW the share of them,
            times the learning rate, that every update takes off (Loshchilov & Hutter 2019, arXiv 1711.05101).
        clip: Before every update the gradient of the network's parameters is scaled down to this length, if it is
            longer; 0 leaves it as it is.
        of_the_rule: What a weighting rule learns; without weight decay and not clipped.
    """
    one_of("optimizer", name, OPTIMIZERS)
    groups = [{"params": list(parameters), "weight_decay": weight_decay}]
    if of_the_rule:
        groups.append({"params": list(of_the_rule), "weight_decay": 0.0})
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, learning_rate, momentum, fused=True)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](groups, learning_rate, betas,
                                                                                 fused=True)  # fmt: skip
    if clip > 0:
        optimizer.register_step_pre_hook(partial(_clip, limit=clip))
    if name == "sgd" and momentum > 0:
        # The fused kernel leaves its buffer uninitialised if the very first update is left out; zeros give the same.
        for group in groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def guarded_step(optimizer: Optimizer, skip: Tensor) -> Tensor:
    """`optimizer.step()` unless `skip`, decided on the device; the optimizer's state stays as it was too.

    Returns:
        Whether the update was left out, `()` bool: also where gradients to clip are not finite.

    Raises:
        MtlkitError: The optimizer was not made with `fused=True`, the form that can leave out an update.
    """
    if not optimizer.defaults.get("fused"):
        raise MtlkitError("a step can be left out on the device by a fused optimizer only; make it with fused=True.")
    optimizer.grad_scale, optimizer.found_inf = None, skip.to(torch.float32)
    optimizer.step()
    left_out = optimizer.found_inf > 0
    del optimizer.grad_scale, optimizer.found_inf
    return left_out


def _clip(optimizer: Optimizer, *_: object, limit: float) -> None:
    """Before a step, without waiting for the length of the gradient."""
    length = nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], limit)
    if hasattr(optimizer, "found_inf"):
        optimizer.found_inf = torch.where(torch.isfinite(length), optimizer.found_inf, 1.0)
