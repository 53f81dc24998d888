"""The network of Multi-MNIST."""

import torch
from torch import nn

from mtlkit.nets.base import SharedEncoder


def multi_lenet(tasks: int, channels: int = 1, outputs: int = 10, *, head_width: int = 50) -> SharedEncoder:
    """MultiLeNet for 28 x 28 images (Sener & Koltun 2018, arXiv 1810.04650), as in the SLGrad release.

    The encoder is Conv(1, 10, 5), MaxPool, ReLU, Conv(10, 20, 5), dropout of channels, MaxPool, ReLU, Linear(320, 50),
    ReLU; a head is Linear(50, 50), ReLU, dropout, Linear(50, 10). Departures from the release: every task has a head of
    its own (there both tasks share one, and so predict the same), and dropout acts in training alone, at rate 0.5.
    """
    encoder = nn.Sequential(
        nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(0.5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(),
    )  # fmt: skip
    heads = [nn.Sequential(nn.Linear(50, head_width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(head_width, outputs))
             for _ in range(tasks)]  # fmt: skip
    # Pooling is slow on the CPU in the default format.
    return SharedEncoder(encoder.to(memory_format=torch.channels_last), heads)
