"""A second answer to what a policy makes of a history, written from the semantics alone and in no hurry.

`life` keeps one byte per base page (the leaf that maps it) and sets of pages, and after every event counts the state
afresh from them. `stateless_states` answers for all errors at once: for a policy without guards or spares the state is
a function of the set of distinct poisoned pages, and the guest's death one of the first error in each hole. Neither
shares code with the kernel; what a split takes comes from the plan.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.catalog import load_costs
from poisonsim.engine.plan import Plan
from poisonsim.engine.state import state_columns
from poisonsim.faults.field import detection_of
from poisonsim.faults.laws import load_laws
from poisonsim.memory import ARCHITECTURES
from poisonsim.policy.rules import (
    BACKING,
    BASE,
    COLLAPSE,
    EVACUATE,
    KEEP,
    MIGRATE,
    RESTART,
    SPLIT,
    UNMAP,
    Act,
    Policy,
    Rule,
    SizedAct,
)
from poisonsim.scenario import Scenario
from poisonsim.units import page_bytes

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
GIB_BYTES, GROUP_BYTES, ENTRY_BYTES, LINE_BYTES = 1 << 30, 2 << 20, 8, 64
HOURS_PER_YEAR, NS_PER_HOUR = 24 * 365.25, 3600e9
DAYS_PER_YEAR = 365.25
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class Event(NamedTuple):
    """One error: the base page it poisons, when, how much luck the guest has, and whether a read found it.

    Or, `corrected`, what the host learns from errors that poison nothing: the base page that it no longer trusts.
    """

    page: int
    years: float
    fate: float
    ar: bool = False
    born: float | None = None  # when its fault first struck; with the error itself if nothing else is said
    corrected: bool = False

    @property
    def began(self) -> float:
        return self.years if self.born is None else self.born

    @property
    def day(self) -> int:
        return int(self.years * DAYS_PER_YEAR)


class Tick(NamedTuple):
    """A day on which timed rules are due."""

    day: int

    @property
    def years(self) -> float:
        return self.day / DAYS_PER_YEAR


class Errors(NamedTuple):
    """Many errors, a column for each property of an `Event`, and the trial each belongs to."""

    trial: I64
    page: I64
    years: F64
    fate: F64
    ar: U8


class Loss(NamedTuple):
    """What it means to the guest that it loses so many base pages in one go."""

    pages: int
    fatal: float  # probability that the guest dies of it, however late
    deaths_per_year: float  # of those guests that do
    machine_checks: int  # mean, in thousandths

    def death(self, event: Event) -> float:
        """When the guest dies of it, in years; infinite for never."""
        if event.fate >= self.fatal:
            return math.inf
        if self.pages == 1 and event.ar:
            return event.years
        if event.fate == 0 or self.deaths_per_year == 0:
            return math.inf
        return event.years - math.log(event.fate / self.fatal) / self.deaths_per_year

    def deaths(self, years: F64, fate: F64, ar: U8) -> F64:
        """As `death` for many errors: float64[n]."""
        later = np.full(len(years), np.inf)
        dies = fate < self.fatal
        if self.deaths_per_year > 0:
            later[dies] = years[dies] - np.log(fate[dies] / self.fatal) / self.deaths_per_year
        return np.where(dies & (ar > 0), years, later) if self.pages == 1 else later


def loss_of(scenario: Scenario, pages: int, *, kept: bool = False) -> Loss:
    """The loss of a leaf of `pages` base pages, or of one page that stays mapped."""
    vm, reads_per_hour = scenario.vm, scenario.workload.reads_per_hour
    vital, unretired = vm.unrecoverable, vm.unretired
    lines = vm.base_bytes // LINE_BYTES
    if pages == 1:
        p_ar = detection_of(scenario).p_ar
        again = vital * (1 - p_ar) + (1 - vital) * unretired / (1 - unretired)
        reads = (1 if kept else lines) * reads_per_hour * HOURS_PER_YEAR
        return Loss(1, vital, reads, round(1000 * (1 + as_reads_allow(again, reads, scenario))))
    mean_per_hour = reads_per_hour * math.exp(load_laws("field").reads_spread ** 2 / 2)
    touches_per_hour = pages * lines * mean_per_hour
    too_close = min(touches_per_hour * load_costs(scenario.host.costs).guest_machine_check_ns / NS_PER_HOUR, 1.0)
    ends = vital + (1 - vital) * too_close  # probability that a touch is the last
    fatal = -math.expm1(pages * (math.log1p(-vital) - too_close / 2))
    if ends == 0:
        checks = float(pages)
    else:
        checks = 1.0 if ends == 1 else -math.expm1(pages * math.log1p(-ends)) / ends
    touches = touches_per_hour * HOURS_PER_YEAR
    return Loss(pages, fatal, touches * ends, round(1000 * (1 + as_reads_allow(checks - 1, touches, scenario))))


def as_reads_allow(touches: float, per_year: float, scenario: Scenario) -> float:
    """Of so many touches expected if reads abound, those that come in half the horizon: w (1 - exp(-reads / w))."""
    reads = per_year * scenario.horizon.years / 2
    return touches * -math.expm1(-reads / touches) if touches > 0 else 0.0


def grid_point(years: float, scenario: Scenario) -> float:
    """The first grid point at or after a time; infinite where that is."""
    at = years * (scenario.horizon.n_steps / scenario.horizon.years)
    return at if math.isinf(at) else math.ceil(at)


class HugePage(NamedTuple):
    """The huge page that backs a region after `copy` migrations."""

    region: int
    copy: int


def level_of(sizes: Sequence[str], size: str) -> int:
    """Level of a leaf size as a rule spells it."""
    return {BACKING: 0, BASE: len(sizes) - 1}[size] if size in (BACKING, BASE) else sizes.index(size)


def covers(sizes: Sequence[str], size: str, level: int) -> bool:
    """Whether a rule for `size` is about leaves of `level`."""
    if size.startswith(">"):
        return level < level_of(sizes, size[1:])
    if size.startswith("<"):
        return level > level_of(sizes, size[1:])
    return level == level_of(sizes, size)


class Life:
    """One VM and its host while errors strike under a policy with rules."""

    def __init__(self, plan: Plan, policy: Policy, stratum: int = 0) -> None:
        self.plan, self.policy, self.stratum = plan, policy, stratum
        vm, host = plan.scenario.vm, plan.scenario.host
        costs = load_costs(host.costs)
        self.sizes = plan.ladder.sizes
        self.base = len(self.sizes) - 1
        self.leaf_pages = [page_bytes(size) // vm.base_bytes for size in self.sizes]
        self.region_pages, self.n_regions = self.leaf_pages[0], vm.n_regions
        self.shared = (policy.mapping or host.mapping) == "shared"
        takes_spares = any(rule.action in (MIGRATE, RESTART) for rule in policy.rules)
        self.spares = policy.params.get("spares", getattr(policy, "spares", host.spares)) if takes_spares else 0
        self.sees_ces = any(rule.trigger == "on_ce" for rule in policy.rules)
        self.spare_hosts, self.moves_poison = host.spare_hosts, host.moves_poison
        self.evacuate_ns, self.restart_ns = costs.evacuate_ns, costs.restart_ns
        self.clear_ns = costs.clear_gib_ns * vm.region_bytes // GIB_BYTES
        self.collapse_ns = costs.collapse_gib_ns * vm.region_bytes // GIB_BYTES
        self.unmap_ns = costs.shootdown_ns
        self.migrate_ns = (costs.copy_gib_ns + costs.clear_gib_ns) * vm.region_bytes // GIB_BYTES
        self.losses = [loss_of(plan.scenario, pages) for pages in self.leaf_pages]
        self.kept = loss_of(plan.scenario, 1, kept=True)

        n_pages = vm.n_base_pages
        self.level = np.zeros(n_pages, np.int8)  # of the leaf that maps each page, or mapped it before it was a hole
        self.mapped = np.ones(n_pages, bool)
        self.lost = np.zeros(n_pages, bool)  # to the guest, mapped or not
        self.errors = 0
        self.regions_hit: set[int] = set()
        self.moved_at: dict[int, float] = {}  # years, by region
        self.evacuated_at = -math.inf
        self.touched: dict[int, None] = {}  # regions on this host, in the order of their first event
        self.poisoned: set[int] = set()
        self.hits_in_vm = self.evacuations = self.restarts = 0
        self.acted: set[tuple[HugePage, int]] = set()
        self.kept_at: dict[tuple[HugePage, int], int] = {}  # level of the leaf in which poison stayed mapped
        self.suspect: set[tuple[HugePage, int]] = set()  # healthy pages that soft offline takes out of use
        self.copies: Counter[int] = Counter()
        self.leaked: set[HugePage] = set()
        self.dissolved: set[HugePage] = set()
        self.ever_split: set[HugePage] = set()
        self.vm_level = 0
        self.spares_exhausted = False
        self.machine_checks = self.stall_ns = self.worst_stall_ns = 0
        self.died = math.inf  # when the guest dies of what it has lost so far
        self.lost_at = math.inf  # when it did, once that is past
        self.changes = 0  # so far, of all that timed rules may ask for
        self.tried = [-1] * len(policy.rules)  # changes when each timed rule was tried last, its own included

    # What can be counted

    def regions_split(self) -> list[int]:
        """Regions mapped otherwise than by one leaf, those unmapped in one piece left out."""
        return np.flatnonzero((self.level.reshape(self.n_regions, -1) > 0).any(axis=1)).tolist()

    def table_pages(self) -> int:
        """Tables below the backing's own entries: one for each span with entries so small in it, holes counted too."""
        arch = ARCHITECTURES[self.plan.scenario.vm.arch]
        single = [page_bytes(size) for size in arch.leaf_sizes]
        entry_bytes = [max(b for b in single if b <= page_bytes(size)) for size in self.sizes]
        total = 0
        for small in (b for b in single if b < entry_bytes[0]):
            first_level = next(level for level, entry in enumerate(entry_bytes) if entry <= small)
            span_pages = small // ENTRY_BYTES  # a table is one base page of entries
            total += int((self.level.reshape(-1, span_pages) >= first_level).any(axis=1).sum())
        return total

    def backing_of(self, page: int) -> HugePage:
        region = page // self.region_pages
        return HugePage(region, self.copies[region])

    def hits_in(self, huge: HugePage) -> int:
        return sum(1 for where, _ in self.acted if where == huge)

    def usable_in(self, huge: HugePage) -> int:
        """Pages of a huge page that are neither poisoned nor suspect."""
        return self.region_pages - self.hits_in(huge) - sum(1 for where, _ in self.suspect if where == huge)

    def spares_left(self) -> int:
        return self.spares - sum(self.copies.values())

    def can_evacuate(self) -> bool:
        return self.evacuations < self.spare_hosts and (self.moves_poison or not self.poisoned)

    def counter(self, name: str, event: Event | Tick) -> int:
        """One counter of the rule language as the rules see it now."""
        match name:
            case "spares_left":
                return self.spares_left()
            case "hits_in_region":
                return 0 if isinstance(event, Tick) else self.hits_in(self.backing_of(event.page))
            case "hits_in_vm":
                return self.hits_in_vm
            case "regions_split":
                return len(self.regions_split())
            case "leaked_regions":
                return len(self.leaked)
            case "table_pages":
                return self.table_pages()
            case "age_days":
                return event.day
        raise AssertionError(name)

    def direct_map_pages(self) -> int:
        """One split of each 1 GiB, and one of each 2 MiB, of a huge page's memory in which an error was acted on."""
        if self.plan.scenario.vm.arch != "x86-64":
            return 0
        base_bytes = self.plan.scenario.vm.base_bytes
        chunks = {(huge.copy, page * base_bytes // GIB_BYTES) for huge, page in self.acted}
        groups = {(huge.copy, page * base_bytes // GROUP_BYTES) for huge, page in self.acted}
        return len(chunks) + len(groups)

    def state(self) -> list[int]:
        """The state vector in the engine's order of columns; of a VM that is not lost, whatever is to come."""
        values: dict[str, int] = {
            "errors": self.errors,
            "regions_hit": len(self.regions_hit),
            "table_pages": self.table_pages(),
            "guest_lost_pages": int(np.count_nonzero(self.lost)),
            "host_lost_pages": len(self.acted) + len(self.suspect) + sum(map(self.usable_in, self.leaked)),
            "stranded_pages": sum(map(self.usable_in, self.dissolved)),
            "leaked_regions": len(self.leaked),
            "dissolved_regions": len(self.dissolved),
            "restored_regions": len(self.ever_split | self.dissolved),
            "spares_used": sum(self.copies.values()),
            "spares_exhausted": self.spares_exhausted,
            "direct_map_pages": self.direct_map_pages(),
            "guest_faults": self.machine_checks,
            "vm_lost": 0,
            "stall_ns": self.stall_ns,
            "worst_stall_ns": self.worst_stall_ns,
            "evacuations": self.evacuations,
            "restarts": self.restarts,
            "stratum": self.stratum,
        }
        for level, size in enumerate(self.sizes):
            present = int(np.count_nonzero(self.mapped & (self.level == level)))
            values[f"leaves_{size}"] = present // self.leaf_pages[level]
        return [int(values[name]) for name in state_columns(self.sizes)]

    # What happens

    def meet(self, event: Event | Tick) -> None:
        """One event, to the end of what the policy does about it."""
        if self.died < event.years:  # too late to call that off
            self.lost_at = min(self.lost_at, self.died)
        stalled = self.stall_ns
        if isinstance(event, Tick):
            self.look_around(event)
        elif event.corrected:
            self.distrust(event)
        else:
            self.strike(event)
        self.worst_stall_ns = max(self.worst_stall_ns, self.stall_ns - stalled)

    def left_behind(self, event: Event) -> bool:
        """Whether its fault lies in DRAM that the region has left."""
        moved_at = self.moved_at.get(event.page // self.region_pages, -math.inf)
        return event.began <= max(moved_at, self.evacuated_at)

    def distrust(self, event: Event) -> None:
        """Corrected errors of a page have passed the host's threshold: region or VM moves, or nothing happens."""
        if self.sees_ces:
            self.touched.setdefault(event.page // self.region_pages)
        if self.left_behind(event) or event.page in self.poisoned or not self.mapped[event.page]:
            return
        exhausted = self.spares_exhausted
        action = self.choose(int(self.level[event.page]), event)
        if action is MIGRATE:
            self.suspect.add((self.backing_of(event.page), event.page))
            self.migrate(event)
            self.note_splits()
        elif action is EVACUATE:
            self.evacuate(event.years)
        self.changes += action is not None or self.spares_exhausted > exhausted

    def strike(self, event: Event) -> None:
        """Poison in a page."""
        self.errors += 1
        self.changes += 1
        self.regions_hit.add(event.page // self.region_pages)
        self.touched.setdefault(event.page // self.region_pages)
        if self.left_behind(event):
            return
        if event.page in self.poisoned:
            return
        self.poisoned.add(event.page)
        if not self.mapped[event.page]:
            return
        self.acted.add((self.backing_of(event.page), event.page))
        self.hits_in_vm += 1
        while True:
            level = int(self.level[event.page])
            action = self.choose(level, event)
            if action is SPLIT:
                self.split(self.leaf_at(event.page), level + 1)
            elif isinstance(action, SizedAct) and action.act is Act.SPLIT_TO:
                self.split(self.leaf_at(event.page), level_of(self.sizes, action.size))
            elif isinstance(action, SizedAct):
                self.split_vm(level_of(self.sizes, action.size))
            else:
                break
            self.note_splits()
        assert action is not None, "a checked policy always acts"
        if action in (EVACUATE, RESTART):
            self.machine_checks += 1000
            if action is EVACUATE:
                self.evacuate(event.years)
            else:
                self.restart(event.years, event.page // self.region_pages)
            return
        if action is UNMAP:
            self.unmap(self.leaf_at(event.page), level)
        elif action is KEEP:
            self.lost[event.page] = True
            self.kept_at[self.backing_of(event.page), event.page] = level
        else:
            self.migrate(event)
        self.note_splits()
        loss = self.kept if action is KEEP else self.losses[level if action is UNMAP else self.base]
        self.machine_checks += loss.machine_checks
        self.died = min(self.died, loss.death(event))

    def choose(self, level: int, event: Event) -> Act | SizedAct | None:
        """The action of the first rule for such events in leaves of `level` whose guard holds and that can be done."""
        trigger = "on_ce" if event.corrected else "on"
        for rule in self.policy.rules:
            if rule.trigger != trigger or not covers(self.sizes, rule.size, level):
                continue
            if rule.action in (MIGRATE, RESTART) and self.spares_left() <= 0:
                others = [part for part in rule.guard.split(" and ") if part and "spares_left" not in part]
                self.spares_exhausted |= self.guard_holds(" and ".join(others), event)
            elif (rule.action is not EVACUATE or self.can_evacuate()) and self.guard_holds(rule.guard, event):
                return rule.action
        return None

    def guard_holds(self, guard: str, event: Event | Tick) -> bool:
        if not guard:
            return True
        for part in guard.split(" and "):
            name, compare, operand = part.split()
            if not COMPARE[compare](self.counter(name, event), self.number(operand)):
                return False
        return True

    def number(self, operand: str) -> int:
        """The operand of a guard: a whole number, or a parameter of the policy."""
        if operand.lstrip("-").isdigit():
            return int(operand)
        default = getattr(self.policy, operand, self.plan.scenario.host.spares)  # only `spares` needs no declaration
        return self.policy.params.get(operand, int(default))

    def leaf_at(self, page: int) -> slice:
        """The pages of the leaf that maps `page`."""
        n_pages = self.leaf_pages[int(self.level[page])]
        first = page // n_pages * n_pages
        return slice(first, first + n_pages)

    def split(self, leaf: slice, to_level: int) -> None:
        self.stall_ns += int(self.plan.stall_split[int(self.level[leaf.start]), to_level])
        self.level[leaf] = to_level

    def split_vm(self, to_level: int) -> None:
        for page in self.leaf_starts(to_level):
            self.split(self.leaf_at(page), to_level)
        self.vm_level = to_level

    def leaf_starts(self, above_level: int) -> Iterator[int]:
        """First page of every leaf of the VM that is larger than those of a level."""
        for level in range(above_level):
            every = np.arange(0, len(self.level), self.leaf_pages[level])
            yield from every[self.mapped[every] & (self.level[every] == level)].tolist()

    def unmap(self, leaf: slice, level: int) -> None:
        self.stall_ns += self.unmap_ns
        self.mapped[leaf] = False
        self.lost[leaf] = True
        if level == 0:
            self.give_up(self.backing_of(leaf.start))

    def migrate(self, event: Event) -> None:
        """The region of an event moves to a spare, and whatever began by then stays behind."""
        region = event.page // self.region_pages
        self.moved_at[region] = event.years
        self.stall_ns += self.migrate_ns
        self.give_up(HugePage(region, self.copies[region]))
        self.copies[region] += 1
        pages = slice(region * self.region_pages, (region + 1) * self.region_pages)
        self.level[pages] = self.vm_level
        self.mapped[pages] = True
        self.lost[pages] = False
        self.lost[[page for page in self.poisoned if page // self.region_pages == region]] = True

    def evacuate(self, years: float) -> None:
        """To a clean host, with nothing but the pages that the guest has retired."""
        self.stall_ns += self.evacuate_ns
        self.evacuations += 1
        self.evacuated_at = years
        self.hits_in_vm = self.vm_level = 0
        for pages in (self.acted, self.kept_at, self.suspect, self.touched, self.copies):
            pages.clear()
        for huge_pages in (self.leaked, self.dissolved, self.ever_split):
            huge_pages.clear()
        self.level[:] = 0
        self.mapped[:] = True
        self.lost[:] = False
        self.lost[list(self.poisoned)] = True
        self.died = math.inf

    def restart(self, years: float, struck: int | None = None) -> None:
        """A fresh guest: pages are healthy again where no poison is behind them, or a spare takes their place."""
        self.stall_ns += self.restart_ns
        self.restarts += 1
        self.hits_in_vm = 0
        self.died = math.inf
        regions = {page // self.region_pages for page in self.poisoned}
        for region in dict.fromkeys([*([] if struck is None else [struck]), *self.touched, *sorted(regions)]):
            huge, first = HugePage(region, self.copies[region]), region * self.region_pages
            pages = slice(first, first + self.region_pages)
            poisoned = self.hits_in(huge) > 0
            if region not in regions or (poisoned and self.spares_left() <= 0):
                continue
            if poisoned:
                self.stall_ns += self.clear_ns
                self.moved_at[region] = years
                if self.mapped[first] or self.level[first] > 0:
                    self.give_up(huge)
                self.copies[region] += 1
                self.level[pages] = self.vm_level
                self.mapped[pages] = True
            self.lost[pages] = False
            self.poisoned -= {page for page in self.poisoned if page // self.region_pages == region}
        self.note_splits()

    def collapse(self) -> bool:
        """Every region in the largest leaves around its holes and kept poison; answers whether that changes any."""
        change = self.vm_level > 0
        self.vm_level = 0
        for region in self.regions_split():
            huge, first = HugePage(region, self.copies[region]), region * self.region_pages
            level, mapped = (array[first : first + self.region_pages] for array in (self.level, self.mapped))
            before = level.copy()
            needs = np.where(mapped, 0, level)  # the largest leaf in which each page may be
            for (where, page), kept in self.kept_at.items():
                if where == huge and mapped[page - first]:
                    needs[page - first] = kept
            for to_level in reversed(range(self.base + 1)):
                fits = needs.reshape(-1, self.leaf_pages[to_level]).max(axis=1) <= to_level
                level.reshape(-1, self.leaf_pages[to_level])[fits] = to_level
            if (level != before).any():
                change = True
                self.stall_ns += self.collapse_ns
        return change

    def look_around(self, tick: Tick) -> None:
        """Timed rules that are due, in their order; not those that have been tried since anything changed."""
        for number, rule in enumerate(self.policy.rules):
            if rule.trigger != "every" or tick.day % self.days_of(rule) > 0:
                continue
            if "age_days" in rule.guard or self.tried[number] < self.changes:
                self.changes += self.guard_holds(rule.guard, tick) and self.act_in_time(rule, tick)
                self.tried[number] = self.changes

    def days_of(self, rule: Rule) -> int:
        return rule.days if isinstance(rule.days, int) else self.number(rule.days)

    def act_in_time(self, rule: Rule, tick: Tick) -> bool:
        """Does what a timed rule says, if that can be done; answers whether anything was."""
        if rule.action is COLLAPSE:
            return self.collapse()
        if rule.action is EVACUATE and self.can_evacuate():
            self.evacuate(tick.years)
            return True
        if rule.action is RESTART and self.spares_left() > 0 and (self.poisoned or self.lost_at < math.inf):
            self.restart(tick.years)
            return True
        return False

    def give_up(self, huge: HugePage) -> None:
        """Only poison in it keeps a huge page that was mapped shared from going back; a suspect page does not."""
        (self.leaked if self.shared and self.hits_in(huge) > 0 else self.dissolved).add(huge)

    def note_splits(self) -> None:
        self.ever_split |= {HugePage(region, self.copies[region]) for region in self.regions_split()}


def life(plan: Plan, policy: Policy, events: Sequence[Event], stratum: int = 0) -> I64:
    """States of one trial at every grid point: int64[n_grid, n_columns]."""
    scenario = plan.scenario
    vm = Life(plan, policy, stratum)
    n_steps = scenario.horizon.n_steps
    states = np.tile(vm.state(), (n_steps + 1, 1))
    for event in with_ticks(vm, events):
        if scenario.vm.on_loss == "end" and event.years > vm.died:
            break
        changes = vm.changes
        vm.meet(event)
        if not isinstance(event, Tick) or vm.changes > changes:
            states[min(int(grid_point(event.years, scenario)), n_steps) :] = vm.state()
    lost_from = grid_point(min(vm.lost_at, vm.died), scenario)
    if lost_from <= n_steps:
        states[int(lost_from) :, state_columns(vm.sizes).index("vm_lost")] = 1
    return states


def with_ticks(vm: Life, events: Sequence[Event]) -> list[Event | Tick]:
    """Events and days on which timed rules are due, in time order, such a day before an event at the same time.

    Days count from the first event that the policy learns of; no other VM needs anything.
    """
    first = min((event.years for event in events if vm.sees_ces or not event.corrected), default=math.inf)
    last = int(vm.plan.scenario.horizon.years * DAYS_PER_YEAR)
    periods = {vm.days_of(rule) for rule in vm.policy.rules if rule.trigger == "every"}
    days = sorted({day for period in periods for day in range(period, last + 1, period)})
    ticks = [tick for tick in map(Tick, days) if tick.years > first]
    return sorted([*ticks, *events], key=lambda event: event.years)


def stateless_states(plan: Plan, policy: Policy, errors: Errors, stratum: I64, point: int) -> I64:
    """States of many trials at a grid point, for a policy without guards that ends in UNMAP.

    Args:
        plan: Of a scenario with `on_loss = "count"`.
        policy: Rules without guards, of `SPLIT`, `SPLIT_TO`, `SPLIT_VM_TO` and `UNMAP` only.
        errors: All up to the grid point; trials ascend, and within a trial errors are in time order.
        stratum: int64[n_trials].
        point: The grid point.

    Returns:
        int64[n_trials, n_columns].
    """
    vm, host, sizes, pages = plan.scenario.vm, plan.scenario.host, plan.ladder.sizes, plan.ladder.pages
    path, whole_vm = path_to_unmap(policy, sizes)
    last = path[-1]
    assert vm.on_loss == "count"
    n_trials = len(stratum)
    trial, key = errors.trial, errors.trial * vm.n_base_pages + errors.page
    # In each leaf of the last level the first event is acted on; every later one falls into the hole that it made.
    first = np.sort(np.unique(key // pages[last], return_index=True)[1])
    acted = key[first]

    def hit(span_pages: int) -> I64:
        """Distinct spans of memory in which an error was acted on, by trial: int64[n_trials]."""
        per_vm = -(-vm.n_base_pages // span_pages)
        spans = np.unique(acted // vm.n_base_pages * per_vm + acted % vm.n_base_pages // span_pages)
        return np.bincount(spans // per_vm, minlength=n_trials)

    stalls = np.full(len(acted), load_costs(host.costs).shootdown_ns)  # of each event acted on
    n_acted, regions = hit(1), hit(pages[0])
    columns: dict[str, NDArray[Any]] = dict.fromkeys(state_columns(sizes), np.zeros(n_trials, np.int64))
    columns["stratum"] = stratum
    columns["errors"] = np.bincount(trial, minlength=n_trials)
    columns["regions_hit"] = regions
    columns["host_lost_pages"] = n_acted
    columns["guest_lost_pages"] = n_acted * pages[last]
    columns["stall_ns"] = n_acted * load_costs(host.costs).shootdown_ns
    loss = loss_of(plan.scenario, pages[last])
    columns["guest_faults"] = n_acted * loss.machine_checks
    deaths = loss.deaths(errors.years[first], errors.fate[first], errors.ar[first])
    lost_from = np.ceil(deaths * (plan.scenario.horizon.n_steps / plan.scenario.horizon.years))
    columns["vm_lost"] = np.bincount(trial[first], lost_from <= point, n_trials) > 0
    if vm.arch == "x86-64":
        columns["direct_map_pages"] = hit(GIB_BYTES // vm.base_bytes) + hit(GROUP_BYTES // vm.base_bytes)

    leaves = [np.zeros(n_trials, np.int64) for _ in sizes]
    leaves[0] = np.full(n_trials, vm.n_regions)
    for above, below in pairwise(path):
        split = vm.n_regions * (n_acted > 0) if whole_vm and above == 0 else hit(pages[above])
        leaves[above] = leaves[above] - split
        leaves[below] = leaves[below] + split * (pages[above] // pages[below])
        columns["table_pages"] = columns["table_pages"] + split * plan.ladder.table_pages(above, below)
        columns["stall_ns"] = columns["stall_ns"] + split * int(plan.stall_split[above, below])
        all_regions = whole_vm and above == 0
        first_in = np.unique(trial[first] if all_regions else acted // pages[above], return_index=True)[1]
        stalls[first_in] += int(plan.stall_split[above, below]) * (vm.n_regions if all_regions else 1)
        if above == 0:
            columns["restored_regions"] = split
    leaves[last] = leaves[last] - n_acted
    columns["worst_stall_ns"] = np.zeros(n_trials, np.int64)
    np.maximum.at(columns["worst_stall_ns"], trial[first], stalls)
    if last == 0 and (policy.mapping or host.mapping) == "shared":
        columns["leaked_regions"] = regions
        columns["host_lost_pages"] = regions * pages[0]
    elif last == 0:
        columns["dissolved_regions"] = columns["restored_regions"] = regions
        columns["stranded_pages"] = regions * (pages[0] - 1)
    columns |= {f"leaves_{size}": count for size, count in zip(sizes, leaves, strict=True)}
    return np.column_stack([columns[name] for name in state_columns(sizes)]).astype(np.int64)


def path_to_unmap(policy: Policy, sizes: Sequence[str]) -> tuple[list[int], bool]:
    """Levels that a hit leaf goes through until it is unmapped, and whether the whole VM takes the first step too."""
    path, whole_vm = [0], False
    while True:
        action = next(rule.action for rule in policy.rules if covers(sizes, rule.size, path[-1]) and not rule.guard)
        if action is UNMAP:
            return path, whole_vm
        if isinstance(action, SizedAct):
            assert action.act is Act.SPLIT_TO or path == [0]
            whole_vm = whole_vm or action.act is Act.SPLIT_VM_TO
            path.append(level_of(sizes, action.size))
        else:
            assert action is SPLIT
            path.append(path[-1] + 1)
