"""Surface normals from depth, for sources that have no normals.

A plane n . P = 1 is affine in inverse depth: at the ray (x, y, 1) = P / Z it has 1/Z = n . (x, y, 1). So the plane
around a pixel is a least-squares fit of 1/Z to the ray coordinates, which is exact on planes of any slope.
"""

import numpy as np

FX, FY, CX, CY = 518.86, 519.47, 325.58, 253.74
"""Focal lengths and centre in pixels of the Kinect that took NYUv2, for 640 x 480."""

WIDTH, HEIGHT = 640, 480

OFFSETS = np.array([-8, -5, -3, -1, 0, 1, 3, 5, 8]) / 384
"""Rows and columns of the window, as shares of the width. Depth of 8 bits comes in steps of 4 cm, and a plane shows its
slope only in a window that holds several of them; a large window blurs the creases where planes meet. 17 pixels of
384, 16 cm at 3 m, are where both together are least: on rendered rooms with depth of 8 bits the mean error is 7.4
degrees (8.8 with half of it, 9.4 with twice; 5.6 from exact depth, nearly all at creases). A lean of 5 degrees is not
seen in it. Rows next to the centre are there for floors far off, whose pixels lie far apart."""

RELATIVE, ABSOLUTE = 0.05, 0.1
"""Pixels count whose depth differs from the centre's by 5 per cent or 10 cm at most: others are on another surface."""


def from_depth(depth: np.ndarray) -> np.ndarray:
    """Unit normals (H, W, 3) float32 of depth (H, W) in metres, at most 0 where it is invalid.

    x points right, y up, z to the camera, which is the convention of NYUv2's normals in mtan's archives; all normals
    face the camera. Zeros where the depth is invalid or the valid pixels around do not span a plane. The intrinsics
    are scaled to H x W, which is taken for the whole image.
    """
    depth = np.asarray(depth, np.float32)
    height, width = depth.shape
    fx, fy = FX * width / WIDTH, FY * height / HEIGHT
    x = ((np.arange(width) + 0.5) * WIDTH / width - 0.5 - CX) / FX
    y = (((np.arange(height) + 0.5) * HEIGHT / height - 0.5 - CY) / FY)[:, None]
    valid = depth > 0
    inverse = np.where(valid, 1 / np.where(valid, depth, 1), 0)
    tolerance = np.where(valid, np.maximum(RELATIVE * depth, ABSOLUTE), -1)
    offsets = np.unique((OFFSETS * width).round().astype(int))
    reach = int(offsets[-1])
    far, far_inverse = np.pad(depth, reach, constant_values=-1), np.pad(inverse, reach)

    # sums over the window, relative to its centre: of 1, dx, dy, dx dx, dx dy, dy dy, dq, dx dq, dy dq with q = 1/Z
    n, sx, sy, sxx, sxy, syy, sq, sxq, syq = np.zeros((9, height, width), np.float32)
    for down in offsets:
        for right in offsets:
            there = np.s_[reach + down : reach + down + height, reach + right : reach + right + width]
            counts = ((far[there] > 0) & (np.abs(far[there] - depth) <= tolerance)).astype(np.float32)
            dx, dy, dq = right / fx, down / fy, counts * (far_inverse[there] - inverse)
            for total, factor, values in ((n, 1, counts), (sx, dx, counts), (sy, dy, counts), (sxx, dx * dx, counts),
                                          (sxy, dx * dy, counts), (syy, dy * dy, counts), (sq, 1, dq), (sxq, dx, dq),
                                          (syq, dy, dq)):  # fmt: skip
                total += np.float32(factor) * values

    n = np.maximum(n, 1)
    cxx, cxy, cyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
    cxq, cyq = sxq - sx * sq / n, syq - sy * sq / n
    determinant = cxx * cyy - cxy * cxy
    valid = valid & (determinant > 1e-3 * (cxx + cyy) ** 2)
    determinant = np.where(valid, determinant, 1)
    a, b = (cxq * cyy - cyq * cxy) / determinant, (cyq * cxx - cxq * cxy) / determinant
    at_centre = inverse + (sq - a * sx - b * sy) / n
    # n = (a, b, at_centre - a x - b y) points right, down and away from the camera
    normals = np.stack((-a, b, at_centre - a * x - b * y), axis=-1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(valid[..., None] & (length > 0), normals / np.where(length > 0, length, 1), 0).astype(np.float32)
