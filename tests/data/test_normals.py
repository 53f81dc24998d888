"""Normals from depth: exact on planes, close on spheres, and how much 8 bits of depth cost."""

import numpy as np
import pytest

from mtlkit.data import normals
from mtlkit.data.normals import CX, CY, FX, FY

SIZE = (288, 384)


def rays(size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) directions x right, y down, z forward of the pixels' centres, with z = 1, of the Kinect."""
    height, width = size
    u = (np.arange(width) + 0.5) * 640 / width - 0.5
    v = (np.arange(height) + 0.5) * 480 / height - 0.5
    x, y = np.meshgrid((u - CX) / FX, (v - CY) / FY)
    return np.stack((x, y, np.ones(size)), -1)


def plane(normal: tuple[float, float, float], distance: float, size=SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) of a plane that meets the optical axis at a distance, 0 beyond 10 m, and its normals (H, W, 3)."""
    right, up, back = np.array(normal) / np.linalg.norm(normal)
    away = np.array([-right, up, back])  # in the coordinates of the rays, turned away from the camera
    slope = rays(size) @ away
    depth = np.where(slope > 0, away[2] * distance / np.where(slope > 0, slope, 1), 0)
    return np.where(depth < 10, depth, 0), np.broadcast_to([right, up, back], (*size, 3))


def sphere(centre: tuple[float, float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth, 0 beside the sphere, and normals; the centre in the coordinates of the rays."""
    ray = rays()
    square, along = (ray * ray).sum(-1), ray @ np.array(centre)
    root = along**2 - square * (np.dot(centre, centre) - radius**2)
    depth = np.where(root > 0, (along - np.sqrt(root.clip(0))) / square, 0)
    x, y, z = np.moveaxis((ray * depth[..., None] - centre) / radius, -1, 0)
    return depth, np.stack((x, -y, -z), -1)


def eight_bits(depth: np.ndarray) -> np.ndarray:
    return np.round(depth * 25.5) / 25.5


def error(depth: np.ndarray, expected: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Angles in degrees where there is a normal."""
    found = normals.from_depth(depth)
    valid = (found != 0).any(-1)
    assert np.allclose(np.linalg.norm(found[valid], axis=-1), 1, atol=1e-5) and found.dtype == np.float32
    assert valid[depth > 0].mean() > 0.98
    if where is not None:
        valid &= where
    return np.degrees(np.arccos(np.clip((found * expected).sum(-1), -1, 1)))[valid]


PLANES = [((0, 0, 1), 3.0), ((0.5, 0, 1), 2.0), ((-1, 0, 1), 2.5), ((0, 1, 0.3), 2.0), ((0, 1, 0.15), 4.0),
          ((0.3, -0.4, 1), 4.0), ((2, 1, 1), 3.0)]  # fmt: skip


@pytest.mark.parametrize(("normal", "distance"), PLANES)
def test_planes_are_exact(normal, distance):
    assert error(*plane(normal, distance)).max() < 0.1


@pytest.mark.parametrize(("normal", "distance"), PLANES)
def test_planes_of_eight_bits(normal, distance):
    depth, expected = plane(normal, distance)
    found = error(eight_bits(depth), expected)
    assert found.mean() < 6 and np.median(found) < 3.1


def test_a_slight_slope_is_lost_in_eight_bits():
    depth, expected = plane((0.1, 0, 1), 3)
    assert np.median(error(eight_bits(depth), expected)) == pytest.approx(5.7, abs=0.1), "its lean"


@pytest.mark.parametrize(
    ("centre", "radius", "exact", "rounded"), [((0, 0, 3), 1.0, 0.6, 3), ((0.3, 0.2, 2), 0.5, 1, 5)]
)
def test_spheres(centre, radius, exact, rounded):
    depth, expected = sphere(centre, radius)
    inner = expected[..., 2] > 0.3
    assert error(depth, expected, inner).mean() < exact
    assert error(eight_bits(depth), expected, inner).mean() < rounded


@pytest.mark.parametrize("size", [(480, 640), (72, 96)])
def test_the_intrinsics_follow_the_size(size):
    assert error(*plane((0.6, -0.5, 1), 2.5, size)).max() < 0.1


def test_directions():
    """x to the right, y up, z to the camera: a wall ahead, a floor, a ceiling, walls at the left and the right."""
    for normal in ((0, 0, 1), (0, 1, 0.01), (0, -1, 0.01), (1, 0, 0.01), (-1, 0, 0.01)):
        depth, expected = plane(normal, 100 if normal[2] < 1 else 2)
        found = normals.from_depth(depth)
        assert np.allclose(found[(found != 0).any(-1)].mean(0), expected[0, 0], atol=0.02)


def test_surfaces_at_a_step_keep_their_own_normals():
    near, across = plane((0.4, 0, 1), 1.5)
    far, beyond = plane((0, 0.3, 1), 3)
    left = np.arange(SIZE[1]) < 200
    found = error(np.where(left, near, far), np.where(left[:, None], across, beyond))
    assert found.max() < 0.1


def test_there_is_no_normal_where_there_is_no_depth():
    depth, expected = plane((0.3, -0.4, 1), 4)
    holes = np.random.default_rng(0).random(SIZE) < 0.3
    depth = np.where(holes, 0, depth)
    assert not normals.from_depth(depth)[holes].any()
    assert error(depth, expected).max() < 0.1
    depth[:] = 0
    depth[100, 100], depth[50, 20:60] = 1, 2
    assert not normals.from_depth(depth).any(), "a point and a line do not span a plane"
