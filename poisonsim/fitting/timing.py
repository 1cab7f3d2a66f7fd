"""When errors come: how soon after one another, whether evenly over the window, and with which age of the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, kstest

from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.fitting.findings import F64, I64, TAIL, Check, Finding, Refusal, counted
from poisonsim.fitting.inventory import UNKNOWN
from poisonsim.results.statistics import CONFIDENCE, Estimate, binomial

_DAY_US = 86_400_000_000
QUIET_DAYS = 30
"""Errors of a host with no more than this between them are one incident.

Of 333 GPUs left in service after an uncorrected error, 48 % had the next within 30 days (Titan, OLCF GPU life data).
"""
_REPEATS = {"24 h": 1, "30 d": 30}
_FEWEST_TIMES = 3
_SHAPES = (0.02, 50.0)
_ALLOWED_SHAPES = (0.2, 10.0)
_DRAWS, _MOST_DRAWN = 1000, 2_000_000
_DROP = float(chi2.ppf(CONFIDENCE, 1)) / 2


@dataclass(frozen=True)
class Times:
    """Times of errors of hosts, by host and then time.

    Args:
        host: int64[n].
        time: Microseconds since 1970, int64[n].
        exposure: What was watched.

    Examples:
        >>> exposure = Exposure(9, 1 << 40, 0, 100 * _DAY_US)
        >>> times = Times(np.array([0, 0, 0, 4]), np.array([1, 2, 90, 5]) * _DAY_US, exposure)
        >>> times.incidents.time.tolist() == [1 * _DAY_US, 90 * _DAY_US, 5 * _DAY_US]
        True
    """

    host: I64
    time: I64
    exposure: Exposure

    @property
    def gap(self) -> I64:
        """Since the error before on the same host, int64[n]; that of a host's first is as long as can be."""
        same = np.append(False, np.diff(self.host) == 0)
        return np.where(same, np.diff(self.time, prepend=0), np.iinfo(np.int64).max)

    @property
    def incidents(self) -> Times:
        """The first error of each incident."""
        begins = self.gap > QUIET_DAYS * _DAY_US
        return Times(self.host[begins], self.time[begins], self.exposure)

    @property
    def share(self) -> F64:
        """When in the window, from 0 to 1, ascending: float64[n]; as the memory that was watched until then."""
        exposure = self.exposure
        windows = np.stack(np.broadcast_arrays(exposure.begin, exposure.end, exposure.memory_bytes), axis=-1)
        each, n = np.unique(windows.reshape(-1, 3), axis=0, return_counts=True)
        done, total = np.zeros(len(self.time)), 0.0
        for (begin, end, memory), hosts in zip(each.astype(np.float64), n, strict=True):
            done += hosts * memory * np.clip(self.time - begin, 0, end - begin)
            total += hosts * memory * (end - begin)
        found: F64 = np.sort(done / total)
        return found


def repeats_of(times: Times) -> list[Finding | Refusal]:
    """Of the hosts with an error, how many have another soon; those not watched so long after it are left out."""
    found: list[Finding | Refusal] = []
    first = np.flatnonzero(np.append(True, np.diff(times.host) != 0)) if len(times.host) else np.zeros(0, np.int64)
    n_of = np.diff(np.append(first, len(times.host)))
    second = np.where(n_of > 1, np.append(times.time, 0)[first + 1], np.iinfo(np.int64).max)
    for called, days in _REPEATS.items():
        name, label = f"repeat.within_{called.replace(' ', '')}", f"hosts with a next UE within {called}"
        followed = times.exposure.of("end", times.host[first]) - times.time[first] >= days * _DAY_US
        n = int(followed.sum())
        if not n:
            why = f"no host with a UE whose time is known was watched for {called} after it"
            found.append(Refusal(name, label, why, "one such host for a first number, 30 for ±18 points"))
            continue
        again = int((followed & (second - times.time[first] <= days * _DAY_US)).sum())
        found.append(Finding(name, label, binomial(again, n), f"{again:,} of {counted(n, 'host')}", "exact binomial"))
    return found


def bursts_check(times: Times) -> Check | None:
    """Whether errors of a host come singly: how many follow another within a day, against times drawn afresh.

    Each host keeps its number of errors, so that hosts that differ are no reason to doubt. `None` where none has two.
    """
    n_of = np.bincount(times.host) if len(times.host) else np.zeros(1, np.int64)
    several = np.isin(times.host, np.flatnonzero(n_of > 1))
    if not several.any():
        return None
    seen = int((times.gap <= _DAY_US).sum())
    rng, host = np.random.Generator(np.random.PCG64DXSM(2)), times.host[several]
    n_draws = max(min(_DRAWS, _MOST_DRAWN // len(host)), 50)
    span = (times.exposure.of("end", host) - times.exposure.of("begin", host)) / _DAY_US
    base = 2 * (span.max() + 1) * np.unique(host, return_inverse=True)[1]
    drawn = np.array([(np.diff(np.sort(base + span * rng.random(len(host)))) <= 1).sum() for _ in range(n_draws)])
    p = (int((drawn >= seen).sum()) + 1) / (n_draws + 1)
    return Check(
        "bursts", "UEs within 24 h of another on their host", "UEs of a host come singly", seen, float(drawn.mean()), p
    )


def even_check(incidents: Times) -> Check | None:
    """Whether incidents of the fleet come evenly over the window (Kolmogorov and Smirnov); `None` below three."""
    n = len(incidents.time)
    if n < _FEWEST_TIMES:
        return None
    share = incidents.share
    found = kstest(share, "uniform")
    middle = float(np.median(share))
    return Check("even", "middle incident, as a share of the window", "the fleet's rate is constant", middle, 0.5,
                 float(found.pvalue))  # fmt: skip


def shape_of(incidents: Times) -> Finding | Refusal:
    """The Weibull shape of the hazard with the age of a host: above 1 ages, below 1 is infant mortality.

    Given their number, ages at incidents are independent whatever the rates of the hosts are; so nothing is made of
    older hosts that have more of them, which may be other parts. Where hosts are watched from the first day on, the
    interval is exact (L. H. Crow, "Reliability analysis for complex, repairable systems", 1974: 2 n / estimate times
    the shape is chi-squared of 2 n); else it is that of the likelihood.

    Examples:
        >>> exposure = Exposure(9, 1 << 40, 0, 100, installed=0)
        >>> found = shape_of(Times(np.arange(4), np.array([80, 90, 95, 99]), exposure))
        >>> print(found.estimate)
        10 (2.8–22)
    """
    name, label, exposure = "shape", "Weibull shape of the hazard over age", incidents.exposure
    if exposure.installed is None:
        why = "the age of the hosts is not known; a rise over the window alone may be of age or of the calendar"
        return Refusal(name, label, why, "give --installed, or fit hosts of one age at a time")
    installed = exposure.of("installed", incidents.host)
    known = installed != UNKNOWN
    host, installed, time = incidents.host[known], installed[known], incidents.time[known]
    n = len(time)
    if n < _FEWEST_TIMES:
        why = f"{counted(n, 'incident')} at a known age"
        return Refusal(name, label, why, f"{_FEWEST_TIMES} for a first number, some 60 for ±25 %")
    age, begin, end = (
        (each - installed).astype(np.float64) for each in (time, exposure.of("begin", host), exposure.of("end", host))
    )
    later = np.maximum(age / end, 1e-12)
    total = float(-np.log(later).sum())
    if not begin.any() and total > 0:
        best = n / total
        ends = [float(chi2.ppf(q, 2 * n)) / (2 * total) for q in (TAIL, 1 - TAIL)]
        method = "exact (Crow)"
    else:
        best, ends = _profile(n, total, begin / end)
        method = "profile likelihood"
    youngest, oldest = float(begin.min()) / US_PER_YEAR, float(end.max()) / US_PER_YEAR
    told = f"{counted(n, 'incident')} at ages of {youngest:.2g} to {oldest:.2g} years"
    if ends[0] <= _SHAPES[0] or ends[1] >= _SHAPES[1] or ends[1] > 25 * ends[0]:
        return Refusal(name, label, told, "a window that is a larger part of the hosts' age, or more incidents")
    return Finding(name, label, Estimate(ends[0], best, ends[1], "1"), told, method)


def _profile(n: int, total: float, begin: F64) -> tuple[float, list[float]]:
    """The likeliest shape and its interval.

    Args:
        n: Incidents.
        total: Of minus the logarithms of their ages, as shares of those at which their hosts were last watched.
        begin: The shares at which those were first watched, float64[n].
    """

    def log_likelihood(x: float) -> float:
        shape = float(np.exp(x))
        return n * x - (shape - 1) * total - float(np.log1p(-(begin**shape)).sum())

    low, high = (float(np.log(shape)) for shape in _SHAPES)
    found = minimize_scalar(lambda x: -log_likelihood(x), bounds=(low, high), method="bounded")
    best, top = float(found.x), float(-found.fun)

    def left(x: float) -> float:
        return top - _DROP - log_likelihood(x)

    ends = [end if left(end) <= 0 else float(brentq(left, best, end)) for end in (low, high)]
    return float(np.exp(best)), [float(np.exp(end)) for end in ends]


def writable_shape(shape: float) -> float:
    """A shape as a scenario takes it."""
    return float(np.clip(shape, *_ALLOWED_SHAPES))
