import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtlkit.data.base import Samples, checksum, generator


def split(n: int, tasks: int = 2) -> Samples:
    groups = torch.randint(2, (tasks, n))
    made = Samples(torch.randn(n, 3), groups.float(), groups)
    made.flipped[0] = torch.rand(n) < 0.5
    made.mass[-1] = torch.rand(n)
    return made


NAMES = ("inputs", "targets", "groups", "flipped", "mass")


def test_a_clean_split_has_no_flips_and_full_mass():
    groups = torch.tensor([[0, 1, 1]])
    made = Samples(torch.zeros(3, 5), groups.float(), groups)
    assert len(made) == 3
    assert not made.flipped.any() and made.flipped.shape == (1, 3)
    assert made.mass.tolist() == [[1, 1, 1]] and made.mass.dtype == torch.float32


def test_what_is_not_given_is_clean_complete_and_ungrouped():
    made = Samples(torch.zeros(3, 5), torch.zeros(2, 3, 4))
    for name, dtype, value in (("groups", torch.int64, 0), ("flipped", torch.bool, 0), ("mass", torch.float32, 1)):
        assert torch.equal(getattr(made, name), torch.full((2, 3), value, dtype=dtype))


def test_take_picks_samples_in_order():
    made, index = split(5), torch.tensor([3, 0, 1])
    taken = made.take(index)
    assert len(taken) == 3 and torch.equal(taken.inputs, made.inputs[index])
    for name in NAMES[1:]:
        assert torch.equal(getattr(taken, name), getattr(made, name)[:, index]), name


def test_join_concatenates_samples():
    first, second = split(4), split(3)
    joined = first.join(second)
    assert len(joined) == 7
    assert torch.equal(joined.inputs, torch.cat((first.inputs, second.inputs)))
    for name in NAMES[1:]:
        together = torch.cat((getattr(first, name), getattr(second, name)), dim=1)
        assert torch.equal(getattr(joined, name), together), name


def test_to_moves_every_tensor():
    moved = split(4).to("meta")
    assert {getattr(moved, name).device.type for name in NAMES} == {"meta"}
    assert [getattr(moved, name).dtype for name in NAMES] == [getattr(split(4), name).dtype for name in NAMES]


@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=3, max_side=5)), st.data())
def test_the_checksum_changes_with_any_value(array, data):
    changed = array.copy()
    changed.flat[data.draw(st.integers(0, array.size - 1))] ^= data.draw(st.integers(1, 255))
    assert checksum(array) == checksum(array.copy()) != checksum(changed)


def test_the_checksum_sees_shape_type_and_order_but_not_memory_layout():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    other = np.ones(2)
    assert checksum(array) == checksum(np.asfortranarray(array)) == checksum(torch.from_numpy(array))
    assert len(checksum(array)) == 16 and int(checksum(array), 16) >= 0
    different = [array, array.reshape(3, 2), array.astype(np.uint32), array.T]
    assert len({checksum(a) for a in different} | {checksum(array, other), checksum(other, array)}) == 6


@pytest.mark.parametrize("other", [(1, "split"), (0, "noise")])
def test_generators_differ_by_seed_and_by_purpose(other):
    numbers = [torch.rand(8, generator=generator(*key)) for key in ((0, "split"), (0, "split"), other)]
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])


def test_targets_of_different_shapes_stay_apart():
    def some(n: int) -> Samples:
        return Samples(torch.randn(n, 3), (torch.randint(4, (n, 2, 2)), torch.randn(n, 1, 2, 2)))

    first, second, index = some(4), some(3), torch.tensor([2, 0])
    assert first.mass.shape == (2, 4)
    for target, taken, there, joined in zip(
        first.targets, first.take(index).targets, second.targets, first.join(second).targets, strict=True
    ):
        assert taken.dtype == target.dtype and torch.equal(taken, target[index])
        assert torch.equal(joined, torch.cat((target, there)))
    assert isinstance(first.to("cpu").targets, tuple)
