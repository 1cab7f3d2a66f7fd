"""Runs against what can be computed without running anything."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats

from poisonsim.results.result import Result
from poisonsim.results.runs import run
from poisonsim.results.selfcheck.checks import ALPHA, Check, Section, equal, within_law, within_normal
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario, Vm, Workload
from poisonsim.units import GIB

_TRIALS = 20_000
_WORKLOAD = Workload(access="uniform")  # no check is of speed, and this is valued the fastest
_N_SAMPLED = 9
_SHARE = ALPHA / _N_SAMPLED


def occupancy(boxes: int, balls: int) -> tuple[float, float]:
    """Mean and variance of the number of boxes hit by balls that fall uniformly.

    With Z = Σ Iᵢ the boxes left empty: E[Iᵢ] = (1 - 1/N)ᵏ, and E[Iᵢ Iⱼ] = (1 - 2/N)ᵏ for two different boxes. So
    Var Z = N E[I] + N (N - 1) E[Iᵢ Iⱼ] - (N E[I])², and N - Z has the same variance.

    Examples:
        >>> mean, variance = occupancy(1024, 100)
        >>> round(mean, 4), round(variance, 3)
        (95.3166, 4.118)
    """
    one = math.exp(balls * math.log1p(-1 / boxes))
    two = math.exp(balls * math.log1p(-2 / boxes))
    return boxes * (1 - one), boxes * one + boxes * (boxes - 1) * two - (boxes * one) ** 2


def closed_forms(seed: int) -> Section:
    """Engine runs beside closed forms.

    Args:
        seed: Of every run.

    Examples:
        >>> closed_forms(1).verdict
        'holds'
    """
    parts: tuple[Callable[[int], list[Check]], ...] = (_arithmetic, _counts, _places, _policies)
    checks = [check for part in parts for check in part(seed)]
    assert sum(check.at is not None for check in checks) == _N_SAMPLED
    return Section(
        "closed-forms",
        "Runs of the engine against closed forms",
        "Probability theory, named in each row, and the page-table arithmetic of Linux 6.12.",
        f"Numbers that cannot vary must be equal. Of those that vary, all together fail by chance once in a million "
        f"seeds: counts are held to exact binomial and Poisson bounds, means to a normal one with the exact variance. "
        f"Each is over {_TRIALS:,} trials; the dot is where ours lies between the bounds.",
        tuple(checks),
    )


def _counts(seed: int) -> list[Check]:
    """How many errors, and when."""
    n, mean = _TRIALS, 4.0
    plain = Scenario(
        faults=RateFaults(ue_per_tib_year=0.8, shape=2.0), workload=_WORKLOAD, horizon=Horizon(years=5, grid="6months")
    )
    result = run(plain, policies=["unmap1g"], trials=n, seed=seed)
    total, half = (_total(result, "errors", year) for year in (5, 2.5))
    frail = Scenario(faults=RateFaults(ue_per_tib_year=0.8, dispersion=2.0), workload=_WORKLOAD)
    errors = run(frail, policies=["unmap1g"], trials=n, seed=seed).distribution("unmap1g", "errors")
    none = int(errors.counts[errors.values == 0].sum())
    p_none = (1 + 2 * mean) ** -0.5
    return [
        within_law("errors per VM, at a rate", stats.poisson(n * mean), total, n, "Poisson", _SHARE),
        within_law(
            "errors per VM in the first half of its life, hazard rising (Weibull, shape 2)",
            stats.poisson(n * mean / 4), half, n, "Poisson, mean times (1/2)²", _SHARE,
        ),
        within_law(
            "VMs without an error, rates differing between them (gamma, variance 2)",
            stats.binom(n, p_none), none, n, "negative binomial, (1 + 2 · 4)^(−1/2)", _SHARE,
        ),
    ]  # fmt: skip


def _places(seed: int) -> list[Check]:
    """Where errors fall."""
    n = _TRIALS
    hundred = Scenario(faults=CountFaults(errors=100), workload=_WORKLOAD)
    hit = run(hundred, policies=["unmap1g"], trials=n, seed=seed).distribution("unmap1g", "regions_hit")
    mean, variance = occupancy(1024, 100)
    small = Scenario(vm=Vm(memory="2TiB", backing="2M"), faults=CountFaults(errors=100), workload=_WORKLOAD)
    twice = run(small, policies=["unmap1g"], trials=n, seed=seed).distribution("unmap1g", "regions_hit")
    p_twice = -math.expm1(math.fsum(math.log1p(-i / 2**20) for i in range(100)))
    return [
        within_normal(
            "regions hit by 100 errors in 1 TiB of 1G pages", hit.mean().best, mean, variance / n,
            "occupancy (coupon collector), 1024 (1 − (1 − 1/1024)¹⁰⁰)", _SHARE,
        ),
        within_law(
            "VMs with a page hit twice, 100 errors in 2 TiB of 2M pages", stats.binom(n, p_twice),
            int(twice.counts[twice.values < 100].sum()), n, "birthday problem, 1 − Π (1 − i/2²⁰)", _SHARE,
        ),
    ]  # fmt: skip


def _policies(seed: int) -> list[Check]:
    """What policies make of them."""
    n, checks = _TRIALS, []
    for spares in (2, 6):
        scenario = Scenario(faults=RateFaults(ue_per_tib_year=0.8), host=Host(spares=spares), workload=_WORKLOAD)
        out = run(scenario, policies=["migrate1g"], trials=n, seed=seed)
        law = stats.binom(n, stats.poisson(4).sf(spares))
        what = f"hosts that run out of {spares} spares, 4 errors expected"
        checks.append(within_law(what, law, _total(out, "spares_exhausted"), n, f"Poisson, P(N > {spares})", _SHARE))
    lost = run(_distinct(), policies=["hgm2m"], trials=n, seed=seed)
    checks.append(
        within_law(
            "VMs lost by 100 pages, each fatal with 2 %", stats.binom(n, 1 - 0.98**100), _total(lost, "vm_lost"), n,
            "1 − 0.98¹⁰⁰", _SHARE,
        )
    )  # fmt: skip
    rare = Scenario(faults=RateFaults(ue_per_tib_year=0.01), workload=_WORKLOAD, horizon=Horizon(years=5, grid="1y"))
    result = run(rare, policies=["unmap1g"], trials=16 * n, seed=seed)
    early = result.distribution("unmap1g", "errors", year=1)
    k, w = early.counts[:, 1:], early.weights[1:]
    shares = k[early.values > 0].sum(axis=0) / k.sum(axis=0).clip(1)
    variance = float((w**2 * shares * (1 - shares) / k.sum(axis=0).clip(1)).sum())
    truth = -math.expm1(-0.01)
    checks.append(
        within_normal(
            "VMs that see an error in the first of 5 years, sampled by strata", float(w @ shares), truth, variance,
            "Poisson, 1 − exp(−0.01)", _SHARE,
        )
    )  # fmt: skip
    return checks


def _arithmetic(seed: int) -> list[Check]:
    """100 errors in 100 regions: every trial comes out the same."""
    result = run(_distinct(), policies=["unmap1g", "hgm4k", "hgm2m"], trials=1000, seed=seed)

    def only(policy: str, metric: str) -> int:
        values = result.distribution(policy, metric).values
        return int(values[0]) if len(values) == 1 else -1

    table = 4096 * 2 + 184  # a page of the process table and one of EPT with its kvm_mmu_page
    return [
        equal("bytes of page tables, 100 regions split to 4K", only("hgm4k", "table_bytes"), 100 * 513 * table,
              "100 · (512 + 1) · 8,376 B"),
        equal("bytes of page tables, 100 regions split to 2M + 4K", only("hgm2m", "table_bytes"), 100 * 2 * table,
              "100 · 2 · 8,376 B"),
        equal("4K leaves of 100 regions split to 4K", only("hgm4k", "leaves_4k"), 100 * (2**18 - 1),
              "100 · (2¹⁸ − 1)"),
        equal("2M leaves of 100 regions split to 2M + 4K", only("hgm2m", "leaves_2m"), 100 * 511, "100 · 511"),
        equal("bytes the guest loses with 100 pages of 1G", only("unmap1g", "guest_lost_bytes"), 100 * GIB,
              "100 GiB"),
        equal("bytes of vmemmap given up without HVO, 1 TiB", only("hgm2m", "vmemmap_bytes"),
              1024 * (4096 - 1 - 8) * 4096, "1024 · (4,095 − 8) pages"),
    ]  # fmt: skip


def _distinct() -> Scenario:
    return Scenario(faults=CountFaults(errors=100, placement="distinct-regions"), workload=_WORKLOAD)


def _total(result: Result, metric: str, year: float | None = None) -> int:
    found = result.distribution(result.policies[0], metric, year)
    return int(found.values @ found.counts[:, 0])
