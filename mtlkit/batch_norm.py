"""Batch normalisation over the parts that several processes have of a batch, in every mode of differentiation.

PyTorch's `SyncBatchNorm` runs on GPUs only and has neither a forward mode nor a second derivative, which alignments
need. This one is the formula, with sums over processes that can be differentiated: what it gives, and each derivative,
is what one process with the whole batch has.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(network: nn.Module) -> None:
    """Makes all batch normalisation of the network see whole batches, in training; parts are of one size."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = partial(_normalised, layer)


def _normalised(layer: _BatchNorm, inputs: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, inputs)
    layer._check_input_dim(inputs)
    dims, shape = [0, *range(2, inputs.ndim)], [1, -1, *[1] * (inputs.ndim - 2)]
    count = inputs.numel() // inputs.shape[1] * distributed.get_world_size()
    values = inputs if inputs.dtype == torch.float64 else inputs.float()
    mean = Total.apply(values.sum(dims)) / count
    centred = values - mean.view(shape)
    variance = Total.apply(centred.square().sum(dims)) / count
    if layer.track_running_stats:
        _track(layer, mean.detach(), variance.detach() * (count / max(1, count - 1)))
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is None:
        return (centred * scale.view(shape)).to(inputs.dtype)
    return (centred * (scale * layer.weight).view(shape) + layer.bias.view(shape)).to(inputs.dtype)


@torch.no_grad()
def _track(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    layer.num_batches_tracked.add_(1)
    rate = 1 / layer.num_batches_tracked.to(mean.dtype) if layer.momentum is None else layer.momentum
    for running, now in ((layer.running_mean, mean), (layer.running_var, variance)):
        running.copy_(running + rate * (now - running))


class Total(torch.autograd.Function):
    """The sum of all processes' tensors. Each process's derivatives are those of the sum of all processes' losses."""

    @staticmethod
    def forward(part: Tensor) -> Tensor:
        whole = part.detach().clone()
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Linear: nothing is kept."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Total.apply(gradient)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return Total.apply(tangent)
