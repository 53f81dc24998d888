"""Intervals, tests and verdicts, against SciPy and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtlkit import statistics

VALUES = [0.31, 0.27, 0.29, 0.35, 0.30, 0.28, 0.33, 0.26, 0.32]


def test_interval_is_the_t_interval():
    mean, half = statistics.interval(VALUES)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_interval_by_hand():
    # mean 2, standard deviation 1, t quantile with two degrees of freedom 4.302653
    assert statistics.interval([1, 2, 3]) == pytest.approx((2, 4.302653 / np.sqrt(3)), rel=1e-6)


def test_interval_of_a_matrix_is_that_of_its_columns():
    matrix = np.random.default_rng(0).normal(size=(5, 3))
    mean, half = statistics.interval(matrix)
    columns = [statistics.interval(column) for column in matrix.T]
    assert np.allclose(np.stack([mean, half], 1), columns)


def test_interval_of_too_few():
    assert np.isnan(statistics.interval([])).all()
    mean, half = statistics.interval([0.5])
    assert mean == 0.5 and np.isnan(half)


def test_difference_agrees_with_scipy():
    differences = np.array(VALUES) - 0.28
    result = statistics.difference(differences)
    assert result.p == pytest.approx(stats.ttest_rel(VALUES, [0.28] * len(VALUES)).pvalue)
    assert result.wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert result.n == 9
    assert result.bca[0] < result.mean < result.bca[1]
    assert result.high - result.low == pytest.approx(result.bca[1] - result.bca[0], rel=0.4)
    assert statistics.difference(differences) == result  # the bootstrap repeats itself


@pytest.mark.parametrize(
    ("n", "tested", "resampled"), [(4, False, False), (5, True, False), (8, True, False), (9, True, True)]
)
def test_what_is_computed_depends_on_the_number_of_seeds(n, tested, resampled):
    result = statistics.difference(np.linspace(0.1, 0.3, n))
    assert np.isfinite(result.p) == tested
    assert (result.bca is not None) == resampled == np.isfinite(result.wilcoxon)


@pytest.mark.parametrize(
    "values", [[1, 2, -2, 3, 3, 3, -1, 4, 5], [0, 0, 1, 1, 2, -3, 0, 4, 5], [0, 0, 0, 0, 0, 0, 0, 0, 1]]
)
def test_wilcoxon_with_ties_and_zeros_is_that_of_scipy(values: list[float]) -> None:
    exact = stats.wilcoxon(values, method=stats.PermutationMethod(n_resamples=np.inf)).pvalue
    assert statistics.difference(values).wilcoxon == pytest.approx(exact)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.1, 0.0)])
def test_equal_differences(value, p):
    result = statistics.difference([value, *[value * (1 + 1e-12)] * 8])
    assert (result.p, result.half_width, result.bca) == (p, pytest.approx(0, abs=1e-9), (value, value))


def test_holm_by_hand():
    # sorted 0.01 0.02 0.03 0.04, times 4 3 2 1: 0.04 0.06 0.06 0.04, made increasing
    assert statistics.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_counts_hypotheses_without_a_p_value():
    adjusted = statistics.holm([0.01, np.nan, 0.02, np.nan])
    assert adjusted == pytest.approx([0.04, np.nan, 0.06, np.nan], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_keeps_the_order_and_stays_between_p_and_bonferroni(p_values, random):
    adjusted = statistics.holm(p_values)
    p = np.array(p_values)
    assert np.all(adjusted >= p) and np.all(adjusted <= np.minimum(1, len(p) * p) + 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)
    order = list(range(len(p)))
    random.shuffle(order)
    assert statistics.holm(p[order]) == pytest.approx(adjusted[order])


def result(mean: float, half: float, n: int = 9, p: float = 0.001) -> statistics.Difference:
    return statistics.Difference(mean, half, n, p, None, np.nan)


@pytest.mark.parametrize(
    ("difference", "higher_is_better", "word"),
    [
        (result(-0.02, 0.01), False, "better"),
        (result(-0.02, 0.01), True, "worse"),
        (result(0.02, 0.01), True, "better"),
        (result(0.001, 0.002), False, "within margin"),
        (result(0.003, 0.001), False, "within margin"),  # significant, but nothing that matters
        (result(0.004, 0.002), False, "undecided"),  # significant, smaller than what matters, perhaps not
        (result(0.02, 0.03, p=0.2), False, "undecided"),
        (result(-0.02, 0.01, n=4), False, ""),
    ],
)
def test_verdicts(difference, higher_is_better, word):
    assert statistics.verdict(difference, 0.005, higher_is_better) == word


def test_an_adjusted_p_value_takes_over():
    assert statistics.verdict(result(-0.02, 0.01), 0.005, False, p=0.06) == "undecided"
