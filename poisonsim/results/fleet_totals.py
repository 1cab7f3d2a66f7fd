"""Totals over components of a fleet: independent samples, each counted with its exact number of VMs."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import pandas as pd

from poisonsim.results.metrics import Metric
from poisonsim.results.statistics import Estimate, binomial_quantile


def combined(parts: Iterable[tuple[float, Estimate]], unit: str = "1") -> Estimate:
    """A weighted sum of independent estimates, with MOVER's interval.

    Distances of the ends from the estimates, weighted, add up in quadrature, each side by itself (Zou and Donner,
    "Construction of confidence limits about effect measures", 2008). So intervals keep how lopsided they are.

    Args:
        parts: Weight, at least 0, and estimate of each.

    Examples:
        >>> combined([(2.0, Estimate(0.9, 1.0, 1.3, "1")), (1.0, Estimate(4.0, 4.0, 4.4, "1"))]).high
        6.721110255092798
    """
    best = below = above = 0.0
    for weight, estimate in parts:
        best += weight * estimate.best
        below += (weight * (estimate.best - estimate.low)) ** 2
        above += (weight * (estimate.high - estimate.best)) ** 2
    return Estimate(best - sqrt(below), best, best + sqrt(above), unit)


def scaled(estimate: Estimate, by: float) -> Estimate:
    """An estimate times an exact number of at least 0."""
    return Estimate(estimate.low * by, estimate.best * by, estimate.high * by, estimate.unit)


def adds_up(metric: Metric) -> bool:
    """Whether the metric of a fleet is the sum over its VMs; else only its mean over VMs says anything.

    Examples:
        >>> from poisonsim.results.metrics import known_metric, metrics_for
        >>> names = ("capacity_cost_bytes", "vm_lost", "stall_seconds", "slowdown", "worst_stall_seconds")
        >>> [adds_up(known_metric(name, metrics_for(("1G", "4K")))) for name in names]
        [True, True, True, False, False]
    """
    return (metric.unit != "1" or metric.kind == "flag") and metric.name != "worst_stall_seconds"


def drained(tables: Iterable[tuple[str, int, pd.DataFrame]], whole: str) -> pd.DataFrame:
    """VMs beyond a threshold in each component and in all together.

    Args:
        tables: Name and VMs of each component, and what `Fleet.exceeding` says of it.
        whole: What all together is called.

    Returns:
        Columns component, vms, policy, year, expected_vms, expected_low, expected_high, p95_vms. That of all together
        is the quantile of a binomial of all VMs with their mean probability: beyond its mean, a sum of binomials with
        other probabilities is never more spread than that (Hoeffding, "On the distribution of the number of successes
        in independent trials", 1956).
    """
    frames = []
    for name, vms, frame in tables:
        frame.insert(0, "vms", vms)
        frame.insert(0, "component", name)
        frames.append(frame)
    common = set.intersection(*(set(frame["year"]) for frame in frames))
    every = pd.concat(frames, ignore_index=True)
    every = every[every["year"].isin(common)]
    rows = []
    for (policy, year), own in every.groupby(["policy", "year"], sort=False):
        estimates = [
            Estimate(low, best, high, "1")
            for low, best, high in zip(own["expected_low"], own["expected_vms"], own["expected_high"], strict=True)
        ]
        total, n = combined((1.0, each) for each in estimates), int(own["vms"].sum())
        rows.append({
            "component": whole, "vms": n, "policy": policy, "year": year,
            "expected_vms": total.best, "expected_low": total.low, "expected_high": total.high,
            "p95_vms": binomial_quantile(0.95, n, total.high / n),
        })  # fmt: skip
    return pd.concat([every, pd.DataFrame(rows)], ignore_index=True)
