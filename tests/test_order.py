"""In which order samples come."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlkit.order import Order


def order(size: int, batch: int, seed: int = 0, strata: torch.Tensor | None = None) -> Order:
    return Order(size, batch, torch.Generator().manual_seed(seed), strata)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_every_sample_comes_up_equally_often(size: int, batch: int, steps: int, stratified: bool) -> None:
    taken = order(size, batch, strata=torch.arange(size) % 3 if stratified else None).take(steps)
    assert taken.shape == (steps, batch) and taken.dtype == torch.int64
    counts = torch.bincount(taken.flatten(), minlength=size)
    assert len(counts) == size and counts.max() - counts.min() <= 1


@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_how_many_are_taken_at_a_time_does_not_matter(size: int, batch: int, pieces: list[int]) -> None:
    whole, parts = order(size, batch), order(size, batch)
    assert torch.equal(whole.take(sum(pieces)), torch.cat([parts.take(n) for n in pieces]))


def test_depends_on_the_generator_alone() -> None:
    assert torch.equal(order(50, 7).take(9), order(50, 7).take(9))
    assert not torch.equal(order(50, 7).take(9), order(50, 7, seed=1).take(9))
    first = order(50, 50).take(2)
    assert not torch.equal(first[0], first[1]), "every pass is shuffled anew"


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("strata", [None, torch.arange(17) % 2])
def test_state(before: int, strata: torch.Tensor | None) -> None:
    first, second = order(17, 4, strata=strata), order(17, 4, seed=99, strata=strata)
    first.take(before) if before else None
    second.restore(first.state())
    assert torch.equal(first.take(9), second.take(9))


@given(st.integers(0, 1000), st.integers(5, 60), st.integers(4, 20))
def test_stratified_batches_have_the_shares_of_the_set(seed: int, positive: int, batch: int) -> None:
    """Within a pass the count of each label is within one of its exact share, and two where passes meet."""
    size = 100
    strata = (torch.arange(size) < positive).long()
    taken = order(size, batch, seed, strata).take(3 * size // batch)
    counts = strata[taken].sum(1)
    meets = [k * batch // size != ((k + 1) * batch - 1) // size for k in range(len(taken))]
    allowed = torch.tensor([2.0 if m else 1.0 for m in meets]) + 1e-6
    assert ((counts - batch * positive / size).abs() <= allowed).all()


def test_stratified_batches_are_shuffled() -> None:
    strata = (torch.arange(40) < 10).long()
    batches = order(40, 8, strata=strata).take(50)
    together = {frozenset(b.tolist()) for b in batches}
    assert len(together) == 50
    first = torch.stack([b[0] for b in order(40, 40, strata=strata).take(400)])
    assert len(first.unique()) > 35, "every sample can come first"
