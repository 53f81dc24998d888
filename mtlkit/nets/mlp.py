"""The network of the toy regression."""

from itertools import pairwise

from torch import nn

from mtlkit.nets.base import SharedEncoder


def mlp(tasks: int, inputs: int = 250, outputs: int = 1, *, shared_layers: int = 3, shared_width: int = 64,
        head_layers: int = 1, head_width: int = 1) -> SharedEncoder:  # fmt: skip
    """The published toy network: shared linear layers with ReLU, then a small head per task.

    The encoder is `shared_layers` x (Linear, ReLU). A head is `head_layers` x (Linear, ReLU) and a last Linear. The
    published head is one unit wide (Linear(64, 1), ReLU, Linear(1, 1)): once that unit is off for all inputs, the head
    never learns again. The experiments therefore use `head_width=64`.
    """
    encoder = _stack(inputs, shared_width, shared_layers)
    width = shared_width if shared_layers else inputs
    last = head_width if head_layers else width
    heads = [nn.Sequential(*_stack(width, head_width, head_layers), nn.Linear(last, outputs)) for _ in range(tasks)]
    return SharedEncoder(encoder, heads)


def _stack(inputs: int, width: int, layers: int) -> nn.Sequential:
    sizes = [inputs] + [width] * layers
    return nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
