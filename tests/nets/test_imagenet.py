"""ImageNet weights: taken where they are, and said where they are not."""

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision import models

from mtlkit import nets
from mtlkit.errors import MtlkitError
from mtlkit.nets import imagenet


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def weights(hub: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A file of weights in the hub folder, under a name that its digest fits."""
    torch.manual_seed(5)
    state = models.resnet18(weights=None).state_dict()
    hub.mkdir(parents=True)
    torch.save(state, hub / "new")
    digest = hashlib.sha256((hub / "new").read_bytes()).hexdigest()[:8]
    (hub / "new").rename(hub / f"resnet18-{digest}.pth")
    monkeypatch.setitem(imagenet.WEIGHTS, "resnet18", f"https://example.org/resnet18-{digest}.pth")
    return state


def test_files_are_torchvisions() -> None:
    assert imagenet.WEIGHTS["resnet18"] == models.ResNet18_Weights.IMAGENET1K_V1.url
    assert imagenet.WEIGHTS["resnet50"] == models.ResNet50_Weights.IMAGENET1K_V1.url


@pytest.mark.parametrize("name", ["deeplab", "mtan", "cross_stitch", "nddr"])
@pytest.mark.parametrize("pretrained", ["auto", "imagenet"])
def test_all_encoders_get_the_weights(name: str, pretrained: str, weights: dict, capsys: pytest.CaptureFixture) -> None:
    network = nets.DENSE[name]((1, 2), backbone="resnet18", pretrained=pretrained)
    assert network.initialisation == "imagenet"
    assert capsys.readouterr().err == ""
    own = network.state_dict()
    prefixes = {"deeplab": ["encoder."], "mtan": ["backbone."]}.get(name, ["branches.0.", "branches.1."])
    for key, value in weights.items():
        if not key.startswith("fc."):
            assert all(torch.equal(own[prefix + key], value) for prefix in prefixes)


def test_auto_starts_from_scratch_and_says_so(capsys: pytest.CaptureFixture) -> None:
    network = nets.cross_stitch((1, 2), backbone="resnet18")
    assert network.initialisation == "scratch"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("NOTE: the ImageNet weights of resnet18 are not at")
    assert "SCRATCH" in line
    assert imagenet.WEIGHTS["resnet18"] in line


def test_imagenet_says_which_file_is_missing(hub: Path) -> None:
    with pytest.raises(MtlkitError) as caught:
        nets.deeplab((1,), pretrained="imagenet")
    assert str(hub / "resnet50-0676ba61.pth") in str(caught.value)
    assert imagenet.WEIGHTS["resnet50"] in str(caught.value)


@pytest.mark.parametrize("pretrained", ["auto", "imagenet"])
def test_damaged_file(pretrained: str, hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "resnet18-f37072fd.pth").write_bytes(b"half of it")
    with pytest.raises(MtlkitError, match=r"is damaged: its SHA-256 begins with .*, not with f37072fd"):
        nets.deeplab((1,), backbone="resnet18", pretrained=pretrained)


def test_none_is_silent(weights: dict, capsys: pytest.CaptureFixture) -> None:
    network = nets.deeplab((1,), backbone="resnet18", pretrained="none")
    assert network.initialisation == "scratch"
    assert capsys.readouterr().err == ""
    assert not torch.equal(network.encoder.conv1.weight, weights["conv1.weight"])


def test_unknown_choice() -> None:
    with pytest.raises(MtlkitError, match="pretrained is 'image'"):
        nets.deeplab((1,), backbone="resnet18", pretrained="image")
