"""LeNet with one head per task."""

from torch import nn

from mtlkit.nets.base import SharedEncoder


def lenet(
    tasks: int, channels: int = 3, outputs: int = 1, *, head_layers: int = 2, head_width: int = 84
) -> SharedEncoder:
    """The LeNet of the SLGrad release for 32 x 32 images.

    The encoder is Conv(3, 6, 3, padding 2), ReLU, MaxPool, Conv(6, 16, 5), ReLU, MaxPool; every head is
    Conv(16, 128, 5), ReLU, Linear(512, 84), ReLU, `head_layers - 1` x (Linear(84, 84), ReLU), Linear(84, 1).
    With ten tasks and `head_layers=2` (the release's `Number_of_Task_Layers`), 2,584 of 1,019,034 parameters are
    shared. The release ends each head with a sigmoid; ours give logits.
    """
    heads = [nn.Sequential(*_trunk(head_width), *_top(head_layers, head_width, outputs)) for _ in range(tasks)]
    return SharedEncoder(nn.Sequential(*_convolutions(channels)), heads)


def light_lenet(tasks: int, channels: int = 3, outputs: int = 1, *, head_layers: int = 1,
                head_width: int = 84) -> SharedEncoder:  # fmt: skip
    """The same layers, split where the field usually splits: the third convolution and Linear(512, 84) are shared too,
    and a head is one Linear(84, 1), with `head_layers - 1` hidden layers before it."""
    heads = [nn.Sequential(*_top(head_layers, head_width, outputs)) for _ in range(tasks)]
    return SharedEncoder(nn.Sequential(*_convolutions(channels), *_trunk(head_width)), heads)


def _convolutions(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, 6, 3, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]  # fmt: skip


def _trunk(width: int) -> list[nn.Module]:
    return [nn.Conv2d(16, 128, 5), nn.ReLU(), nn.Flatten(), nn.Linear(512, width), nn.ReLU()]


def _top(layers: int, width: int, outputs: int) -> list[nn.Module]:
    hidden = [module for _ in range(layers - 1) for module in (nn.Linear(width, width), nn.ReLU())]
    return [*hidden, nn.Linear(width, outputs)]
