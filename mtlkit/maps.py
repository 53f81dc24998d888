"""How images and their label maps look, and what a network predicts for them."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mtlkit.data.base import Dataset

if TYPE_CHECKING:
    from mtlkit.style import Figure

NOTHING = (0.6, 0.6, 0.6)
"""Grey of pixels without a label."""


def show(data: Dataset, network: nn.Module | None = None, count: int = 4) -> "Figure | str":
    """The first test images, a column each: the image, below it the labels of every task, and what a network predicts
    for it, if there is one that this process has trained."""
    from mtlkit import style

    if network is not None and not getattr(network, "trained", False):
        return "the record was there and nothing was trained: -p fresh True trains again and shows predictions"
    batch = data.test.take(torch.arange(min(count, len(data.test))))
    images = batch.inputs - batch.inputs.amin((1, 2, 3), keepdim=True)
    rows = [("image", images / images.amax((1, 2, 3), keepdim=True))]
    predictions = [] if network is None else _predict(network, batch.inputs)
    for t, (task, target) in enumerate(zip(data.task_names, batch.targets, strict=True)):
        rows.append((task, target))
        rows += [(f"{task}, predicted", prediction) for prediction in predictions[t : t + 1]]
    with style.style():
        figure, axes = style.panels(len(rows), len(images), style.COLUMN, 0.78 * len(rows))
        top = 1.0
        for line, (title, values) in zip(axes, rows, strict=True):
            task, predicted, _ = title.partition(", predicted")
            top = top if predicted else float(values.max())  # predictions share the scale of the labels above them
            for ax, value in zip(line, values, strict=True):
                ax.imshow(picture(task, value, top, whole=bool(predicted)), interpolation="nearest")
                ax.set_axis_off()
            line[0].set_title(title)
    return figure


def _predict(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    training, device = network.training, next(network.parameters()).device
    with torch.inference_mode():
        found = [prediction.float().cpu() for prediction in network.eval()(inputs.to(device))]
    network.train(training)
    return found


def picture(task: str, value: Tensor, top: float, *, whole: bool = False) -> np.ndarray:
    """Colours `(H, W, 3)` in [0, 1] of one map: an image, labels or logits, a measurement up to `top`, or normals.
    Pixels without a label are grey, unless the map is `whole`."""
    import matplotlib

    if task == "image":
        return value.permute(1, 2, 0).numpy()
    if task == "normals":
        length = value.norm(dim=0)
        colours = (value / length.clamp_min(1e-6) / 2 + 0.5).permute(1, 2, 0).numpy()
        return np.where((length > 0).numpy()[..., None] | whole, colours, NOTHING)
    if task in ("depth", "disparity"):
        colours = matplotlib.colormaps["viridis"]((value[0] / max(top, 1e-6)).clamp(0, 1).numpy())[..., :3]
        return np.where((value[0] > 0).numpy()[..., None] | whole, colours, NOTHING)
    if value.is_floating_point():  # logits
        value = value.argmax(0) if len(value) > 1 else (value[0] > 0).long()
    colours = matplotlib.colormaps["tab20"](value.numpy() % 20)[..., :3]
    return np.where(((value >= 0) & (value != 255)).numpy()[..., None], colours, NOTHING)
