"""Forward-mode differentiation of a module's parameters, without the waste of the stock rules.

PyTorch's own forward mode is exact but wasteful in three ways: a convolution or linear layer with one tangent still
computes both products; tangents record a reverse graph; and normalisation layers expand into a dozen elementwise
operators. `LeanTangents` replaces the rule of those operators and leaves all others to PyTorch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

Slot = tuple[nn.Module, str]


def slots(module: nn.Module, parameters: Sequence[Tensor]) -> list[tuple[Slot, int]]:
    """Every place in `module` that holds one of `parameters` (tied weights have several), with its index."""
    index = {id(parameter): i for i, parameter in enumerate(parameters)}
    return [((owner, name), index[id(value)]) for owner in module.modules()
            for name, value in owner._parameters.items() if id(value) in index]  # fmt: skip


@contextmanager
def tangents(places: Sequence[tuple[Slot, int]], parameters: Sequence[Tensor],
             direction: Sequence[Tensor]) -> Iterator[None]:  # fmt: skip
    """Inside, `parameters` carry the tangents `direction` wherever `places` says, and operators propagate them.

    Leave it before calling `backward`: inside, the backward pass itself would be differentiated. The parameter slots
    are swapped by hand because `functional_call` costs more than the step of a small network. Fused attention has no
    forward mode, so attention runs by its plain formula here.
    """
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(p, t.to(p.dtype)) for p, t in zip(parameters, direction, strict=True)]
        try:
            for (owner, name), i in places:
                owner._parameters[name] = duals[i]
            with LeanTangents(), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            for (owner, name), i in places:
                owner._parameters[name] = parameters[i]


def split(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Primal (with its reverse graph) and tangent, which is None where nothing upstream carries one."""
    primal, tangent = forward_ad.unpack_dual(tensor)
    return primal, tangent


class LeanTangents(TorchFunctionMode):
    """Tangent rules for convolution, linear, ReLU in place, batch and group normalisation; the rest falls through."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        rule = RULES.get(function)
        result = rule(*args, **(kwargs or {})) if rule else NotImplemented
        return function(*args, **(kwargs or {})) if result is NotImplemented else result


def _pair(tensor: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if tensor is None else split(tensor)


def bilinear(function: Callable) -> Callable:
    """The rule of `y = function(x, weight) + bias`, linear in `x` and in `weight`: only the products that exist."""

    def rule(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        (x, dx), (w, dw), (b, db) = _pair(input), _pair(weight), _pair(bias)
        y = function(x, w, b, *args, **kwargs)
        with torch.no_grad():
            dy = None
            if dw is not None:
                dy = function(x, dw, db, *args, **kwargs)
            if dx is not None:
                through = function(dx, w, db if dw is None else None, *args, **kwargs)
                dy = through if dy is None else dy.add_(through)
            if dy is None and db is not None:
                return NotImplemented
        return y if dy is None else forward_ad.make_dual(y, dy)

    return rule


def _per_channel(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (like.ndim - 2))


def _batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
                bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
                eps: float = 1e-5) -> Tensor:  # fmt: skip
    """Batch normalisation in training mode. The Jacobian of `x -> (x - mean) / std` is symmetric, so the product with a
    tangent is what the fused backward kernel computes."""
    if not training:
        return NotImplemented
    (x, dx), (w, dw), (b, db) = _pair(input), _pair(weight), _pair(bias)
    y, mean, inverse_std = torch.native_batch_norm(x, w, b, running_mean, running_var, True, momentum, eps)
    with torch.no_grad():
        dy = None
        if dx is not None:
            dy = torch.ops.aten.native_batch_norm_backward(dx.contiguous(), x, w, running_mean, running_var, mean,
                                                           inverse_std, True, eps, [True, False, False])[0]  # fmt: skip
        if dw is not None:
            scale = dw * inverse_std
            shift = -mean * scale if db is None else torch.addcmul(db, mean, scale, value=-1)
            dy = torch.addcmul(_add(dy, _per_channel(shift, x)), x, _per_channel(scale, x))
        elif db is not None:
            dy = _add(dy, _per_channel(db, x).expand_as(x))
    return y if dy is None else forward_ad.make_dual(y, dy)


def _group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
                eps: float = 1e-5) -> Tensor:  # fmt: skip
    """Group normalisation, by the same symmetry."""
    if input.is_cuda and weight is not None and weight.dtype != input.dtype:
        input = input.to(weight.dtype)  # as autocast does it on a GPU, where the kernel takes one type only
    (x, dx), (w, dw), (b, db) = _pair(input), _pair(weight), _pair(bias)
    batch, channels = x.shape[:2]
    size = x[0, 0].numel()
    y, mean, inverse_std = torch.native_group_norm(x, w, b, batch, channels, size, num_groups, eps)
    with torch.no_grad():
        dy = None
        if dx is not None:
            dy = torch.ops.aten.native_group_norm_backward(
                dx.contiguous(), x.contiguous(), mean, inverse_std, None, batch, channels, size, num_groups,
                [True, False, False],
            )[0]  # fmt: skip
            dy = dy if w is None else dy * _per_channel(w, x)
        if dw is not None or db is not None:
            dy = _add(dy, F.group_norm(x, num_groups, torch.zeros_like(w) if dw is None else dw, db, eps))
    return y if dy is None else forward_ad.make_dual(y, dy)


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    """ReLU in place, done out of place: a dual tensor is a view, and for a value written into a view the backward pass
    makes three copies."""
    x, dx = split(input) if inplace else (input, None)
    if dx is None:
        return NotImplemented
    y = torch.relu(x)
    with torch.no_grad():
        dy = torch.ops.aten.threshold_backward(dx, y, 0)
    return forward_ad.make_dual(y, dy)


def _add(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first + second


RULES: dict[Callable, Callable] = {
    torch.conv1d: bilinear(torch.conv1d),
    torch.conv2d: bilinear(torch.conv2d),
    torch.conv3d: bilinear(torch.conv3d),
    F.linear: bilinear(F.linear),
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.relu: _relu,
}
