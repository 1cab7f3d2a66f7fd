"""Tables of the report beside its verdict: VMs that were hit, a fleet, paired differences, and enough trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from poisonsim.report.verdict import HEADINGS, shown
from poisonsim.results.enough import trials_for_means, trials_needed
from poisonsim.results.hits import share_hit
from poisonsim.results.numbers import as_probability, listed, vms_of
from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate
from poisonsim.results.words import Gap
from poisonsim.units import format_bytes

FLEET = 10_000
"""VMs of the fleet that the report speaks of."""

CLOSE = 0.05
"""Half the width of an interval, as a share of the value in it, that the report calls close enough."""

_MOST_YEARS = 6
_BELOW_ABOVE = {
    "guest_lost_bytes": ("less", "more"),
    "capacity_cost_bytes": ("less", "more"),
    "slowdown": ("faster", "slower"),
    "tlb_reach_loss": ("less", "more"),
    "vm_lost": ("fewer", "more"),
}


@dataclass(frozen=True)
class Grid:
    """A table of texts.

    Attributes:
        title: What it is of.
        head: Headings of the columns after the first.
        rows: Policy by its place in the run, and its cells; what stands after a semicolon matters less.
        note: What is to be said of policies that have no row.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    note: str = ""


def of_vms_hit(result: Result) -> Grid | None:
    """What the VMs that saw an error have, by policy: the median, then mean and p99; none where all did or none.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m"], trials=20_000)
        >>> table = of_vms_hit(res)
        >>> table.head[1], [cells[1].partition(";")[0] for _, cells in table.rows]
        ('Guest memory lost', ['1 GiB', '4 KiB'])
    """
    if not 0 < share_hit(result).best < 1:
        return None
    rows = tuple(
        (p, tuple(_spread(metric, result.when_hit(policy, metric)) for metric in HEADINGS))
        for p, policy in enumerate(result.policies)
    )
    few = result.when_hit(result.policies[0], "errors").quantile(0.99) is None
    note = "Too few of the trials see an error for a p99 of these; raise --trials." if few else ""
    return Grid("Of the VMs that see an error", tuple(HEADINGS.values()), rows, note)


def _spread(metric: str, distribution: Distribution) -> str:
    if metric == "vm_lost":
        return str(shown(metric, distribution.share(distribution.values == 1)))
    p50, p99 = distribution.quantile(0.5), distribution.quantile(0.99)
    mean = f"mean {shown(metric, distribution.mean())}"
    if p50 is None:
        return mean
    return f"{shown(metric, p50)}; {mean}" + ("" if p99 is None else f", p99 {shown(metric, p99)}")


def fleet_tables(result: Result, vms: int) -> list[Grid]:
    """How many of `vms` VMs are beyond each threshold by each year, a table for each threshold that any VM reaches.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g"], trials=1000, seed=7)
        >>> fleet_tables(res, 10_000)[0].rows[0][1][-1]
        '10,000'
    """
    vm = result.plan.scenario.vm
    piece, hundredth = vm.region_bytes, vm.memory_bytes // 100
    wanted = {
        f"guest_lost_bytes >= {piece}": f"VMs that have lost {format_bytes(piece)} of guest memory or more",
        f"guest_lost_bytes > {hundredth}": "VMs that have lost more than 1 % of guest memory",
        "tlb_reach_loss > 0.05": "VMs that have lost more than 5 % of the TLB reach",
        "slowdown > 1.01": "VMs more than 1 % slower than without errors",
        "vm_lost >= 1": "VMs lost as a whole",
    }
    fleet, years = result.fleet(vms), _years(result.years)
    grids = []
    for expression, words in wanted.items():
        table = fleet.exceeding(expression)
        if not table["expected_vms"].any():
            continue
        rows, none, most = [], [], 0
        for p, policy in enumerate(result.policies):
            own = table[(table["policy"] == policy) & table["year"].isin(years)]
            if own["expected_vms"].any():
                rows.append((p, tuple(_vms(float(r.expected_vms), int(r.p95_vms)) for r in own.itertuples())))
            else:
                none.append(policy)
                most = max(most, int(own["p95_vms"].max()))
        note = f"No VM of this run under {listed(none)}; p95 is {most:,} there at most." if none else ""
        head = tuple(f"{year:g} year{'s' if year != 1 else ''}" for year in years)
        grids.append(Grid(words, head, tuple(rows), note))
    return grids


def _years(years: Sequence[float]) -> list[float]:
    """At most `_MOST_YEARS` of them, the last among these."""
    return list(years[:: -ceil(len(years) / _MOST_YEARS)][::-1])


def _vms(expected: float, p95: int) -> str:
    if expected == 0:
        return "0" if p95 == 0 else f"0; p95\N{NO-BREAK SPACE}{p95:,}"
    best = vms_of(1, Estimate(expected, expected, expected, "1")) if expected >= 10 else f"{expected:.2g}"
    return best if p95 == round(expected) else f"{best}; p95\N{NO-BREAK SPACE}{p95:,}"


def paired_tables(result: Result) -> list[Grid]:
    """Paired differences from each policy as reference, in the metrics that decide; none where there is one policy."""
    if len(result.policies) == 1:
        return []
    grids = []
    for to in result.policies:
        rows = [
            (p, tuple(_paired(result, policy, to, metric) for metric in HEADINGS))
            for p, policy in enumerate(result.policies)
            if policy != to
        ]
        grids.append(Grid(to, tuple(HEADINGS.values()), tuple(rows)))
    return grids


def _paired(result: Result, policy: str, to: str, metric: str) -> str:
    found = result.compare(policy, to=to).differences(metric)
    gap = Gap(metric, found.mean())
    if gap.same:
        return "the same in every VM"
    less, more = (found.share(holds) for holds in (found.values < 0, found.values > 0))
    below, above = _BELOW_ABOVE[metric]
    shares = " and ".join(
        f"{word} in {as_probability(replace(share, low=share.best, high=share.best))}"
        for word, share in ((below, less), (above, more))
        if share.best > 0
    )
    return f"{gap.words(below, above)}; {shares}"


@dataclass(frozen=True)
class Sure:
    """How well one number of one policy is known.

    Attributes:
        what: Such as `"p99 of guest memory lost"`.
        wide: Half its interval as a share of it, in words.
        verdict: `"enough"`, or how many trials would be.
        enough: Whether they are.
        known: Whether there are enough for any interval.
    """

    policy: int
    what: str
    value: str
    wide: str
    verdict: str
    enough: bool
    known: bool = True


def how_sure(result: Result) -> list[Sure]:
    """For each policy, mean and p99 of what decides, how wide its interval is and how many trials would do.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g"], trials=100, seed=7)
        >>> [(row.what, row.verdict) for row in how_sure(res)][:2]
        [('mean of guest memory lost', 'enough'), ('p99 of guest memory lost', 'at least 1,000 trials, 900 more')]
    """
    rows = []
    for p, policy in enumerate(result.policies):
        for metric in ("guest_lost_bytes", "capacity_cost_bytes", "slowdown", "vm_lost"):
            found = result.distribution(policy, metric)
            name = HEADINGS[metric].lower().replace("vms", "VMs")
            if metric == "vm_lost":
                rows.append(_sure(result, p, f"share of {name}", metric, found.share(found.values == 1)))
                continue
            rows.append(_sure_of_mean(result, p, f"mean of {name}", metric, found.mean()))
            p99 = found.quantile(0.99)
            row = _sure(result, p, f"p99 of {name}", metric, p99)
            if p99 is not None and not row.enough and _neighbours(found, p99):
                row = replace(row, verdict="enough: its ends are values next to each other", enough=True)
            rows.append(row)
    return rows


def _sure_of_mean(result: Result, policy: int, what: str, metric: str, mean: Estimate) -> Sure:
    row, needed = _sure(result, policy, what, metric, mean), trials_for_means(result.plan.strata)
    if result.n_trials >= needed or mean.low == mean.high:
        return row
    return replace(row, verdict=f"at least {needed:,} trials, {needed - result.n_trials:,} more", enough=False)


def _neighbours(found: Distribution, quantile: Estimate) -> bool:
    """Whether no value occurs between the ends of a quantile's interval but the quantile itself."""
    return bool(np.diff(np.searchsorted(found.values, (quantile.low, quantile.best, quantile.high))).max() <= 1)


def _sure(result: Result, policy: int, what: str, metric: str, estimate: Estimate | None) -> Sure:
    n = result.n_trials
    if estimate is None:
        least = max(trials_needed(0.99, result.plan.strata.heaviest), n + 1)
        return Sure(policy, what, "–", "–", f"at least {least:,} trials, {least - n:,} more", False, False)
    value, half = str(shown(metric, estimate)), (estimate.high - estimate.low) / 2
    # A slowdown is known well where it is known to a hundredth of a per cent, however little it is.
    size, least_half = (abs(estimate.best - 1), 1e-4) if metric == "slowdown" else (abs(estimate.best), 0.0)
    if half <= max(CLOSE * size, least_half):
        wide = "exact" if half == 0 else f"±{100 * half / size:.2g} %" if size else f"±{half:.2g}"
        return Sure(policy, what, value, wide, "enough", True)
    if size == 0:
        return Sure(policy, what, value, "–", "none seen: the interval tells how many there may be", True)
    target = max(CLOSE * size, least_half)
    wanted = ceil(n * (half / target) ** 2)
    digits = max(len(str(wanted)) - 2, 0)
    wanted = max(-(-wanted // 10**digits) * 10**digits, n + 1)
    return Sure(policy, what, value, f"±{100 * half / size:.2g} %", f"{wanted:,} trials, {wanted - n:,} more", False)
