"""Small random cases in which everything happens often: holes, duplicates, splits, spares that run out.

One generator serves both uses: `cases` draws from hypothesis, so that failures shrink, and `seeded_case` from a seed,
so that another process can make the same cases.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import Event, level_of

from poisonsim.engine.block import Paths, follow
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.faults.history import History
from poisonsim.memory import Ladder, ladder
from poisonsim.policy.rules import (
    BACKING, BASE, KEEP, MIGRATE, OPERATORS, SPLIT, SPLIT_TO, SPLIT_VM_TO, UNMAP, Act, Policy, Rule, SizedAct, on,
)  # fmt: skip
from poisonsim.scenario import Horizon, Host, Scenario, Vm
from poisonsim.units import page_bytes

VMS = (
    ("x86-64", "2M", False, 8), ("x86-64", "2M", False, 1030), ("x86-64", "1G", False, 3), ("arm64", "1G", True, 2),
    ("arm64", "32M", True, 4), ("arm64", "2M", True, 6), ("arm64", "64K", False, 8), ("arm64-16k", "1G", True, 3),
    ("arm64-16k", "32M", True, 5), ("arm64-64k", "512M", True, 4),
)  # fmt: skip
"""Architecture, backing, contiguous entries, most regions. 1,030 regions of 2M lie in three chunks of the direct map."""

SHIPPED = ("unmap1g", "unmap1g-private", "hgm4k", "hgm2m", "hgm4k-vma", "migrate1g", "migrate-then-hgm2m")
STEPS_PER_HORIZON = 4
NEAR = (0, 0, 1, 2, 15, 16, 511, 512, 8191)


@dataclass(frozen=True)
class Case:
    """A scenario, one policy, and the events of some trials; none of the trials is without any."""

    scenario: Scenario
    policy: Policy
    trials: tuple[tuple[Event, ...], ...]

    @property
    def plan(self) -> Plan:
        return make_plan(self.scenario, [self.policy], seed=0)

    @property
    def history(self) -> History:
        events = [event for trial in self.trials for event in trial]
        return History(
            trial=np.arange(len(self.trials), dtype=np.int64) * 3,
            start=np.cumsum([0, *map(len, self.trials)]).astype(np.int64),
            page=np.array([event.page for event in events], np.int64),
            years=np.array([event.years for event in events], np.float64),
            fate=np.array([event.fate for event in events], np.float64),
        )

    def follow(self) -> Paths:
        """What the engine makes of it."""
        (paths,) = follow(self.plan, self.history, 0)
        return paths

    def __repr__(self) -> str:
        rules = "\n    ".join(map(str, self.policy.rules)) or "decide"
        trials = "\n    ".join(map(str, self.trials))
        vm, host, horizon = self.scenario.vm, self.scenario.host, self.scenario.horizon
        kind = f"mapping={self.policy.mapping} params={dict(self.policy.params)}"
        return f"\n  {vm}\n  {host}\n  {horizon}\n  {kind}\n    {rules}\n  trials\n    {trials}\n"


def cases() -> st.SearchStrategy[Case]:
    """Cases drawn by hypothesis."""
    return st.randoms(use_true_random=False).map(random_case)


def seeded_case(seed: int) -> Case:
    """The case of a seed."""
    return random_case(Random(seed))


def random_case(rng: Random) -> Case:
    """A case whose every choice is `rng`'s; one in four has a shipped policy."""
    arch, backing, contiguous, most_regions = rng.choice(VMS)
    years = rng.choice((1.0, 2.0, 5.0))
    scenario = Scenario(
        vm=Vm(
            memory=rng.randint(1, most_regions) * page_bytes(backing),
            backing=backing,
            arch=arch,  # type: ignore[arg-type]
            contiguous=contiguous,
            guest_page="4K",
            on_loss=rng.choice(("count", "count", "end")),  # type: ignore[arg-type]
            unrecoverable=rng.choice((0.0, 0.0001, 0.02, 0.5)),
        ),
        host=Host(
            cpu="sapphire-rapids" if arch == "x86-64" else "neoverse-n1",
            spares=rng.randint(0, 3),
            mapping=rng.choice(("shared", "private")),  # type: ignore[arg-type]
            page_tables=rng.randint(1, 2),
        ),
        horizon=Horizon(years=years, grid=years / STEPS_PER_HORIZON),
    )
    if rng.randrange(4) == 0:
        policy = load_policy(rng.choice(SHIPPED))
    else:
        policy = random_policy(rng, scenario, ladder(arch, backing, contiguous=contiguous))
    return Case(scenario, policy, tuple(random_trial(rng, scenario) for _ in range(rng.randint(1, 3))))


def random_trial(rng: Random, scenario: Scenario) -> tuple[Event, ...]:
    """Up to a dozen events, most of them near one another, in time order; some at the same time, some on the grid."""
    vm, horizon = scenario.vm, scenario.horizon
    homes = [rng.randrange(vm.n_base_pages) for _ in range(rng.randint(1, 2))]
    pages: list[int] = []
    for _ in range(rng.randint(1, 12)):
        where = rng.randrange(6)
        if where == 0 and pages:
            page = rng.choice(pages)
        elif where == 1:
            page = rng.randrange(vm.n_base_pages)
        elif where == 2:
            page = rng.choice(homes) + vm.pages_per_region
        else:
            page = rng.choice(homes) + rng.choice(NEAR)
        pages.append(page % vm.n_base_pages)
    quarters = sorted(rng.randrange(4 * horizon.n_steps) for _ in pages)
    step_years = horizon.years / horizon.n_steps
    fates = (0.0, 0.0001, 0.01, 0.3, 0.7, 0.99, 0.999999)
    return tuple(Event(p, step_years * q / 4, rng.choice(fates)) for p, q in zip(pages, quarters, strict=True))


def random_policy(rng: Random, scenario: Scenario, rungs: Ladder) -> Policy:
    """A policy with a closed rule table: guards over every counter, every action, no dead rule."""
    spares = rng.randint(0, 3) if rng.randrange(2) else None
    limit = rng.randint(0, 6)
    guards = Guards(scenario, scenario.host.spares if spares is None else spares, limit)
    base = len(rungs.sizes) - 1
    rules: list[Rule] = []
    reachable = {0}
    if rng.randrange(3) == 0:
        action = rng.choice((SPLIT, UNMAP, KEEP, MIGRATE, SPLIT_TO(BASE), SPLIT_VM_TO(BASE)))
        rules.append(on(">BASE", when=guards.draw(rng)).do(action))
        reachable |= {*range(base + 1)} if action is SPLIT else {base} if isinstance(action, SizedAct) else set()
    for level in range(base + 1):
        if level not in reachable:
            continue
        size = random_size(rng, rungs, level)
        for _ in range(rng.randrange(3)):
            rules.append(on(size, when=guards.draw(rng)).do(random_action(rng, rungs, level)))
        if rng.randrange(4) == 0:
            rules.append(on(size).do(MIGRATE))
        last = random_action(rng, rungs, level)
        rules.append(on(size).do(UNMAP if last is MIGRATE else last))
        for rule in rules:
            if isinstance(rule.action, SizedAct):
                reachable.add(level_of(rungs.sizes, rule.action.size))
            elif rule.action is SPLIT and rule.size != ">BASE":
                reachable.add(level + 1)
    body: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {"limit": int},
        "limit": 3,
        "rules": rules,
        "mapping": rng.choice((None, None, "shared", "private")),
    }
    made: type[Policy] = type("Drawn", (Policy,), body)
    takes_spares = any(rule.action is MIGRATE for rule in rules)
    return made(limit=limit, **({"spares": spares} if spares is not None and takes_spares else {}))
