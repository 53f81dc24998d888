"""ResNet-18 with one linear head per task."""

from torch import nn

from mtlkit.nets.base import SharedEncoder


def resnet18(tasks: int, outputs: int = 1) -> SharedEncoder:
    """torchvision's ResNet-18 from scratch (7 x 7 stem, batch normalisation) and `tasks` linear heads."""
    from torchvision.models import resnet18 as torchvision_resnet18

    encoder = torchvision_resnet18(weights=None)
    features = encoder.fc.in_features
    encoder.fc = nn.Identity()
    return SharedEncoder(encoder, [nn.Linear(features, outputs) for _ in range(tasks)])
