"""Networks: what all tasks share, and one head per task."""

from collections.abc import Callable

from mtlkit.nets.base import MultiTaskNetwork, SharedEncoder
from mtlkit.nets.celeba import celeba
from mtlkit.nets.cross_stitch import cross_stitch
from mtlkit.nets.deeplab import deeplab
from mtlkit.nets.lenet import lenet, light_lenet
from mtlkit.nets.mlp import mlp
from mtlkit.nets.mtan import mtan
from mtlkit.nets.multi_lenet import multi_lenet
from mtlkit.nets.nddr import nddr
from mtlkit.nets.office import office
from mtlkit.nets.resnet import resnet18
from mtlkit.nets.segnet import segnet, segnet_mtan
from mtlkit.nets.text import text

NETWORKS: dict[str, Callable[..., MultiTaskNetwork]] = {
    "mlp": mlp,
    "lenet": lenet,
    "light_lenet": light_lenet,
    "multi_lenet": multi_lenet,
    "resnet18": resnet18,
    "celeba": celeba,
    "office": office,
}

DENSE: dict[str, Callable[..., MultiTaskNetwork]] = {
    "deeplab": deeplab,
    "mtan": mtan,
    "cross_stitch": cross_stitch,
    "nddr": nddr,
    "segnet": segnet,
    "segnet_mtan": segnet_mtan,
}
"""Networks with a prediction for every pixel; the first argument is the number of channels of every task's."""

TEXT: dict[str, Callable[..., MultiTaskNetwork]] = {"text": text}
"""Networks that read word pieces."""

EVERY = NETWORKS | DENSE | TEXT

__all__ = ["DENSE", "EVERY", "NETWORKS", "TEXT", "MultiTaskNetwork", "SharedEncoder", *EVERY]
