"""A fleet in tables of words, as the terminal and its page show it."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from poisonsim.results.fleet_file import WHOLE
from poisonsim.results.fleet_run import FleetRun
from poisonsim.results.fleet_totals import scaled
from poisonsim.results.numbers import in_bytes, vms_of
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import Gap

THRESHOLDS = ("guest_lost_bytes >= 1GiB", "slowdown > 1.01", "vm_lost >= 1")
"""From where on a VM is to be drained, where nothing else is asked."""

_MOST_YEARS = 5
_LEAST_PERCENT = 0.001


class TotalRow(NamedTuple):
    """A policy's totals in one component, or in the whole fleet.

    Attributes:
        component: Its name, or `fleet`.
        policy: Place of the policy in the run.
        cells: As `TOTALS` says.
        shares: Of each cell the share of the memory of these VMs, in words; empty where it is no memory.
    """

    component: str
    vms: int
    policy: int
    cells: tuple[str, ...]
    shares: tuple[str, ...]


TOTALS = ("VMs lost", "VMs lost a year", "guest memory lost", "host memory cost")
"""Columns of totals, at the end of the horizon."""


def total_rows(found: FleetRun) -> list[TotalRow]:
    """Totals of each policy in each component, those of the fleet last.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.run_fleet([ps.FleetPart("mine", ps.load_scenario("seed-1t-distinct"), 3)],
        ...                      policies=["unmap1g"], trials=100)
        >>> [(row.component, row.cells[2]) for row in total_rows(found)]
        [('mine', '300 GiB'), ('fleet', '300 GiB')]
    """
    rows = []
    for part, result in zip(found.parts, found.results, strict=True):
        for p, policy in enumerate(found.policies):
            lost, guest, host = (
                scaled(result.mean(policy, metric), part.vms)
                for metric in ("vm_lost", "guest_lost_bytes", "capacity_cost_bytes")
            )
            shares = _shares(guest, host, part.memory_bytes)
            rows.append(TotalRow(part.name, part.vms, p, _cells(found, lost, guest, host), shares))
    for p, policy in enumerate(found.policies):
        lost, guest, host = (
            found.total(policy, metric) for metric in ("vm_lost", "guest_lost_bytes", "capacity_cost_bytes")
        )
        shares = _shares(guest, host, found.memory_bytes)
        rows.append(TotalRow(WHOLE, found.vms, p, _cells(found, lost, guest, host), shares))
    return rows


def _shares(guest: Estimate, host: Estimate, memory_bytes: int) -> tuple[str, ...]:
    shares = [100 * found.best / memory_bytes for found in (guest, host)]
    words = (
        f"{share:.3g} %" if share >= _LEAST_PERCENT or share == 0 else f"under {_LEAST_PERCENT} %" for share in shares
    )
    return ("", "", *(f"{of} of memory" for of in words))


def _cells(found: FleetRun, lost: Estimate, guest: Estimate, host: Estimate) -> tuple[str, ...]:
    a_year = scaled(lost, 1 / found.parts[0].scenario.horizon.years)
    return vms_of(1, lost), vms_of(1, a_year), str(in_bytes(guest)), str(in_bytes(host))


def paired_sentences(found: FleetRun) -> list[str]:
    """How each policy differs from the first one on the same errors, a sentence each; `~` where it may not at all.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.run_fleet([ps.FleetPart("mine", ps.load_scenario("seed-1t-distinct"), 10)],
        ...                      policies=["hgm4k", "hgm2m"], trials=1000)
        >>> print(paired_sentences(found)[0].partition(": ")[2])
        guest memory lost the same, host memory cost 3.986 GiB less, VMs lost the same
    """
    to = found.policies[0]
    sentences = []
    for policy in found.policies[1:]:
        guest, host, lost = (
            Gap(metric, found.difference(policy, metric, to=to))
            for metric in ("guest_lost_bytes", "capacity_cost_bytes", "vm_lost")
        )
        sentences.append(
            f"{policy} against {to} on the same errors: guest memory lost {guest.words('less', 'more')}, host memory "
            f"cost {host.words('less', 'more')}, VMs lost {_fewer(lost)}"
        )
    return sentences


def _fewer(gap: Gap) -> str:
    """A difference of numbers of VMs in words."""
    if gap.same:
        return "the same"
    low, best, high = gap.estimate.low, gap.estimate.best, gap.estimate.high
    size = Estimate(-high, -best, -low, "1") if best < 0 else gap.estimate
    return f"{gap.sign}{vms_of(1, size)} {'fewer' if best < 0 else 'more'}"


class Drained(NamedTuple):
    """VMs of the fleet beyond one threshold.

    Attributes:
        threshold: As it was written.
        years: Columns.
        rows: Place of each policy, and its cells: expected VMs; after a semicolon what 19 such fleets of 20 have no
            more than.
    """

    threshold: str
    years: tuple[float, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def drained_rows(found: FleetRun, threshold: str) -> Drained:
    """How many VMs of the whole fleet are beyond a threshold by each year, or some of the years where they are many.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.run_fleet([ps.FleetPart("mine", ps.load_scenario("seed-1t-distinct"), 30)],
        ...                      policies=["unmap1g"], trials=100)
        >>> drained_rows(found, "guest_lost_bytes > 99GiB").rows
        ((0, ('0; p95 3', '0; p95 3', '0; p95 3', '0; p95 3', '30')),)
    """
    table = found.exceeding(threshold)
    table = table[table["component"] == WHOLE]
    years = tuple(found.years[:: -ceil(len(found.years) / _MOST_YEARS)][::-1])
    rows = []
    for p, policy in enumerate(found.policies):
        own = table[table["policy"] == policy].set_index("year").loc[list(years)]
        rows.append((p, tuple(_vms(float(r.expected_vms), int(r.p95_vms)) for r in own.itertuples())))
    return Drained(threshold, years, tuple(rows))


def _vms(expected: float, p95: int) -> str:
    best = f"{expected:,.0f}" if expected >= 10 or expected == 0 else f"{expected:.2g}"
    return best if p95 == round(expected) else f"{best}; p95 {p95:,}"
