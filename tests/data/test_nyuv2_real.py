"""NYUv2 itself, where there is any: all files are there, and a few images make sense."""

from pathlib import Path

import pytest
import torch

from mtlkit.data import nyuv2
from mtlkit.data.base import Dataset

FEW = {"train": 8, "test": 4}


@pytest.fixture(scope="module")
def nyuv2_root(data_root) -> Path:
    if not (data_root / "nyuv2" / "train" / "image").is_dir():
        pytest.skip("needs NYUv2 below the data root (folder nyuv2)")
    return data_root


@pytest.fixture(scope="module")
def few(nyuv2_root, tmp_path_factory) -> Dataset:
    """A few images, evenly from all, at their own size."""
    source = nyuv2._find(nyuv2_root)
    root = tmp_path_factory.mktemp("few")
    for split, count in FEW.items():
        items = source.items[split]
        for item in items[:: len(items) // count][:count]:
            for path in item.values():
                link = root / path.relative_to(nyuv2_root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    return nyuv2.load(0, source="real", data_root=str(root), split="6/1/1/4")


def test_real_counts(nyuv2_root):
    source = nyuv2._find(nyuv2_root)
    assert source.variant in nyuv2.BENCHMARK.variants
    assert {split: len(items) for split, items in source.items.items()} == {"train": 795, "test": 654}
    assert nyuv2.status(str(nyuv2_root))["variant"] == source.variant


def test_real_images_and_maps(few):
    batch = few.test.take(torch.arange(4))
    label, depth, normal = batch.targets
    assert batch.inputs.shape == (4, 3, 288, 384) and 0.2 < batch.inputs.std() < 3
    assert label.min() == -1 and label.max() <= 12 and len(label.unique()) > 6
    assert depth[depth > 0].min() > 0.3 and 2 < depth.max() <= 10
    length = normal.norm(dim=1)
    assert torch.allclose(length[length > 0], torch.ones(()), atol=2e-3) and (length > 0).float().mean() > 0.9
    assert (batch.mass == 1).all()


def test_real_floors_point_up_and_ceilings_down(few):
    """As far as depth of 8 bits and a tilted camera allow: in the median image, at the median pixel."""
    batch = few.train.take(torch.arange(6)).join(few.test.take(torch.arange(4)))
    label, _, normal = batch.targets
    for which, up in (("floor", 1), ("ceiling", -1)):
        there = (label == nyuv2.CLASSES.index(which)) & (normal != 0).any(1)
        seen = [up * one[1, mask].median() for one, mask in zip(normal, there, strict=True) if mask.sum() > 1000]
        assert not seen or torch.stack(seen).median() > (0.7 if which == "floor" else 0.2)
    assert normal[:, 2].min() > -0.6, "surfaces face the camera"
