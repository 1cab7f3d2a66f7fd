"""Samples against closed forms.

Every test states what it may do by chance: with another seed (POISONSIM_TEST_SEED) it fails once in a million times
though all is well. Counts of independent trials are held to exact binomial or Poisson bounds; a mean of many trials to
a normal bound with the exact variance. Where a test makes several such comparisons, ALPHA is shared among them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy import stats

import poisonsim as ps
from poisonsim.faults.arrivals import Arrivals
from poisonsim.faults.history import draw_history
from poisonsim.results.result import Result
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario, Vm

ALPHA = 1e-6


def within(law: Any, observed: float, share: int = 1) -> bool:
    """Whether `observed` lies between the quantiles that a draw from `law` leaves with chance ALPHA / share."""
    tail = ALPHA / share / 2
    return bool(law.ppf(tail) <= observed <= law.isf(tail))


def all_within(n: int, p: NDArray[np.float64], observed: NDArray[np.int64]) -> bool:
    """Whether each count is what a binomial with its own probability allows, ALPHA shared among all of them."""
    assert len(p) == len(observed)
    return all(within(stats.binom(n, q), int(count), share=len(p)) for q, count in zip(p, observed, strict=True))


def counts_of(values: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """How many values are 0, 1, …, and the last class and beyond."""
    return np.bincount(np.minimum(values, n_classes - 1), minlength=n_classes)


# ------------------------------------------------------------------------------------------------- regions hit


def occupancy(boxes: int, balls: int) -> tuple[float, float]:
    """Mean and variance of the number of boxes hit by balls that fall uniformly.

    With Z = Σ Iᵢ the boxes left empty: E[Iᵢ] = (1 - 1/N)ᵏ, and E[Iᵢ Iⱼ] = (1 - 2/N)ᵏ for two different boxes, as every
    ball must miss both. So Var Z = N E[I] + N (N - 1) E[Iᵢ Iⱼ] - (N E[I])², and N - Z has the same variance.
    """
    one = math.exp(balls * math.log1p(-1 / boxes))
    two = math.exp(balls * math.log1p(-2 / boxes))
    return boxes * (1 - one), boxes * one + boxes * (boxes - 1) * two - (boxes * one) ** 2


def test_the_occupancy_formula_agrees_with_counting_every_case() -> None:
    from itertools import product

    for boxes, balls in ((3, 2), (4, 5)):
        hit = np.array([len(set(case)) for case in product(range(boxes), repeat=balls)])
        assert occupancy(boxes, balls) == pytest.approx((hit.mean(), hit.var()), rel=1e-9)


@pytest.mark.parametrize(
    ("memory", "backing", "errors", "trials"),
    [
        ("1TiB", "1G", 100, 20_000),
        ("4TiB", "1G", 1000, 3_000),
        ("64GiB", "2M", 3000, 1_000),
        ("16GiB", "1G", 20, 20_000),
    ],
)
def test_regions_hit_are_an_occupancy_problem(
    memory: str, backing: str, errors: int, trials: int, statistical_seed: int
) -> None:
    vm = Vm(memory=memory, backing=backing)
    scenario = Scenario(vm=vm, faults=CountFaults(errors=errors), horizon=Horizon(grid="5years"))
    res = ps.run(scenario, policies=["hgm2m"], trials=trials, seed=statistical_seed)
    hit = res.distribution("hgm2m", "regions_hit")
    mean, variance = occupancy(vm.n_regions, errors)
    z = stats.norm.isf(ALPHA / 2)
    assert z == pytest.approx(4.89, abs=0.01)
    assert abs(hit.mean().best - mean) < z * (variance / trials) ** 0.5
    if (memory, errors) == ("1TiB", 100):
        assert mean == pytest.approx(95.3166, abs=5e-5)


def test_collisions_in_small_pages_are_the_birthday_problem(statistical_seed: int) -> None:
    """100 errors in 2 TiB of 2M pages: a page is hit twice in 1 - Π (1 - i / 2²⁰) of all VMs; exact binomial bounds."""
    scenario = Scenario(vm=Vm(memory="2TiB", backing="2M"), faults=CountFaults(errors=100))
    res = ps.run(scenario, policies=["unmap1g"], trials=8_000, seed=statistical_seed)
    hit = res.distribution("unmap1g", "regions_hit")
    p_any = -math.expm1(math.fsum(math.log1p(-i / 2**20) for i in range(100)))
    assert within(stats.binom(8_000, p_any), hit.counts[hit.values < 100].sum())


# ------------------------------------------------------------------------------------------------- number of errors


def drawn(mean: float, dispersion: float, trials: int, seed: int) -> NDArray[np.int64]:
    """Errors of each trial, zeros included."""
    law = Arrivals(mean, dispersion=dispersion)
    assert law.strata.plain
    hit, counts, *_ = law.draw_counts(default_rng([seed, 1]), trials, block=0)
    every = np.zeros(trials, np.int64)
    every[hit] = counts
    return every


@pytest.mark.parametrize("mean", [0.7, 1.0, 3.0, 40.0])
def test_counts_without_frailty_are_poisson(mean: float, statistical_seed: int) -> None:
    """Where every count is drawn. Three tests, a third of ALPHA each:

    every class by exact binomial bounds; the total, which is Poisson itself; and the variance, whose own variance is
    (μ₄ - λ²) / n with the fourth central moment μ₄ = λ + 3λ², by a normal bound.
    """
    n = 200_000
    every, law = drawn(mean, 0.0, n, statistical_seed), stats.poisson(mean)
    top = int(law.isf(1e-4)) + 2
    p = np.append(law.pmf(np.arange(top - 1)), law.sf(top - 2))
    classes = counts_of(every, top)
    assert all(within(stats.binom(n, q), int(k), share=3 * top) for q, k in zip(p, classes, strict=True))
    assert within(stats.poisson(n * mean), int(every.sum()), share=3)
    z = stats.norm.isf(ALPHA / 6)
    assert abs(((every - mean) ** 2).mean() - mean) < z * ((mean + 2 * mean**2) / n) ** 0.5


@pytest.mark.parametrize(("mean", "dispersion"), [(1.0, 0.5), (6.0, 0.5), (2.0, 2.0), (6.0, 2.0), (90.0, 5.0)])
def test_counts_with_gamma_frailty_are_negative_binomial(mean: float, dispersion: float, statistical_seed: int) -> None:
    """Number of failures before 1/d successes with p = 1 / (1 + d m). Every class, and the total, which is negative
    binomial with n times as many successes; exact bounds, half of ALPHA each.
    """
    n = 200_000
    every = drawn(mean, dispersion, n, statistical_seed)
    r, p = 1 / dispersion, 1 / (1 + dispersion * mean)
    law = stats.nbinom(r, p)
    assert (law.mean(), law.var()) == pytest.approx((mean, mean + dispersion * mean**2))
    top = int(law.isf(1e-4)) + 2
    q = np.append(law.pmf(np.arange(top - 1)), law.sf(top - 2))
    classes = counts_of(every, top)
    assert all(within(stats.binom(n, q_one), int(k), share=2 * top) for q_one, k in zip(q, classes, strict=True))
    assert within(stats.nbinom(n * r, p), int(every.sum()), share=2)


@pytest.mark.parametrize(("mean", "dispersion"), [(0.5, 0.0), (0.02, 0.0), (0.5, 4.0), (0.05, 100.0)])
def test_counts_of_the_last_stratum_are_the_tail_of_the_law(
    mean: float, dispersion: float, statistical_seed: int
) -> None:
    """Those of the others are known. Every class by exact binomial bounds."""
    law = stats.poisson(mean) if dispersion == 0 else stats.nbinom(1 / dispersion, 1 / (1 + mean * dispersion))
    arrivals, rng = Arrivals(mean, dispersion=dispersion), default_rng([statistical_seed, 4])
    parts = [arrivals.draw_counts(rng, 1 << 20, block) for block in range(8)]
    counts, strata = (np.concatenate([getattr(part, of) for part in parts]) for of in ("incidents", "stratum"))
    least = arrivals.strata.count
    last = strata == len(least) - 1
    assert (counts[~last] == least[strata[~last]]).all()
    first, top = int(least[-1]), 8
    p = np.append(law.pmf(np.arange(first, first + top - 1)), law.sf(first + top - 2)) / law.sf(first - 1)
    assert last.any() and all_within(int(last.sum()), p, counts_of(counts[last] - first, top))


# ------------------------------------------------------------------------------------------------- when and where


@pytest.mark.parametrize("shape", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.1, 2.0])
def test_times_are_uniform_on_the_clock_of_the_hazard(shape: float, rate: float, statistical_seed: int) -> None:
    """Given how many there are, errors of a VM come at independent times, uniform after u = (t / T)^shape.

    Kolmogorov and Smirnov for all times together; and for the first error of each VM, which is the least of k
    uniforms: 1 - (1 - u)^k is uniform. Half of ALPHA each.
    """
    scenario = Scenario(faults=RateFaults(ue_per_tib_year=rate, shape=shape), horizon=Horizon(years=4))
    history = draw_history(scenario, statistical_seed, 0, 20_000)
    u = (history.years / 4) ** shape
    assert len(u) > 5000
    assert stats.kstest(u, "uniform").pvalue > ALPHA / 2
    first = -np.expm1(np.diff(history.start) * np.log1p(-u[history.start[:-1]]))
    assert stats.kstest(first, "uniform").pvalue > ALPHA / 2


def test_a_fixed_count_has_uniform_times(statistical_seed: int) -> None:
    history = draw_history(Scenario(faults=CountFaults(errors=7)), statistical_seed, 0, 20_000)
    u = history.years.reshape(-1, 7) / 5
    for k in range(7):  # the k-th of 7 uniforms in order is Beta(k + 1, 7 - k)
        assert stats.kstest(u[:, k], stats.beta(k + 1, 7 - k).cdf).pvalue > ALPHA / 7


def test_errors_fall_on_every_page_alike(statistical_seed: int) -> None:
    """Counts by region, and by place within a 2M group; exact binomial bounds, half of ALPHA each."""
    history = draw_history(Scenario(faults=CountFaults(errors=100)), statistical_seed, 0, 5_000)
    n = len(history.page)
    for places, n_places in ((history.page >> 18, 1024), (history.page & 511, 512)):
        law = stats.binom(n, 1 / n_places)
        low, high = law.ppf(ALPHA / 4 / n_places), law.isf(ALPHA / 4 / n_places)
        counts = np.bincount(places, minlength=n_places)
        assert len(counts) == n_places and low <= counts.min() and counts.max() <= high


def test_distinct_regions_are_every_set_alike(statistical_seed: int) -> None:
    """3 of 5 regions in order: each of the 60 sequences, and the pages within the regions by KS; half of ALPHA each."""
    scenario = Scenario(vm=Vm(memory=5 << 30), faults=CountFaults(errors=3, placement="distinct-regions"))
    history = draw_history(scenario, statistical_seed, 0, 60_000)
    region = (history.page >> 18).reshape(-1, 3)
    codes, counts = np.unique(region @ np.array([25, 5, 1]), return_counts=True)
    assert len(codes) == 60
    assert all(within(stats.binom(60_000, 1 / 60), int(count), share=120) for count in counts)
    within_region = (history.page & (2**18 - 1)) / 2**18
    assert stats.kstest(within_region, "uniform").pvalue > ALPHA / 2


def test_fate_is_uniform_and_no_function_of_time_or_place(statistical_seed: int) -> None:
    """KS; and Spearman's rank correlation, which for n independent pairs is normal with variance 1 / (n - 1)."""
    history = draw_history(Scenario(faults=CountFaults(errors=1)), statistical_seed, 0, 200_000)
    assert stats.kstest(history.fate, "uniform").pvalue > ALPHA / 3
    z = stats.norm.isf(ALPHA / 6)
    for other in (history.years, history.page):
        assert abs(stats.spearmanr(history.fate, other).statistic) < z * (len(history.fate) - 1) ** -0.5


# ------------------------------------------------------------------------------------------------- through policies


def lost(res: Result, policy: str) -> int:
    distribution = res.distribution(policy, "vm_lost")
    return int(distribution.counts[distribution.values == 1].sum())


def test_a_vm_dies_as_often_as_its_lost_pages_say(statistical_seed: int) -> None:
    """100 leaves lost in each trial, each of p pages that must all be dispensable, and none met in a storm.

    Touches of a hole of 512 pages come at 512 x 64 lines x the mean rate of a line; two within 1.5 us kill as
    well, and each page that is retired makes them rarer: exp(-512 c / 2) is left, c the chance at the start.
    """
    f = 2e-5
    scenario = Scenario(
        vm=Vm(memory="64GiB", backing="2M", unrecoverable=f),
        faults=CountFaults(errors=100, placement="distinct-regions"),
        host=Host(spares=100),
    )
    res = ps.run(scenario, policies=["unmap1g", "hgm2m", "migrate1g"], trials=20_000, seed=statistical_seed)
    c = 512 * 64 * 0.32 * math.exp(2.3**2 / 2) / 3600 * 1.5e-6
    for policy, pages, storms in (("unmap1g", 100 * 512, 100 * 512 * c / 2), ("hgm2m", 100, 0), ("migrate1g", 100, 0)):
        p = -math.expm1(pages * math.log1p(-f) - storms)
        assert within(stats.binom(20_000, p), lost(res, policy), share=3)
    assert -math.expm1(100 * 512 * math.log1p(-f)) == pytest.approx(0.641, abs=0.001)


def test_a_vm_dies_of_single_pages_at_two_per_cent_each(statistical_seed: int) -> None:
    res = ps.run("seed-1t-distinct", policies=["hgm2m", "unmap1g"], trials=20_000, seed=statistical_seed)
    assert within(stats.binom(20_000, 1 - 0.98**100), lost(res, "hgm2m"))
    assert lost(res, "unmap1g") == 20_000  # it survives with 0.98^262144, less than 1e-2000


@pytest.mark.parametrize("spares", [0, 2, 6])
def test_spares_run_out_as_often_as_poisson_says(spares: int, statistical_seed: int) -> None:
    """Every error takes one while there is one: out of spares when there are more errors than spares.

    Two errors on one of 2²⁸ pages would take one spare only: less than one trial in a million.
    """
    n = 50_000
    scenario = Scenario(faults=RateFaults(ue_per_tib_year=0.8), host=Host(spares=spares))
    res = ps.run(scenario, policies=["migrate1g"], trials=n, seed=statistical_seed)
    out = res.distribution("migrate1g", "spares_exhausted")
    assert within(stats.binom(n, stats.poisson(4).sf(spares)), out.counts[out.values == 1].sum(), share=2)
    used = res.distribution("migrate1g", "spares_used")
    assert within(stats.binom(n, stats.poisson(4).sf(spares - 1)), used.counts[used.values == spares].sum(), share=2)


def test_regions_hit_at_a_rate_are_binomial(statistical_seed: int) -> None:
    """Errors that arrive as a Poisson process hit every region independently: Binomial(64, 1 - exp(-λ / 64))."""
    n = 50_000
    scenario = Scenario(vm=Vm(memory="64GiB"), faults=RateFaults(ue_per_tib_year=64.0))
    res = ps.run(scenario, policies=["unmap1g"], trials=n, seed=statistical_seed)
    hit = res.distribution("unmap1g", "regions_hit")
    law = stats.binom(64, -math.expm1(-20 / 64))
    observed = np.zeros(65, np.int64)
    observed[hit.values.astype(int)] = hit.counts[:, 0]
    assert all_within(n, law.pmf(np.arange(65)), observed)
