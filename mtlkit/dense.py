"""Tasks whose labels are maps: semantic segmentation, depth, surface normals, human parts, saliency.

The loss of an image is the mean over its valid pixels, and its mass their share, so that the weighted mean over a batch
of images of one size is the mean over all valid pixels of the batch, as the benchmarks have it (mtan, LibMTL, nash-mtl
for NYUv2 and CityScapes; ASTMT and what followed it for PASCAL-Context). An image without valid pixels has loss 0.
Predictions in half precision are scored in float32, and metrics are computed in float64.

`averaging` says over what metrics are taken: `pixels`, all valid pixels of the set, whatever the batches; or as older
work has it, `batches` (mtan, nash-mtl, RLW: depth errors and angles of every batch, a median too, averaged over
batches) and `images` (mtan before November 2020: IoU of every image, averaged over images). It holds for the reported
`loss` as well. Batches and images without valid pixels are left out; a set without any has NaN for every metric.
"""

from collections.abc import Callable
from functools import partial

import torch

from mtlkit.data.base import Dataset
from mtlkit.errors import one_of
from mtlkit.pixels import (
    AngleMeter,
    DepthMeter,
    Map,
    Mask,
    PixelMeter,
    SaliencyMeter,
    SegmentationMeter,
    absolute_error,
    balanced_cross_entropy,
    component_error,
    cosine_distance,
    cross_entropy,
    directed,
    labelled,
    masked_mean,
    measured,
    share,
    with_parts,
)
from mtlkit.tasks import Task

AVERAGING = ("pixels", "batches", "images")


def make(data: str, name: str, outputs: int, *, averaging: str = "pixels") -> Task:
    """The task that a dense data set calls `name`, with so many outputs, as its benchmark scores it.

    Args:
        averaging: `pixels`; `batches`, for depth and angles; `images`, for these and IoU, as each of them has it.
    """
    one_of("averaging", averaging, AVERAGING)
    pascal = data == "pascal_context"
    by_image = "images" if averaging == "images" else "pixels"
    by_batch = "pixels" if averaging == "pixels" else "batches"
    if name == "segmentation":
        return semantic_segmentation(name, outputs, ignore=255 if pascal else -1, averaging=by_image)
    if name == "human_parts":
        return human_parts(name, averaging=by_image)
    if name == "normals":
        return normals(name, loss="l1" if pascal else "cosine", averaging=by_batch)
    return saliency(name) if name == "saliency" else depth(name, averaging=by_batch)


def constant_metrics(data: Dataset, *, averaging: str = "pixels", batch: int = 8) -> dict[str, dict[str, float]]:
    """Test metrics by task of answers that see no image: the training set's class shares, its median measurement, its
    mean normal. What a network has learnt is beyond these."""
    order = torch.arange(len(data.train))
    targets = [torch.cat(parts) for parts in zip(*(data.train.take(some).targets for some in order.split(batch)),
                                                 strict=True)]  # fmt: skip
    found = {}
    for t, (name, seen) in enumerate(zip(data.task_names, targets, strict=True)):
        outputs = data.facts["outputs"][name]
        task, answer = make(data.name, name, outputs, averaging=averaging), torch.zeros(outputs)
        if name == "normals":
            answer = seen.double().mean((0, 2, 3)).float()
        elif seen.is_floating_point():
            answer[0] = seen[seen > 0].median()
        else:
            shares = torch.bincount(seen[(seen >= 0) & (seen != 255)], minlength=max(outputs, 2)).clamp_min(1).log()
            answer = shares if outputs > 1 else (shares[1] - shares[0])[None]
        meter = task.meter()
        for some in torch.arange(len(data.test)).split(batch):
            target = data.test.take(some).targets[t]
            size = (len(target), outputs, *target.shape[-2:])
            meter.update(answer[:, None, None].expand(size), target)
        found[name] = meter.result()
    return found


def semantic_segmentation(name: str, classes: int, *, ignore: int = -1, averaging: str = "pixels") -> Task:
    """Cross-entropy of logits `(B, C, H, W)` against labels `(B, H, W)` int64 in 0 .. C-1 or `ignore`.

    Metrics in per cent: `miou`, `pixel_accuracy`, from one confusion matrix. A class that is absent from labels and
    predictions (0/0) is left out of the mean; LibMTL has NaN there, ASTMT counts it as 0. With `averaging="images"`
    predictions at ignored pixels count against their class, as in mtan's formula.
    """
    mask = partial(labelled, ignore=ignore)
    return _segmentation(name, classes, ignore, mask, averaging)


def human_parts(name: str, *, averaging: str = "pixels") -> Task:
    """Segmentation of PASCAL-Context's six parts and background (0), ignoring 255; an image that shows no part, whether
    it is labelled 0 or 255 throughout, has no valid pixel."""
    return _segmentation(name, 7, 255, with_parts, averaging)


def depth(name: str, *, averaging: str = "pixels") -> Task:
    """Absolute error of predictions against targets `(B, 1, H, W)` in metres, 0 where there is none.

    Metrics: `abs_err` in metres, `rel_err`, relative to the target. Over all pixels they are LibMTL's means over
    batches weighted by valid pixels.
    """
    return _task(name, absolute_error, measured, DepthMeter, averaging, "batches")


def normals(name: str, *, loss: str = "cosine", averaging: str = "pixels") -> Task:
    """Directions `(B, 3, H, W)` of any length against normals of length 1, or 0 where there is none.

    Metrics: `mean_angle` and `median_angle` in degrees, `within_11`, `within_22`, `within_30`, the shares in per cent
    below 11.25, 22.5 and 30 degrees. The median is that of a histogram of 0.01 degrees, within 0.005 of NumPy's; all
    else is exact.
    Departures: the benchmarks drop normals whose components sum to 0, valid or not, and leave a target's length as
    stored when they measure angles; a zero prediction has 90 degrees in place of NaN.

    Args:
        loss: `cosine`, 1 - <p, g>, as for NYUv2; or `l1`, the mean of |p - g| over pixels and components, as for
            PASCAL-Context. p is the prediction divided by its length.
    """
    one_of("loss", loss, ("cosine", "l1"))
    error = {"cosine": cosine_distance, "l1": component_error}[loss]
    return _task(name, error, directed, AngleMeter, averaging, "batches")


def saliency(name: str) -> Task:
    """Class-balanced cross-entropy of logits `(B, 1, H, W)` against labels `(B, H, W)` or `(B, 1, H, W)`: 1 salient, 0
    not, 255 ignored. Salient pixels count with the share of the others, and the others with theirs.

    Metrics in per cent, as in the evaluation of Vandenhende et al. (arXiv 2004.13379), on which RLW's release builds:
    IoU of the salient pixels, precision and recall are averaged over images for 15 thresholds on the probability, 0.2
    to 0.9; `miou` and `max_f` (F1 of mean precision and mean recall) are those of the best thresholds, which the
    evaluated set itself chooses. Where nothing is salient and nothing is found, IoU is 1, precision and recall are 0.
    Departure: shares are those of an image, not of a batch, because a loss belongs to one sample; so an image that is
    salient throughout or nowhere has loss 0.
    """
    mask = partial(labelled, ignore=255)
    return _task(name, balanced_cross_entropy, mask, SaliencyMeter, "images", "images")


def _segmentation(name: str, classes: int, ignore: int, mask: Mask, averaging: str) -> Task:
    error, meter = partial(cross_entropy, ignore=ignore), partial(SegmentationMeter, classes=classes)
    return _task(name, error, mask, meter, averaging, "images")


def _task(name: str, error: Map, mask: Mask, meter: Callable[..., "PixelMeter"], averaging: str, older: str) -> Task:
    one_of("averaging", averaging, ("pixels", older))
    loss = partial(masked_mean, error=error, mask=mask)
    return Task(name, loss, partial(meter, loss=loss, mask=mask, averaging=averaging), partial(share, mask=mask))
