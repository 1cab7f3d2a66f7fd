"""How many errors hosts have: the rate, and how much hosts differ, as a gamma frailty by likelihood.

With frailty of mean 1 and variance α between hosts, the number of errors of a host that expects μ is negative binomial.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, nbinom
from scipy.stats import poisson as poisson_law

from poisonsim.fitting.exposure import Exposure
from poisonsim.fitting.findings import F64, I64, Check, Finding, Refusal, poisson
from poisonsim.results.statistics import CONFIDENCE, Estimate

MOST_DISPERSION = 100.0
"""As much as a scenario takes."""
_DROP = float(chi2.ppf(CONFIDENCE, 1)) / 2
_FEWEST_PAIRS = 3.0
_MOST_FACTOR = 1000.0
_BOUNDS = (float(np.log(1e-4)), float(np.log(MOST_DISPERSION)))
_DRAWS, _MOST_DRAWN, _AT_ONCE = 2000, 4_000_000, 500_000
PRECISION = 0.25


@dataclass(frozen=True, eq=False)
class HostCounts:
    """Numbers of errors of hosts, as a negative binomial law has them.

    Args:
        counts: Errors of each host, int64[n_hosts].
        weight: How much of each was watched, against the mean of all, float64[n_hosts]; `None` where all are alike.

    Examples:
        >>> found = HostCounts(np.array([0, 0, 0, 0, 0, 0, 5, 1, 0, 4]))
        >>> round(found.dispersion, 2), [round(end, 2) for end in found.dispersion_interval]
        (4.62, [0.71, 28.09])
    """

    counts: I64
    weight: F64 | None = None

    @property
    def n(self) -> int:
        """Hosts."""
        return len(self.counts)

    @cached_property
    def total(self) -> int:
        """Errors."""
        return int(self.counts.sum())

    @cached_property
    def _at_least(self) -> I64:
        """Hosts with more than j errors, for j from 0 on."""
        return self.n - np.cumsum(np.bincount(self.counts))[:-1]

    @cached_property
    def _groups(self) -> tuple[F64, I64, F64]:
        """Weights, hosts of each, and their errors: float64[m], int64[m], float64[m]."""
        if self.weight is None:
            return np.ones(1), np.array([self.n]), np.array([float(self.total)])
        weights, group, n = np.unique(self.weight, return_inverse=True, return_counts=True)
        return weights, n, np.bincount(group.ravel(), self.counts, len(weights)).astype(np.float64)

    def log_likelihood(self, mean: float, dispersion: float) -> float:
        """Up to what depends on the counts only."""
        weights, n, errors = self._groups
        above = np.log1p(dispersion * np.arange(len(self._at_least))) @ self._at_least
        grown = np.log1p(dispersion * mean * weights)
        per_host = grown / dispersion if dispersion * mean > 1e-12 else mean * weights
        return float(above + self.total * np.log(mean) - errors @ grown - n @ per_host)

    def _best_mean(self, dispersion: float) -> float:
        """The likeliest mean for a dispersion: where the slope of the likelihood, which only falls, is 0."""
        weights, n, errors = self._groups
        if len(weights) == 1 or dispersion == 0:
            return self.total / float(n @ weights)
        most = float((errors / (n * weights)).max())
        least = float((errors / (n * weights)).min())

        def slope(mean: float) -> float:
            return float(((errors - n * weights * mean) / (1 + dispersion * weights * mean)).sum())

        return most if least == most else float(brentq(slope, least, most))

    def _best_dispersion(self, mean: float) -> tuple[float, float]:
        """The likeliest dispersion for a mean, and its log likelihood."""
        none = self.log_likelihood(mean, 0.0)
        found = minimize_scalar(
            lambda x: -self.log_likelihood(mean, np.exp(x)), bounds=_BOUNDS, method="bounded", options={"xatol": 1e-4}
        )  # fmt: skip
        return (0.0, none) if none >= -found.fun else (float(np.exp(found.x)), float(-found.fun))

    @cached_property
    def _best(self) -> tuple[float, float]:
        if self.weight is None:
            return self._best_dispersion(self._best_mean(0.0))
        none = self._profile(0.0)
        found = minimize_scalar(lambda x: -self._profile(np.exp(x)), bounds=_BOUNDS, method="bounded")
        return (0.0, none) if none >= -found.fun else (float(np.exp(found.x)), float(-found.fun))

    def _profile(self, dispersion: float) -> float:
        """Log likelihood of a dispersion, with the mean that is likeliest for it."""
        return self.log_likelihood(self._best_mean(dispersion), dispersion)

    @property
    def mean(self) -> float:
        """The likeliest number of errors of a host of weight 1."""
        return self._best_mean(self.dispersion)

    @property
    def dispersion(self) -> float:
        """The likeliest variance of the frailty."""
        return self._best[0]

    @cached_property
    def dispersion_interval(self) -> tuple[float, float]:
        """Profile-likelihood interval; it ends at `MOST_DISPERSION` where the counts set no limit."""
        best, top = self._best

        def left(x: float) -> float:
            return top - _DROP - self._profile(x)

        low = 0.0 if left(0.0) <= 0 else float(brentq(left, 0.0, max(best, 1e-9)))
        high = MOST_DISPERSION if left(MOST_DISPERSION) <= 0 else float(brentq(left, best, MOST_DISPERSION))
        return low, high

    @cached_property
    def mean_interval(self) -> tuple[float, float] | None:
        """Profile-likelihood interval of the errors per host, whatever the dispersion is.

        `None` where the counts set no limit to it within a factor of `_MOST_FACTOR`: so few errors may all be of one
        bad host.
        """
        mean, top = self.mean, self._best[1]

        def left(x: float) -> float:
            return top - _DROP - self._best_dispersion(float(np.exp(x)))[1]

        centre, ends = float(np.log(mean)), []
        for sign in (-1, 1):
            far = centre + sign * float(np.log(_MOST_FACTOR))
            if left(far) <= 0:
                return None
            ends.append(float(np.exp(brentq(left, centre, far))))
        return ends[0], ends[1]

    @cached_property
    def p_alike(self) -> float:
        """Probability of at least as many pairs of errors on one host as there are, were all hosts alike.

        Given their total, errors then fall on hosts like dice, which are thrown some 2,000 times with a fixed seed.
        """
        if self.total < 2:
            return 1.0
        rng = np.random.Generator(np.random.PCG64DXSM(1))
        n_draws = max(min(_DRAWS, _MOST_DRAWN // self.total), 100)
        seen, reached, at_once = int(self.counts @ (self.counts - 1)) // 2, 0, max(_AT_ONCE // self.total, 1)
        for first in range(0, n_draws, at_once):
            size = (min(at_once, n_draws - first), self.total)
            if self.weight is None:
                thrown = rng.integers(self.n, size=size)
            else:
                thrown = np.searchsorted(np.cumsum(self.weight), rng.random(size) * self.weight.sum())
            reached += int((_pairs(np.sort(thrown, axis=1)) >= seen).sum())
        return (reached + 1) / (n_draws + 1)

    def expected(self, most: int) -> dict[str, F64]:
        """Hosts with 0, 1, … `most` - 1, and `most` or more errors, by law: float64[most + 1] each."""
        k, (weights, n, _) = np.arange(most)[:, None], self._groups
        laws = {"alike": poisson_law(self._best_mean(0.0) * weights).pmf(k) @ n}
        size = 1 / max(self.dispersion, 1e-9)
        law = nbinom(size, size / (size + self.mean * weights))
        laws["differing"] = law.pmf(k) @ n if self.dispersion > 1e-6 else laws["alike"]
        return {name: np.append(hosts, max(self.n - hosts.sum(), 0.0)) for name, hosts in laws.items()}

    @property
    def expected_each(self) -> F64:
        """Errors that each host would have, were all alike but for what was watched of them: float64[n_hosts]."""
        return self._best_mean(0.0) * (np.ones(self.n) if self.weight is None else self.weight)

    def seen(self, most: int) -> I64:
        """Hosts with 0, 1, … `most` - 1, and `most` or more errors, int64[most + 1]."""
        return np.bincount(np.minimum(self.counts, most), minlength=most + 1)


def _pairs(thrown: I64) -> I64:
    """Pairs of equal numbers in each row, of which each is in order: int64[n].

    Examples:
        >>> _pairs(np.array([[1, 1, 1, 2], [0, 3, 5, 5]])).tolist()
        [3, 1]
    """
    place = np.arange(thrown.shape[1])
    fresh = np.diff(thrown, axis=1, prepend=-1) != 0
    run: I64 = (place - np.maximum.accumulate(np.where(fresh, place, 0), axis=1)).sum(axis=1)
    return run


def rates_of(name: str, what: str, counts: HostCounts, exposure: Exposure) -> list[Finding | Refusal]:
    """How many there are per TiB-year, in two ways.

    Args:
        name: What is counted, such as `ue`.
        what: The same for a reader, such as `UEs`.
    """
    unit, n = "per TiB-year", counts.total
    told = f"{n:,} {what} in {exposure.tib_years:,.4g} TiB-years"
    exact = poisson(n, exposure.tib_years, unit)
    found: list[Finding | Refusal] = [
        Finding(f"rate.{name}_per_tib_year", f"{what} per TiB-year", exact, told, "exact Poisson (Garwood)")
    ]
    wide_name = f"rate.{name}_per_tib_year_wide"
    if n and counts.n > 1 and "hosts" not in exposure.derived and counts.mean_interval is None:
        why = f"{n:,} {what} on {int((counts.counts > 0).sum()):,} of {counts.n:,} hosts may all be of a few bad ones"
        needed = "several times as many hosts with errors"
        found.append(Refusal(wide_name, f"{what} per TiB-year where hosts may differ", why, needed))
    elif n and counts.n > 1 and "hosts" not in exposure.derived:
        wide = rate_interval(counts, exposure)
        found.append(Finding(wide_name, "… where hosts may differ", wide, told, "wider of exact and profile"))
    return found


def rate_interval(counts: HostCounts, exposure: Exposure) -> Estimate:
    """The rate per TiB-year with an interval for hosts alike or not: the wider end of the exact and the profile one.

    Where the counts set no limit to how much hosts differ, it is the exact one.
    """
    exact = poisson(counts.total, exposure.tib_years, "per TiB-year")
    if not counts.total or counts.mean_interval is None:
        return exact
    per = counts.n / exposure.tib_years
    low, high = counts.mean_interval
    return Estimate(min(exact.low, low * per), exact.best, max(exact.high, high * per), exact.unit)


def needed_for_rate(n: int, exposure: Exposure) -> str:
    """How much more it takes to know a rate to a quarter; empty where it is known so well.

    Examples:
        >>> needed_for_rate(12, Exposure(100, 1 << 40, 0, int(365.25 * 86_400e6)))
        'to know it to ±25 % takes some 62 of them, 5.2 times the 100 TiB-years'
    """
    enough = int(np.ceil((1.96 / PRECISION) ** 2))
    if n >= enough:
        return ""
    return (
        f"to know it to ±{PRECISION:.0%} takes some {enough} of them, ".replace("%", " %")
        + (f"{enough / n:.2g} times the " if n else "which nobody can say how long takes: there is none in ")
        + f"{exposure.tib_years:,.4g} TiB-years"
    )


def dispersion_of(name: str, what: str, counts: HostCounts, exposure: Exposure) -> Finding | Refusal:
    """How much hosts differ: the variance of their rates around a mean of 1; arguments as of `rates_of`."""
    name, label = f"dispersion.{name}", f"variance of hosts' rates of {what}"
    if "hosts" in exposure.derived:
        return Refusal(name, label, "hosts without a record count too, and nobody says how many", "give --hosts")
    if counts.n < 2:
        return Refusal(name, label, "there is one host", "give logs of more hosts")
    low, high = counts.dispersion_interval if counts.total else (0.0, MOST_DISPERSION)
    if high >= MOST_DISPERSION or counts.total < 2:
        pairs = counts.total**2 / (2 * counts.n)
        more = np.sqrt(_FEWEST_PAIRS / pairs) if pairs else np.inf
        much = f"about {more:.2g} times the errors or more" if 1 < more < 1000 else "errors on more hosts"
        why = f"{counts.total:,} {what} on {counts.n:,} hosts set no limit to it"
        return Refusal(name, label, why, f"{much}: it shows in hosts that have several")
    hit, several = int((counts.counts > 0).sum()), int((counts.counts > 1).sum())
    told = f"{hit:,} of {counts.n:,} hosts have any, {several:,} several"
    return Finding(name, label, Estimate(low, counts.dispersion, high, "1"), told, "profile likelihood")


def alike_check(name: str, what: str, counts: HostCounts, exposure: Exposure) -> Check | None:
    """Whether the hosts may all have one rate; `None` where nothing can tell. Arguments as of `rates_of`."""
    if counts.total < 2 or counts.n < 2 or "hosts" in exposure.derived:
        return None
    expected = counts.expected_each
    spread = float(((counts.counts - expected) ** 2 / expected).sum()) / (counts.n - 1)
    return Check(
        f"alike.{name}", f"variance over mean of {what} per host", "all hosts alike (Poisson)", spread, 1.0,
        counts.p_alike,
    )  # fmt: skip
