"""Intervals against scipy and brute force, and how an estimate is written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from poisonsim.results.statistics import (
    CONFIDENCE,
    Distribution,
    Estimate,
    binomial,
    binomial_quantile,
    trials_needed,
)


def ranks(n: int) -> Distribution:
    """The values 1 to n, once each: a quantile's value is its rank."""
    return Distribution.of(np.arange(1.0, n + 1), np.ones(n, np.int64))


# ------------------------------------------------------------------------------------------------- estimates


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.0312, 0.0334, 0.0357, "1"), "0.033 (0.031–0.036)"),
        (Estimate(3.4, 3.64, 3.9, "GiB"), "3.6 (3.4–3.9) GiB"),
        (Estimate(99.1, 100.0, 100.9, "pages"), "100 (99.1–101) pages"),
        (Estimate(1.0001, 1.0005, 1.0009, "1"), "1.0005 (1.0001–1.0009)"),
        (Estimate(256.5, 256.5, 256.5, "1"), "256.5"),
        (Estimate(429688800.0, 429688800.0, 429688800.0, "bytes"), "4.29689e+08 bytes"),
        (Estimate(0.0, 0.0, 0.0, "1"), "0"),
        (Estimate(0.0, 0.0, 0.0037, "1"), "0 (0–0.0037)"),
        (Estimate(-2.0, 0.1, 2.2, "s"), "0.1 (-2–2.2) s"),
    ],
)
def test_an_estimate_is_written_with_the_digits_its_width_justifies(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


# ------------------------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("n", [1, 2, 20, 1000, 1_000_000])
def test_the_binomial_interval_is_clopper_and_pearsons(n: int) -> None:
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        low, high = stats.beta.ppf(0.025, k, n - k + 1), stats.beta.ppf(0.975, k + 1, n - k)
        estimate = binomial(k, n)
        assert estimate.best == k / n
        assert estimate.low == pytest.approx(0.0 if k == 0 else low, rel=1e-9)
        assert estimate.high == pytest.approx(1.0 if k == n else high, rel=1e-9)


def test_no_success_in_n_gives_the_rule_of_three_and_a_bit() -> None:
    assert binomial(0, 1000).high == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-12)
    assert binomial(1000, 1000).low == pytest.approx(0.025 ** (1 / 1000), rel=1e-12)


def test_a_share_counts_trials() -> None:
    d = Distribution.of(np.array([0.0, 1.0, 5.0]), np.array([90, 7, 3]))
    assert d.share(d.values > 0) == binomial(10, 100)
    assert d.share(d.values > 9) == binomial(0, 100)


@pytest.mark.parametrize("n", [1, 10, 12_000])
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.05, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_binomial_quantiles_are_scipys(n: int, p: float, q: float) -> None:
    assert binomial_quantile(q, n, p) == int(stats.binom(n, p).ppf(q))


# ------------------------------------------------------------------------------------------------- distributions


def test_equal_values_are_merged_and_absent_ones_dropped() -> None:
    d = Distribution.of(np.array([3.0, 1.0, 3.0, 2.0]), np.array([1, 2, 4, 0]))
    assert d.values.tolist() == [1.0, 3.0] and d.counts.tolist() == [2, 5]
    assert d.n_trials == 7


def test_the_mean_has_the_textbook_interval() -> None:
    values, counts = np.array([0.0, 1.0, 10.0]), np.array([50, 30, 20])
    every = np.repeat(values, counts)
    mean = Distribution.of(values, counts).mean("bytes")
    half = stats.norm.isf(0.025) * every.std(ddof=1) / 10
    assert (mean.best, mean.unit) == (every.mean(), "bytes")
    assert (mean.low, mean.high) == pytest.approx((every.mean() - half, every.mean() + half), rel=1e-12)


@pytest.mark.parametrize("value", [0.1, 1_675_200.0, 1e300, -3.7])
def test_a_constant_stays_exactly_constant(value: float) -> None:
    assert Distribution.of(np.array([value]), np.array([12_345])).mean() == Estimate(value, value, value, "1")


def test_one_trial_has_a_mean() -> None:
    assert Distribution.of(np.array([4.0]), np.array([1])).mean().best == 4.0


# ------------------------------------------------------------------------------------------------- quantiles


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("extra", [0, 1, 7, 500, 9_000])
def test_quantile_intervals_cover_as_often_as_they_say(q: float, extra: int) -> None:
    """Between the l-th and the u-th of n values the true quantile lies with P(l <= Bin(n, q) <= u - 1).

    That must be at least 95 %, and no rank may be moved inwards without a tail beyond 2.5 %.
    """
    n = trials_needed(q) + extra
    found = ranks(n).quantile(q)
    assert found is not None
    low, high = int(found.low), int(found.high)
    law = stats.binom(n, q)
    k = np.arange(n + 1)
    p = law.pmf(k)
    assert p[(k >= low) & (k <= high - 1)].sum() >= CONFIDENCE - 1e-12
    assert p[k < low].sum() <= 0.025 + 1e-12 < p[k < low + 1].sum() + 1e-12
    assert p[k > high - 1].sum() <= 0.025 + 1e-12 < p[k > high - 2].sum() + 1e-12
    assert found.best == max(math.ceil(q * n - 1e-9), 1)


def test_quantiles_of_counted_values_are_those_of_the_values() -> None:
    values, counts = np.array([1.0, 2.0, 7.0]), np.array([600, 380, 20])
    d = Distribution.of(values, counts)
    every = Distribution.of(np.repeat(values, counts) + 0, np.ones(1000, np.int64))
    assert [d.quantile(q) for q in (0.5, 0.95, 0.99)] == [every.quantile(q) for q in (0.5, 0.95, 0.99)]
    median = d.quantile(0.5, "bytes")
    assert median == Estimate(1.0, 1.0, 1.0, "bytes")


@pytest.mark.parametrize(("q", "needed"), [(0.5, 20), (0.05, 200), (0.95, 200), (0.99, 1000), (0.999, 10_000)])
def test_a_quantile_needs_ten_trials_beyond_it(q: float, needed: int) -> None:
    assert trials_needed(q) == needed
    assert ranks(needed - 1).quantile(q) is None
    assert ranks(needed).quantile(q) is not None
