"""Batches read ahead are the batches, in order; what goes wrong in a thread arrives in the loop."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlkit import nets, tasks
from mtlkit.data.base import Dataset, Samples
from mtlkit.data.stored import Stored
from mtlkit.errors import MtlkitError
from mtlkit.reading import AHEAD, batches
from mtlkit.training import Run, Settings
from mtlkit.weighting import build


@pytest.fixture
def on_disk(tmp_path: Path) -> Stored:
    """Twenty images with depth, memory-mapped, too large to be resident."""
    random = np.random.default_rng(0)
    fields = {"image": random.integers(0, 256, (24, 3, 4, 4), dtype=np.uint8),
              "depth": random.uniform(1, 2, (24, 1, 4, 4)).astype(np.float32)}  # fmt: skip
    maps = {"present": torch.ones(24, 1)}
    for name, values in fields.items():
        np.save(tmp_path / f"{name}.npy", values)
        maps[name] = torch.from_numpy(np.load(tmp_path / f"{name}.npy", mmap_mode="c"))
    return Stored.of(maps, torch.arange(2, 22), {"depth": 0}, resident=0)


def equal(a: Samples, b: Samples) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in ("inputs", "groups", "flipped", "mass", "index")]
    return all(torch.equal(x, y) for x, y in [*pairs, *zip(a.targets, b.targets, strict=True)])


INDICES = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(k))[:5] for k in range(13)])


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_in_the_same_order(on_disk: Stored, workers: int, monkeypatch: Any) -> None:
    """Though later ones are read faster."""
    expected, take, threads = [on_disk.take(index) for index in INDICES], Stored.take, set()

    def slow(self: Stored, index: torch.Tensor) -> Samples:
        threads.add(threading.current_thread().name)
        time.sleep(0.005 * float(torch.rand(())))
        return take(self, index)

    monkeypatch.setattr(Stored, "take", slow)
    found = list(batches(on_disk, INDICES, workers))
    assert len(found) == 13 and all(map(equal, found, expected))
    assert len(threads) == workers and threading.main_thread().name not in threads


def test_no_more_is_read_than_will_wait(on_disk: Stored, monkeypatch: Any) -> None:
    taken, take = [], Stored.take
    monkeypatch.setattr(Stored, "take", lambda self, index: (taken.append(1), take(self, index))[1])
    reading = batches(on_disk, INDICES, 2)
    next(reading)
    time.sleep(0.05)
    assert 1 < len(taken) <= 1 + 2 * AHEAD
    reading.close()
    time.sleep(0.05)
    assert len(taken) <= 1 + 2 * AHEAD, "nothing is read for a loop that has ended"


def test_an_exception_arrives_where_its_batch_would(on_disk: Stored, monkeypatch: Any) -> None:
    take = Stored.take

    def damaged(self: Stored, index: torch.Tensor) -> Samples:
        if torch.equal(index, INDICES[4]):
            raise OSError("the disk is gone")
        return take(self, index)

    monkeypatch.setattr(Stored, "take", damaged)
    reading, before = batches(on_disk, INDICES, 2), threading.active_count()
    for _ in range(4):
        next(reading)
    with pytest.raises(OSError, match="the disk is gone"):
        next(reading)
    assert threading.active_count() <= before, "the threads have ended"


def test_samples_on_the_device_are_taken_there(monkeypatch: Any) -> None:
    samples = Samples(torch.randn(20, 3), torch.randn(2, 20))
    names = []
    take = Samples.take
    monkeypatch.setattr(
        Samples, "take", lambda self, index: (names.append(threading.current_thread()), take(self, index))[1]
    )
    assert len(list(batches(samples, INDICES, 3))) == 13
    assert set(names) == {threading.main_thread()}


@pytest.mark.parametrize("name", ["ew", "slgrad"])
def test_a_run_does_not_depend_on_workers(on_disk: Stored, name: str) -> None:
    """Augmentation included, which draws in the order of the steps."""

    def augment(batch: Samples, random: torch.Generator) -> Samples:
        batch.inputs = batch.inputs + torch.rand(len(batch.inputs), 1, 1, 1, generator=random)
        return batch

    results = []
    for workers in (0, 2):
        torch.manual_seed(0)
        network = nets.SharedEncoder(nn.Conv2d(3, 4, 3, padding=1), [nn.Conv2d(4, 1, 1)])
        data = Dataset("maps", "maps", "0", ["depth"], "dense", on_disk, on_disk, on_disk, on_disk, {}, augment)
        settings = Settings(2, batch_size=5, reference_batch=4, evaluation_batch=7, workers=workers)
        made = Run(network, [tasks.regression("depth")], build(name, 1), data, settings)
        history = made.fit()
        results.append((history["train_loss"], history["evaluations"], [p.tolist() for p in network.parameters()]))
    assert results[0] == results[1]


def test_refusal() -> None:
    with pytest.raises(MtlkitError, match="workers is -1, which is not at least 0"):
        Settings(1, workers=-1)
