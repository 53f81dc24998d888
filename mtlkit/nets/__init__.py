"""Networks: an encoder that all tasks share and one head per task."""

from collections.abc import Callable

from mtlkit.nets.base import SharedEncoder
from mtlkit.nets.lenet import lenet, light_lenet
from mtlkit.nets.mlp import mlp
from mtlkit.nets.multi_lenet import multi_lenet
from mtlkit.nets.resnet import resnet18

NETWORKS: dict[str, Callable[..., SharedEncoder]] = {
    "mlp": mlp,
    "lenet": lenet,
    "light_lenet": light_lenet,
    "multi_lenet": multi_lenet,
    "resnet18": resnet18,
}

__all__ = ["NETWORKS", "SharedEncoder", *NETWORKS]
