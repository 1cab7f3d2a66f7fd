"""Intervals against scipy and brute force, and how an estimate is written."""

from __future__ import annotations

import math

import intervals
import numpy as np
import pytest
from scipy import stats

from poisonsim.results.enough import is_reported, trials_needed
from poisonsim.results.statistics import (
    CONFIDENCE,
    Distribution,
    Estimate,
    binomial,
    binomial_quantile,
    ratio_of_means,
    weighted_binomial,
    without_empty,
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
    assert d.values.tolist() == [1.0, 3.0] and d.counts.tolist() == [[2], [5]]
    assert d.n_trials == 7


def test_the_mean_has_the_textbook_interval() -> None:
    values, counts = np.array([0.0, 1.0, 10.0]), np.array([50, 30, 20])
    every = np.repeat(values, counts)
    mean = Distribution.of(values, counts).mean("bytes")
    assert (mean.best, mean.unit) == (every.mean(), "bytes")
    assert (mean.low, mean.high) == pytest.approx(intervals.of_a_mean(every), rel=1e-9)
    half = stats.norm.isf(0.025) * every.std(ddof=1) / 10
    assert mean.high - mean.low == pytest.approx(2 * half, rel=0.03)  # moved, hardly widened
    assert mean.low > every.mean() - half and mean.high > every.mean() + half


def test_the_mean_of_symmetric_values_has_the_normal_interval() -> None:
    mean = Distribution.of(np.array([-1.0, 0.0, 1.0]), np.array([30, 40, 30])).mean()
    half = stats.norm.isf(0.025) * (60 / 99) ** 0.5 / 10
    assert (mean.low, mean.high) == pytest.approx((-half, half), rel=1e-12)


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


# ------------------------------------------------------------------------------------------------- strata


WEIGHTS = np.array([0.9, 0.08, 0.02])


def stratified(*by_stratum: list[float]) -> Distribution:
    """Single trials with these values, by stratum, after VMs without incidents whose value is 0."""
    values = np.array([0.0, *(value for values in by_stratum for value in values)])
    stratum = np.array([0, *(h for h, values in enumerate(by_stratum, 1) for _ in values)])
    counts = np.ones(len(values), np.int64)
    counts[0] = 10**12  # how many those are is no matter
    return Distribution.of(values, counts, stratum, WEIGHTS)


def jeffreys(k: int, n: int) -> Estimate:
    low, high = stats.beta.ppf([0.025, 0.975], k + 0.5, n - k + 0.5)
    return Estimate(float(low), k / n, float(high), "1")


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 100_000)])
def test_one_stratum_that_can_vary_has_jeffreys_interval_or_the_exact_one(k: int, n: int) -> None:
    sizes = np.array([7, n])
    alone = weighted_binomial(np.array([0.0, 1.0]), np.array([0, k]), sizes)
    part = weighted_binomial(np.array([0.75, 0.25]), np.array([0, k]), sizes)
    whole = jeffreys(k, n) if 0 < k < n else binomial(k, n)
    assert (alone.low, alone.best, alone.high) == pytest.approx((whole.low, whole.best, whole.high), abs=1e-17)
    assert (part.low, part.best, part.high) == pytest.approx((whole.low / 4, whole.best / 4, whole.high / 4), abs=1e-17)
    rest = weighted_binomial(np.array([0.75, 0.25]), np.array([7, k]), sizes)
    assert (rest.low, rest.high) == pytest.approx((0.75 + whole.low / 4, 0.75 + whole.high / 4))


def test_distances_from_the_estimate_add_up_in_quadrature() -> None:
    found = weighted_binomial(WEIGHTS, np.array([0, 4, 5]), np.array([1, 40, 20]))
    a, b = jeffreys(4, 40), jeffreys(5, 20)
    assert found.best == pytest.approx(0.08 * 0.1 + 0.02 * 0.25)
    assert found.best - found.low == pytest.approx(math.hypot(0.08 * (a.best - a.low), 0.02 * (b.best - b.low)))
    assert found.high - found.best == pytest.approx(math.hypot(0.08 * (a.high - a.best), 0.02 * (b.high - b.best)))


def test_a_stratum_without_trials_may_be_anything() -> None:
    found = weighted_binomial(WEIGHTS, np.array([0, 40, 0]), np.array([1, 40, 0]))
    assert found.best == pytest.approx(0.1) and found.best - found.low > 0.02
    none = weighted_binomial(WEIGHTS, np.array([0, 0, 0]), np.array([1, 0, 0]))
    assert (none.low, none.best) == (0, 0) and none.high == pytest.approx(math.hypot(0.08, 0.02))


def test_what_always_or_never_holds_is_exactly_one_or_nought() -> None:
    d = stratified([1.0, 2.0, 3.0], [4.0, 5.0])
    assert d.share(d.values >= 0).best == d.share(d.values >= 0).high == 1.0
    assert d.share(d.values < 0).best == d.share(d.values < 0).low == 0.0
    certain = d.share(d.values == 0)
    assert certain.best == pytest.approx(0.9) and certain.low == pytest.approx(0.9)


def test_the_mean_over_strata_has_the_textbook_variance() -> None:
    a, b = [1.0, 2.0, 4.0], [3.0, 9.0]
    d = stratified(a, b)
    variance = 0.08**2 * np.var(a, ddof=1) / 3 + 0.02**2 * np.var(b, ddof=1) / 2
    mean = d.mean()
    assert mean.best == pytest.approx(0.08 * np.mean(a) + 0.02 * np.mean(b), rel=1e-12)
    third = 0.08**3 * stats.moment(a, order=3) / 9 + 0.02**3 * stats.moment(b, order=3) / 4
    assert (mean.low, mean.high) == pytest.approx(intervals.by_moments(mean.best, variance, third), rel=1e-9)
    assert (d.n_simulated, d.stratified) == (5, True)


@pytest.mark.parametrize(("single", "own"), [(3.0, np.var([1, 2, 4, 3], ddof=1)), (9.0, (9 - 4) ** 2)])
def test_a_single_trial_has_the_variance_of_its_neighbours_or_its_own_gap(single: float, own: float) -> None:
    a, b = [1.0, 2.0, 4.0], [single]
    variance = 0.08**2 * np.var(a, ddof=1) / 3 + 0.02**2 * own
    mean = stratified(a, b).mean()
    third = 0.08**3 * stats.moment(a, order=3) / 9 + 0.02**3 * stats.moment(a + b, order=3)
    assert mean.best == pytest.approx(0.08 * np.mean(a) + 0.02 * single, rel=1e-12)
    assert (mean.low, mean.high) == pytest.approx(intervals.by_moments(mean.best, variance, third), rel=1e-9)


def test_a_stratum_without_trials_is_like_the_one_below_give_or_take_as_much() -> None:
    a = [1.0, 2.0, 4.0]
    mean = stratified(a, []).mean()
    variance = 0.1**2 * np.var(a, ddof=1) / 3 + (0.02 * np.mean(a)) ** 2
    third = 0.1**3 * stats.moment(a, order=3) / 9
    assert mean.best == pytest.approx(0.1 * np.mean(a), rel=1e-12)
    assert (mean.low, mean.high) == pytest.approx(intervals.by_moments(mean.best, variance, third), rel=1e-9)
    assert stratified([], []).mean() == Estimate(0.0, 0.0, 0.0, "1")


@pytest.mark.parametrize("value", [0.1, 1_675_200.0, 1e300])
def test_a_constant_stays_exactly_constant_over_strata(value: float) -> None:
    d = Distribution.of(np.full(3, value), np.array([5, 3, 2]), np.arange(3), WEIGHTS)
    assert d.mean() == Estimate(value, value, value, "1")


def test_a_quantile_over_strata_weighs_its_trials() -> None:
    d = stratified(list(np.arange(1.0, 101)), list(np.arange(200.0, 250)))
    assert d.quantile(0.5) == d.quantile(0.9) == Estimate(0, 0, 0, "1")  # nine VMs in ten, for certain
    q = d.quantile(0.95)
    assert q is not None and q.best == 63 and q.low < 63 < q.high  # 0.9 + 0.08 x 0.63 > 0.95
    q = d.quantile(0.99)
    assert q is not None and q.best == 224
    assert d.quantile(0.993) is None  # 10 x 0.08 / 100 is more than what lies beyond
    assert is_reported(0.5, np.array([1.0]), np.array([20])) and not is_reported(0.5, np.array([1.0]), np.array([19]))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        ((5, 4, 3), (0.9, 0.08, 0.02)),
        ((5, 4, 0), (0.9, 0.1, 0)),
        ((5, 0, 3), (0.9, 0, 0.1)),
        ((5, 0, 0), (1, 0, 0)),
    ],
)
def test_weights_of_empty_strata_go_to_a_neighbour(n: tuple[int, ...], expected: tuple[float, ...]) -> None:
    assert without_empty(WEIGHTS, np.array(n)) == pytest.approx(expected)


def test_a_mean_is_no_lower_than_the_least_value_that_many_trials_have() -> None:
    """One trial in 40 carries nearly all of the mean; its interval cannot end below what every hit VM loses."""
    values, counts = np.array([0.0, 1.0, 500.0]), np.array([1, 39, 1])
    mean = Distribution.of(values, counts, np.array([0, 1, 1]), np.array([0.95, 0.05])).mean()
    assert mean.low == pytest.approx(0.05) and mean.low < mean.best
    few = Distribution.of(values, np.array([1, 5, 1]), np.array([0, 1, 1]), np.array([0.95, 0.05])).mean()
    assert few.low == 0  # that five trials have as little says little


def test_a_ratio_of_what_is_never_negative_is_not() -> None:
    a, b = np.array([0.0, 1.0, 400.0]), np.array([0.0, 1.0, 2.0])
    found = ratio_of_means(a, b, np.array([5, 20, 1]))
    assert found is not None and found.low == 0 < found.best < found.high
