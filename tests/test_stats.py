"""Intervals against SciPy, by hand, and by the share of trials that they cover."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hubel import stats
from hubel.stats import bootstrap_interval, wilson_interval


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (90, 100), (7, 9999)])
def test_wilson_is_scipys(k: int, n: int, level: float) -> None:
    reference = scipy.stats.binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson_interval(k, n, level) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    # z² = 3.8415, share 0.9: centre (0.9 + 0.19207) / 1.38415 = 0.78898,
    # half 1.95996 / 1.38415 · √(0.009 + 0.0096036) = 0.19314.
    low, high = wilson_interval(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_is_symmetric(case: tuple[int, int]) -> None:
    k, n = case
    low, high = wilson_interval(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    assert low < high
    assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"between 0 and n = 5. Got {k} instead"):
        wilson_interval(k, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match=f"as 0.95 does. Got {level} instead"):
        wilson_interval(1, 2, level)
    with pytest.raises(ValueError, match=f"as 0.95 does. Got {level} instead"):
        bootstrap_interval([1, 1], lambda c: c[:, 0] * 1.0, level=level)


def test_bootstrap_of_a_mean_is_that_of_samples() -> None:
    """Resampling counts is resampling values: SciPy resamples the values themselves."""
    values = np.random.default_rng(3).gamma(2.0, size=60)
    ours = bootstrap_interval(
        np.ones(60, dtype=int), lambda c: c @ values / c.sum(axis=1), num_resamples=20_000
    )
    reference = scipy.stats.bootstrap(
        (values,), np.mean, method="BCa", n_resamples=20_000, random_state=np.random.default_rng(0)
    ).confidence_interval
    width = reference.high - reference.low
    assert ours == pytest.approx((reference.low, reference.high), abs=0.05 * width)


def test_bootstrap_corrects_the_bias_that_resampling_adds() -> None:
    """The number of distinct outcomes seen can only fall in a resample.

    Every resample of 40 distinct values holds fewer than 40, so the plain percentile interval
    lies below the estimate; the corrected one reaches the highest resamples.
    """
    drawn: list[np.ndarray] = []

    def distinct(counts: np.ndarray) -> np.ndarray:
        values = (counts > 0).sum(axis=1).astype(float)
        drawn.append(values)
        return values

    low, high = bootstrap_interval(np.ones(40, dtype=int), distinct)
    resampled = drawn[0]
    assert resampled.max() < 40
    assert high == resampled.max()
    assert low > np.quantile(resampled, 0.9)


def test_bootstrap_in_chunks_and_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(counts: np.ndarray) -> np.ndarray:
        return counts[:, 0] / counts.sum(axis=1)

    whole = bootstrap_interval([30, 70], share, seed=5)
    assert bootstrap_interval([30, 70], share, seed=5) == whole
    assert bootstrap_interval([30, 70], share, seed=6) != whole
    monkeypatch.setattr(stats, "MAX_RESAMPLED_COUNTS", 7)
    assert bootstrap_interval([30, 70], share, seed=5) == whole  # memory is not a parameter
    assert whole == pytest.approx(wilson_interval(30, 100), abs=0.02)


def test_bootstrap_leaves_out_resamples_without_a_value() -> None:
    def rate(counts: np.ndarray) -> np.ndarray:
        seen = counts[:, 0] + counts[:, 1]
        return np.where(seen == 0, np.nan, counts[:, 0] / np.maximum(seen, 1))

    low, high = bootstrap_interval([1, 1, 8], rate)
    assert (low, high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="NaN for the counts given"):
        bootstrap_interval([0, 0, 8], rate)


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 3], [[1, 2]]])
def test_bootstrap_refuses_what_is_no_count(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="counts must be one-dimensional"):
        bootstrap_interval(counts, lambda c: c[:, 0] * 1.0)


def test_bootstrap_needs_a_resample() -> None:
    with pytest.raises(ValueError, match=r"num_resamples must be at least 1\. Got 0 instead"):
        bootstrap_interval([1], lambda c: c[:, 0] * 1.0, num_resamples=0)
