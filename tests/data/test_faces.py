"""Drawn faces: how often attributes occur, which go together, and that each can be seen."""

import numpy as np
import pytest

from mtlkit.data import faces
from mtlkit.data.faces import drawing


@pytest.fixture(scope="module")
def many() -> dict[str, np.ndarray]:
    """The attributes of 6400 faces."""
    drawn = [faces.attributes(np.random.default_rng(k)) for k in range(100)]
    return {name: np.concatenate([one[name] for one in drawn]) for name in faces.ATTRIBUTES}


def test_shares_are_about_those_of_celeba(many):
    celeba = {"Arched_Eyebrows": 0.27, "Bags_Under_Eyes": 0.2, "Bangs": 0.15, "Big_Lips": 0.24, "Big_Nose": 0.23,
              "Black_Hair": 0.24, "Blond_Hair": 0.15, "Brown_Hair": 0.21, "Bushy_Eyebrows": 0.14, "Heavy_Makeup": 0.39,
              "High_Cheekbones": 0.46, "Male": 0.42, "Mouth_Slightly_Open": 0.48, "No_Beard": 0.83, "Oval_Face": 0.28,
              "Pointy_Nose": 0.28, "Smiling": 0.48, "Straight_Hair": 0.21, "Wavy_Hair": 0.32, "Wearing_Earrings": 0.19,
              "Wearing_Lipstick": 0.47, "Young": 0.77}  # fmt: skip
    for name, share in celeba.items():
        assert many[name].mean() == pytest.approx(share, abs=0.07), name
    assert all(0.03 < has.mean() < 0.9 for has in many.values()), "small sets have both kinds"


@pytest.mark.parametrize(
    ("first", "second", "sign"),
    [
        ("Male", "Wearing_Lipstick", -1),
        ("Male", "Bushy_Eyebrows", 1),
        ("Heavy_Makeup", "Wearing_Lipstick", 1),
        ("Smiling", "High_Cheekbones", 1),
        ("Gray_Hair", "Young", -1),
        ("Chubby", "Double_Chin", 1),
    ],
)
def test_what_goes_together(many, first, second, sign):
    assert sign * np.corrcoef(many[first], many[second])[0, 1] > 0.15


@pytest.mark.parametrize(
    "names",
    [
        tuple(faces.HAIR),
        ("Bald", *faces.HAIR),
        ("Bald", "Bangs", "Receding_Hairline"),
        ("Bald", "Straight_Hair", "Wavy_Hair"),
        ("Bald", "Wearing_Hat"),
        ("Wearing_Hat", "Bangs"),
        ("Goatee", "No_Beard"),
        ("5_o_Clock_Shadow", "Goatee"),
        ("Chubby", "Oval_Face"),
        ("Wearing_Necklace", "Wearing_Necktie"),
    ],
)
def test_what_never_goes_together(many, names):
    assert np.sum([many[name] for name in names], 0).max() == 1


HIDDEN_BY = {
    "Bald": ["Wearing_Hat", "Bangs", *faces.HAIR],
    "Bangs": ["Bald", "Wearing_Hat"],
    "Receding_Hairline": ["Bald", "Wearing_Hat", "Bangs"],
    "Sideburns": ["Bald", "Straight_Hair", "Wavy_Hair"],
    "Straight_Hair": ["Wavy_Hair"],
    "Wavy_Hair": ["Straight_Hair"],
    **{name: ["Bald", *faces.HAIR] for name in faces.HAIR},
}


@pytest.mark.parametrize("name", faces.ATTRIBUTES)
def test_every_attribute_can_be_seen(name):
    """Of the same faces with it and without it, most differ by more than the camera's grain; the rest stays."""
    no, yes = np.zeros(faces.CHUNK, bool), np.ones(faces.CHUNK, bool)
    has = faces.attributes(np.random.default_rng(5)) | {"Blurry": no} | dict.fromkeys(HIDDEN_BY.get(name, []), no)
    has |= {"Goatee": {"No_Beard": no}, "5_o_Clock_Shadow": {"No_Beard": yes}}.get(name, {})
    pictures = [drawing.Drawing(has | {name: seen}, 32, np.random.default_rng(7)).finished() for seen in (yes, no)]
    differs = np.abs(pictures[0] - pictures[1]).max(1)
    assert ((differs > 0.1).sum((1, 2)) >= 2).mean() > 0.85
    assert (differs < 0.01).mean() > (0.5 if name != "Blurry" else 0.3)


@pytest.mark.parametrize("size", [32, 64])
def test_the_first_faces_of_a_seed_are_the_same_however_many_there_are(size):
    images, seen = faces.draw(faces.CHUNK + 9, size, 3)
    assert images.shape == (faces.CHUNK + 9, 3, size, size) and images.dtype == np.uint8
    assert seen.shape == (faces.CHUNK + 9, 40) and seen.dtype == np.uint8 and set(np.unique(seen)) == {0, 1}
    fewer, less = faces.draw(faces.CHUNK + 2, size, 3)
    assert np.array_equal(fewer, images[:-7]) and np.array_equal(less, seen[:-7])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert not np.array_equal(faces.draw(9, size, 4)[0], images[:9])


def test_limits_cut_nothing_off(monkeypatch):
    """Shapes are painted on the rows where they lie; on all rows they would look the same."""
    paint = drawing.Drawing._paint
    some = faces.draw(faces.CHUNK, 48, 6)[0]
    monkeypatch.setattr(drawing.Drawing, "_paint", lambda self, limits, *rest: paint(self, (-1.2, 1.2), *rest))
    assert np.abs(faces.draw(faces.CHUNK, 48, 6)[0].astype(int) - some).max() <= 1
