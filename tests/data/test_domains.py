"""The drawn domains: disjoint digits, four ways to see them, the same on every call."""

import pytest
import torch

from mtlkit.data import domains


@pytest.fixture(scope="module")
def drawn():
    return domains.draw(24)


def test_every_digit_is_in_one_domain(drawn, monkeypatch):
    assert list(drawn.of) == ["plain", "negative", "slanted", "outline"]
    assert sum(len(of["class"]) for of in drawn.of.values()) == 1797
    monkeypatch.setattr(domains, "DRAWN", dict.fromkeys(domains.DRAWN, domains._plain))
    same = torch.cat([of["image"] for of in domains.draw(8).of.values()]).flatten(1)
    assert len({row.numpy().tobytes() for row in same}) == len(same), "no digit twice, drawn in the same way"


def test_classes_are_balanced(drawn):
    for of in drawn.of.values():
        counts = of["class"].bincount(minlength=10)
        assert len(counts) == 10 and counts.min() >= 43 and counts.max() <= 46
        assert of["image"].shape == (len(of["class"]), 3, 24, 24) and of["image"].dtype == torch.uint8


def test_domains_look_different(drawn):
    means = {name: of["image"].float().mean() / 255 for name, of in drawn.of.items()}
    assert means["plain"] < 0.4 < 0.6 < means["negative"] < means["outline"]
    spread = {name: (of["image"].float().std(1) / 255).mean() for name, of in drawn.of.items()}
    assert spread["plain"] == 0 and spread["slanted"] > 0.05, "plain digits are grey, slanted ones are coloured"


def test_the_same_again_and_the_first_ones_alone(drawn):
    again = domains.draw(24, 3)
    assert list(again.of) == ["plain", "negative", "slanted"] and again.checksum == drawn.checksum
    for name, of in again.of.items():
        assert torch.equal(of["image"], drawn.of[name]["image"]) and torch.equal(of["class"], drawn.of[name]["class"])


@pytest.mark.parametrize("name", domains.DRAWN)
def test_a_nearest_mean_knows_the_digits_of_a_domain(name):
    """What is drawn can still be told apart: far better than the 10 % of chance."""
    of = domains.draw(16).of[name]
    images, classes = of["image"].float().mean(1).flatten(1), of["class"]
    images = (images - images.mean(1, keepdim=True)).abs() if name == "slanted" else images
    half = torch.arange(len(images)) % 2 == 0
    means = torch.stack([images[half & (classes == digit)].mean(0) for digit in range(10)])
    found = torch.cdist(images[~half], means).argmin(1)
    assert (found == classes[~half]).float().mean() > 0.35
