"""VMs that were hit: what is seen of them where most VMs never see an error."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poisonsim.errors import MetricError
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate

FEW = 0.1
"""Share of VMs hit below which quantiles over all VMs say little: the middle 90 % of them see nothing."""

_QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}


def share_hit(result: Result) -> Estimate:
    """Probability that a VM has seen an error by the end of the horizon.

    Examples:
        >>> import poisonsim as ps
        >>> share_hit(ps.run("seed-1t", policies=["hgm2m"], trials=100)).best
        1.0
    """
    errors = result.distribution(result.policies[0], "errors")
    return errors.share(errors.values > 0)


def rarely_hit(result: Result) -> bool:
    """Whether so few VMs are hit that what the middle of all VMs sees is nothing; not where none is."""
    errors = result.distribution(result.policies[0], "errors")
    return bool(errors.counts[errors.values > 0].any()) and share_hit(result).best < FEW


def series_when_hit(result: Result, metric: str) -> pd.DataFrame:
    """One metric at every grid point, over the VMs that have seen an error by then.

    Returns:
        Columns policy, year, mean, p05, p50, p95, p99; a time at which no trial has seen any has none of them.

    Raises:
        MetricError: No such metric.
    """
    result.distribution(result.policies[0], metric)
    horizon = result.plan.scenario.horizon
    rows = []
    for policy in result.policies:
        for point in range(horizon.n_steps + 1):
            year = point * horizon.years / horizon.n_steps
            row: dict[str, object] = {"policy": policy, "year": year}
            try:
                found = result.when_hit(policy, metric, year)
            except MetricError:
                rows.append(row | dict.fromkeys(("mean", *_QUANTILES), np.nan))
                continue
            quantiles = {name: found.quantile(q) for name, q in _QUANTILES.items()}
            row["mean"] = found.mean().best
            rows.append(row | {name: np.nan if e is None else e.best for name, e in quantiles.items()})
    return pd.DataFrame(rows)
