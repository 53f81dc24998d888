"""PACS itself, where there is any: all images are there, and a few of them make sense."""

from pathlib import Path

import pytest
import torch

from mtlkit.data import office

PUBLISHED = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}
FEW = 10


@pytest.fixture(scope="module")
def pacs_root(data_root) -> Path:
    if not (data_root / "pacs").is_dir():
        pytest.skip("needs PACS below the data root (folder pacs)")
    return data_root


def test_real_counts(pacs_root):
    source = office._find(pacs_root, "pacs")
    assert {domain: len(items) for domain, items in source.items.items()} == PUBLISHED
    assert office.COLLECTIONS["pacs"].status(str(pacs_root))["variant"] == "pacs"


def test_real_images(pacs_root, tmp_path):
    for domain in office.DOMAINS["pacs"]:
        for folder in (pacs_root / "pacs" / domain).iterdir():
            here = tmp_path / "pacs" / domain / folder.name
            here.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:FEW]:
                (here / path.name).symlink_to(path)
    data = office.load(0, dataset="pacs", source="real", data_root=str(tmp_path), size=96, main="sketch")
    assert data.facts["sizes_by_task"]["test"] == [7 * 2] * 4 and data.facts["sizes_by_task"]["tuning"] == [7 * 2] * 4
    batch = data.test.take([torch.arange(14)] * 4)
    assert all(one.shape == (14, 3, 96, 96) and 0.3 < one.std() < 3 for one in batch.inputs)
    pixels = {name: part.maps["image"].float() for name, part in zip(data.task_names, data.test.parts, strict=True)}
    colour = {name: images.std(1).mean() for name, images in pixels.items()}
    assert colour["sketch"] < 2 and min(colour[name] for name in colour if name != "sketch") > 8, "sketches are grey"
