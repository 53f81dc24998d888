"""How a network's forward pass runs: number format and memory format."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.engine.reference import Inputs

PRECISIONS = ("float32", "bfloat16")


def prepared(network: nn.Module, *, precision: str = "float32", channels_last: bool = False) -> nn.Module:
    """What steps and evaluation call in place of the network; the network itself where nothing is asked for.

    Args:
        network: Its parameters stay the same tensors, of the same type.
        precision: `bfloat16`: operators inside the network run under autocast; representations and predictions, and
            with them losses, scores and Gram matrices, are float32.
        channels_last: Parameters and image batches `(B, C, H, W)` lie in memory with the channels last.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    return Forward(network, precision, channels_last) if precision != "float32" or channels_last else network


class Forward(nn.Module):
    """A network and, where it has them, its encoder and its heads, called the way that `prepared` says."""

    def __init__(self, network: nn.Module, precision: str, channels_last: bool) -> None:
        super().__init__()
        self.network, self.precision, self.channels_last = network, precision, channels_last
        if hasattr(network, "encoder") and hasattr(network, "heads"):
            self.encoder = _Part(network.encoder, self._call)
        if hasattr(network, "heads"):
            self.heads = nn.ModuleList(_Part(head, self._call) for head in network.heads)
        if hasattr(network, "main"):
            self.main = lambda inputs: self._call(network.main, inputs)
        self.shared_parameters = network.shared_parameters

    def forward(self, inputs: Inputs) -> list[Tensor]:
        return self._call(self.network, inputs)

    def _call(self, function: Callable[[Inputs], Any], inputs: Inputs) -> Any:
        inputs = self._laid_out(inputs) if isinstance(inputs, Tensor) else [self._laid_out(one) for one in inputs]
        if self.precision == "float32":
            return function(inputs)
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            found = function(inputs)
        return found.float() if isinstance(found, Tensor) else [one.float() for one in found]

    def _laid_out(self, inputs: Tensor) -> Tensor:
        images = self.channels_last and inputs.ndim == 4
        return inputs.contiguous(memory_format=torch.channels_last) if images else inputs


class _Part(nn.Module):
    def __init__(self, module: nn.Module, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, inputs: Tensor) -> Any:
        return self.call(self.module, inputs)
