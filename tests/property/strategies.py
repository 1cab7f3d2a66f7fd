"""Small random cases in which everything happens often: holes, duplicates, splits, spares that run out, moves.

One generator serves both uses: `cases` draws from hypothesis, so that failures shrink, and `seeded_case` from a seed,
so that another process can make the same cases.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import Event, Ledger, Life, Loss, at_grid_points, covers, level_of, life, loss_of, step_down

from poisonsim.engine.block import Paths, follow
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.faults.history import NO_MODE, History
from poisonsim.faults.streams import Purpose, stream
from poisonsim.memory import Ladder, hvo_saved_bytes, ladder
from poisonsim.policy import (
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
    SPLIT_TO,
    SPLIT_VM_TO,
    UNMAP,
    UNMAP_STAGE2,
    every,
    load_policy,
    on,
    on_ce,
    policy_names,
)
from poisonsim.policy.rules import OPERATORS, TAKES_SPARES, Act, Policy, Rule, SizedAct
from poisonsim.scenario import Horizon, Host, Scenario, Vm, Workload
from poisonsim.units import DAYS_PER_YEAR, GIB, MIB, page_bytes

VMS = (
    ("x86-64", "2M", False, 8), ("x86-64", "2M", False, 1030), ("x86-64", "1G", False, 3), ("arm64", "1G", True, 2),
    ("arm64", "32M", True, 4), ("arm64", "2M", True, 6), ("arm64", "64K", False, 8), ("arm64-16k", "1G", True, 3),
    ("arm64-16k", "32M", True, 5), ("arm64-64k", "512M", True, 4),
)  # fmt: skip
"""Architecture, backing, contiguous entries, most regions. 1,030 regions of 2M span three chunks of the direct map."""

STEPS_PER_HORIZON = 4
TRIALS_APART = 3
"""Between the numbers of trials that see any error."""

FATES = (0.0, 0.0001, 0.01, 0.3, 0.7, 0.99, 0.999999)
READS_PER_HOUR = (0.0, 1e-8, 1e-7, 1e-6, 1e-6, 1e-5, 1e-4, 0.01, 0.32, 1e4, 1e9)
"""From deaths that take longer than the horizon, by way of those that follow soon, to guests that a touch resets."""

I64 = NDArray[np.int64]
APART_YEARS, APART = 2.0**-30, 1e-12
"""How far from a grid point or error deaths are put, in years and in mean times to death; then no last bit matters."""


@dataclass(frozen=True)
class Case:
    """A scenario, one policy, and the events of those trials that have any."""

    scenario: Scenario
    policy: Policy
    trials: tuple[tuple[Event, ...], ...]

    @property
    def plan(self) -> Plan:
        """The history is given: corrected errors are in it, whether the scenario's host counts them or not."""
        return make_plan(self.scenario, [self.policy], 0, any_host=True)

    @property
    def history(self) -> History:
        events = [event for trial in self.trials for event in trial]
        return History(
            trial=np.arange(len(self.trials), dtype=np.int64) * TRIALS_APART,
            stratum=np.zeros(len(self.trials), np.int64),
            start=np.cumsum([0, *map(len, self.trials)]).astype(np.int64),
            page=np.array([event.page for event in events], np.int64),
            years=np.array([event.years for event in events], np.float64),
            born=np.array([event.began for event in events], np.float64),
            fate=np.array([event.fate for event in events], np.float64),
            ar=np.array([event.ar for event in events], np.uint8),
            mode=np.full(len(events), NO_MODE, np.uint8),
            corrected=np.array([event.corrected for event in events], np.uint8),
        )

    def follow(self) -> Paths:
        """What the engine makes of it."""
        (paths,) = follow(self.plan, self.history, 0)
        return paths

    @property
    def luck(self) -> int:
        """That of the block."""
        return luck_of(self.plan, 0)

    def lives(self) -> list[I64]:
        """What the oracle makes of it: states of each trial at every grid point."""
        plan, luck = self.plan, self.luck
        return [life(plan, self.policy, events, 0, k * TRIALS_APART, luck) for k, events in enumerate(self.trials)]

    def ledgers(self) -> list[list[Ledger]]:
        """What the oracle's page sets say of each trial at every grid point."""
        vms = [Life(self.plan, self.policy, 0, k * TRIALS_APART, self.luck) for k in range(len(self.trials))]
        return [at_grid_points(vm, events, vm.ledger) for vm, events in zip(vms, self.trials, strict=True)]

    def __repr__(self) -> str:
        rules = "\n    ".join(map(str, self.policy.rules)) or "decide"
        trials = "\n    ".join(map(str, self.trials))
        vm, host, horizon = self.scenario.vm, self.scenario.host, self.scenario.horizon
        reads = f"reads_per_hour={self.scenario.workload.reads_per_hour}"
        kind = f"mapping={self.policy.mapping} contiguous={self.policy.needs_contiguous} "
        kind += f"params={dict(self.policy.params)}"
        return f"\n  {vm}\n  {host}\n  {horizon}\n  {reads} {kind}\n    {rules}\n  trials\n    {trials}\n"


def luck_of(plan: Plan, index: int) -> int:
    """What a block draws for spares that are replaced."""
    return int(stream(plan.seed, Purpose.REPLENISHING, index).integers(1 << 62))


def cases() -> st.SearchStrategy[Case]:
    """Cases drawn by hypothesis."""
    return st.randoms(use_true_random=False).map(random_case)


def seeded_case(seed: int) -> Case:
    """The case of a seed."""
    return random_case(Random(seed))


def random_case(rng: Random) -> Case:
    """A case whose every choice is `rng`'s; one in four has a shipped policy."""
    scenario = random_scenario(rng, rng.choice(VMS))
    if rng.randrange(4) == 0:
        policy = load_policy(rng.choice(policy_names()))
    else:
        policy = random_policy(rng, scenario)
    return Case(scenario, policy, random_trials(rng, scenario, rng.randint(1, 3), 12))


def random_scenario(rng: Random, kind: tuple[str, str, bool, int]) -> Scenario:
    """A small VM of one of the `VMS` kinds, on a host with few spares."""
    arch, backing, contiguous, most_regions = kind
    years = rng.choice((1.0, 2.0, 4.0))  # whose steps are exact in binary
    rungs = ladder(arch, backing, contiguous=contiguous)
    region_pages, base_bytes = rungs.pages[0], rungs.base_bytes
    saved_pages = hvo_saved_bytes(arch, backing) // base_bytes
    few = rng.choice((0, 1, 2, 3, 8, 600, region_pages))
    enough_pages = rng.choice((saved_pages, 2 * saved_pages, region_pages - saved_pages, region_pages)) + few
    free_bytes = rng.choice((0, 8 * MIB, 17 * MIB, 16 * GIB, *3 * [enough_pages * base_bytes]))
    return Scenario(
        vm=Vm(
            memory=rng.randint(1, most_regions) * page_bytes(backing),
            backing=backing,
            arch=arch,  # type: ignore[arg-type]
            contiguous=contiguous,
            guest_page="4K",
            on_loss=rng.choice(("count", "count", "end", "restart", "restart")),
            unrecoverable=rng.choice((0.0, 0.0001, 0.02, 0.5)),
            unretired=rng.choice((0.0, 0.06, 0.5)),
            unmovable=rng.choice((0.0, 0.0, 0.1, 0.34, 0.5, 0.75)),
            vcpus=rng.choice((1, 2, 3, 64, 64, 4096)),
        ),
        host=Host(
            cpu="sapphire-rapids" if arch == "x86-64" else "neoverse-n1",
            spares=rng.randint(0, 3),
            mapping=rng.choice(("shared", "private")),
            page_tables=rng.randint(1, 2),
            patrol=rng.choice(("1h", "24h", "14d", "1y")),
            spare_hosts=rng.randint(0, 3),
            moves_poison=rng.randrange(2) == 1,
            stage2_contiguous=len(rungs.contiguous_sizes) > 0 and rng.randrange(2) == 1,
            hvo=rng.randrange(5) > 0,
            hvo_with_hgm=rng.choice(("off-everywhere", "off-where-split", "off-where-split", "kept")),
            hvo_with_keep=rng.choice(("off-everywhere", "kept", "kept")),
            kernel_reads=rng.choice((0.0, 1e-5, 0.01, 0.5, 1.0)),
            table_lock=rng.choice(("per-pmd", "per-mm")),
            free_memory=free_bytes,
            replenish=rng.choice((0.0, 0.0, 0.5, 1.0)),
            spare_rows=rng.choice((0, 0, 0, 1, 2, 3, 100)),
        ),
        workload=Workload(reads_per_hour=rng.choice(READS_PER_HOUR)),
        horizon=Horizon(years=years, grid=f"{12 * int(years) // STEPS_PER_HORIZON}months"),
    )


def rungs_of(scenario: Scenario) -> Ladder:
    """Leaf sizes of the scenario's VM."""
    vm = scenario.vm
    return ladder(vm.arch, vm.backing, contiguous=vm.contiguous)


def random_trials(rng: Random, scenario: Scenario, n_trials: int, most_events: int) -> tuple[tuple[Event, ...], ...]:
    """Trials of up to so many events in time order, most in leaves hit before; some coincide, some lie on the grid.

    In three trials of four, which are twice as long, some are corrected. Some are of the page and fault of an earlier.
    """
    spans = (*rungs_of(scenario).pages, scenario.vm.n_base_pages)
    losses = [
        loss_of(scenario, 1, kept=True),
        loss_of(scenario, 1, cut=True),
        *(loss_of(scenario, pages) for pages in rungs_of(scenario).pages),
    ]
    trials = []
    for _ in range(n_trials):
        corrected_in_8 = rng.choice((0, 2, 4, 6))
        pages = [rng.randrange(scenario.vm.n_base_pages)]
        for _ in range(rng.randrange(most_events * (2 if corrected_in_8 else 1))):
            span_pages = rng.choice(spans)
            first = rng.choice(pages) // span_pages * span_pages
            pages.append(first + rng.randrange(min(span_pages, 4) if rng.randrange(2) else span_pages))
        times = random_times(rng, scenario.horizon, len(pages))
        beyond = (1.5 * scenario.horizon.years, 3 * scenario.horizon.years)
        marks = sorted({*times, *scenario.horizon.grid_years.tolist(), *beyond})
        events: list[Event] = []
        for page, at in zip(pages, times, strict=True):
            born = rng.choice((at, at, times[0], rng.choice(times[: len(events) + 1]), 0.0))
            if events and rng.randrange(4) == 0:
                earlier = rng.choice(events)
                page, born = earlier.page, earlier.began
            fate = random_fate(rng, rng.choice(losses), at, marks)
            ar, corrected = rng.randrange(2) == 1, rng.randrange(8) < corrected_in_8
            events.append(Event(page, at, fate, ar, born, corrected))
        trials.append(tuple(events))
    return tuple(trials)


def random_times(rng: Random, horizon: Horizon, n: int) -> list[float]:
    """Ascending times in years, exact in binary: all over the horizon, or in one or two bunches, down to seconds."""
    step_years = horizon.years / horizon.n_steps
    quarters = range(4 * horizon.n_steps)
    if rng.randrange(2):
        return sorted(step_years * rng.choice(quarters) / 4 for _ in range(n))
    bunches = [step_years * rng.choice(quarters) / 4 for _ in range(rng.randint(1, 2))]
    apart = 2.0 ** -rng.choice((8, 12, 17, 22))
    return sorted(rng.choice(bunches) + apart * rng.randrange(8) for _ in range(n))


def random_fate(rng: Random, loss: Loss, years: float, marks: Sequence[float]) -> float:
    """A fate in [0, 1): any, one at an edge between life and death, or a loss close to one of `marks` in reach."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice((*FATES, *([loss.fatal] if loss.pages == 1 else [])))
    panics = loss.panics > 0 and loss.panics_per_year > 0 and rng.randrange(3) > 0
    least, share = (loss.fatal, loss.panics) if panics else (0.0, loss.fatal)
    per_year = loss.panics_per_year if panics else loss.deaths_per_year
    apart = max(APART_YEARS * per_year, APART)
    waits = [(mark - years) * per_year for mark in marks if mark >= years]
    exponent = rng.choice([wait for wait in waits if wait < 36]) + rng.choice((-1, 1)) * apart
    if kind == 1 or exponent <= 0:
        exponent = rng.choice((1e-9, 1e-9, -1e-9, 1e-9 + 36 * rng.random()))
    return min(least + share * math.exp(-exponent), 1 - 2.0**-53)


def random_policy(
    rng: Random, scenario: Scenario, *, offlines: bool | None = None, starts_anew: bool | None = None
) -> Policy:
    """A policy that the checker accepts: every case closed, no rule dead, any guard over any counter.

    Args:
        offlines: Whether it has rules of `on_ce`; three in five have them if nothing is said.
        starts_anew: Whether it may evacuate, restart, collapse or reboot; two in three may if nothing is said.
    """
    plan = make_plan(scenario, [], 0)
    sizes = plan.ladder.sizes
    base = len(sizes) - 1
    offlines = rng.randrange(5) < 3 if offlines is None else offlines
    starts_anew = rng.randrange(3) < 2 if starts_anew is None else starts_anew
    in_stage2 = rng.randrange(5) == 0  # holes in stage 2 only
    may_keep = rng.randrange(2) == 0
    unplugs = not in_stage2 and rng.randrange(3) == 0  # by the guest
    anew = {
        EVACUATE: starts_anew and rng.randrange(5) < 2,
        RESTART: starts_anew and rng.randrange(5) < 2,
    }  # at poison
    may_migrate = rng.randrange(3) > offlines  # at poison
    by_hit = rng.randrange(2) == 0  # an action for each of the first hits: the quickest way through all orders of them
    limit = rng.randint(0, 6)
    params = {"limit": limit}
    takes_spares = may_migrate or offlines or starts_anew or unplugs
    if takes_spares and rng.randrange(2):
        params["spares"] = rng.choice((0, 1, 2, 6))
    host_spares = scenario.host.spares
    spares = params.get("spares", host_spares) if takes_spares else host_spares * (scenario.vm.on_loss == "restart")
    bounds = {
        "spares_left": (0, spares),
        "hits_in_region": (1, 5),
        "hits_in_vm": (1, 6),
        "regions_split": (0, min(scenario.vm.n_regions, 4)),
        "leaked_regions": (0, 4),
        "table_pages": (0, rng.choice((3, 40, 1100))),
        "age_days": (0, int(scenario.horizon.years * DAYS_PER_YEAR)),
    }
    needs_contiguous = not in_stage2 and rng.randrange(2) == 1
    none_yet = bounds | {name: (0, bounds[name][1]) for name in ("hits_in_region", "hits_in_vm")}
    acts = (EVACUATE, RESTART, REBOOT) if in_stage2 else (COLLAPSE, COLLAPSE, EVACUATE, RESTART, REBOOT)
    timed = random_timed_rules(rng, partial(random_guard, rng, none_yet, limit), acts) if starts_anew else []
    body = {
        "__module__": __name__,
        "__annotations__": {"limit": int, "period": int},
        "limit": 3,
        "period": 30,
        "rules": timed,
        "mapping": rng.choice((None, "shared", "shared", "private")),
        "needs_contiguous": needs_contiguous,
    }
    made: type[Policy] = type("Drawn", (Policy,), body)

    def guard() -> str:
        return random_guard(rng, bounds, limit)

    def action(level: int) -> Act | SizedAct:
        if in_stage2:
            return rng.choice((UNMAP_STAGE2, *([MIGRATE] if may_migrate else []), *([UNMAP] if level == 0 else [])))
        if may_keep and (offlines or starts_anew) and rng.randrange(4) == 0:  # so that they meet poison
            return KEEP
        return random_action(rng, sizes, level, may_migrate, may_keep)

    everywhere: list[Rule] = []
    if rng.randrange(3) == 0:
        over_all = (SPLIT, UNMAP, KEEP if may_keep else UNMAP, SPLIT_TO(BASE), SPLIT_VM_TO(BASE))
        everywhere = [on(">BASE", when=guard()).do(UNMAP_STAGE2 if in_stage2 else rng.choice(over_all))]
    collapses = any(rule.action is COLLAPSE for rule in timed)
    rules = list(everywhere)
    reachable = {0}
    for level in range(base + 1):
        if level not in reachable:
            continue
        size = BACKING if in_stage2 and level == 0 else random_size(rng, sizes, level)
        by_guard = [guard() for _ in range(rng.randrange(3))]
        guards = [f"hits_in_vm == {hit}" for hit in range(1, 6)] if by_hit else by_guard
        here = [on(size, when=when).do(action(level)) for when in guards]
        if may_migrate and (level == 0 or rng.randrange(4) == 0):
            here.insert(rng.randint(0, len(here)), on(size, when=rng.choice(("", guard()))).do(MIGRATE))
        if unplugs and level == 0:
            for _ in range(rng.randint(1, 2)):
                here.insert(rng.randint(0, len(here)), on(size, when=rng.choice(("", guard(), guard()))).do(OFFLINE))
        if anew[EVACUATE] and rng.randrange(2):
            here.insert(rng.randint(0, len(here)), on(size, when=rng.choice(("", guard()))).do(EVACUATE))
        if anew[RESTART] and rng.randrange(2):
            when = rng.choice(("spares_left > 0", *2 * [guard()]))
            here.insert(rng.randint(0, len(here)), on(size, when=when).do(RESTART))
        last = action(level)
        if last is MIGRATE:
            last = UNMAP_STAGE2 if in_stage2 else UNMAP
        here.append(on(size).do(last))
        for rule in (*(everywhere if level < base else ()), *here):
            if level < base and rule.action in (SPLIT, UNMAP_STAGE2):
                to_level = step_down(plan, made(), level)
            elif isinstance(rule.action, SizedAct):
                to_level = level_of(sizes, rule.action.size)
            else:
                continue
            reachable |= set(range(to_level + 1)) if collapses else {to_level}
        rules += here
    if offlines:
        ce_acts = (MIGRATE, MIGRATE, EVACUATE) if starts_anew else (MIGRATE,)
        ce_guard = partial(random_guard, rng, none_yet, limit)
        rules = mixed_in(rng, rules, random_ce_rules(rng, sizes, reachable, ce_guard, ce_acts))
    if starts_anew:
        rules = mixed_in(rng, rules, timed)
    if takes_spares and not any(rule.action in TAKES_SPARES for rule in rules):
        rules.append(every(days=rng.randint(20, 400), when="hits_in_vm > 0").do(rng.choice((REBOOT, RESTART))))
    if in_stage2 and not any(rule.action is UNMAP_STAGE2 for rule in rules):
        rules.insert(0, on(BACKING, when="hits_in_vm == 1").do(UNMAP_STAGE2))
        rules.append(on("<BACKING").do(UNMAP_STAGE2))
    if starts_anew:
        params["period"] = rng.randint(20, 400)
    made.rules = rules
    return made(**params)


def random_ce_rules(
    rng: Random, sizes: Sequence[str], reachable: set[int], guard: Callable[[], str], acts: Sequence[Act] = (MIGRATE,)
) -> list[Rule]:
    """One to five rules of `on_ce`, none of them dead, for leaves of one size or of several."""
    rules: list[Rule] = []
    left = {act: set(reachable) for act in acts}  # levels that no rule without a guard covers
    for _ in range(rng.randint(1, 5)):
        act = rng.choice(acts)
        if not left[act]:
            break
        level = rng.choice(sorted(left[act]))
        size = rng.choice((random_size(rng, sizes, level), random_size(rng, sizes, level), f"<{BACKING}", f">{BASE}"))
        about = {k for k in left[act] if covers(sizes, size, k)}
        when = rng.choice(("", guard(), *2 * ["hits_in_region > 0"]))
        if about:
            rules.append(on_ce(size, when=when).do(act))
            left[act] -= set() if when else about
    return rules or [on_ce(BACKING).do(MIGRATE)]


def random_timed_rules(rng: Random, guard: Callable[[], str], acts: Sequence[Act]) -> list[Rule]:
    """Up to three rules of `every`; some are due on the same days."""
    rules: list[Rule] = []
    days: list[int | str] = [rng.randint(20, 400), "period"]
    for _ in range(rng.randrange(4)):
        days.append(rng.choice((*days, rng.randint(20, 400))))
        when = rng.choice(("", "hits_in_vm > 0", "leaked_regions > 0", "regions_split > 0", guard(), guard()))
        rules.append(every(days=days[-1], when=when).do(rng.choice(acts)))
    return rules


def with_rules(policy: Policy, rules: Sequence[Rule]) -> Policy:
    """The same policy with other rules."""
    made: type[Policy] = type("Changed", (type(policy),), {"__module__": __name__, "rules": list(rules)})
    return made(**{name: value for name, value in policy.params.items() if name in made.parameters()})


def mixed_in(rng: Random, rules: Sequence[Rule], others: Sequence[Rule]) -> list[Rule]:
    """Both lists in one, each in its own order."""
    places = sorted(rng.randint(0, len(rules)) for _ in others)
    mixed = list(rules)
    for place, rule in reversed(list(zip(places, others, strict=True))):
        mixed.insert(place, rule)
    return mixed


def random_guard(rng: Random, bounds: Mapping[str, tuple[int, int]], limit: int) -> str:
    """One to four comparisons, none of them always true or always false; some with the parameter `limit`."""
    counters = [name for name, (low, high) in bounds.items() if low < high]
    parts = []
    for name in rng.sample(counters, rng.choice((1, 1, 1, 2, 2, 3, 4))):
        low, high = bounds[name]
        compare = rng.choice(OPERATORS)
        least, most = low + (compare in ("<", ">=")), high - (compare in ("<=", ">"))
        value = rng.randint(least, most)
        if name == "age_days":
            quarter = rng.randint(1, 4 * STEPS_PER_HORIZON - 1)  # events come at these, so the day itself matters
            value = min(max(most * quarter // (4 * STEPS_PER_HORIZON) + rng.randint(0, 1), least), most)
        by_name = least <= limit <= most and rng.randrange(2)
        parts.append(f"{name} {compare} {'limit' if by_name else value}")
    return " and ".join(parts)


def random_action(rng: Random, sizes: Sequence[str], level: int, may_migrate: bool, may_keep: bool) -> Act | SizedAct:
    """Any action that makes sense for a leaf of `level`."""
    actions: list[Act | SizedAct] = [UNMAP, *([KEEP] if may_keep else []), *([MIGRATE] if may_migrate else [])]
    if level < len(sizes) - 1:
        smaller = rng.choice((sizes[level + 1], *sizes[level + 1 :]))
        actions += [UNMAP, SPLIT, SPLIT_TO(smaller), SPLIT_VM_TO(smaller), SPLIT_VM_TO(smaller)]
    return rng.choice(actions)


def random_size(rng: Random, sizes: Sequence[str], level: int) -> str:
    """One of the spellings for leaves of exactly this level."""
    spellings = [sizes[level]]
    if level == 0:
        spellings += [BACKING, f">{sizes[1]}"]
    if level == len(sizes) - 1:
        spellings += [BASE, f"<{sizes[level - 1]}"]
    return rng.choice(spellings)


class SplitsInCode(Policy):
    """`hgm2m` as a function."""

    @staticmethod
    def decide(c: Any, p: Any) -> int:
        return UNMAP if c.leaf_level == c.base_level else SPLIT


class MovesInCode(Policy):
    """Every counter and a parameter, as a function."""

    keeps = True
    limit: int = 1

    @staticmethod
    def decide(c: Any, p: Any) -> int:
        if c.leaf_level == 0 and c.spares_left > 0 and c.hits_in_region > p.limit:
            return MIGRATE
        if c.leaf_level == 0 and c.hits_in_vm < 3:
            return KEEP
        if c.leaf_level == 0 and c.regions_split >= p.limit and c.leaked_regions < 3:
            return UNMAP
        if c.leaf_level < c.base_level and c.table_pages < 40:
            return SPLIT
        if c.leaf_level < c.base_level:
            return UNMAP
        if c.age_days > 300:
            return KEEP
        return UNMAP


class MovesByRules(Policy):
    """What `MovesInCode` does, as rules."""

    limit: int = 1
    rules = [
        on(BACKING, when="spares_left > 0 and hits_in_region > limit").do(MIGRATE),
        on(BACKING, when="hits_in_vm < 3").do(KEEP),
        on(BACKING, when="regions_split >= limit and leaked_regions < 3").do(UNMAP),
        on(">BASE", when="table_pages < 40").do(SPLIT),
        on(">BASE").do(UNMAP),
        on(BASE, when="age_days > 300").do(KEEP),
        on(BASE).do(UNMAP),
    ]


def fingerprint(n_cases: int) -> str:
    """SHA-256 over all that the engine makes of the cases of the first seeds, and of policies in code."""
    seeded = [seeded_case(seed) for seed in range(n_cases)]
    coded = [replace(case, policy=policy()) for case in seeded[:20] for policy in (SplitsInCode, MovesInCode)]
    digest = hashlib.sha256()
    for case in (*seeded, *coded):
        paths = case.follow()
        for array in (paths.states, paths.start, paths.grid, paths.state):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    return digest.hexdigest()
