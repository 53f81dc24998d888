"""Augmentation of images together with label maps, depth and surface normals, on the device that holds them.

A motion per image takes every pixel of the result to the place in the source that it shows: images are interpolated
there bilinearly, labels, depth and normals are taken from the nearest pixel, so that no two labels, depths or
directions are ever mixed and normals stay unit. What is not moved comes back exactly as it was.

Enlarged by s, a thing looks nearer: as is customary, depth is divided by s, inverse depth multiplied, and normals stay.
That is exact for a scene that is s times smaller in all directions, seen through a lens whose focal length is s times
as long; through the lens as it was, the same depths would be those of a distorted scene with other normals.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError, one_of

KINDS = ("label", "depth", "inverse_depth", "normal", "plain")
"""Of targets (B, ..., H, W): `label`, classes of any type; `depth` and `inverse_depth`, 0 where there is none; `normal`
(B, 3, H, W), x to the right and y up in the picture, 0 0 0 where there is none; `plain`, interpolated like images."""

Batch = tuple[Tensor, tuple[Tensor, ...]]


def scale_and_flip(inputs: Tensor, targets: Sequence[Tensor], kinds: Sequence[str], random: torch.Generator,
                   scales: Sequence[float] = (1.0, 1.2, 1.5)) -> Batch:  # fmt: skip
    """RandomScaleCrop and horizontal flip, as usual for NYUv2: 1/s of height and width, cut out anywhere inside,
    becomes the whole image, s being one of `scales`; half of the images are flipped, and normals' x with them.

    Departures from what is customary (mtan's data, LibMTL): windows are not rounded to whole pixels, and normals are
    not interpolated.

    Args:
        inputs: (B, C, H, W), of a floating-point type.
        targets: T maps of the same size.
        kinds: Of the targets, see `KINDS`.
        random: A generator on the CPU; four numbers per image are drawn by one call, whatever the scales are.

    Returns:
        Inputs and targets, of the types and on the device that they had.

    Raises:
        MtlkitError: Kinds that are unknown or do not match the targets, or targets of another size.
    """
    which, down, right, flip = torch.rand(4, len(inputs), generator=random, dtype=torch.float64)
    choices = torch.tensor(scales, dtype=torch.float64)
    scale = choices[(which * len(choices)).long()]
    shift = (1 - 1 / scale) * (torch.stack((down, right)) - 0.5)
    return _move(inputs, targets, kinds, torch.stack((_sign(flip), scale, torch.zeros_like(scale), *shift)), -1)


def rotate_scale_and_flip(inputs: Tensor, targets: Sequence[Tensor], kinds: Sequence[str], random: torch.Generator,
                          degrees: float = 20.0, scales: tuple[float, float] = (0.75, 1.25),
                          ignore: int = 255) -> Batch:  # fmt: skip
    """Rotation about the middle, scaling and horizontal flip, as usual for PASCAL-Context (ASTMT and what followed it).

    Angles are drawn from -degrees to degrees, and turn normals in the image plane as well; factors from the range
    `scales`. Where the result shows nothing of the source, images, depths and normals are 0 and labels are `ignore`.
    All else as in `scale_and_flip`; three numbers per image are drawn.
    """
    turn, size, flip = torch.rand(3, len(inputs), generator=random, dtype=torch.float64)
    angle = math.radians(degrees) * (2 * turn - 1)
    scale = scales[0] + (scales[1] - scales[0]) * size
    still = torch.zeros_like(scale)
    return _move(inputs, targets, kinds, torch.stack((_sign(flip), scale, angle, still, still)), ignore)


def _sign(draws: Tensor) -> Tensor:
    """-1 for a half of the draws, which are flipped, and 1 for the other."""
    return 1 - 2 * (draws < 0.5).double()


def _move(inputs: Tensor, targets: Sequence[Tensor], kinds: Sequence[str], motion: Tensor, ignore: int) -> Batch:
    """Move every image by its column of `motion` (5, B), on the CPU: -1 where it is flipped, after all else, or 1; the
    factor of its size; radians by which it is turned to the left; rows and columns, as shares of the size, from the
    middle of the source to the place that becomes the middle.
    """
    height, width = inputs.shape[-2:]
    if len(kinds) != len(targets):
        raise MtlkitError(f"there are {len(targets)} targets, but kinds names {len(kinds)}: it has one kind for each.")
    for target, kind in zip(targets, kinds, strict=True):
        one_of("kind of a target", kind, KINDS)
        if target.shape[-2:] != (height, width):
            raise MtlkitError(f"a target of kind {kind} has shape {tuple(target.shape)}, but the images are "
                              f"{height} x {width}: all maps end with that.")  # fmt: skip
    motion = motion.to(torch.promote_types(inputs.dtype, torch.float32)).to(inputs.device, non_blocking=True)
    sign, scale, angle, down, right = motion[:, :, None, None]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    x = sign * (torch.arange(width, device=inputs.device) - middle_x) / scale
    y = (torch.arange(height, device=inputs.device)[:, None] - middle_y) / scale
    sin, cos = angle.sin(), angle.cos()
    column = cos * x - sin * y + (middle_x + right * width)
    row = sin * x + cos * y + (middle_y + down * height)

    nearest_y, nearest_x = (row + 0.5).floor().long(), (column + 0.5).floor().long()
    inside = (nearest_y >= 0) & (nearest_y < height) & (nearest_x >= 0) & (nearest_x < width)
    index = nearest_y.clamp(0, height - 1) * width + nearest_x.clamp(0, width - 1)

    def moved(target: Tensor, kind: str) -> Tensor:
        if kind == "plain":
            return _interpolated(target, row, column) * _like(inside, target)
        values = _take(target, index)
        if kind == "label":
            return values.where(_like(inside, target), ignore)
        if kind == "normal":
            first, second, third = values.unbind(1)
            values = torch.stack((sign * (cos * first - sin * second), sin * first + cos * second, third), 1)
        else:
            factor = _like(scale, target)
            values = values / factor if kind == "depth" else values * factor
        return values.to(target.dtype) * _like(inside, target)

    return moved(inputs, "plain"), tuple(moved(*pair) for pair in zip(targets, kinds, strict=True))


def _like(values: Tensor, target: Tensor) -> Tensor:
    """(B, H, W) or (B, 1, 1), with dimensions between the first and the last two as `target` has them."""
    return values.reshape(len(values), *[1] * (target.ndim - 3), *values.shape[-2:])


def _take(target: Tensor, index: Tensor) -> Tensor:
    """The pixels of a map (B, ..., H, W) with numbers (B, H, W)."""
    flat = target.flatten(-2)
    return flat.gather(-1, _like(index, target).flatten(-2).expand_as(flat)).view_as(target)


def _interpolated(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Between the four pixels around every place, and on the border beyond it; exact on pixels."""
    height, width = image.shape[-2:]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    top, left = row.floor(), column.floor()
    below, beside = ((_like(part, image).to(image.dtype)) for part in (row - top, column - left))
    start = (top * width + left).long()
    down = width * (top < height - 1).long()
    across = (left < width - 1).long()
    upper = torch.lerp(_take(image, start), _take(image, start + across), beside)
    lower = torch.lerp(_take(image, start + down), _take(image, start + down + across), beside)
    return torch.lerp(upper, lower, below)
