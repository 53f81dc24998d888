"""Losses and metrics of maps, against the benchmarks' formulas written out with loops over NumPy arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtlkit import dense
from mtlkit.errors import MtlkitError
from mtlkit.metrics import LABELS
from mtlkit.pixels import BINS_PER_DEGREE
from mtlkit.tasks import Task

IMAGES, HEIGHT, WIDTH = 7, 4, 8  # 32 pixels: shares of them are exact
EMPTY = 3
"""An image without valid pixels."""

SYNCHRONISING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal", "aten::is_nonzero",
                 "aten::bincount", "aten::masked_select"}  # fmt: skip


def labels(classes: int, ignore: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (IMAGES, HEIGHT, WIDTH), generator=draw)
    target[torch.rand(target.shape, generator=draw) < 0.3] = ignore
    target[EMPTY] = ignore
    logits = torch.randn(IMAGES, classes, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    hints = torch.nn.functional.one_hot(target.clamp(0, classes - 1), classes).movedim(3, 1)
    return logits + 0.7 * hints, target


def segmentation_maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    return labels(5, -1, seed)


def parts_maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    prediction, target = labels(7, 255, seed)
    target[5] = target[5].where(target[5] == 255, 0)  # shows no part
    return prediction, target


def depth_maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = 0.5 + 9 * torch.rand(IMAGES, 1, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    prediction = target + torch.randn(target.shape, generator=draw, dtype=torch.float64)
    target[torch.rand(target.shape, generator=draw) < 0.3] = 0
    target[EMPTY] = 0
    return prediction, target


def normal_maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = torch.randn(IMAGES, 3, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    target /= target.norm(dim=1, keepdim=True)
    prediction = 3 * target + 2 * torch.randn(target.shape, generator=draw, dtype=torch.float64)
    target.movedim(1, 3)[torch.rand(IMAGES, HEIGHT, WIDTH, generator=draw) < 0.3] = 0
    target[EMPTY] = 0
    return prediction, target


def saliency_maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = (torch.rand(IMAGES, HEIGHT, WIDTH, generator=draw) < 0.3).long()
    prediction = 2 * torch.randn(IMAGES, 1, HEIGHT, WIDTH, generator=draw, dtype=torch.float64) + target[:, None]
    target[torch.rand(target.shape, generator=draw) < 0.2] = 255
    target[1] = target[1].where(target[1] == 255, 0)  # nothing salient
    target[EMPTY] = 255
    return prediction, target


Maps = Callable[[], tuple[Tensor, Tensor]]
CASES: dict[str, tuple[Task, Maps]] = {
    "segmentation": (dense.semantic_segmentation("segmentation", 5), segmentation_maps),
    "human_parts": (dense.human_parts("human_parts"), parts_maps),
    "depth": (dense.depth("depth"), depth_maps),
    "normals": (dense.normals("normals"), normal_maps),
    "normals_l1": (dense.normals("normals", loss="l1"), normal_maps),
    "saliency": (dense.saliency("saliency"), saliency_maps),
}
OLDER: dict[str, tuple[Task, Maps]] = {
    "segmentation": (dense.semantic_segmentation("segmentation", 5, averaging="images"), segmentation_maps),
    "human_parts": (dense.human_parts("human_parts", averaging="images"), parts_maps),
    "depth": (dense.depth("depth", averaging="batches"), depth_maps),
    "normals": (dense.normals("normals", averaging="batches"), normal_maps),
}
cases = pytest.mark.parametrize(("task", "maps"), CASES.values(), ids=CASES)


def metrics(task: Task, prediction: Tensor, target: Tensor, batch: int = IMAGES) -> dict[str, float]:
    meter = task.meter()
    for pair in zip(prediction.split(batch), target.split(batch), strict=True):
        meter.update(*pair)
    return meter.result()


def mean_over_the_batch(task: Task, prediction: Tensor, target: Tensor) -> Tensor:
    mass = task.mass(target)
    return (mass * task.loss(prediction, target)).sum() / mass.sum()


# The formulas, written out.

VALID = {"segmentation": lambda g: g != -1, "human_parts": lambda g: g != 255, "saliency": lambda g: g != 255,
         "depth": np.any, "normals": np.any, "normals_l1": np.any}  # fmt: skip
"""Of one pixel's target."""


def pixels_of(prediction: Tensor, target: Tensor, valid: Callable) -> Iterator[tuple[np.ndarray, Any]]:
    """Prediction and target of every valid pixel, one after the other."""
    p, g = prediction.numpy(), target.numpy()
    for image in range(len(p)):
        for y in range(p.shape[2]):
            for x in range(p.shape[3]):
                label = g[image, ..., y, x]
                if valid(label):
                    yield p[image, :, y, x], label


def nats(logits: np.ndarray, label: int) -> float:
    return float(np.log(np.exp(logits).sum()) - logits[label])


def degrees(p: np.ndarray, g: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(p @ g / np.linalg.norm(p), -1, 1))))


def segmentation_formula(prediction: Tensor, target: Tensor, name: str = "segmentation") -> dict[str, float]:
    pairs = list(pixels_of(prediction, target, VALID[name]))
    found, right = [], [int(p.argmax()) == g for p, g in pairs]
    for c in range(prediction.shape[1]):
        both = sum(1 for p, g in pairs if p.argmax() == c and g == c)
        either = sum(1 for p, g in pairs if p.argmax() == c or g == c)
        if either:
            found.append(both / either)
    return {"loss": np.mean([nats(p, g) for p, g in pairs]), "miou": 100 * np.mean(found),
            "pixel_accuracy": 100 * np.mean(right)}  # fmt: skip


def parts_formula(prediction: Tensor, target: Tensor) -> dict[str, float]:
    shown = [image for image, one in enumerate(target) if any(0 < label < 255 for label in one.flatten().tolist())]
    return segmentation_formula(prediction[shown], target[shown], "human_parts")


def depth_formula(prediction: Tensor, target: Tensor) -> dict[str, float]:
    pairs = [(p.item(), g.item()) for p, g in pixels_of(prediction, target, VALID["depth"])]
    absolute = np.mean([abs(p - g) for p, g in pairs])
    return {"loss": absolute, "abs_err": absolute, "rel_err": np.mean([abs(p - g) / g for p, g in pairs])}


def normals_formula(prediction: Tensor, target: Tensor) -> dict[str, float]:
    pairs = list(pixels_of(prediction, target, VALID["normals"]))
    angles = np.array([degrees(p, g) for p, g in pairs])
    return {
        "loss": 1 - sum(p / np.linalg.norm(p) @ g for p, g in pairs) / len(pairs),
        "mean_angle": angles.mean(),
        "median_angle": np.median(angles),
        "within_11": 100 * (angles < 11.25).mean(),
        "within_22": 100 * (angles < 22.5).mean(),
        "within_30": 100 * (angles < 30).mean(),
    }


def l1_formula(prediction: Tensor, target: Tensor) -> dict[str, float]:
    pairs = list(pixels_of(prediction, target, VALID["normals"]))
    loss = np.mean([np.abs(p / np.linalg.norm(p) - g).sum() / 3 for p, g in pairs])
    return normals_formula(prediction, target) | {"loss": loss}


def saliency_formula(prediction: Tensor, target: Tensor) -> dict[str, float]:
    losses, sizes, rows = [], [], []
    for image in range(len(target)):
        pairs = list(pixels_of(prediction[[image]], target[[image]], VALID["saliency"]))
        if not pairs:
            continue
        probability = np.array([1 / (1 + np.exp(-p[0])) for p, _ in pairs])
        salient = np.array([g == 1 for _, g in pairs])
        weight = (~salient).sum() / len(pairs)
        losses.append(
            -weight * np.log(probability[salient]).sum() - (1 - weight) * np.log1p(-probability)[~salient].sum()
        )
        sizes.append(len(pairs))
        row = []
        for threshold in np.linspace(0.2, 0.9, 15):
            shown = probability > threshold
            both, either = (shown & salient).sum(), (shown | salient).sum()
            row.append((both / either if either else 1, both / (shown.sum() + 1e-12), both / (salient.sum() + 1e-12)))
        rows.append(row)
    iou, precision, recall = np.mean(rows, 0).T
    return {"loss": np.mean(np.array(losses) / sizes), "miou": 100 * iou.max(),
            "max_f": 100 * (2 * precision * recall / (precision + recall + 1e-12)).max()}  # fmt: skip


FORMULAS = {"segmentation": segmentation_formula, "human_parts": parts_formula, "depth": depth_formula,
            "normals": normals_formula, "normals_l1": l1_formula, "saliency": saliency_formula}  # fmt: skip


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Equal but for rounding, and the median for its resolution."""
    assert found.keys() == expected.keys()
    return all(
        found[key] == pytest.approx(expected[key], rel=1e-9, abs=0.005 + 1e-9 if key == "median_angle" else 1e-9)
        for key in expected
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_are_those_of_the_formulas(name: str, seed: int) -> None:
    task, maps = CASES[name]
    prediction, target = maps(seed)
    assert close(metrics(task, prediction, target), FORMULAS[name](prediction, target))


def test_angles_above_90_degrees() -> None:
    """Where pixels without a normal, at 90 degrees to everything, would move the median."""
    prediction, target = normal_maps()
    assert close(metrics(dense.normals("n"), -prediction, target), normals_formula(-prediction, target))


@pytest.mark.parametrize("name", [name for name in CASES if name != "saliency"])
def test_weighted_mean_over_a_batch_is_the_benchmarks_loss(name: str) -> None:
    task, maps = CASES[name]
    prediction, target = maps()
    assert mean_over_the_batch(task, prediction, target).item() == pytest.approx(
        FORMULAS[name](prediction, target)["loss"], rel=1e-12
    )


def test_balanced_loss_of_an_image() -> None:
    task, maps = CASES["saliency"]
    prediction, target = maps()
    losses = task.loss(prediction, target)
    for image, loss in enumerate(losses):
        expected = 0.0 if image == EMPTY else saliency_formula(prediction[[image]], target[[image]])["loss"]
        assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert losses[1] == 0  # nothing salient
    assert torch.equal(losses, task.loss(prediction, target[:, None]))


@pytest.mark.parametrize("name", CASES)
def test_mass_is_the_share_of_valid_pixels(name: str) -> None:
    task, maps = CASES[name]
    prediction, target = maps()
    mass = task.mass(target)
    for image, found in enumerate(mass.tolist()):
        pixels = list(pixels_of(prediction[[image]], target[[image]], VALID[name]))
        shown = name != "human_parts" or any(label > 0 for _, label in pixels)
        assert found == pytest.approx(len(pixels) / (HEIGHT * WIDTH) if shown else 0)
    assert mass.dtype == torch.float32
    assert mass[EMPTY] == 0 and 0 < mass[0] < 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_metrics_do_not_depend_on_how_the_set_is_cut(name: str, batch: int) -> None:
    task, maps = CASES[name]
    prediction, target = maps()
    whole = metrics(task, prediction, target)
    assert metrics(task, prediction, target, batch) == pytest.approx(whole, rel=1e-12)
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    assert metrics(task, prediction[order], target[order], batch) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("name", ["depth", "normals"])
def test_older_metrics_are_means_over_batches(name: str, batch: int) -> None:
    (task, maps), formula = OLDER[name], FORMULAS[name]
    prediction, target = maps()
    parts = [formula(p, g) for p, g in zip(prediction.split(batch), target.split(batch), strict=True) if g.any()]
    assert len(parts) == {1: 6, 2: 4, 7: 1}[batch]  # alone, the image without valid pixels does not count
    expected = {key: np.mean([part[key] for part in parts]) for key in parts[0]}
    assert close(metrics(task, prediction, target, batch), expected)
    if batch < 7:
        assert expected != pytest.approx(formula(prediction, target), rel=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "ignore"), [("segmentation", -1), ("human_parts", 255)])
def test_older_iou_is_a_mean_over_images(name: str, ignore: int, batch: int) -> None:
    task, maps = OLDER[name]
    prediction, target = maps()
    found, accuracy, losses = [], [], []
    for p, g in zip(prediction.argmax(1).numpy(), target.numpy(), strict=True):
        if task.mass(torch.from_numpy(g)[None]) == 0:
            continue
        ious = []
        for c in range(prediction.shape[1]):
            mask = (p == c).astype(int) + (g == c)  # of the whole image, ignored pixels included
            if (mask > 0).sum():
                ious.append((mask > 1).sum() / (mask > 0).sum())
        found.append(np.mean(ious))
        accuracy.append((p == g).sum() / (g != ignore).sum())
    losses = task.loss(prediction, target)[task.mass(target) > 0]
    expected = {"loss": losses.mean().item(), "miou": 100 * np.mean(found), "pixel_accuracy": 100 * np.mean(accuracy)}
    assert close(metrics(task, prediction, target, batch), expected)
    assert abs(expected["miou"] - metrics(CASES[name][0], prediction, target)["miou"]) > 1


def test_absent_classes_are_left_out_of_the_mean() -> None:
    def one(predicted: list[int], label: list[int]) -> float:
        logits = torch.nn.functional.one_hot(torch.tensor(predicted), 4).T[None, :, None].float()
        return metrics(dense.semantic_segmentation("s", 4), logits, torch.tensor(label)[None, None])["miou"]

    assert one([0, 0, 1, 1], [0, 0, 1, 1]) == 100  # classes 2 and 3 are absent
    assert one([0, 0, 1, 2], [0, 0, 1, 1]) == pytest.approx(100 * (1 + 1 / 2 + 0) / 3)  # 2 is predicted
    assert one([0, 0, 1, 1], [0, 0, 1, 3]) == pytest.approx(100 * (1 + 1 / 2 + 0) / 3)  # 3 is missed
    assert one([0, 0, 1, 2], [0, 0, 1, -1]) == 100  # 2 is predicted where nothing counts


def test_a_class_that_one_batch_lacks() -> None:
    task = dense.semantic_segmentation("s", 5)
    prediction, target = segmentation_maps()
    target[:2] = target[:2].where(target[:2] != 4, 2)
    prediction[:2, 4] = -10
    assert close(metrics(task, prediction, target, 2), segmentation_formula(prediction, target))


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_set_without_valid_pixels(task: Task, maps: Maps, dtype: torch.dtype) -> None:
    prediction, target = (one[[EMPTY, EMPTY]] for one in maps())
    prediction = prediction.to(dtype).requires_grad_()
    loss = task.loss(prediction, target)
    assert loss.tolist() == [0, 0]
    assert task.mass(target).tolist() == [0, 0]
    loss.sum().backward()
    assert not prediction.grad.any()
    found = metrics(task, prediction, target)
    assert all(np.isnan(value) for value in found.values())


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_scored_in_single(task: Task, maps: Maps, dtype: torch.dtype) -> None:
    """As accurately as its rounded values allow."""
    prediction, target = maps()
    prediction = prediction.to(dtype)
    if target.is_floating_point():
        target = target.to(dtype)
    exact = prediction.double(), target.double() if target.is_floating_point() else target
    losses = task.loss(prediction, target)
    assert losses.dtype == torch.float32
    assert torch.allclose(losses.double(), task.loss(*exact), atol=1e-6)
    found, expected = metrics(task, prediction, target), metrics(task, *exact)
    assert found.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-5)
    assert found == expected


@cases
def test_gradients_are_finite_everywhere(task: Task, maps: Maps) -> None:
    """Also where nothing is predicted at all, and where logits are huge; invalid pixels get none."""
    prediction, target = maps()
    prediction = prediction.float()
    prediction[0] = 0
    prediction[2] *= 1e4
    prediction[4] *= 1e-12
    prediction.requires_grad_()
    loss = task.loss(prediction, target)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().max() < 1e6
    assert not prediction.grad[EMPTY].any()
    if task.name not in ("saliency", "human_parts"):
        valid = task.loss.keywords["mask"](target).view(IMAGES, HEIGHT, WIDTH)
        touched = prediction.grad.any(1)
        assert not touched[~valid].any()
        assert touched[0][valid[0]].all()


@cases
def test_every_kind_of_derivative(task: Task, maps: Maps) -> None:
    """The engine uses forward mode and double backward as well."""
    prediction, target = (one[[0, EMPTY], ..., :3, :3].contiguous() for one in maps())
    assert task.mass(target)[0] > 0

    def loss(p: Tensor) -> Tensor:
        return task.loss(p, target)

    torch.autograd.gradcheck(loss, prediction.requires_grad_(), check_forward_ad=True, fast_mode=True)
    torch.autograd.gradgradcheck(loss, prediction, fast_mode=True)
    at_zero = torch.zeros_like(prediction)
    _, tangent = torch.func.jvp(loss, (at_zero,), (torch.ones_like(at_zero),))
    assert torch.isfinite(tangent).all()


@pytest.mark.parametrize(
    ("salient", "other", "dtype", "miou"),
    [
        (0.86, 0.84, torch.float32, 100),
        (0.84, 0.81, torch.float32, 50),  # both are found up to 0.80, and none from 0.85 on
        (0.21, 0.10, torch.float32, 100),
        (0.19, 0.10, torch.float32, 0),
        (0.92, 0.89, torch.float32, 100),
        (0.95, 0.91, torch.float32, 50),
        (0.8510, 0.8499, torch.bfloat16, 100),  # equal as probabilities in half precision
    ],
)
def test_thresholds_of_saliency(salient: float, other: float, dtype: torch.dtype, miou: float) -> None:
    logits = torch.tensor([salient, other], dtype=torch.float64).logit().view(1, 1, 1, 2).to(dtype)
    found = metrics(dense.saliency("s"), logits, torch.tensor([[[1, 0]]]))
    assert found["miou"] == miou
    assert found["max_f"] == pytest.approx(200 / 3 if miou == 50 else miou)


def test_angles_at_the_ends() -> None:
    up = torch.zeros(1, 3, 1, 4)
    up[:, 2] = 1
    prediction = torch.stack([5 * up[..., 0], -up[..., 1], 0 * up[..., 2], 1e-30 * up[..., 3]], 3)
    found = metrics(dense.normals("n"), prediction, up)
    assert found["mean_angle"] == pytest.approx((0 + 180 + 90 + 90) / 4)
    assert found["within_11"] == 25
    for angle, place in ((0, 0), (180, 1), (90, 2)):
        alone = metrics(dense.normals("n"), prediction[..., [place]], up[..., [place]])
        assert alone["mean_angle"] == pytest.approx(angle)
        assert alone["median_angle"] == pytest.approx(angle, abs=0.0051)
        assert alone["loss"] == pytest.approx(1 - np.cos(np.radians(angle)))


def test_angles_of_targets_in_single_precision_are_not_bent_by_their_length() -> None:
    _, target = normal_maps()
    target = target.float()
    assert metrics(dense.normals("n"), 2 * target, target)["mean_angle"] < 1e-5


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101, 1000])
def test_median_is_that_of_numpy_to_its_resolution(size: int) -> None:
    angles = np.radians(180 * np.random.default_rng(size).random(size) ** 2)
    prediction = torch.from_numpy(np.stack([np.sin(angles), 0 * angles, np.cos(angles)]))[None, :, None]
    target = torch.zeros_like(prediction)
    target[:, 2] = 1
    found = metrics(dense.normals("n"), prediction, target)
    assert found["median_angle"] == pytest.approx(np.median(np.degrees(angles)), abs=0.5 / BINS_PER_DEGREE + 1e-9)
    assert found["mean_angle"] == pytest.approx(np.degrees(angles).mean(), rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_predictions_that_are_not_numbers_do_not_break_the_meter(name: str) -> None:
    task, maps = CASES[name]
    prediction, target = maps()
    prediction[0, :, 0, :] = float("nan")
    prediction[1] = float("inf")
    assert np.isnan(metrics(task, prediction, target)["loss"])


@pytest.mark.parametrize("name", ["segmentation", "depth", "normals"])
def test_a_meter_does_not_grow(name: str) -> None:
    task, maps = CASES[name]
    meter = task.meter()
    for seed in range(3):
        meter.update(*maps(seed))
        assert [len(rows) for rows in meter.rows] == [1]


class Operators(TorchDispatchMode):
    """Names of the operators that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.names.add(function._schema.name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("task", "maps"), [*CASES.values(), *OLDER.values()])
def test_nothing_waits_for_the_device(task: Task, maps: Maps) -> None:
    """Loss, mass, gradient and a meter's update read no value."""
    prediction, target = maps()
    meter = task.meter()
    with Operators() as called:
        mean_over_the_batch(task, prediction.requires_grad_(), target).backward()
        meter.update(prediction, target)
        meter.update(prediction, target)
    assert len(called.names) > 10
    assert not SYNCHRONISING & called.names
    with Operators() as called:
        meter.result()
    assert SYNCHRONISING & called.names  # the test can fail


@cases
def test_loss_and_mass_need_no_values(task: Task, maps: Maps) -> None:
    """Tensors on the meta device have none."""
    prediction, target = (one.to("meta") for one in maps())
    assert task.loss(prediction, target).shape == task.mass(target).shape == (IMAGES,)
    task.meter().update(prediction, target)


def test_every_metric_has_a_label_and_a_direction() -> None:
    found = {key for task, maps in CASES.values() for key in metrics(task, *maps())}
    assert "loss" in found and found <= set(LABELS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense.depth("d", averaging="images"), "averaging is 'images', which is not one of pixels, batches"),
        (lambda: dense.normals("n", averaging="batch"), "averaging is 'batch'.*did you mean 'batches'"),
        (lambda: dense.human_parts("h", averaging="batches"), "averaging is 'batches'.*pixels, images"),
        (lambda: dense.normals("n", loss="l2"), "loss is 'l2', which is not one of cosine, l1"),
    ],
)
def test_unknown_options(make: Callable[[], Task], message: str) -> None:
    with pytest.raises(MtlkitError, match=message):
        make()
