"""Images with labels of the whole image: batches, wrong labels, files."""

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit.data import stored
from mtlkit.data.pictures import Pictures, rgb
from mtlkit.errors import MtlkitError


def some(count: int = 6, **options) -> Pictures:
    """Images 3 .. 3 + count of twelve, two tasks."""
    images = torch.randint(256, (12, 3, 4, 5), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = torch.stack([torch.arange(count) % 2, torch.arange(count) % 3])
    return Pictures.labelled(images, torch.arange(3, 3 + count), labels, **options)


@pytest.mark.parametrize("resident", [0, stored.RESIDENT])
def test_batches(resident):
    pictures = some(resident=resident, dtype=torch.float32)
    batch = pictures.to("cpu").take(torch.tensor([4, 0]))
    images = pictures.maps["image"][[7, 3]] / 255
    expected = (images - torch.tensor(stored.MEAN)[:, None, None]) / torch.tensor(stored.STD)[:, None, None]
    assert torch.allclose(batch.inputs, expected, atol=1e-6)
    assert batch.targets.dtype == torch.float32 and batch.targets.tolist() == [[0, 0], [1, 0]]
    assert torch.equal(batch.groups, batch.targets.long()) and batch.index.tolist() == [4, 0]
    assert (batch.mass == 1).all() and not batch.flipped.any()


def test_join():
    pictures = some()
    more = Pictures.labelled(pictures.maps["image"], torch.tensor([0, 11]), torch.tensor([[1, 1], [2, 0]]))
    both = pictures.join(more)
    assert len(both) == 8 and both.take(torch.tensor([6, 7])).targets.tolist() == [[1, 1], [2, 0]]
    assert torch.equal(both.take(torch.tensor([7])).inputs, more.take(torch.tensor([1])).inputs)


def test_wrong_labels():
    clean = some(9)
    few, many = (clean.spoilt(share, [1], torch.Generator().manual_seed(3), 3) for share in (1 / 3, 1.0))
    assert few.flipped.sum(1).tolist() == [0, 3] and many.flipped.sum(1).tolist() == [0, 9]
    assert torch.equal(few.groups[few.flipped], many.groups[few.flipped])
    assert torch.equal(few.flipped, few.groups != clean.groups) and int(many.groups.max()) == 2
    assert torch.equal(many.take(torch.arange(9)).targets, many.groups) and not clean.flipped.any()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA"])
def test_any_image_is_read_as_colours(tmp_path, mode):
    path = tmp_path / ("a.png" if mode != "CMYK" else "a.jpg")
    Image.new("RGB", (6, 4), (250, 250, 250)).convert(mode).save(path)
    array = rgb(path)
    assert array.shape == (4, 6, 3) and array.dtype == np.uint8 and array.min() > 200


@pytest.mark.parametrize("harm", ["missing", "other", "truncated"])
def test_what_is_no_image_is_one_sentence(tmp_path, harm):
    path = tmp_path / "a.png"
    Image.effect_noise((40, 40), 90).save(path)
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(b"text" if harm == "other" else path.read_bytes()[:-200])
    with pytest.raises(MtlkitError, match=r"a\.png cannot be read as an image \(\w+\): it is damaged"):
        rgb(path)
