"""torchvision's ImageNet weights, where they are on this machine."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mtlkit.errors import MtlkitError, one_of

WEIGHTS = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
"""torchvision's first version of the weights (`IMAGENET1K_V1`), with which the benchmarks' numbers were made; the name
of a file ends in the first digits of its SHA-256."""

PRETRAINED = ("auto", "imagenet", "none")


def load_imagenet(networks: Sequence[nn.Module], name: str, pretrained: str) -> str:
    """Puts ImageNet weights into `networks`, whose parameters are named as in torchvision; nothing is downloaded.

    Args:
        networks: torchvision's network `name` without its classifier `fc`, any number of copies.
        name: `resnet18` or `resnet50`.
        pretrained: `imagenet` needs the file in torch's hub folder, `none` leaves the networks as they are, `auto`
            takes the file if it is there, and says so on standard error if it is not.

    Returns:
        `imagenet` or `scratch`, for the record.

    Raises:
        MtlkitError: The file is missing (`imagenet`) or is not what its name says.
    """
    one_of("pretrained", pretrained, PRETRAINED)
    if pretrained == "none":
        return "scratch"
    url = WEIGHTS[name]
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
    if not path.is_file():
        line = f"the ImageNet weights of {name} are not at {path}"
        if pretrained == "imagenet":
            raise MtlkitError(f"{line}: download {url} to there (the folder follows the environment variable "
                              "TORCH_HOME), or start from scratch with pretrained: none.")  # fmt: skip
        print(f"NOTE: {line}: starting from SCRATCH (pretrained: auto). They come from {url}.", file=sys.stderr)
        return "scratch"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = path.stem.rsplit("-", 1)[1]
    if not found.startswith(wanted):
        raise MtlkitError(f"{path} is damaged: its SHA-256 begins with {found[: len(wanted)]}, not with {wanted}; "
                          f"delete it, or download {url} to there again.")  # fmt: skip
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    for network in networks:
        network.load_state_dict(state)
    return "imagenet"
