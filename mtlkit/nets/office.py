"""The network of Office-31, Office-Home and PACS."""

from torch import nn

from mtlkit.nets.imagenet import load_imagenet
from mtlkit.nets.separate import SeparateInputs

WIDTH = 512


def office(tasks: int, outputs: int = 31, *, pretrained: str = "auto") -> SeparateInputs:
    """ResNet-18, a bottleneck and one linear head per domain (RLW, Lin et al. 2022; as in LibMTL's Office example).

    The bottleneck is Linear(512, 512), batch normalisation, ReLU and dropout 0.5; its weights start from N(0, 0.005²)
    and its biases at 0.1, as published. With 31 outputs, 11,440,192 parameters are shared and 15,903 of each domain.
    Batch normalisation after the average over the image needs two images or more per domain and step.

    Args:
        tasks: Domains T.
        outputs: Classes.
        pretrained: `auto`, `imagenet` (as published) or `none`, see `load_imagenet`. Images `(B, 3, H, W)` are
            standardised by ImageNet's statistics in either case; 224 x 224 is the published size, 32 x 32 the least.

    Raises:
        MtlkitError: Missing weights.
    """
    from torchvision.models import resnet18

    resnet = resnet18(weights=None)
    resnet.fc = nn.Identity()
    initialisation = load_imagenet([resnet], "resnet18", pretrained)
    first = nn.Linear(WIDTH, WIDTH)
    nn.init.normal_(first.weight, std=0.005)
    nn.init.constant_(first.bias, 0.1)
    backbone = nn.Sequential(resnet, first, nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.5))
    network = SeparateInputs(backbone, [nn.Linear(WIDTH, outputs) for _ in range(tasks)])
    network.initialisation = initialisation
    return network
