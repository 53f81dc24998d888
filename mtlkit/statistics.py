"""The statistics that every table and figure uses: intervals over seeds, paired differences, verdicts.

Sources: t intervals and tests as in any textbook; the BCa bootstrap of Efron (1987); Holm (1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
"""Coverage of every interval; 1 - LEVEL is the level of every test."""

SEEDS_FOR_VERDICT = 5
SEEDS_FOR_BOOTSTRAP = 9
"""With few seeds a bootstrap is too narrow, and a two-sided Wilcoxon test of five cannot fall below p = 0.0625."""


@dataclass(frozen=True)
class Difference:
    """Paired differences in summary.

    Attributes:
        mean: Mean of the differences; NaN without any.
        half_width: Half of the 95 % t interval; NaN with fewer than two.
        n: Number of pairs.
        p: Two-sided paired t test against zero; NaN below five pairs.
        bca: 95 % BCa bootstrap interval of the mean, from nine pairs on, else None.
        wilcoxon: Two-sided Wilcoxon signed-rank p-value, from nine pairs on, else NaN.
    """

    mean: float
    half_width: float
    n: int
    p: float
    bca: tuple[float, float] | None
    wilcoxon: float

    @property
    def low(self) -> float:
        """Lower end of the t interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the t interval."""
        return self.mean + self.half_width


def interval(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis of `values` `(n, ...)` and half-width of its 95 % t interval.

    NaN where there are too few: none for the mean, fewer than two for the interval.
    """
    values = np.asarray(values, float)
    n = len(values)
    if n == 0:
        return np.full(values.shape[1:], np.nan)[()], np.full(values.shape[1:], np.nan)[()]
    mean = values.mean(0)
    if n == 1:
        return mean, np.full_like(mean, np.nan)[()]
    return mean, stats.t.ppf(0.5 + LEVEL / 2, n - 1) * values.std(0, ddof=1) / np.sqrt(n)


def difference(values: Sequence[float]) -> Difference:
    """Summary of paired differences `values` `(n,)`, one per seed."""
    values = np.asarray(values, float)
    n = len(values)
    mean, half = interval(values)
    many = n >= SEEDS_FOR_BOOTSTRAP
    return Difference(
        mean=float(mean),
        half_width=float(half),
        n=n,
        p=_t_test(values) if n >= SEEDS_FOR_VERDICT else np.nan,
        bca=_bca(values) if many else None,
        wilcoxon=_wilcoxon(values) if many else np.nan,
    )


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjustment `(k,)` of the p-values of one family.

    A NaN is a comparison that was announced and cannot be judged yet: it counts in the size of the family, stays NaN.
    """
    p_values = np.asarray(p_values, float)
    adjusted, running = np.full(len(p_values), np.nan), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):  # NaN sorts last, as p = 1 would
        if np.isnan(p_values[index]):
            break
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def verdict(result: Difference, margin: float, higher_is_better: bool, p: float | None = None) -> str:
    """One of better, worse, within margin, undecided; empty below five pairs.

    better, worse: the difference is significant at 5 % and its mean is at least `margin`, the smallest that matters.
    within margin: the 95 % t interval lies inside (-margin, margin), so that nothing that matters is left.

    Args:
        result: Differences as (arm) - (the arm that it is compared with).
        margin: Non-negative, in units of the metric.
        higher_is_better: Of the metric.
        p: Takes the place of `result.p`, for one adjusted within a family.
    """
    if result.n < SEEDS_FOR_VERDICT:
        return ""
    if -margin < result.low and result.high < margin:
        return "within margin"
    if (result.p if p is None else p) < 1 - LEVEL and abs(result.mean) >= margin:
        return "better" if (result.mean > 0) == higher_is_better else "worse"
    return "undecided"


def _t_test(values: np.ndarray) -> float:
    if _equal(values):  # the statistic is 0/0 or infinite
        return float(values[0] == 0)
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def _bca(values: np.ndarray) -> tuple[float, float]:
    if _equal(values):  # the acceleration is 0/0
        return float(values[0]), float(values[0])
    result = stats.bootstrap((values,), np.mean, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _wilcoxon(values: np.ndarray) -> float:
    """Zeros are left out. Exact up to 13 values, also with ties: as SciPy's, which takes one permutation at a time."""
    values = values[values != 0]
    if len(values) < 2:
        return 1.0
    if len(values) > 13:
        return float(stats.wilcoxon(values).pvalue)
    return float(stats.permutation_test((values,), _rank_sum, vectorized=True, permutation_type="samples",
                                        n_resamples=np.inf).pvalue)  # fmt: skip


def _rank_sum(values: np.ndarray, axis: int) -> np.ndarray:
    return (np.sign(values) * stats.rankdata(np.abs(values), axis=axis)).sum(axis)


def _equal(values: np.ndarray) -> bool:
    """Whether values are the same but for rounding."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
