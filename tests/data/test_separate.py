"""Sets in which every task has inputs of its own: batches, padding, sizes."""

import pytest
import torch

from mtlkit.data.base import Samples
from mtlkit.data.separate import Separate
from mtlkit.training import class_shares

SIZES = (5, 3, 4)


def part(size: int, first: int = 0) -> Samples:
    """One task, whose sample n is 100 N + n, of class n modulo 2; every third label is wrong."""
    values = torch.arange(first, first + size)
    classes = values % 2
    return Samples(values[:, None] + 100.0 * size, classes[None], classes[None], values[None] % 3 == 0,
                   torch.full((1, size), 0.5))  # fmt: skip


@pytest.fixture
def separate() -> Separate:
    return Separate([part(size) for size in SIZES])


def test_a_set_is_as_long_as_its_longest_part(separate):
    assert len(separate) == 5 and separate.sizes == SIZES
    assert separate.mass.tolist() == [[0.5] * size + [0.0] * (5 - size) for size in SIZES]
    assert separate.groups.tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0]]
    assert separate.flipped.tolist() == [[True, False, False, True, False], [True, *[False] * 4],
                                         [True, False, False, True, False]]  # fmt: skip
    assert separate.groups.dtype == torch.int64 and separate.flipped.dtype == torch.bool


def test_padding_has_no_part_in_class_shares(separate):
    expected = [[3 / 5, 2 / 5], [2 / 3, 1 / 3], [1 / 2, 1 / 2]]
    assert torch.allclose(class_shares(separate, 2), torch.tensor(expected))


@pytest.mark.parametrize("rows", [[[4, 0], [2, 2], [1, 3]], [[4, 0, 1], [2], [1, 3]], [[3], [1], [2]]])
def test_a_batch_has_samples_of_every_task(separate, rows):
    batch = separate.take([torch.tensor(row) for row in rows])
    longest = max(map(len, rows))
    assert len(batch) == longest and len(batch.inputs) == len(batch.targets) == 3
    for task, (row, size) in enumerate(zip(rows, SIZES, strict=True)):
        alone, count = part(size).take(torch.tensor(row)), len(row)
        assert torch.equal(batch.inputs[task], alone.inputs) and torch.equal(batch.targets[task], alone.targets[0])
        for name in ("groups", "flipped", "mass"):
            found = getattr(batch, name)
            assert found.shape == (3, longest) and found.dtype == getattr(alone, name).dtype
            assert torch.equal(found[task, :count], getattr(alone, name)[0]) and not found[task, count:].any()
        assert batch.index[task].tolist() == row + [0] * (longest - count)


def test_one_index_for_all_tasks(separate):
    rows = torch.tensor([[4, 0], [2, 2], [1, 3]])
    assert torch.equal(separate.take(rows).index, rows)


def test_as_many_indices_as_tasks(separate):
    with pytest.raises(ValueError, match="zip"):
        separate.take([torch.tensor([0])] * 2)


def test_join_appends_task_by_task(separate):
    more = Separate([part(1, 7), part(4, 8), part(2, 9)])
    both = separate.join(more)
    assert both.sizes == (6, 7, 6) and both.mass.shape == (3, 7)
    batch = both.take([torch.tensor([5]), torch.tensor([3]), torch.tensor([4])])
    assert [float(one) for one in batch.inputs] == [107.0, 408.0, 209.0]


def test_everything_moves(separate):
    moved = separate.to("meta")
    batch = moved.take([torch.zeros(2, dtype=torch.int64, device="meta")] * 3)
    tensors = (moved.mass, moved.groups, *batch.inputs, *batch.targets, batch.mass, batch.groups, batch.index)
    assert {one.device.type for one in tensors} == {"meta"} and separate.mass.device.type == "cpu"
