"""Augmentation: nothing mixed, nothing shared between images, depth and normals that stay those of one surface."""

import math

import pytest
import torch
from torch import Tensor

from mtlkit.data import augment
from mtlkit.errors import MtlkitError

KINDS = ("label", "depth", "normal")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 6, height: int = 12, width: int = 16) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Images, labels, depth and normals of chance, a tenth of the latter without a value."""
    random = seeded(1)
    images = torch.randn(count, 3, height, width, generator=random)
    labels = torch.randint(-1, 13, (count, height, width), generator=random)
    there = torch.rand(count, 1, height, width, generator=random) > 0.1
    depth = (1 + torch.rand(count, 1, height, width, generator=random)) * there
    normals = torch.nn.functional.normalize(torch.randn(count, 3, height, width, generator=random), dim=1) * there
    return images, (labels, depth, normals)


def motion(flip: bool = False, scale: float = 1, degrees: float = 0, down: float = 0, right: float = 0) -> Tensor:
    return torch.tensor([[-1.0 if flip else 1.0], [scale], [math.radians(degrees)], [down], [right]])


def mirrored(images: Tensor, targets: tuple[Tensor, ...]) -> list[Tensor]:
    labels, depth, normals = (target.flip(-1) for target in targets)
    return [images.flip(-1), labels, depth, normals * torch.tensor([-1.0, 1, 1])[:, None, None]]


def test_every_image_is_as_it_was_or_mirrored() -> None:
    images, targets = batch(32)
    new, moved = augment.scale_and_flip(images, targets, KINDS, seeded(), scales=(1.0,))
    flipped = [not torch.equal(one, other) for one, other in zip(images, new, strict=True)]
    assert 8 <= sum(flipped) <= 24
    for before, after, mirror in zip((images, *targets), (new, *moved), mirrored(images, targets), strict=True):
        expected = [mirror[k] if flipped[k] else before[k] for k in range(32)]
        assert torch.equal(after, torch.stack(expected))


def test_the_same_flips_twice_change_nothing() -> None:
    images, targets = batch()
    once = augment.scale_and_flip(images, targets, KINDS, seeded(), scales=(1.0,))
    twice = augment.scale_and_flip(*once, KINDS, seeded(), scales=(1.0,))
    assert not torch.equal(once[0], images)
    assert all(map(torch.equal, (images, *targets), (twice[0], *twice[1])))


def test_crop_against_a_loop_over_pixels() -> None:
    images, targets = batch(1)
    scale, down, right = 1.5, 0.11, -0.07
    new, (labels, depth, normals) = augment._move(images, targets, KINDS, motion(False, scale, 0, down, right), -1)
    for i in range(12):
        for j in range(16):
            y, x = (i - 5.5) / scale + 5.5 + 12 * down, (j - 7.5) / scale + 7.5 + 16 * right
            at = (0, slice(None), math.floor(y + 0.5), math.floor(x + 0.5))
            assert labels[0, i, j] == targets[0][0, at[2], at[3]]
            assert depth[0, 0, i, j] == targets[1][at] / scale
            assert torch.equal(normals[0, :, i, j], targets[2][at])
            top, left = math.floor(y), math.floor(x)
            mean = sum(images[0, :, top + a, left + b] * (1 - abs(y - top - a)) * (1 - abs(x - left - b))
                       for a in (0, 1) for b in (0, 1))  # fmt: skip
            assert torch.allclose(new[0, :, i, j], mean, atol=1e-5)


def test_windows_lie_inside_reach_the_edges_and_have_the_right_size() -> None:
    row = torch.arange(30.0)[:, None].expand(30, 40)
    places = torch.stack((row, torch.arange(40.0).expand(30, 40))).expand(400, 2, 30, 40)
    _, (exact, nearest) = augment.scale_and_flip(places, (places, places), ("plain", "label"), seeded())
    assert (nearest >= 0).all(), "nothing beyond the source"
    assert nearest[:, 0].min() == 0 and nearest[:, 0].max() == 29
    sizes = exact[:, 0, 15, 0] - exact[:, 0, 14, 0]
    factors, counts = (1 / sizes).round(decimals=3).unique(return_counts=True)
    assert factors.tolist() == pytest.approx([1.0, 1.2, 1.5]) and counts.min() > 90
    middles = exact[:, :, 14:16, 19:21].mean((-1, -2))[sizes < 0.7]
    assert middles.std(0).min() > 1 and abs(torch.corrcoef(middles.T)[0, 1]) < 0.3, "rows and columns independently"


def plane(count: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Depth and normals of planes n p = -d seen by a lens, its rays, and d."""
    height, width, focal, distance = 24, 32, 30.0, 2.0
    x = (torch.arange(width).double() - 14.2) / focal
    y = (11.1 - torch.arange(height).double()[:, None]) / focal
    rays = torch.stack((x.expand(height, width), y.expand(height, width), -torch.ones(height, width).double()))
    normal = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, 0.9]).double(), dim=0)[:, None, None]
    depth = -distance / (normal * rays).sum(0, keepdim=True)
    depth, normal, rays = (one.expand(count, -1, height, width) for one in (depth, normal, rays))
    return depth, normal, rays, distance


@pytest.mark.parametrize("rotate", [False, True])
def test_depth_and_normals_stay_those_of_a_plane(rotate: bool) -> None:
    """After a motion, pixels lie on rays of the longer lens, turned and mirrored as the picture; s times nearer, they
    lie on one plane, whose normal is the one that comes with them."""
    depth, normal, rays, distance = plane(20)
    move = augment.rotate_scale_and_flip if rotate else augment.scale_and_flip
    kinds = ("depth", "normal", "normal", "plain", "inverse_depth")
    places = torch.arange(24.0)[:, None].expand(20, 1, 24, 32).double()
    _, (new, normals, seen, exact, inverse) = move(depth, (depth, normal, rays, places, 1 / depth), kinds, seeded())
    there = new[:, 0] > 0
    assert there.float().mean() > 0.8 and (rotate or there.all())
    heights = (normals * seen * new).sum(1)
    scale = 1 / (exact[:, 0, 12, 16] - exact[:, 0, 11, 16]).hypot(exact[:, 0, 12, 16] - exact[:, 0, 12, 15])
    assert torch.allclose(heights[there], (-distance / scale)[:, None, None].expand_as(heights)[there], rtol=1e-5)
    assert scale.std() > 0.05
    assert torch.allclose((inverse * new)[:, 0][there], torch.ones(()).double(), atol=1e-5)
    directions = normals.movedim(1, -1)[there]
    assert torch.allclose(directions.norm(dim=-1), torch.ones(()).double(), atol=1e-6)


def test_a_quarter_turn_is_that_of_torch() -> None:
    images, targets = batch(1, 9, 9)
    new, (labels, depth, normals) = augment._move(images, targets, KINDS, motion(degrees=90), 255)
    assert torch.allclose(new, images.rot90(1, (-2, -1)), atol=1e-5)
    assert torch.equal(labels, targets[0].rot90(1, (-2, -1))) and torch.equal(depth, targets[1].rot90(1, (-2, -1)))
    x, y, z = targets[2].rot90(1, (-2, -1)).unbind(1)
    assert torch.allclose(normals, torch.stack((-y, x, z), 1), atol=1e-6), "what pointed up points to the left"


def test_a_flip_comes_after_a_turn() -> None:
    images, targets = batch(1)
    turned = augment._move(images, targets, KINDS, motion(degrees=15, scale=0.8), 255)
    both = augment._move(images, targets, KINDS, motion(True, degrees=15, scale=0.8), 255)
    for one, other in zip((both[0], *both[1]), mirrored(*turned), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-5)


def test_beyond_the_source_nothing_is_known() -> None:
    images, targets = batch(4)
    new, (labels, depth, normals) = augment.rotate_scale_and_flip(
        images + 100, (targets[0].clamp_min(0), targets[1] + 1, targets[2]), KINDS, seeded(), scales=(0.4, 0.5)
    )
    outside = labels == 255
    assert 0.7 < outside.float().mean() < 0.9
    assert torch.equal(outside, depth[:, 0] == 0) and torch.equal(outside, (new == 0).all(1))
    assert not normals.movedim(1, -1)[outside].any() and (new.movedim(1, -1)[~outside] > 90).all()


def test_no_draw_is_shared_and_one_call_is_made() -> None:
    images, targets = batch(1)
    many = images.expand(64, -1, -1, -1), tuple(one.expand(64, *one.shape[1:]) for one in targets)
    for move, draws in ((augment.scale_and_flip, 4), (augment.rotate_scale_and_flip, 3)):
        random, counted = seeded(), seeded()
        new, _ = move(*many, KINDS, random)
        assert len({one.numpy().tobytes() for one in new}) > 40
        torch.rand(draws, 64, generator=counted, dtype=torch.float64)
        assert torch.equal(random.get_state(), counted.get_state())
        mixed = many[0].clone()
        mixed[1:] = 0
        assert torch.equal(move(mixed, many[1], KINDS, seeded())[0][0], new[0]), "an image does not see the others"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_are_kept(dtype: torch.dtype) -> None:
    images, (labels, depth, normals) = batch()
    targets = labels, depth.to(dtype), normals.to(dtype), labels.clamp_min(0).to(torch.uint8), depth[:, 0].to(dtype)
    kinds = (*KINDS, "label", "plain")
    for move in (augment.scale_and_flip, augment.rotate_scale_and_flip):
        new, moved = move(images.to(dtype), targets, kinds, seeded())
        assert new.dtype == dtype and [one.dtype for one in moved] == [one.dtype for one in targets]
        assert [one.shape for one in moved] == [one.shape for one in targets]
        lengths = moved[2].double().norm(dim=1)
        assert ((lengths - 1).abs().minimum(lengths) < 4 * max(torch.finfo(dtype).eps, 1.2e-7)).all(), "unit, or none"


def test_nothing_is_read_back_from_the_device() -> None:
    """Meta tensors hold no values: whatever asked for one would raise."""
    images, targets = batch()
    for move in (augment.scale_and_flip, augment.rotate_scale_and_flip):
        new, moved = move(images.to("meta"), [one.to("meta") for one in targets], KINDS, seeded())
        assert all(one.is_meta for one in (new, *moved))


def test_bad_input_is_named() -> None:
    images, targets = batch()
    with pytest.raises(MtlkitError, match="did you mean 'depth'"):
        augment.scale_and_flip(images, targets, ("label", "dept", "normal"), seeded())
    with pytest.raises(MtlkitError, match="3 targets, but kinds names 2"):
        augment.scale_and_flip(images, targets, KINDS[:2], seeded())
    with pytest.raises(MtlkitError, match=r"shape \(6, 12, 15\), but the images are 12 x 16"):
        augment.scale_and_flip(images, (targets[0][..., 1:], *targets[1:]), KINDS, seeded())
