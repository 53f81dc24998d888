"""Networks of one shape, one for each of S seeds, as one network.

Sample `b * S + s` of a batch belongs to seed s. A parameter is those of all seeds, one after the other along dimension
0, and the gradient of a seed's samples is zero outside its own part. For whoever looks from outside, the engine among
them, this is a network like any other, with one encoder and a head per task. Convolutions become grouped ones, linear
layers one batched product, batch normalisation sees the channels of all seeds side by side; what has no parameters
treats the samples one by one and stays as it is.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import handle_torch_function, has_torch_function_variadic

from mtlkit.engine.forward_mode import RULES, bilinear
from mtlkit.nets import SharedEncoder


def refusal(networks: Sequence[nn.Module]) -> str | None:
    """Why `stack` cannot make these one; None where it can."""
    first = networks[0]
    if type(first) is not SharedEncoder:
        return f"the network, {type(first).__name__}, is not a SharedEncoder"
    shapes = [[(name, value.shape) for name, value in network.state_dict().items()] for network in networks]
    if any(one != shapes[0] for one in shapes):
        return "the networks of the seeds have different shapes"
    if any(network.state_dict()[name].dtype != value.dtype for network in networks
           for name, value in first.state_dict().items()):  # fmt: skip
        return "the networks of the seeds have different types"
    if len(list(first.named_parameters(remove_duplicate=False))) > len(list(first.parameters())):
        return "parameters are used in several places"
    for module in first.modules():
        if isinstance(module, _DropoutNd) and module.p > 0:
            return "dropout would draw other masks"
        own = [*module._parameters.values(), *module._buffers.values()]
        if any(value is not None for value in own) and _wrapper(module) is None:
            return f"there is no batched form of {type(module).__name__}"
    return None


def stack(networks: Sequence[SharedEncoder]) -> SharedEncoder:
    """One network whose parameters and buffers are those of all `networks`; these hold views of their parts from then
    on, so that they can be evaluated, saved, restored and updated one by one."""
    whole = copy.deepcopy(networks[0])
    made: dict[int, nn.Module] = {}
    for name, module in list(whole.named_modules()):
        wrapper = _wrapper(module)
        if wrapper is not None and id(module) not in made:
            _join(module, [network.get_submodule(name) for network in networks])
            made[id(module)] = wrapper(module, len(networks))
    for module in list(whole.modules()):
        for name, child in module._modules.items():
            module._modules[name] = made.get(id(child), child)
    return whole


def _join(into: nn.Module, layers: Sequence[nn.Module]) -> None:
    for name, value in into._parameters.items():
        if value is not None:
            parts = [layer._parameters[name] for layer in layers]
            joined = nn.Parameter(torch.cat([part.detach() for part in parts]), requires_grad=value.requires_grad)
            into._parameters[name] = joined
            for part, own in zip(parts, joined.detach().chunk(len(layers)), strict=True):
                part.data = own
    for name, value in into._buffers.items():
        if value is not None:
            # A batch is counted once for all.
            joined = value if value.ndim == 0 else torch.cat([layer._buffers[name] for layer in layers])
            into._buffers[name] = joined
            own = [joined] * len(layers) if value.ndim == 0 else joined.chunk(len(layers))
            for layer, part in zip(layers, own, strict=True):
                layer._buffers[name] = part


class _SideBySide(nn.Module):
    """A layer that sees the channels of all seeds side by side: a convolution in groups, or batch normalisation."""

    def __init__(self, layer: nn.Module, seeds: int) -> None:
        super().__init__()
        self.layer, self.seeds = layer, seeds
        if isinstance(layer, _ConvNd):
            layer.groups *= seeds

    def forward(self, x: Tensor) -> Tensor:
        """`(B S, C, ...)` to `(B S, C', ...)`."""
        return self.layer(x.reshape(-1, self.seeds * x.shape[1], *x.shape[2:])).unflatten(1, (self.seeds, -1)).flatten(
            0, 1)  # fmt: skip


class _LinearOfEach(nn.Module):
    def __init__(self, layer: nn.Linear, seeds: int) -> None:
        super().__init__()
        self.layer, self.seeds = layer, seeds

    def forward(self, x: Tensor) -> Tensor:
        """`(B S, I)` to `(B S, O)`."""
        weight, bias = self.layer.weight, self.layer.bias
        return linear_of_each(x, weight.unflatten(0, (self.seeds, -1)),
                              None if bias is None else bias.unflatten(0, (self.seeds, -1)))  # fmt: skip


def linear_of_each(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`(B S, O)` from `(B S, I)`, weights `(S, O, I)` and biases `(S, O)`."""
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(linear_of_each, (input, weight, bias), input, weight, bias)
    x, seeds = input.unflatten(0, (-1, len(weight))).transpose(0, 1), weight.mT
    y = torch.bmm(x, seeds) if bias is None else torch.baddbmm(bias[:, None], x, seeds)
    return y.transpose(0, 1).flatten(0, 1)


RULES[linear_of_each] = bilinear(linear_of_each)


def _wrapper(module: nn.Module) -> type[nn.Module] | None:
    if isinstance(module, nn.Linear):
        return _LinearOfEach
    convolution = isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd)
    return _SideBySide if convolution or isinstance(module, _BatchNorm) else None
