"""How a network's forward pass runs: number format, memory format, activations kept or computed again."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from mtlkit.engine.reference import Inputs
from mtlkit.errors import MtlkitError

PRECISIONS = ("float32", "bfloat16")


def prepared(network: nn.Module, *, precision: str = "float32", channels_last: bool = False,
             checkpoint: bool = False) -> nn.Module:  # fmt: skip
    """What steps and evaluation call in place of the network; the network itself where nothing is asked for.

    Args:
        network: Its parameters stay the same tensors, of the same type.
        precision: `bfloat16`: operators inside the network run under autocast; representations and predictions, and
            with them losses, scores and Gram matrices, are float32.
        channels_last: Parameters and image batches `(B, C, H, W)` lie in memory with the channels last.
        checkpoint: Backward passes compute activations anew, in place of keeping them: those of every block of the
            network's `stages()`, wherever one of its modules has that, else those of the encoder.

    Raises:
        MtlkitError: There is neither a module with `stages()` nor an `encoder`.
    """
    if checkpoint:
        for module in _blocks(network):
            module.forward = partial(_recomputed, module)
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


def _blocks(network: nn.Module) -> list[nn.Module]:
    found = [block for module in network.modules() if hasattr(module, "stages")
             for stage in module.stages() for block in stage]  # fmt: skip
    if not found and not hasattr(network, "encoder"):
        raise MtlkitError("checkpoint needs a network with an `encoder`, or with `stages()` that list what to compute "
                          "anew; this one has neither.")  # fmt: skip
    return found or [network.encoder]


def _recomputed(module: nn.Module, *inputs: Tensor) -> Any:
    """The module's own forward pass, of which a backward pass repeats what it needs."""
    own = partial(type(module).forward, module)
    if not torch.is_grad_enabled():
        return own(*inputs)
    return checkpoint(own, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(module: nn.Module) -> tuple[Any, Any]:
    return nullcontext(), _Again([layer for layer in module.modules() if isinstance(layer, _NormBase)])


class _Again:
    """Batch normalisation does what it did here, but its running statistics do not move a second time. A graph that is
    gone through several times enters it as often."""

    def __init__(self, layers: list[_NormBase]) -> None:
        self.layers, self.tracked = layers, [layer.track_running_stats for layer in layers]

    def __enter__(self) -> None:
        self.now = [(layer.track_running_stats, dict(layer._buffers)) for layer in self.layers]
        for layer, tracked in zip(self.layers, self.tracked, strict=True):
            layer.track_running_stats = tracked
            layer._buffers.update({name: b if b is None else b.clone() for name, b in layer._buffers.items()})

    def __exit__(self, *_: object) -> None:
        for layer, (tracked, buffers) in zip(self.layers, self.now, strict=True):
            layer.track_running_stats = tracked
            layer._buffers.update(buffers)
