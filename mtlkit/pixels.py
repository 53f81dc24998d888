"""Errors of single pixels, their means over valid ones, and meters that add them up over a set."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

THRESHOLDS = (11.25, 22.5, 30.0)
"""Angles in degrees; normals are reported to be within them."""

BINS_PER_DEGREE = 100
"""Resolution of the median angle."""

SHORTEST = 1e-6
"""A predicted normal that is shorter is not stretched to length 1, so that its gradient stays bounded."""

Map = Callable[[Tensor, Tensor], Tensor]
"""`(prediction, target) -> (B, ...)`, the error of every pixel."""

Mask = Callable[[Tensor], Tensor]
"""`target -> (B, ...)` bool, which pixels are valid."""


def masked_mean(prediction: Tensor, target: Tensor, *, error: Map, mask: Mask) -> Tensor:
    """Mean error `(B,)` over the valid pixels of every image, 0 where there are none."""
    valid = mask(target)
    total = error(prediction, target).masked_fill(~valid, 0).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp_min(1)


def share(target: Tensor, *, mask: Mask) -> Tensor:
    """Share `(B,)` of valid pixels in every image."""
    return mask(target).flatten(1).float().mean(1)


def labelled(target: Tensor, *, ignore: int) -> Tensor:
    """Pixels with another label than `ignore`."""
    return target != ignore


def with_parts(target: Tensor) -> Tensor:
    """Labelled pixels of images that show a human part."""
    known = target != 255
    return known & (known & (target > 0)).flatten(1).any(1)[:, None, None]


def measured(target: Tensor) -> Tensor:
    """Pixels with a depth."""
    return target != 0


def directed(target: Tensor) -> Tensor:
    """Pixels `(B, H, W)` with a normal."""
    return (target != 0).any(1)


def cross_entropy(prediction: Tensor, target: Tensor, *, ignore: int) -> Tensor:
    """In nats."""
    return F.cross_entropy(_wide(prediction), target, ignore_index=ignore, reduction="none")


def absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - g|."""
    return (_wide(prediction).reshape(target.shape) - target).abs()


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - <p, g> with p of length 1, `(B, H, W)`."""
    return 1 - (_unit(_wide(prediction)) * target).sum(1)


def component_error(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - g| averaged over the three components, with p of length 1, `(B, H, W)`."""
    return (_unit(_wide(prediction)) - target).abs().mean(1)


def balanced_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """In nats, times the share of the image's labelled pixels that are of the other class."""
    logits = _wide(prediction).reshape(target.shape)
    salient, valid = target == 1, target != 255
    positive = salient.flatten(1).sum(1).to(logits.dtype) / valid.flatten(1).sum(1).clamp_min(1)
    positive = positive.view(-1, *[1] * (target.ndim - 1))
    error = F.binary_cross_entropy_with_logits(logits, salient.to(logits.dtype), reduction="none")
    return error * torch.where(salient, 1 - positive, positive)


class PixelMeter:
    """A meter that keeps sums, not pixels: a row for every image, added up over the set or over a batch, or not at all.

    Metrics come from each row and are averaged over rows. Everything stays on the device until `result` is asked.

    Args:
        loss: The task's loss, `(prediction, target) -> (B,)`.
        mask: Which pixels are valid.
        averaging: `pixels`, `batches` or `images`.
    """

    names: tuple[str, ...] = ()
    """Of the metrics that `measure` gives."""

    def __init__(self, *, loss: Map, mask: Mask, averaging: str) -> None:
        self.loss, self.mask, self.averaging = loss, mask, averaging
        self.rows: list[Tensor] = []

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        valid = self.mask(target)
        pixels = valid.flatten(1).sum(1, keepdim=True).double()
        losses = self.loss(prediction, target)[:, None]
        rows = torch.cat([pixels, pixels * losses, self.count(prediction, target, valid)], 1)
        self.rows.append(rows if self.averaging == "images" else rows.sum(0, keepdim=True))
        if self.averaging == "pixels":
            self.rows = [torch.cat(self.rows).sum(0, keepdim=True)]

    def result(self) -> dict[str, float]:
        """Metrics over all that was taken in."""
        rows = torch.cat(self.rows).cpu()
        pixels, loss, counts = rows[rows[:, 0] > 0].tensor_split((1, 2), 1)
        values = self.measure(pixels, counts).mean(0)
        return {"loss": float((loss / pixels).mean()), **self.report(values)}

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Sums `(B, K)` in float64, of what the metrics need, over every image."""
        raise NotImplementedError

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        """Metrics `(G, M)` from the sums `(G, K)` over `pixels` `(G, 1)` valid pixels, at least one."""
        raise NotImplementedError

    def report(self, values: Tensor) -> dict[str, float]:
        """Metrics by name from their means `(M,)`."""
        return dict(zip(self.names, values.tolist(), strict=True))


class SegmentationMeter(PixelMeter):
    """Counts the confusion matrix; a last row of labels holds the predictions at pixels that are not valid."""

    names = ("miou", "pixel_accuracy")

    def __init__(self, *, classes: int, **rest: Mask | Map | str) -> None:
        super().__init__(**rest)
        self.classes = classes

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        label = target.masked_fill(~valid, self.classes)
        return _histogram(label * self.classes + prediction.argmax(1), (self.classes + 1) * self.classes)

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        matrix = counts.view(-1, self.classes + 1, self.classes)
        known = matrix[:, :-1]
        right = known.diagonal(dim1=1, dim2=2)
        predicted = (matrix if self.averaging == "images" else known).sum(1)
        iou = right / (known.sum(2) + predicted - right)
        return 100 * torch.stack([iou.nanmean(1), right.sum(1) / pixels[:, 0]], 1)


class DepthMeter(PixelMeter):
    """Sums absolute and relative errors."""

    names = ("abs_err", "rel_err")

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        absolute = absolute_error(prediction.double(), target).masked_fill(~valid, 0)
        relative = absolute / target.double().masked_fill(~valid, 1)
        return torch.stack([error.flatten(1).sum(1) for error in (absolute, relative)], 1)

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        return counts / pixels


class AngleMeter(PixelMeter):
    """Sums angles, counts those below the thresholds, and keeps a histogram for the median."""

    names = ("mean_angle", "within_11", "within_22", "within_30", "median_angle")

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        cosine = (_unit(prediction.double()) * _unit(target.double())).sum(1)
        angle = cosine.clamp(-1, 1).acos().rad2deg()
        sums = [angle.masked_fill(~valid, 0), *((angle < threshold) & valid for threshold in THRESHOLDS)]
        last = 180 * BINS_PER_DEGREE
        bins = (angle * BINS_PER_DEGREE).long().clamp(0, last - 1).masked_fill(~valid, last)
        return torch.cat([torch.stack([one.flatten(1).sum(1) for one in sums], 1), _histogram(bins, last + 1)], 1)

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        angle, within, histogram = counts.tensor_split((1, 1 + len(THRESHOLDS)), 1)
        middle = torch.cat([(pixels + 1) // 2, pixels // 2 + 1], 1)  # of an even number the two in the middle
        bins = torch.searchsorted(histogram.cumsum(1), middle)
        median = (bins.double().mean(1, keepdim=True) + 0.5) / BINS_PER_DEGREE
        return torch.cat([angle / pixels, 100 * within / pixels, median], 1)


class SaliencyMeter(PixelMeter):
    """Counts, for both classes, the pixels between neighbouring thresholds."""

    thresholds = 15

    def count(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probability = prediction.double().sigmoid().reshape(target.shape)
        edges = torch.linspace(0.2, 0.9, self.thresholds, dtype=torch.float64, device=probability.device)
        passed = torch.bucketize(probability, edges)
        label = target.long().masked_fill(~valid, 2)
        return _histogram(label * (self.thresholds + 1) + passed, 3 * (self.thresholds + 1))

    def measure(self, pixels: Tensor, counts: Tensor) -> Tensor:
        others, salient, _ = counts.view(-1, 3, self.thresholds + 1).unbind(1)
        false, true = (each.flip(1).cumsum(1).flip(1)[:, 1:] for each in (others, salient))  # above every threshold
        salient = salient.sum(1, keepdim=True)
        iou = torch.where(salient + false > 0, true / (salient + false), 1)
        precision, recall = true / (true + false).clamp_min(1), true / salient.clamp_min(1)
        return 100 * torch.cat([iou, precision, recall], 1)

    def report(self, values: Tensor) -> dict[str, float]:
        iou, precision, recall = values.chunk(3)
        f = 2 * precision * recall / (precision + recall).clamp_min(torch.finfo(values.dtype).tiny)
        return {"miou": float(iou.max()), "max_f": float(f.max())}


def _wide(values: Tensor) -> Tensor:
    """In float32 at least: a sum over pixels in half precision has three digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _unit(vectors: Tensor) -> Tensor:
    """`(B, 3, H, W)` divided by their lengths; derivatives are finite at 0, where those of a norm are not."""
    return vectors * vectors.square().sum(1, keepdim=True).clamp_min(SHORTEST**2).rsqrt()


def _histogram(cells: Tensor, bins: int) -> Tensor:
    """How often each of 0 .. bins-1 occurs in every image of `cells` `(B, ...)`: `(B, bins)` float64. Unlike
    `bincount` it does not make the host wait for a GPU."""
    cells = cells.flatten(1)
    counts = torch.zeros(len(cells), bins, dtype=torch.float64, device=cells.device)
    return counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.float64))
