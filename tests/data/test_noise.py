import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlkit.data.noise import KINDS, flip
from mtlkit.errors import MtlkitError

rates = st.floats(0, 1)
seeds = st.integers(0, 2**32)
kinds = st.sampled_from(KINDS)
N = 2000


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(positive: float, seed: int) -> torch.Tensor:
    return (torch.rand(N, generator=draws(seed + 1)) < positive).long()


@given(rates, kinds, rates, seeds)
def test_the_mask_is_where_new_and_old_labels_differ(p, kind, positive, seed):
    clean = labels(positive, seed)
    before = clean.clone()
    noisy, flipped = flip(clean, p, kind, draws(seed))
    assert torch.equal(clean, before), "the labels given must not change"
    assert torch.equal(flipped, noisy != clean)
    assert noisy.dtype == clean.dtype and flipped.dtype == torch.bool
    assert set(noisy.tolist()) <= {0, 1}


@given(rates, rates, seeds)
def test_background_never_flips_positives(p, positive, seed):
    clean = labels(positive, seed)
    _, flipped = flip(clean, p, "background", draws(seed))
    assert not flipped[clean == 1].any()


@given(rates, kinds, seeds)
def test_flip_rates(p, kind, seed):
    clean = labels(0.5, seed)
    _, flipped = flip(clean, p, kind, draws(seed))
    for value in (0, 1) if kind == "uniform" else (0,):
        chosen = flipped[clean == value].double()
        assert abs(chosen.mean() - p) <= 5 * math.sqrt(p * (1 - p) / len(chosen)) + 1e-12


@given(rates, rates, kinds, seeds)
def test_a_higher_rate_flips_a_superset(p, q, kind, seed):
    low, high = (flip(labels(0.3, seed), rate, kind, draws(seed))[1] for rate in sorted((p, q)))
    assert (high | ~low).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_rate_one_flips_everything_it_may(dtype):
    clean = torch.tensor([0, 1, 1, 0], dtype=dtype)
    assert flip(clean, 1, "uniform", draws(0))[0].tolist() == [1, 0, 0, 1]
    assert flip(clean, 1, "background", draws(0))[0].tolist() == [1, 1, 1, 1]
    assert flip(clean, 0, "uniform", draws(0))[0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("p", [1.5, -0.1, math.nan, math.inf])
def test_a_rate_outside_0_1_is_an_error(p):
    with pytest.raises(MtlkitError, match=rf"noise is {p}.*between 0 and 1\.$"):
        flip(labels(0.5, 0), p, "uniform", draws(0))


def test_an_unknown_kind_is_an_error():
    with pytest.raises(MtlkitError, match=r"'unifrom'.*background.*did you mean 'uniform'"):
        flip(labels(0.5, 0), 0.1, "unifrom", draws(0))
