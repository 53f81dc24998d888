"""The ray caster against analytic surfaces, a march along every ray, finite differences, and mirrored scenes."""

import math

import numpy as np
import pytest

from mtlkit.data.rooms import SCENES, ray_caster
from mtlkit.data.rooms.ray_caster import ROUND, Camera, Lens, Paint, Solid, View, look
from mtlkit.data.rooms.scenes import KINECT

GREY = Paint((0.5, 0.5, 0.5))
SMALL = KINECT.resized(24, 32)


def some_solids(count: int, seed: int) -> list[Solid]:
    """Shapes of all kinds, sizes and turns before an unturned camera at the origin, and beside and behind it."""
    random = np.random.default_rng(seed)
    shapes = random.choice(list(ROUND), count)
    places, sizes = random.uniform((-3, -2, -8), (3, 2, 1), (count, 3)), random.uniform(0.2, 1.2, (count, 3))
    return [Solid(str(shape), "", GREY, tuple(place), tuple(size), random.uniform(-4, 4))
            for shape, place, size in zip(shapes, places, sizes, strict=True)
            if np.linalg.norm(place) > 1.6]  # fmt: skip


def own(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in the frame of a unit solid, by a matrix that is written down once more."""
    sin, cos = math.sin(solid.yaw), math.cos(solid.yaw)
    turn = np.array([(cos, 0, sin), (0, 1, 0), (-sin, 0, cos)])
    return (points - np.array(solid.centre)) @ turn / (np.array(solid.size) / 2)


def inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    unit, rounded = own(solid, points), np.array(ROUND[solid.shape])
    return ((unit**2 * rounded).sum(-1) <= 1) & (np.abs(unit * ~rounded) <= 1).all(-1)


@pytest.mark.parametrize("yaw, pitch", [(0.0, 0.0), (0.7, -0.4), (-2.5, 0.3)])
def test_a_ball_is_where_the_formula_says(yaw: float, pitch: float) -> None:
    camera = Camera((0.3, 1.2, -0.4), yaw, pitch, SMALL)
    x, y, z = camera.axes().T
    centre, radius = np.array(camera.position) - 3 * z + 0.2 * x - 0.1 * y, 0.8
    view = look([Solid("ball", "", GREY, tuple(centre), (2 * radius,) * 3)], camera)
    rows, columns = np.mgrid[:24, :32]
    rays = np.stack(((columns - SMALL.cx) / SMALL.fx, (SMALL.cy - rows) / SMALL.fy, -np.ones((24, 32))))
    middle = np.array([0.2, -0.1, -3.0])  # in camera coordinates
    a, b, c = (rays**2).sum(0), -2 * np.tensordot(middle, rays, 1), middle @ middle - radius**2
    hit = b * b - 4 * a * c > 0
    depth = (-b[hit] - np.sqrt((b * b - 4 * a * c)[hit])) / (2 * a[hit])
    assert 60 < hit.sum() < 400 and np.array_equal(view.seen == 0, hit)
    assert np.allclose(view.depth[hit], depth, rtol=1e-12) and not view.depth[~hit].any()
    normals = (depth * rays[:, hit] - middle[:, None]) / radius
    assert np.allclose(view.normal[:, hit], normals, atol=1e-12) and not view.normal[:, ~hit].any()


@pytest.mark.parametrize("seed", range(2))
def test_nearest_surfaces_against_a_march(seed: int) -> None:
    solids = some_solids(30, seed)
    view, step = look(solids, Camera((0, 0, 0), 0, 0, KINECT.resized(15, 20))), 0.01
    along = np.arange(step, 9, step)
    reached = np.full((len(solids), 15, 20), np.inf)
    for k, solid in enumerate(solids):
        met = inside(solid, np.moveaxis(view.rays, 0, -1)[..., None, :] * along[:, None])
        reached[k] = np.where(met.any(-1), along[met.argmax(-1)], np.inf)
    nearest = reached.min(0)
    found = np.where(view.seen >= 0, view.depth, np.inf)
    assert len(np.unique(view.seen)) > 8 and (found <= nearest + 1e-9).all(), "nothing is overlooked"
    close = (found == nearest) | (found > nearest - step - 1e-9)
    assert close.mean() > 0.97, "but for rays that graze a solid"
    same = close & (view.seen >= 0)
    assert (view.seen[same] == reached.argmin(0)[same]).mean() > 0.97


@pytest.mark.parametrize("seed", range(3))
def test_points_lie_on_their_solids_and_normals_are_unit_and_face_the_camera(seed: int) -> None:
    solids = some_solids(30, seed)
    view = look(solids, Camera((0, 0, 0), 0.2, 0.1, SMALL))
    hit = view.seen >= 0
    for k in np.unique(view.seen[hit]):
        solid, points = solids[k], np.moveaxis(view.point, 0, -1)[view.seen == k]
        unit, rounded = own(solid, points), np.array(ROUND[solid.shape])
        ball, slabs = np.sqrt((unit**2 * rounded).sum(-1)), np.abs(unit * ~rounded).max(-1, initial=0)
        assert np.allclose(np.maximum(ball, slabs), 1, atol=1e-9)
        normals = np.moveaxis(view.facing, 0, -1)[view.seen == k]
        assert inside(solid, points - 1e-6 * normals).all() and not inside(solid, points + 1e-6 * normals).any()
    assert np.allclose((view.normal**2).sum(0)[hit], 1, atol=1e-12)
    assert ((view.facing * view.rays).sum(0)[hit] < 0).all()


def test_windows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera((0, 0, 0), 0.0, -0.2, SMALL)
    wall = Solid("box", "", GREY, (0.65, 0, 0), (0.1, 4, 16), math.atan2(-1.7, 16))  # before and behind the camera
    solids = [*some_solids(60, 5), wall]
    view = look(solids, camera)
    assert len(np.unique(view.seen)) > 12 and (view.seen == len(solids) - 1).any()
    monkeypatch.setattr(ray_caster, "_windows", lambda centre, *_: np.array([[0, 24, 0, 32]] * len(centre)))
    assert all(map(np.array_equal, view, look(solids, camera)))


def made(scene: str, seed: int, height: int, width: int) -> tuple[list[Solid], Camera]:
    one = SCENES[scene](np.random.default_rng(seed))
    return one.solids, one.camera._replace(lens=one.camera.lens.resized(height, width))


@pytest.mark.parametrize("scene", SCENES)
def test_a_mirrored_scene_gives_the_mirrored_view(scene: str) -> None:
    """The flip of the augmentation, which negates x of the normals, is what the camera would have seen."""
    solids, camera = made(scene, 3, 30, 40)
    view = look(solids, camera)
    lens = camera.lens._replace(cx=39 - camera.lens.cx)
    over = [one._replace(centre=(-one.centre[0], *one.centre[1:]), yaw=-one.yaw) for one in solids]
    mirror = look(over, Camera((-camera.position[0], *camera.position[1:]), -camera.yaw, camera.pitch, lens))
    assert np.array_equal(mirror.seen, view.seen[:, ::-1]) and np.allclose(mirror.depth, view.depth[:, ::-1], atol=1e-9)
    assert np.allclose(mirror.normal, view.normal[:, :, ::-1] * [[[-1]], [[1]], [[1]]], atol=1e-9)


def in_space(view: View, lens: Lens) -> np.ndarray:
    """Points (3, H, W) of depth, in camera coordinates."""
    right = (np.arange(lens.width) - lens.cx) / lens.fx
    up = (lens.cy - np.arange(lens.height)[:, None]) / lens.fy
    return view.depth * np.stack(np.broadcast_arrays(right, up, -1.0))


def from_depth(view: View, lens: Lens) -> np.ndarray:
    """Normals (3, H - 1, W - 1) of depth, by differences to the right and down."""
    points = in_space(view, lens)
    beside, below = points[:, :-1, 1:] - points[:, :-1, :-1], points[:, 1:, :-1] - points[:, :-1, :-1]
    normals = np.cross(below, beside, axis=0)
    return normals / np.sqrt((normals**2).sum(0))


@pytest.mark.parametrize("seed", range(4))
def test_normals_of_depth_are_the_normals(seed: int) -> None:
    solids, camera = made("room", seed, 72, 96)
    view = look(solids, camera)
    names = np.array([one.name for one in solids])[view.seen]
    here, beside, below = np.s_[..., :-1, :-1], np.s_[..., :-1, 1:], np.s_[..., 1:, :-1]
    flat = [(view.seen[here] == view.seen[by]) & (np.abs(view.normal[here] - view.normal[by]).max(0) < 1e-9)
            for by in (beside, below)]  # fmt: skip
    cosine = (from_depth(view, camera.lens) * view.normal[here]).sum(0)
    for name in ("wall", "floor"):
        chosen = flat[0] & flat[1] & (names[here] == name)
        assert chosen.sum() > 300 and np.degrees(np.arccos(cosine[chosen].clip(-1, 1))).max() < 0.01


def test_the_floor_points_up_and_lies_at_the_height_of_the_feet() -> None:
    solids, camera = made("room", 0, 36, 48)
    view = look(solids, camera)
    floor = view.seen == 0
    assert solids[0].name == "floor" and floor.sum() > 100
    assert np.allclose(view.point[1][floor], 0) and np.allclose(view.facing[1][floor], 1)
    assert np.allclose(view.normal[1][floor], math.cos(camera.pitch)) and (view.normal[1] > 0.8)[floor].all()
    below = (view.normal * in_space(view, camera.lens)).sum(0)[floor]
    assert np.allclose(below, -camera.position[1]), "in camera coordinates as well"


def test_intrinsics_of_another_size_see_the_same() -> None:
    """A pixel of the small picture is the mean of the rays of its 5 x 5 pixels in the large one."""
    large, small = (Camera((0, 0, 0), 0.3, 0.1, KINECT.resized(*size)).rays() for size in ((120, 160), (24, 32)))
    assert np.allclose(large.reshape(3, 24, 5, 32, 5).mean((2, 4)), small, atol=1e-12)
    assert KINECT.resized(480, 640) == KINECT
