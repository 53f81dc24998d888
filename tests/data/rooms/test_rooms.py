"""Rendered sets: what is in them, the same whenever they are rendered, and labels that are spoilt on purpose."""

import numpy as np
import pytest

from mtlkit.data import rooms
from mtlkit.data.rooms import PARTS, ROOM_CLASSES, SCENES, STREET_CLASSES, VOC_CLASSES, render
from mtlkit.errors import MtlkitError

Arrays = dict[str, np.ndarray]
SIZES = {"room": (36, 48), "street": (32, 64), "photo": (40, 40)}


@pytest.fixture(scope="module")
def sets() -> dict[str, Arrays]:
    """100 small pictures of every scene."""
    return {scene: render(100, seed=0, height=h, width=w, scene=scene) for scene, (h, w) in SIZES.items()}


def few(scene: str = "room", count: int = 4, **options: object) -> Arrays:
    height, width = SIZES[scene]
    return render(count, **{"seed": 0, "height": height, "width": width, "scene": scene} | options)


@pytest.mark.parametrize("scene, maps", [
    ("room", {"label": (), "depth": (1,), "normal": (3,)}),
    ("street", {"label": (), "depth": (1,)}),
    ("photo", {"semseg": (), "human_parts": (), "saliency": (), "normal": (3,)}),
])  # fmt: skip
def test_shapes_and_types(sets: dict[str, Arrays], scene: str, maps: dict[str, tuple[int, ...]]) -> None:
    arrays = sets[scene]
    assert list(arrays) == ["image", *maps]
    for name, channels in ({"image": (3,)} | maps).items():
        assert arrays[name].shape == (100, *SIZES[scene], *channels)
        assert arrays[name].dtype == (np.float32 if channels else np.int64)
        assert np.isfinite(arrays[name]).all()
    assert arrays["image"].min() >= 0 and arrays["image"].max() <= 1 and 0.3 < arrays["image"].mean() < 0.6


@pytest.mark.parametrize("scene", SCENES)
def test_a_picture_depends_on_its_number_alone(scene: str) -> None:
    all_of_them, first = few(scene, 4), few(scene, 2)
    assert all(np.array_equal(all_of_them[name][:2], first[name]) for name in first)
    height, width = SIZES[scene]
    one = rooms.render_one(3, seed=0, height=height, width=width, scene=scene)
    assert all(np.array_equal(all_of_them[name][3], one[name]) for name in one)
    images = [*all_of_them["image"], *few(scene, 2, seed=1)["image"], *few(scene, 2, split="val")["image"]]
    assert len({image.tobytes() for image in images}) == 8


def test_the_same_is_shown_at_any_size() -> None:
    """Of three times as many pixels along each side, the middle ones see what those of the small picture see."""
    small, large = few(), few(height=108, width=144)
    middle = large["depth"][:, 1::3, 1::3]
    both = (small["depth"] > 0) & (middle > 0)
    assert both.mean() > 0.9 and np.allclose(small["depth"][both], middle[both], rtol=1e-5)
    assert np.array_equal(small["label"][both[..., 0]], large["label"][:, 1::3, 1::3][both[..., 0]])


@pytest.mark.parametrize("scene, name, classes, ignored", [
    ("room", "label", ROOM_CLASSES, -1), ("street", "label", STREET_CLASSES, -1), ("photo", "semseg", VOC_CLASSES, 255),
    ("photo", "human_parts", PARTS, 255),
])  # fmt: skip
def test_every_class_occurs(sets: dict[str, Arrays], scene: str, name: str, classes: tuple, ignored: int) -> None:
    assert sorted(np.unique(sets[scene][name])) == sorted([*range(len(classes)), ignored])


def test_classes_are_those_of_the_benchmarks() -> None:
    assert [len(one) for one in (ROOM_CLASSES, STREET_CLASSES, VOC_CLASSES, PARTS)] == [13, 7, 21, 7]
    assert list(ROOM_CLASSES) == sorted(ROOM_CLASSES), "NYUv2's 13 classes are numbered in alphabetical order"


def test_a_few_per_cent_are_ignored_by_all_tasks_alike(sets: dict[str, Arrays]) -> None:
    for scene, name, ignored in (("room", "label", -1), ("street", "label", -1), ("photo", "semseg", 255)):
        shares = (sets[scene][name] == ignored).mean((1, 2))
        assert 0.01 < shares.mean() < 0.06 and shares.max() < 0.25
    room = sets["room"]
    nowhere = room["label"] == -1
    assert np.array_equal(nowhere, room["depth"][..., 0] == 0)
    assert np.array_equal(nowhere, (room["normal"] == 0).all(-1))
    assert not sets["street"]["depth"][sets["street"]["label"] == STREET_CLASSES.index("sky")].any()
    assert not sets["photo"]["normal"][sets["photo"]["semseg"] == 255].any()


def test_ignored_pixels_are_those_that_an_eye_beside_the_camera_cannot_see() -> None:
    """A post at 2 m before a wall at 4 m, a shift of 8 pixels at one metre: two pixels are hidden on each side."""
    depth = np.full((1, 12), 4.0)
    depth[0, 5:7] = 2.0
    assert rooms._hidden(depth, 8.0)[0].nonzero()[0].tolist() == [3, 4, 7, 8]
    assert not rooms._hidden(np.full((3, 9), 2.0), 8.0).any()
    depth[depth == 4] = 0  # no wall, but the sky
    assert rooms._hidden(depth, 8.0)[0].nonzero()[0].tolist() == [1, 2, 3, 4, 7, 8, 9, 10]


def test_depth_and_normals(sets: dict[str, Arrays]) -> None:
    for scene in ("room", "photo"):
        lengths = np.sqrt((sets[scene]["normal"].astype(float) ** 2).sum(-1))
        assert np.abs(lengths[lengths > 0] - 1).max() < 1e-6
    metres = sets["room"]["depth"]
    assert metres[metres > 0].min() > 0.2 and 2 < metres.mean() < 5 and metres.max() < 10
    floor, ceiling = (sets["room"]["normal"][sets["room"]["label"] == ROOM_CLASSES.index(name)][:, 1]
                      for name in ("floor", "ceiling"))  # fmt: skip
    assert np.quantile(floor, 0.1) > 0.8 and np.quantile(ceiling, 0.9) < -0.8, "y points up"


def test_inverse_depth_of_streets(sets: dict[str, Arrays]) -> None:
    inverse, label = sets["street"]["depth"][..., 0], sets["street"]["label"]
    assert inverse.min() == 0 and 0.3 < inverse.max() <= 0.49
    road = inverse * (label == 0)
    assert (road[:, -1].mean() > 4 * road[:, 16].mean()) and (inverse == 0).mean() < 0.25


def test_people_have_parts_and_pictures_without_any_are_ignored(sets: dict[str, Arrays]) -> None:
    photo = sets["photo"]
    nobody = (photo["human_parts"] == 255).all((1, 2))
    assert 0.3 < nobody.mean() < 0.7
    assert np.array_equal(nobody, (photo["human_parts"] == 255).any((1, 2))), "throughout, or nowhere"
    known = (photo["semseg"] != 255) & ~nobody[:, None, None]
    person = photo["semseg"] == VOC_CLASSES.index("person")
    assert np.array_equal(person[known], photo["human_parts"][known] > 0) and not person[nobody].any()


@pytest.mark.parametrize("scene", SCENES)
def test_things_do_not_stand_in_each_other_or_before_the_camera(scene: str) -> None:
    """What is put on a floor does not reach into what is there, and the ground before the camera stays free."""
    from mtlkit.data.rooms.parts import extent
    from mtlkit.data.rooms.places import Floor

    placed: list[np.ndarray] = []
    put = Floor.put

    def watched(floor: Floor, *rest: object) -> list:
        made = put(floor, *rest)
        placed.extend([extent(made)[[0, 2]]] if made else [])
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Floor, "put", watched)
        for seed in range(10):
            placed.clear()
            eye = np.array(SCENES[scene](np.random.default_rng(seed)).camera.position)[[0, 2], None]
            for k, one in enumerate(placed):
                apart = [(one[:, 0] >= other[:, 1]).any() or (one[:, 1] <= other[:, 0]).any() for other in placed[:k]]
                assert all(apart) and ((eye < one[:, :1]) | (eye > one[:, 1:])).any()


def test_saliency_is_a_part_of_what_has_a_class(sets: dict[str, Arrays]) -> None:
    photo = sets["photo"]
    thing, salient = (photo["semseg"] > 0) & (photo["semseg"] < 255), photo["saliency"] == 1
    assert set(np.unique(photo["saliency"])) == {0, 1} and not (salient & (photo["semseg"] == 0)).any()
    assert 0.4 < salient[thing].mean() < 0.9 and salient.any((1, 2)).mean() > 0.97


def test_colour_alone_does_not_tell_the_class(sets: dict[str, Arrays]) -> None:
    """The nearest of the classes' mean colours is right more often than chance, and wrong more often than not."""
    colours, labels = (sets["room"][name].reshape(-1, *rest) for name, rest in (("image", (3,)), ("label", ())))
    means = np.stack([colours[labels == k].mean(0) for k in range(13)])
    nearest = ((colours[:, None] - means) ** 2).sum(-1).argmin(1)
    recall = np.mean([(nearest == k)[labels == k].mean() for k in range(13)])
    assert 1.5 / 13 < recall < 0.5


def test_bad_input_is_named() -> None:
    with pytest.raises(MtlkitError, match="did you mean 'room'"):
        render(1, seed=0, height=36, width=48, scene="rooms")
    with pytest.raises(MtlkitError, match="count is 0"):
        few(count=0)
    with pytest.raises(MtlkitError, match="4 x 48"):
        few(height=4)
