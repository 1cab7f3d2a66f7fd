"""Which single VMs of a run are worth a look: the one in the middle and a bad one, under each policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poisonsim.results.result import Result


@dataclass(frozen=True)
class Typical:
    """A trial that stands for others.

    Attributes:
        policy: Label of the policy under which it does.
        metric: What it is typical in: the guest memory lost or, where all VMs lose the same, what the host pays.
        quantile: Where it stands among the VMs that see an error: 0.5 or 0.99.
        trial: Its number.
        value: The metric at the end of its life.
    """

    policy: str
    metric: str
    quantile: float
    trial: int
    value: float


def typical_trials(result: Result) -> list[Typical]:
    """The median VM and the one that 1 % of VMs exceed, of those that see an error, under each policy.

    They are taken from the first block of the run's trials; none where no trial of it sees an error.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=100, seed=7)
        >>> [(t.policy, t.metric, t.quantile) for t in typical_trials(res)][1:3]
        [('unmap1g', 'guest_lost_bytes', 0.99), ('hgm2m', 'capacity_cost_bytes', 0.5)]
    """
    frame = result.samples(trials=min(result.n_trials, result.plan.block_trials))
    found = []
    for policy in result.policies:
        own = frame[(frame["policy"] == policy) & (frame["errors"] > 0)]
        if own.empty:
            continue
        metric = "guest_lost_bytes" if own["guest_lost_bytes"].nunique() > 1 else "capacity_cost_bytes"
        order = own.sort_values([metric, "trial"], kind="stable")
        reached = np.cumsum(order["weight"].to_numpy()) / order["weight"].sum()
        for q in (0.5, 0.99):
            row = order.iloc[int(np.searchsorted(reached, q - 1e-12))]
            found.append(Typical(policy, metric, q, int(row["trial"]), float(row[metric])))
    return found
