"""CIFAR-10 and CIFAR-10N themselves, where there are any."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mtlkit.data import cifar10
from mtlkit.data.base import Samples
from tests.data.archives import real


@pytest.fixture(scope="module")
def cifar_root(data_root) -> Path:
    if not (data_root / "cifar10.npz").exists() and not (data_root / "cifar-10-batches-py").exists():
        pytest.skip("needs CIFAR-10 below the data root (cifar10.npz or cifar-10-batches-py)")
    return data_root


def test_real_blocks_are_disjoint_and_classes_balanced(cifar_root):
    first, second = (real(cifar_root, seed, noise=0.3) for seed in (0, 1))
    assert first.variant in ("cifar10-jpeg75", "cifar10-official", "cifar10-prepared")
    for seed, data in enumerate((first, second)):
        assert data.facts["block"] == seed
        assert {k: v for k, v in data.facts["sizes"].items() if k != "test"} == {
            "train": 800,
            "reference": 200,
            "tuning": 1000,
        }
        assert len(data.test) >= 2000
        assert 0.24 < data.facts["wrong_main_labels"] / 800 < 0.36
        assert torch.allclose(data.test.targets.mean(1), torch.full((10,), 0.1), atol=0.005)
        assert (data.tuning.groups.sum(0) == 1).all()
    assert first.checksum == second.checksum
    assert torch.equal(first.tuning.groups, second.tuning.groups)

    def rows(*splits: Samples) -> set[bytes]:
        # standardisation differs by seed; ranks within an image do not
        return {image.flatten(1).argsort(dim=1, stable=True).numpy().tobytes() for s in splits for image in s.inputs}

    sets = [rows(first.train), rows(first.reference), rows(second.train, second.reference), rows(first.tuning)]
    assert [len(s) for s in sets] == [800, 200, 1000, 1000]
    assert len(set.union(*sets)) == 3000


def test_real_human_labels_are_wrong_as_often_as_published(cifar_root):
    if not (cifar_root / "cifar10n.npz").exists():
        pytest.skip("needs cifar10n.npz below the data root")
    shares = {
        "human_aggre": 0.09,
        "human_random1": 0.17,
        "human_random2": 0.18,
        "human_random3": 0.18,
        "human_worse": 0.41,
    }
    with np.load(cifar_root / "cifar10n.npz", allow_pickle=False) as archive:
        labels = {name: archive[name] for name in archive.files}
    clean = labels["clean_label"]
    for kind, share in shares.items():
        human = labels[cifar10.HUMAN[kind]]
        assert abs((human != clean).mean() - share) < 0.015, kind
    data = real(cifar_root, 3, noise_kind="human_worse", noisy_tasks="all")
    split_free = ((labels["worse_label"] == 0) != (clean == 0))[3000:4000].sum()
    assert 0.6 * split_free < data.facts["wrong_main_labels"] <= split_free
    wrong_classes = data.train.flipped.any(0).float().mean()
    assert abs(wrong_classes - (labels["worse_label"] != clean)[3000:4000].mean()) < 0.05
