"""CityScapes, from small trees in mtan's layout."""

import numpy as np
import pytest
import torch

from mtlkit.data import cityscapes
from mtlkit.errors import MtlkitError
from tests.data.test_nyuv2 import images, whole
from tests.data.test_stored import maps, write_mtan

SIZE = (16, 32)
FOLDERS = {"image": "image", "label": "label_7", "depth": "depth"}


def real(root, seed=0, **options):
    return cityscapes.load(seed, source="real", data_root=str(root), **{"size": "16x32", "split": "6/3/3/5"} | options)


def test_the_archive_is_read_back(tmp_path):
    write_mtan(tmp_path / "cityscapes", FOLDERS, size=SIZE)
    data = real(tmp_path)
    assert (data.name, data.variant, data.kind) == ("cityscapes", "cityscapes-mtan", "dense")
    assert data.facts["outputs"] == {"segmentation": 7, "disparity": 1}
    batch = whole(data.test)
    for k in range(5):
        arrays = maps(100 + k, SIZE)
        assert np.array_equal(images(data.test)[k], arrays["image"])
        assert np.array_equal(batch.targets[0][k], arrays["label"])
        assert np.array_equal(batch.targets[1][k, 0], arrays["depth"][..., 0])
    swapped = real(tmp_path, main="disparity")
    assert swapped.task_names == ["disparity", "segmentation"]
    assert torch.equal(whole(swapped.test).targets[1], batch.targets[0])


def test_19_classes_are_another_variant(tmp_path):
    write_mtan(tmp_path / "cityscapes", FOLDERS, size=SIZE)
    with pytest.raises(MtlkitError, match=r"label_19/0\.npy is missing"):
        real(tmp_path, classes=19)
    for split in ("train", "val"):
        (tmp_path / "cityscapes" / split / "label_7").rename(tmp_path / "cityscapes" / split / "label_19")
    path = tmp_path / "cityscapes" / "val" / "label_19" / "0.npy"
    np.save(path, np.full(SIZE, 18))
    data = real(tmp_path, classes=19)
    assert data.variant == "cityscapes-mtan-19" and data.facts["outputs"]["segmentation"] == 19
    assert (whole(data.test).targets[0][0] == 18).all()
    path.parent.rename(path.parent.with_name("label_7"))
    (tmp_path / "cityscapes" / "train" / "label_19").rename(tmp_path / "cityscapes" / "train" / "label_7")
    with pytest.raises(MtlkitError, match=r"label_7/0\.npy holds the label 18; expected are 0 to 6"):
        real(tmp_path)
    with pytest.raises(MtlkitError, match=r"^classes is 2, but CityScapes is read with 7 or 19\.$"):
        real(tmp_path, classes=2)


def test_prepare_and_status(tmp_path):
    with pytest.raises(MtlkitError, match=r"^CityScapes is not below .*label_7"):
        cityscapes.prepare(str(tmp_path))
    assert not cityscapes.status(str(tmp_path))["found"]
    write_mtan(tmp_path / "cityscapes", FOLDERS, size=SIZE)
    assert cityscapes.prepare(str(tmp_path)).name.startswith("cityscapes-mtan-128x256-")
    assert cityscapes.status(str(tmp_path))["variant"] == "cityscapes-mtan"
