"""How label maps look."""

import numpy as np
import pytest
import torch

from mtlkit import maps, nets
from mtlkit.data import nyuv2

GREY = np.array(maps.NOTHING)


def test_pixels_without_a_label_are_grey() -> None:
    label = torch.tensor([[0, 3], [-1, 255]])
    drawn = maps.picture("segmentation", label, 3)
    assert (drawn == GREY).all(-1).tolist() == [[False, False], [True, True]]
    depth = torch.tensor([[[0.0, 2.0], [4.0, 1.0]]])
    drawn = maps.picture("depth", depth, 4.0)
    assert (drawn == GREY).all(-1).tolist() == [[True, False], [False, False]]
    assert not (maps.picture("depth", depth - 1, 4.0, whole=True) == GREY).all(-1).any(), "predictions have no gaps"
    normal = torch.zeros(3, 1, 2)
    normal[1, 0, 0] = 2.0
    drawn = maps.picture("normals", normal, 1.0)
    assert drawn[0, 0] == pytest.approx([0.5, 1.0, 0.5]) and drawn[0, 1] == pytest.approx(GREY)


def test_predictions_look_like_labels() -> None:
    label = torch.tensor([[0, 2], [1, 1]])
    logits = torch.nn.functional.one_hot(label, 3).permute(2, 0, 1).float()
    assert np.array_equal(maps.picture("segmentation", logits, 1.0), maps.picture("segmentation", label, 1.0))
    salient = torch.tensor([[[3.0, -1.0]]])
    assert np.array_equal(maps.picture("saliency", salient, 1.0), maps.picture("saliency", torch.tensor([[1, 0]]), 1.0))


def test_a_column_per_image_and_a_row_per_map() -> None:
    data = nyuv2.load(0, source="builtin", split="2/1/1/3", size="32x48")
    network = nets.DENSE["deeplab"](list(data.facts["outputs"].values()), backbone="resnet18", pretrained="none")
    assert "nothing was trained" in maps.show(data, network)
    network.trained = True
    for figure, rows in ((maps.show(data), 4), (maps.show(data, network, count=2), 7)):
        shown = [ax for ax in figure.axes if ax.images]
        assert len(shown) == rows * (3 if rows == 4 else 2)
    assert network.training, "the mode is put back"
