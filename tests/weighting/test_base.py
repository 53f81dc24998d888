"""The helpers that methods share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlkit.weighting import share_out, spread
from mtlkit.weighting.base import Draws


@st.composite
def rows(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, groups, shares and spare weights; many are zero."""
    tasks, batch, classes = (draw(st.integers(1, n)) for n in (3, 6, 3))
    weight = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))

    def matrix(element: st.SearchStrategy, columns: int) -> list:
        row = st.lists(element, min_size=columns, max_size=columns)
        return draw(st.lists(row, min_size=tasks, max_size=tasks))

    weights, spare = (torch.tensor(matrix(weight, batch), dtype=torch.float64) for _ in range(2))
    groups = torch.tensor(matrix(st.integers(0, classes - 1), batch))
    return weights, groups, torch.tensor(matrix(weight, classes), dtype=torch.float64), spare


@given(rows(), st.booleans())
def test_share_out(drawn: tuple, use_spare: bool) -> None:
    """Groups with weight total their share, others of theirs nothing; within a group proportions are kept."""
    weights, groups, shares, spare = drawn
    result = share_out(weights, groups, shares, spare if use_spare else None)
    assert torch.isfinite(result).all() and (result >= 0).all()
    for t in range(len(weights)):
        members = [groups[t] == c for c in range(shares.shape[1])]
        own = [weights[t][m] if weights[t][m].sum() > 0 or not use_spare else spare[t][m] for m in members]
        present = [float(o.sum()) > 0 for o in own]
        scale = sum(float(s) for s, there in zip(shares[t], present, strict=True) if there)
        for share, member, mine, there in zip(shares[t], members, own, present, strict=True):
            wanted = float(share) / scale if there and scale > 0 else 0.0
            assert float(result[t][member].sum()) == pytest.approx(wanted, abs=1e-9)
            if there:
                assert torch.allclose(result[t][member], wanted * mine / mine.sum())


@given(rows())
def test_spread_keeps_task_weights_where_there_is_mass(drawn: tuple) -> None:
    mass, task = drawn[0], torch.arange(1, len(drawn[0]) + 1, dtype=torch.float64)
    result = spread(task, mass)
    assert torch.allclose(result.sum(1), torch.where(mass.sum(1) > 0, task, 0))
    assert torch.allclose(result * mass.sum(1, keepdim=True), task[:, None] * mass)
    assert spread(mass, mass) is mass


@pytest.mark.parametrize("steps", range(9))
def test_draws_resume_anywhere_in_a_block(steps: int) -> None:
    """Also where a block has just been used up."""

    def draws() -> Draws:
        return Draws(lambda n, generator: torch.rand(n, 2, generator=generator), seed=3, rows=4)

    like, whole = torch.zeros(()), draws()
    expected = torch.stack([whole.next(like) for _ in range(steps + 9)])
    assert len(expected.unique()) == expected.numel()
    first, second = draws(), draws()
    for row in expected[:steps]:
        assert torch.equal(first.next(like), row)
    second.load_state_dict(first.state_dict())
    for row in expected[steps:]:
        assert torch.equal(second.next(like), row)
