"""A second answer to what a policy makes of a history, written from the semantics alone and in no hurry.

`life` keeps one byte per base page (the leaf that maps it) and sets of pages, and after every event counts the state
afresh from them. `stateless_states` answers for all errors at once: for a policy without guards or spares the state is
a function of the set of distinct poisoned pages, and the guest's death one of the first error in each hole. Neither
shares code with the kernel but for the draw that says whether a spare is replaced.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from poisonsim.catalog import load_costs
from poisonsim.engine.hashing import lucky
from poisonsim.engine.plan import Plan
from poisonsim.engine.state import state_columns
from poisonsim.faults.field import detection_of
from poisonsim.faults.laws import load_laws
from poisonsim.memory import ARCHITECTURES, hvo_saved_bytes
from poisonsim.policy.rules import (
    BACKING,
    BASE,
    COLLAPSE,
    EVACUATE,
    KEEP,
    MIGRATE,
    OFFLINE,
    REBOOT,
    RESTART,
    SPLIT,
    UNMAP,
    UNMAP_STAGE2,
    Act,
    Policy,
    Rule,
    SizedAct,
)
from poisonsim.scenario import Scenario
from poisonsim.units import page_bytes

T = TypeVar("T")
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
    panics: float = 0.0  # probability that the guest lives and goes on reading, so that the host kernel may read, too
    panics_per_year: float = 0.0  # of those hosts

    def death(self, event: Event) -> float:
        """When the VM is lost by it, in years; infinite for never."""
        if event.fate >= self.fatal:
            share = event.fate - self.fatal
            if share == 0 or share >= self.panics or self.panics_per_year == 0:
                return math.inf
            return event.years - math.log(share / self.panics) / self.panics_per_year
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


def loss_of(scenario: Scenario, pages: int, *, kept: bool = False, cut: bool = False) -> Loss:
    """The loss of a leaf of `pages` base pages, of one that stays mapped, or of one cut out of stage 2 only."""
    vm, reads_per_hour = scenario.vm, scenario.workload.reads_per_hour
    vital, unretired = vm.unrecoverable, vm.unretired
    lines = vm.base_bytes // LINE_BYTES
    if pages == 1:
        p_ar = detection_of(scenario).p_ar
        again = vital * (1 - p_ar) + (1 - vital) * unretired / (1 - unretired)
        reads = (1 if kept else lines) * reads_per_hour * HOURS_PER_YEAR
        share = scenario.host.kernel_reads
        panics = (1 - vital) * unretired if share > 0 and (kept or cut) else 0.0
        per_year = share * reads_per_hour * HOURS_PER_YEAR
        return Loss(1, vital, reads, round(1000 * (1 + as_reads_allow(again, reads, scenario))), panics, per_year)
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


def splits_high(policy: Policy) -> bool:
    """Whether a policy maps with high granularity: splits, and not in stage 2 alone."""
    return not cuts_stage2(policy) and any(
        rule.action is SPLIT or isinstance(rule.action, SizedAct) for rule in policy.rules
    )


def cuts_stage2(policy: Policy) -> bool:
    """Whether the process table keeps its huge leaves under a policy."""
    return any(rule.action is UNMAP_STAGE2 for rule in policy.rules)


def leaves_mapped(policy: Policy) -> bool:
    """Whether a policy runs on memory whose huge pages stay mapped, and in use, when poison strikes them."""
    return any(rule.action in (KEEP, UNMAP_STAGE2, OFFLINE) for rule in policy.rules)


class MemoryMap(NamedTuple):
    """What becomes of the memory map of a huge page under a policy."""

    pages: int  # base pages that HVO saves for one, and that it takes back
    by_split: bool  # whether it takes them back when it is split, not only when it is dissolved
    stall_ns: int  # for one to take them back


def memory_map(scenario: Scenario, policy: Policy) -> MemoryMap:
    """The memory map of the scenario's huge pages under a policy."""
    vm, host = scenario.vm, scenario.host
    hgm = splits_high(policy)
    pages = hvo_saved_bytes(vm.arch, vm.backing) // vm.base_bytes
    off_everywhere = hgm and host.hvo_with_hgm == "off-everywhere"
    off_everywhere |= leaves_mapped(policy) and host.hvo_with_keep == "off-everywhere"
    if not host.hvo or off_everywhere:
        pages = 0
    stall_ns = load_costs(host.costs).hvo_restore_gib_ns * vm.region_bytes // GIB_BYTES if pages else 0
    return MemoryMap(pages, hgm and host.hvo_with_hgm == "off-where-split", stall_ns)


def split_stall_ns(scenario: Scenario, size: str, to_size: str, *, stage2_only: bool = False) -> int:
    """How long the VM waits for the split of one leaf: for its tables, and until all of it is mapped again.

    Where stage 2 alone is split, all of that is mapped again when the hole is made, and only then.
    """
    vm, host, costs = scenario.vm, scenario.host, load_costs(scenario.host.costs)
    arch = ARCHITECTURES[vm.arch]
    entries = sorted(map(page_bytes, arch.leaf_sizes))
    entry, to_entry = (max(b for b in entries if b <= page_bytes(of)) for of in (size, to_size))
    spans = [(above, below) for below, above in pairwise(entries) if to_entry <= below < entry]
    n_tables = sum(page_bytes(size) // above for above, _ in spans)
    n_leaves = page_bytes(size) // page_bytes(arch.stage2_size(to_size, host.stage2_contiguous))
    if stage2_only:
        return n_tables * costs.split_table_page_ns
    side_by_side = max(page_bytes(size) // (to_entry * arch.entries_per_table), 1)
    locks = 1 if host.table_lock == "per-mm" else min(vm.vcpus, side_by_side)
    storm = max(n_leaves * costs.refault_leaf_ns // vm.vcpus, n_leaves * costs.refault_locked_ns // locks)
    return n_tables * (host.page_tables + 1) * costs.split_table_page_ns + storm


def step_down(plan: Plan, policy: Policy, level: int) -> int:
    """The level one page-table level below; the next of all for a policy that is made for contiguous entries."""
    contiguous = () if policy.needs_contiguous else ARCHITECTURES[plan.scenario.vm.arch].contiguous_sizes
    return next(to for to in range(level + 1, len(plan.ladder.sizes)) if plan.ladder.sizes[to] not in contiguous)


class Ledger(NamedTuple):
    """What no state column tells, counted from the sets of pages."""

    holes: int  # base pages of the VM that nothing maps
    backed: int  # regions that have a huge page, mapped or not
    poison_in_use: int  # bad base pages in these
    spares_left: int
    free: int  # base pages of the host outside the pool


def without_spares(guard: str) -> str:
    """A guard without its comparisons of spares that are left."""
    return " and ".join(part for part in guard.split(" and ") if part and "spares_left" not in part)


class Life:
    """One VM and its host while errors strike under a policy with rules.

    Args:
        plan: Of the scenario.
        policy: With rules.
        stratum: Of the trial.
        trial: Its number in its block, as the history has it.
        luck: The block's, for spares that are replaced.
    """

    def __init__(self, plan: Plan, policy: Policy, stratum: int = 0, trial: int = 0, luck: int = 0) -> None:
        self.plan, self.policy, self.stratum, self.trial, self.luck = plan, policy, stratum, trial, luck
        scenario, vm, host = plan.scenario, plan.scenario.vm, plan.scenario.host
        costs = load_costs(host.costs)
        self.sizes = plan.ladder.sizes
        self.base = len(self.sizes) - 1
        self.leaf_pages = [page_bytes(size) // vm.base_bytes for size in self.sizes]
        self.region_pages, self.n_regions = self.leaf_pages[0], vm.n_regions
        self.leaks = (policy.mapping or host.mapping) == "shared" and not leaves_mapped(policy)
        takes_spares = any(rule.action in (MIGRATE, RESTART, OFFLINE, REBOOT) for rule in policy.rules)
        by_policy = policy.params.get("spares", getattr(policy, "spares", host.spares))
        self.restarts_lost = vm.on_loss == "restart"
        self.spares = by_policy if takes_spares else host.spares if self.restarts_lost else 0
        self.sees_ces = any(rule.trigger == "on_ce" for rule in policy.rules)
        self.stage2_only = cuts_stage2(policy)
        self.n_tables = 1 if self.stage2_only else host.page_tables + 1
        self.memory_map = memory_map(scenario, policy)
        self.unmovable = math.ceil(vm.unmovable * vm.n_regions)
        self.evacuate_ns, self.restart_ns, self.reboot_ns = costs.evacuate_ns, costs.restart_ns, costs.reboot_ns
        self.clear_ns = costs.clear_gib_ns * vm.region_bytes // GIB_BYTES
        self.copy_ns = costs.copy_gib_ns * vm.region_bytes // GIB_BYTES
        self.collapse_ns = costs.collapse_gib_ns * vm.region_bytes // GIB_BYTES
        self.refault_ns, self.vcpus = costs.refault_leaf_ns, vm.vcpus
        self.unmap_ns = costs.shootdown_ns
        self.move_ns = costs.shootdown_ns + (costs.copy_gib_ns + costs.clear_gib_ns) * vm.region_bytes // GIB_BYTES
        self.losses = [loss_of(scenario, pages) for pages in self.leaf_pages]
        self.kept, self.cut = loss_of(scenario, 1, kept=True), loss_of(scenario, 1, cut=True)

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
        self.hits_in_vm = self.evacuations = self.restarts = self.reboots = self.fallbacks = 0
        self.acted: set[tuple[HugePage, int]] = set()  # bad pages of this host that no spare row stands in for
        self.before_boot: set[tuple[HugePage, int]] = set()  # those of them that were known when it booted
        self.in_direct_map: set[tuple[HugePage, int]] = set()  # pages taken out of it since then
        self.rows_used = 0
        self.kept_at: dict[tuple[HugePage, int], int] = {}  # level of the leaf in which poison stayed mapped
        self.suspect: set[tuple[HugePage, int]] = set()  # healthy pages that soft offline takes out of use
        self.copies: Counter[int] = Counter()
        self.taken: set[HugePage] = set()  # huge pages that were spares when the host booted, or later
        self.left_out: set[HugePage] = set()  # by the host when it booted
        self.made: set[int] = set()  # spares that the host made since then, by the attempt
        self.leaked: set[HugePage] = set()
        self.dissolved: set[HugePage] = set()
        self.ever_split: set[HugePage] = set()
        self.vm_level = 0
        self.spares_exhausted = False
        self.fell_back = False  # at this event
        self.machine_checks = self.stall_ns = self.worst_stall_ns = 0
        self.died = math.inf  # when the VM is lost by what has happened so far
        self.lost_at = math.inf  # when it was lost first, once that is past
        self.changes = 0  # so far, of all that timed rules may ask for
        self.tried = [-1] * len(policy.rules)  # changes when each timed rule was tried last, its own included

    # What can be counted

    def regions_split(self) -> list[int]:
        """Regions mapped otherwise than by one leaf, those unmapped in one piece left out."""
        return np.flatnonzero((self.level.reshape(self.n_regions, -1) > 0).any(axis=1)).tolist()

    def leaves(self) -> list[int]:
        """Leaves of each level."""
        present = (int(np.count_nonzero(self.mapped & (self.level == level))) for level in range(self.base + 1))
        return [n // pages for n, pages in zip(present, self.leaf_pages, strict=True)]

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

    def spares_used(self) -> int:
        return len(self.left_out) + len(self.taken)

    def spares_left(self) -> int:
        return self.spares + len(self.made) - self.spares_used()

    def can_evacuate(self) -> bool:
        host = self.plan.scenario.host
        return self.evacuations < host.spare_hosts and (host.moves_poison or not self.poisoned)

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
        """One split of each 1 GiB, and one of each 2 MiB, of a huge page's memory from which a page was taken out."""
        if self.plan.scenario.vm.arch != "x86-64":
            return 0
        base_bytes = self.plan.scenario.vm.base_bytes
        chunks = {(huge.copy, page * base_bytes // GIB_BYTES) for huge, page in self.in_direct_map}
        groups = {(huge.copy, page * base_bytes // GROUP_BYTES) for huge, page in self.in_direct_map}
        return len(chunks) + len(groups)

    def with_memory_map(self) -> set[HugePage]:
        """Huge pages whose memory map is whole again."""
        return self.ever_split | self.dissolved if self.memory_map.by_split else self.dissolved

    def free(self) -> int:
        """Base pages that the host has free outside the pool: what it had, what came back, and what was taken."""
        host, vm = self.plan.scenario.host, self.plan.scenario.vm
        came_back = sum(map(self.usable_in, self.dissolved))
        tables = self.table_pages() * self.n_tables + self.direct_map_pages()
        of_memory_map = len(self.with_memory_map()) * self.memory_map.pages
        of_spares = len(self.made) * (self.region_pages - self.memory_map.pages)
        return host.free_bytes // vm.base_bytes + came_back - tables - of_memory_map - of_spares

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
            "spares_used": self.spares_used(),
            "spares_added": len(self.made),
            "spares_exhausted": self.spares_exhausted,
            "direct_map_pages": self.direct_map_pages(),
            "guest_faults": self.machine_checks,
            "vm_lost": 0,
            "stall_ns": self.stall_ns,
            "worst_stall_ns": self.worst_stall_ns,
            "evacuations": self.evacuations,
            "restarts": self.restarts,
            "reboots": self.reboots,
            "fallbacks": self.fallbacks,
            "stratum": self.stratum,
        }
        for size, count in zip(self.sizes, self.leaves(), strict=True):
            values[f"leaves_{size}"] = count
        return [int(values[name]) for name in state_columns(self.sizes)]

    def ledger(self) -> Ledger:
        in_use = {HugePage(region, self.copies[region]) for region in range(self.n_regions)}
        in_use -= self.leaked | self.dissolved
        return Ledger(
            holes=int(np.count_nonzero(~self.mapped)),
            backed=len(in_use),
            poison_in_use=sum(1 for huge, _ in self.acted if huge in in_use),
            spares_left=self.spares_left(),
            free=self.free(),
        )

    # What happens

    def meet(self, event: Event | Tick) -> None:
        """One event, to the end of what the policy does about it."""
        if self.died < event.years:  # too late to call that off
            self.lost_at = min(self.lost_at, self.died)
        stalled = self.stall_ns
        self.fell_back = False
        if isinstance(event, Tick):
            self.look_around(event)
        elif event.corrected:
            self.distrust(event)
        else:
            self.strike(event)
        self.fallbacks += self.fell_back
        self.worst_stall_ns = max(self.worst_stall_ns, self.stall_ns - stalled)

    def lose(self) -> None:
        """The VM is lost, and its guest started anew at that moment if there is a spare."""
        stalled = self.stall_ns
        self.lost_at = min(self.lost_at, self.died)
        if self.spares_left() > 0:
            self.changes += 1
            self.restart(self.died)
        else:
            self.fallbacks += 1
            self.spares_exhausted = True
            self.died = math.inf
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
            self.stall_ns += self.move_ns - self.clear_ns
            self.migrate(event)
        elif action is EVACUATE:
            self.evacuate(event.years)
        self.changes += action is not None or self.fell_back or self.spares_exhausted > exhausted

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
        bad = (self.backing_of(event.page), event.page)
        self.acted.add(bad)
        self.hits_in_vm += 1
        action = self.choose(int(self.level[event.page]), event)
        while self.splits(action, event):
            self.note_splits()
            action = self.choose(int(self.level[event.page]), event)
        self.end(action, event)
        if bad in self.acted:  # on the host where it struck
            self.in_direct_map.add(bad)

    def splits(self, action: Act | SizedAct | None, event: Event) -> bool:
        """Splits what an action says, after which the poison comes again; answers whether it was such an action."""
        level = int(self.level[event.page])
        if isinstance(action, SizedAct) and action.act is Act.SPLIT_VM_TO:
            self.split_vm(level_of(self.sizes, action.size))
        elif isinstance(action, SizedAct):
            self.split(self.leaf_at(event.page), level_of(self.sizes, action.size))
        elif action is SPLIT or (action is UNMAP_STAGE2 and level < self.base):
            self.split(self.leaf_at(event.page), step_down(self.plan, self.policy, level))
        else:
            return False
        return True

    def end(self, action: Act | SizedAct | None, event: Event) -> None:
        """Does what leaves nothing to be split, and says what the guest makes of it."""
        level, loss = int(self.level[event.page]), self.losses[self.base]
        match action:
            case Act.RESTART:
                self.machine_checks += 1000
                self.restart(event.years, event.page // self.region_pages)
                return
            case Act.EVACUATE:
                self.evacuate(event.years)
            case Act.UNMAP:
                loss = self.losses[level]
                self.unmap(self.leaf_at(event.page), level)
            case Act.UNMAP_STAGE2:
                loss = self.cut
                self.unmap(self.leaf_at(event.page), level)
                self.stall_ns += sum(self.leaves()) * self.refault_ns // self.vcpus
            case Act.KEEP:
                loss = self.kept
                self.lost[event.page] = True
                self.kept_at[self.backing_of(event.page), event.page] = level
            case Act.OFFLINE:
                self.offline(event)
            case _:
                assert action is MIGRATE, "a checked policy always acts"
                self.stall_ns += self.move_ns
                self.migrate(event)
        self.machine_checks += loss.machine_checks
        self.died = min(self.died, loss.death(event))

    def choose(self, level: int, event: Event) -> Act | SizedAct | None:
        """The action of the first rule for such events in leaves of `level` whose guard holds and that can be done."""
        trigger = "on_ce" if event.corrected else "on"
        movable = event.page // self.region_pages >= self.unmovable
        for rule in self.policy.rules:
            if rule.trigger != trigger or not covers(self.sizes, rule.size, level):
                continue
            if rule.action in (MIGRATE, RESTART) and self.spares_left() <= 0:
                holds_but_for_spares = self.guard_holds(without_spares(rule.guard), event)
                self.spares_exhausted |= holds_but_for_spares
                self.fell_back |= holds_but_for_spares
                continue
            if not self.guard_holds(rule.guard, event):
                continue
            if (rule.action is EVACUATE and not self.can_evacuate()) or (rule.action is OFFLINE and not movable):
                self.fell_back = True
                continue
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

    def pages_of(self, region: int) -> slice:
        return slice(region * self.region_pages, (region + 1) * self.region_pages)

    def split(self, leaf: slice, to_level: int) -> None:
        size, to_size = self.sizes[int(self.level[leaf.start])], self.sizes[to_level]
        self.stall_ns += split_stall_ns(self.plan.scenario, size, to_size, stage2_only=self.stage2_only)
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
        self.renew(region, event.years)
        self.lost[[page for page in self.poisoned if page // self.region_pages == region]] = True

    def offline(self, event: Event) -> None:
        """The guest unplugs the region; a spare is plugged in where there is one, and the guest knows of no poison."""
        region = event.page // self.region_pages
        if self.spares_left() > 0:
            self.stall_ns += self.move_ns
            self.renew(region, event.years)
            self.forget(region)
        else:
            self.spares_exhausted = True
            self.stall_ns += self.copy_ns
            self.unmap(self.leaf_at(event.page), 0)

    def renew(self, region: int, years: float) -> None:
        """A spare takes the place of the huge page behind a region, and nothing of it is lost."""
        pages, huge = self.pages_of(region), HugePage(region, self.copies[region])
        if huge not in self.leaked | self.dissolved:
            self.give_up(huge)
        self.moved_at[region] = years
        self.copies[region] += 1
        self.taken.add(HugePage(region, self.copies[region]))
        self.level[pages] = self.vm_level
        self.mapped[pages] = True
        self.lost[pages] = False
        self.note_splits()
        self.replenish()

    def replenish(self) -> None:
        """The host asks for another huge page in place of the spare just taken; what came back is in pieces."""
        host, attempt = self.plan.scenario.host, self.spares_used() + 65536 * self.evacuations + 2**32 * self.reboots
        in_one_piece = self.free() - sum(map(self.usable_in, self.dissolved))
        if in_one_piece >= self.region_pages and draw(self.luck, self.trial, attempt, int(host.replenish * 2**53)):
            self.made.add(attempt)

    def forget(self, region: int) -> None:
        """No poison of a region is known to the guest any more."""
        self.poisoned -= {page for page in self.poisoned if page // self.region_pages == region}

    def evacuate(self, years: float) -> None:
        """To a clean host, with nothing but the pages that the guest has retired, and what it is to die of."""
        self.stall_ns += self.evacuate_ns
        self.evacuations += 1
        self.evacuated_at = years
        self.rows_used = 0
        self.touched.clear()
        self.copies.clear()
        self.start_host(set())
        self.lost[list(self.poisoned)] = True

    def start_host(self, bad: set[tuple[HugePage, int]]) -> None:
        """The VM on a host that has just booted, without the huge pages that have bad pages."""
        self.acted, self.before_boot = set(bad), set(bad)
        self.left_out = {huge for huge, _ in bad}
        self.dissolved = set(self.left_out)
        for pages in (self.kept_at, self.suspect, self.in_direct_map):
            pages.clear()
        for huge_pages in (self.leaked, self.ever_split, self.taken):
            huge_pages.clear()
        self.made.clear()
        self.hits_in_vm = self.vm_level = 0
        self.level[:] = 0
        self.mapped[:] = True
        self.lost[:] = False

    def reboot(self, years: float) -> bool:
        """The host boots, repairs bad pages if it can repair all, and starts the VM; answers whether it did."""
        if not (self.acted - self.before_boot or self.suspect):
            return False
        repairs = self.plan.scenario.host.spare_rows - self.rows_used >= len(self.acted)
        bad = set() if repairs else self.acted
        if len({huge for huge, _ in bad}) > self.spares:
            self.fell_back = True
            return False
        self.rows_used += len(self.acted) if repairs else 0
        for region in range(self.n_regions):
            if any(huge == (region, self.copies[region]) for huge, _ in bad):
                self.copies[region] += 1
                self.moved_at[region] = years
        self.start_host(bad)
        self.poisoned.clear()
        self.died = math.inf
        self.reboots += 1
        self.stall_ns += self.reboot_ns
        return True

    def restart(self, years: float, struck: int | None = None) -> None:
        """A fresh guest: pages are healthy again where no poison is behind them, or a spare takes their place."""
        self.stall_ns += self.restart_ns
        self.restarts += 1
        self.hits_in_vm = 0
        self.died = math.inf
        regions = {page // self.region_pages for page in self.poisoned}
        for region in dict.fromkeys([*([] if struck is None else [struck]), *self.touched, *sorted(regions)]):
            poisoned = self.hits_in(HugePage(region, self.copies[region])) > 0
            if region not in regions or (poisoned and self.spares_left() <= 0):
                continue
            if poisoned:
                self.stall_ns += self.clear_ns
                self.renew(region, years)
            self.lost[self.pages_of(region)] = False
            self.forget(region)

    def collapse(self) -> bool:
        """Every region in the largest leaves around its holes and kept poison; answers whether that changes any."""
        change = False
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
                self.fell_back = False
                self.changes += self.act_in_time(rule, tick)
                self.tried[number] = self.changes
                self.fallbacks += self.fell_back
        self.fell_back = False

    def days_of(self, rule: Rule) -> int:
        return rule.days if isinstance(rule.days, int) else self.number(rule.days)

    def act_in_time(self, rule: Rule, tick: Tick) -> bool:
        """Does what a timed rule says, if its guard holds and it can be done; answers whether anything was."""
        dead = self.lost_at < math.inf and not self.restarts_lost
        if rule.action is RESTART and not (self.poisoned or dead):
            return False
        if rule.action is RESTART and self.spares_left() <= 0:
            self.fell_back = self.guard_holds(without_spares(rule.guard), tick)
            self.spares_exhausted |= self.fell_back
        elif self.guard_holds(rule.guard, tick):
            if rule.action is COLLAPSE:
                return self.collapse()
            if rule.action is REBOOT:
                return self.reboot(tick.years)
            if rule.action is RESTART:
                self.restart(tick.years)
                return True
            if self.can_evacuate():
                self.evacuate(tick.years)
                return True
            self.fell_back = True
        return False

    def give_up(self, huge: HugePage) -> None:
        """Only poison in it keeps a huge page from going back, where that leaks it; a suspect page does not.

        One that goes back gets its memory map back first; where there is no memory for that, it stays for nobody.
        """
        if self.leaks and self.hits_in(huge) > 0:
            self.leaked.add(huge)
        elif huge in self.with_memory_map():
            self.dissolved.add(huge)
        elif self.memory_map.pages == 0 or self.free() >= self.memory_map.pages:
            self.dissolved.add(huge)
            self.stall_ns += self.memory_map.stall_ns
        else:
            self.leaked.add(huge)

    def note_splits(self) -> None:
        """Huge pages that are split now have been so; of a policy that splits stage 2 alone, none is."""
        if self.stage2_only:
            return
        split = {HugePage(region, self.copies[region]) for region in self.regions_split()} - self.ever_split
        self.ever_split |= split
        if self.memory_map.by_split:
            self.stall_ns += len(split) * self.memory_map.stall_ns


def draw(luck: int, trial: int, attempt: int, threshold: int) -> bool:
    """The draw of the kernel, whose integers wrap around."""
    with np.errstate(over="ignore"):
        return bool(lucky(np.int64(luck), np.int64(trial), np.int64(attempt), np.int64(threshold)))


def life(plan: Plan, policy: Policy, events: Sequence[Event], stratum: int = 0, trial: int = 0, luck: int = 0) -> I64:
    """States of one trial at every grid point: int64[n_grid, n_columns]."""
    vm = Life(plan, policy, stratum, trial, luck)
    states = np.array(at_grid_points(vm, events, vm.state))
    lost_from = grid_point(min(vm.lost_at, vm.died), plan.scenario)
    if lost_from < len(states):
        states[int(lost_from) :, state_columns(vm.sizes).index("vm_lost")] = 1
    return states


def at_grid_points(vm: Life, events: Sequence[Event], look: Callable[[], T]) -> list[T]:
    """What one sees of a VM at every grid point while it lives through events."""
    scenario = vm.plan.scenario
    n_steps = scenario.horizon.n_steps
    seen = [look()] * (n_steps + 1)

    def note(years: float) -> None:
        point = min(int(grid_point(years, scenario)), n_steps)
        seen[point:] = [look()] * (n_steps + 1 - point)

    for event in with_ticks(vm, events):
        if vm.died < event.years and scenario.vm.on_loss == "end":
            break
        if vm.died < event.years and vm.restarts_lost:
            died = vm.died
            vm.lose()
            note(died)
        before = (vm.changes, vm.fallbacks)
        vm.meet(event)
        if not isinstance(event, Tick) or (vm.changes, vm.fallbacks) != before:
            note(event.years)
    if vm.restarts_lost and grid_point(vm.died, scenario) <= n_steps:
        died = vm.died
        vm.lose()
        note(died)
    return seen


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
        policy: Rules without guards, of `SPLIT`, `SPLIT_TO`, `SPLIT_VM_TO` and `UNMAP` only. Mapped private, the host
            must have the free memory to dissolve what the first of them asks for.
        errors: All up to the grid point; trials ascend, and within a trial errors are in time order.
        stratum: int64[n_trials].
        point: The grid point.

    Returns:
        int64[n_trials, n_columns].
    """
    vm, host, sizes, pages = plan.scenario.vm, plan.scenario.host, plan.ladder.sizes, plan.ladder.pages
    path, whole_vm = path_to_unmap(plan, policy)
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
    memory = memory_map(plan.scenario, policy)
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
        stall_ns = split_stall_ns(plan.scenario, sizes[above], sizes[below])
        stall_ns += memory.stall_ns if above == 0 and memory.by_split else 0
        columns["stall_ns"] = columns["stall_ns"] + split * stall_ns
        all_regions = whole_vm and above == 0
        first_in = np.unique(trial[first] if all_regions else acted // pages[above], return_index=True)[1]
        stalls[first_in] += stall_ns * (vm.n_regions if all_regions else 1)
        if above == 0:
            columns["restored_regions"] = split
    leaves[last] = leaves[last] - n_acted
    shared = (policy.mapping or host.mapping) == "shared"
    assert not leaves_mapped(policy)
    if last == 0 and not shared:
        assert memory.pages <= min(host.free_bytes // vm.base_bytes - 3, pages[0] - 4)
        stalls += memory.stall_ns
        columns["stall_ns"] = columns["stall_ns"] + n_acted * memory.stall_ns
    columns["worst_stall_ns"] = np.zeros(n_trials, np.int64)
    np.maximum.at(columns["worst_stall_ns"], trial[first], stalls)
    if last == 0 and shared:
        columns["leaked_regions"] = regions
        columns["host_lost_pages"] = regions * pages[0]
    elif last == 0:
        columns["dissolved_regions"] = columns["restored_regions"] = regions
        columns["stranded_pages"] = regions * (pages[0] - 1)
    columns |= {f"leaves_{size}": count for size, count in zip(sizes, leaves, strict=True)}
    return np.column_stack([columns[name] for name in state_columns(sizes)]).astype(np.int64)


def path_to_unmap(plan: Plan, policy: Policy) -> tuple[list[int], bool]:
    """Levels that a hit leaf goes through until it is unmapped, and whether the whole VM takes the first step too."""
    sizes, path, whole_vm = plan.ladder.sizes, [0], False
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
            path.append(step_down(plan, policy, path[-1]))
