"""When a region mapped with 2M beats one mapped with 4K, for a scenario's VM on many CPUs, guests and workloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poisonsim.errors import ScenarioError
from poisonsim.memory import ARCHITECTURES
from poisonsim.results.expected import expected
from poisonsim.results.numbers import listed
from poisonsim.results.runs import plan_run, scenario_of
from poisonsim.results.statistics import Estimate
from poisonsim.results.values import access_pattern
from poisonsim.scenario import Scenario
from poisonsim.scenario_checks import family
from poisonsim.translation import AccessPattern, HotCold, Sequential, Uniform, Zipf, load_cpu
from poisonsim.translation.cpus import PAGE_SIZES
from poisonsim.translation.model import GuestPage
from poisonsim.translation.sensitivity import (
    COSTS,
    CPUS,
    FREE,
    GUEST_PAGES,
    HIGH,
    LOW,
    MID,
    NEITHER,
    PATTERNS,
    THRESHOLD,
    WORSE,
    Case,
    cases,
)
from poisonsim.units import page_bytes

FACTORS = {"access": "the access pattern", "cpu": "the CPU", "guest_page": "the guest page"}
"""What the cases differ in: attributes of `Case`, and what to call them."""


@dataclass(frozen=True)
class Splits:
    """Both ways to split a region, 4K only and 2M + 4K, in many cases. Made by `poisonsim.splits`.

    Attributes:
        cases: One per CPU, guest page and access pattern.
        own: The one of them that is the scenario's.
        visits: Accesses in a row to the same page.
        unvisited: The scenario's case with one access per page visit, the costliest there can be.
        hit: Regions hit over the horizon of a VM that sees any error.
        years: The horizon.
        threshold: Share of run time from which a loss matters.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.splits("seed-1t", cpus=["zen5"], guest_pages=["2M"])
        >>> len(found.cases), found.own.access, round(found.hit.best)
        (5, 'zipf 0.99 over 4K', 95)
        >>> found.table().columns[:5].tolist()
        ['cpu', 'guest_page', 'access', 'regions', 'better_2m_from']
    """

    cases: tuple[Case, ...]
    own: Case
    visits: float
    unvisited: Case
    hit: Estimate
    years: float
    threshold: float

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data: what `--json` prints."""
        rows = self.table().astype(object)
        return {
            "schema": "poisonsim.splits/1",
            "verdict": self.verdict,
            "notes": [text for text in (self.sensitivity, self.scenario_sentence, self.visits_sentence) if text],
            "threshold": self.threshold,
            "regions": self.n_regions,
            "regions_hit": {"low": self.hit.low, "best": self.hit.best, "high": self.hit.high},
            "own": {name: getattr(self.own, name) for name in ("cpu", "guest_page", "access")},
            "cases": rows.where(rows.notna(), None).to_dict("records"),
        }

    @property
    def n_regions(self) -> int:
        """Regions of the VM."""
        return self.own.n_regions

    @property
    def n_hit(self) -> int:
        """Regions hit, as a whole number of at least 1: where the ways to split are compared."""
        return min(max(round(self.hit.best), 1), self.n_regions)

    def table(self) -> pd.DataFrame:
        """One row per case.

        Returns:
            Columns cpu, guest_page, access, regions; better_2m_from, the fewest split regions at which 2M is better;
            and for both ways, `all_4k` and `mixed`, the fewest split regions at which it costs the threshold, by the
            low, mid and high estimate (`…_matters_from_low`), missing where it never does, and the share of run time
            lost with 1, `n_hit` and all regions split (`…_loss_hit_low`); then the verdict with `n_hit` of them.
        """
        at = {"one": 1, "hit": self.n_hit, "all": self.n_regions}
        estimates = {"low": LOW, "mid": MID, "high": HIGH}
        rows = []
        for case in self.cases:
            row: dict[str, object] = {name: getattr(case, name) for name in ("cpu", "guest_page", "access")}
            row |= {"regions": case.n_regions, "better_2m_from": better_from(case)}
            for way in ("all_4k", "mixed"):
                row |= {f"{way}_matters_from_{name}": case.matters_from(way, e) for name, e in estimates.items()}
                for where, n in at.items():
                    row |= {f"{way}_loss_{where}_{name}": float(case.loss(way, n, e)) for name, e in estimates.items()}
            rows.append(row | {"regions_hit": self.n_hit, "verdict": case.verdict_at(self.n_hit)})
        frame = pd.DataFrame(rows)
        counts = [name for name in frame if "_from" in str(name)]
        return frame.astype(dict.fromkeys(counts, "Int64"))

    @cached_property
    def verdict(self) -> str:
        """What the table says, in one sentence."""
        n, per_cent = f"{self.n_regions:,}", f"{100 * self.threshold:g} %"
        better = [better_from(case) for case in self.cases]
        ever = [value for value in better if value is not None]
        worse = [case for case in self.cases if any(zone.verdict == WORSE for zone in case.zones)]
        tail = f"; 4K is better at some number of regions in {_many(len(worse), len(self.cases))}" if worse else ""
        if not ever:
            cost = [case for case in self.cases if case.matters_from("all_4k") or case.matters_from("mixed")]
            if not cost:
                return f"Neither way to split costs {per_cent} of run time in any case, however many of {n} are split."
            return f"2M is never better than 4K by {per_cent} of run time{tail}."
        text = (
            f"2M beats 4K once {_span(ever)} of {n} regions are split; with fewer, neither costs {per_cent} of run time"
        )
        if len(ever) < len(better):
            left = [case for case, value in zip(self.cases, better, strict=True) if value is None]
            patterns = list(dict.fromkeys(case.access for case in left))
            whole = all(better_from(case) is None for case in self.cases if case.access in patterns)
            text += f", and under {listed(patterns)} access neither ever does" if whole else (
                f", and in {_many(len(left), len(self.cases))} neither ever does"
            )  # fmt: skip
        costs = [case.matters_from("mixed") for case in self.cases if any(z.verdict == COSTS for z in case.zones)]
        text += f"; 2M costs that itself from {_span([c for c in costs if c])} on" if costs else "; 2M never costs that"
        return f"{text}{tail}."

    @cached_property
    def sensitivity(self) -> str:
        """What moves the point from which 2M is better, in one sentence; empty where nothing was varied."""
        spreads = {words: spread for name, words in FACTORS.items() if (spread := self._spread(name)) is not None}
        if not spreads:
            return ""
        order = sorted(spreads, key=lambda words: -spreads[words])
        parts = [f"{words} ({spreads[words]:.1f} times)" for words in order]
        rest = f", then {', then '.join(parts[1:])}" if parts[1:] else ""
        return f"What moves that point most is {parts[0]}{rest}: most over least, the others held."

    @cached_property
    def scenario_sentence(self) -> str:
        """What the table says of the scenario itself."""
        own, n = self.own, self.n_hit
        losses = [loss_text(own, way, n) for way in ("all_4k", "mixed")]
        hit = "1 region is" if n == 1 else f"{n:,} regions are"
        unsure = own.verdict_at(n) == NEITHER and float(own.loss("all_4k", n, HIGH)) >= self.threshold
        doubt = ", by the middle estimate; by the high one 4K does" if unsure else ""
        return (
            f"The scenario itself ({own.cpu}, guest {own.guest_page}, {own.access}): {hit} hit in {self.years:g} years "
            f"where any is; split to 4K they cost {losses[0]} of run time, to 2M + 4K {losses[1]}: "
            f"{own.verdict_at(n)}{doubt}."
        )

    @cached_property
    def visits_sentence(self) -> str:
        """What would be, were pages accessed once per visit; empty where they are."""
        if self.visits == 1:
            return ""
        better, costs = better_from(self.unvisited), self.unvisited.matters_from("mixed")
        first = "2M is never better" if better is None else f"2M is better from {better:,}"
        then = "it never costs that" if costs is None else f"costs that itself from {costs:,}"
        return (
            f"All this is with {self.visits:g} accesses per page visit (workload.accesses_per_page_visit); with 1, the "
            f"most that translation can cost, the scenario's own case changes: {first} split regions on, and {then}."
        )

    def _spread(self, factor: str) -> float | None:
        """Median, over the values of the other factors, of the most over the fewest regions from which 2M is better."""
        others = [name for name in FACTORS if name != factor]
        groups: dict[tuple[str, ...], list[int]] = {}
        for case in self.cases:
            if (value := better_from(case)) is not None:
                groups.setdefault(tuple(getattr(case, name) for name in others), []).append(value)
        ratios = [max(values) / min(values) for values in groups.values() if len(values) > 1]
        return float(np.median(ratios)) if ratios else None


def splits(
    scenario: Scenario | str | Path = "seed-1t",
    *,
    cpus: Sequence[str | Path] = (),
    guest_pages: Sequence[str] = (),
    threshold: float = THRESHOLD,
    progress: Callable[[str], None] | None = None,
) -> Splits:
    """Compares regions mapped with 4K and with 2M + 4K, for a scenario's VM, over CPUs, guest pages and workloads.

    Args:
        scenario: A scenario, or the name or path of one; it gives the VM's memory, what the CPU does between accesses,
            and the case that is its own.
        cpus: Names or files of CPUs; default four of different make, and the scenario's. The first is the scenario's
            if any are given.
        guest_pages: Sizes of guest pages; default 1G, 2M, 4K, and the scenario's. As with `cpus`.
        threshold: Share of run time from which a loss matters; see `poisonsim.translation.sensitivity.THRESHOLD`.
        progress: Called with the name of each CPU before it is worked on.

    Raises:
        ScenarioError: The scenario or an argument cannot be used, or regions are not of 1 GiB with 2M and 4K in them.

    Examples:
        >>> import poisonsim as ps
        >>> ps.splits("seed-1t", cpus=["zen5"], guest_pages=["2M"], threshold=0.5).verdict
        'Neither way to split costs 50 % of run time in any case, however many of 1,024 are split.'
    """
    at = scenario_of(scenario)
    vm, workload = at.vm, at.workload
    if vm.backing != "1G" or not {"2M", "4K"} <= set(ARCHITECTURES[vm.arch].leaf_sizes):
        raise ScenarioError(
            f"vm.backing = {vm.backing}, vm.arch = {vm.arch}: 2M and 4K are ways to split a region of 1G, on x86-64, "
            "arm64 or riscv64; choose such a scenario"
        )
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        raise ScenarioError(f"threshold: {threshold!r} is no share of run time; allowed: above 0 and below 1, as 0.01")
    large = [size for size in guest_pages if size in PAGE_SIZES and page_bytes(size) > page_bytes(vm.backing)]
    if large:
        raise ScenarioError(f"guest_pages: {large[0]} is larger than the {vm.backing} pages that back the VM")
    known = dict.fromkeys(load_cpu(cpu).name for cpu in cpus)
    if len(known) < len(cpus):
        raise ScenarioError(f"cpus: {', '.join(map(str, cpus))}: one of them is named twice; name each once")
    own_guest = {" + ".join(_share(*each) for each in vm.guest_page_shares.items()): vm.guest_page_shares}
    own_access = {access_words(access_pattern(at)): access_pattern(at)}
    guests: dict[str, GuestPage] = {size: size for size in guest_pages or GUEST_PAGES}
    if not guest_pages and not set(own_guest) <= set(guests):
        guests |= own_guest
    found: list[Case] = []
    held: dict[str, Any] = {
        "n_regions": vm.n_regions, "cycles_per_access": workload.cycles_per_access,
        "smt_threads": workload.smt_threads, "threshold": threshold,
    }  # fmt: skip
    for cpu in [*cpus] or list(dict.fromkeys((*CPUS[family(vm.arch)], at.host.cpu))):
        if progress is not None:
            progress(str(cpu))
        found += cases(
            [cpu], guests, PATTERNS | own_access, accesses_per_page_visit=workload.accesses_per_page_visit, **held
        )
    cpu = cpus[0] if cpus else at.host.cpu
    guest = guest_pages[0] if guest_pages else next(iter(own_guest))
    of = (load_cpu(cpu).name, guest, next(iter(own_access)))
    own = next(case for case in found if (case.cpu, case.guest_page, case.access) == of)
    [unvisited] = cases([cpu], {guest: guests[guest]}, own_access, **held)
    visits = workload.accesses_per_page_visit
    return Splits(tuple(found), own, visits, unvisited, _regions_hit(at), at.horizon.years, threshold)


def better_from(case: Case) -> int | None:
    """Fewest split regions at which 2M is better; None if it never is."""
    return next((zone.first for zone in case.zones if zone.verdict in (FREE, COSTS)), None)


def access_words(access: AccessPattern) -> str:
    """What to call an access pattern.

    Examples:
        >>> access_words(Zipf(1.2)), access_words(HotCold(0.2, 0.8, over="1G")), access_words(HotCold())
        ('zipf 1.2 over 4K', 'hot-cold 0.2/0.8 over 1G', 'hot-cold over 4K')
    """
    match access:
        case Zipf(alpha, over):
            return f"zipf {alpha:g} over {over}"
        case HotCold(hot, share, over):
            return f"hot-cold{'' if (hot, share) == (0.1, 0.9) else f' {hot:g}/{share:g}'} over {over}"
        case Sequential():
            return "sequential"
        case Uniform():
            return "uniform"


def _regions_hit(scenario: Scenario) -> Estimate:
    """Regions hit of a VM that sees any error, from the first block of histories."""
    found = expected(plan_run(scenario, policies=["unmap1g"]))
    if found.seen.best == 0:
        return Estimate(0.0, 0.0, 0.0, "regions")
    low, high = found.regions.low / found.seen.high, found.regions.high / found.seen.low
    return Estimate(low, found.regions.best / found.seen.best, high, "regions")


def loss_text(case: Case, way: str, n: int) -> str:
    """A loss with its band, in per cent."""
    low, mid, high = (
        f"{100 * float(case.loss(way, n, estimate)):.2f}".replace("-0.00", "0.00").replace("-", "−")
        for estimate in (LOW, MID, HIGH)
    )
    return f"{mid} ({low}–{high}) %"


def _span(values: Iterable[int]) -> str:
    low, high = min(values := list(values)), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _many(n: int, of: int) -> str:
    return "every case" if n == of else f"{n} of {of} cases"


def _share(size: str, share: float) -> str:
    return size if share == 1 else f"{100 * share:g} % {size}"
