"""Where the errors of a host lie: whether those of one fall into the same huge pages more often than by chance."""

from __future__ import annotations

import numpy as np
from scipy.stats import poisson

from poisonsim.fitting.findings import I64, Check, Finding, Refusal, counted
from poisonsim.fitting.observed import Observed
from poisonsim.results.statistics import binomial
from poisonsim.units import GIB, MIB

_SIZES = {"1G": GIB, "2M": 2 * MIB}


def space_of(observed: Observed) -> tuple[list[Finding | Refusal], list[Check]]:
    """Of the hosts with several errors at known addresses, how many have two in one huge page; by size of the page.

    By chance, n errors in R huge pages make n (n - 1) / 2 R pairs, and the number of pairs is about Poisson.
    """
    errors = observed.errors
    found: list[Finding | Refusal] = []
    checks: list[Check] = []
    for called, size in _SIZES.items():
        known = (errors.span > 0) & (errors.span <= size)
        host, low = errors.host[known], errors.low[known]
        n_of = np.bincount(host, minlength=1)
        hosts = int((n_of > 1).sum())
        name, label = f"space.same_{called.lower()}", f"hosts with two of their UEs in one {called} page"
        if not hosts:
            why = "no host has two UEs at known addresses"
            found.append(Refusal(name, label, why, "one such host for a first number, 30 for ±18 points"))
            continue
        pairs, shared = _pairs(host, low // size)
        n_pages = np.maximum(observed.exposure.of("memory_bytes", np.arange(len(n_of))) // size, 1)
        by_chance = float((n_of * (n_of - 1.0) / n_pages).sum() / 2)
        told = f"{shared:,} of {counted(hosts, 'host')} with several"
        found.append(Finding(name, label, binomial(shared, hosts), told, "exact binomial"))
        checks.append(Check(
            f"same_{called.lower()}", f"pairs of UEs in one {called} page", "UEs anywhere in the host's memory", pairs,
            by_chance, float(poisson.sf(pairs - 1, by_chance)),
        ))  # fmt: skip
    return found, checks


def _pairs(host: I64, page: I64) -> tuple[int, int]:
    """Pairs of errors of one host in one page, and hosts with any.

    Examples:
        >>> _pairs(np.array([0, 0, 0, 1]), np.array([5, 5, 5, 5]))
        (3, 1)
    """
    where, times = np.unique(np.stack([host, page]), axis=1, return_counts=True)
    return int((times * (times - 1)).sum() // 2), len(np.unique(where[0, times > 1]))
