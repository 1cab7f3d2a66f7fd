"""One VM's life, event by event: what struck it, what the policy did about it, and what each step changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import trace_trial
from poisonsim.engine.plan import Plan
from poisonsim.engine.records import N_TRACE, NS_PER_YEAR, RESTARTED, T_ACTS, T_DAY, T_DIES, T_EVENT, T_LEVEL
from poisonsim.errors import MetricError, no_such_policy
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.tables import MODES
from poisonsim.policy import Act, CompiledPolicy
from poisonsim.results.life_words import lines_of
from poisonsim.results.metrics import Metric
from poisonsim.results.result import Result
from poisonsim.results.values import Valuer
from poisonsim.units import DAYS_PER_YEAR

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One thing that happened.

    Attributes:
        years: When.
        what: `"error"`, `"corrected errors"` (their number passed the host's threshold), `"timed rules"` or
            `"guest dies"`.
        page: Base page of guest memory, of an error or of corrected errors.
        region: The huge page it lies in.
        leaf: Size of the leaf that mapped it; empty where none did.
        found_by: `"read"` or `"patrol"`, for an error.
        mode: Mode of the DRAM fault behind it, where one is known.
        acts: What the policy did, in order.
        changes: What became of the metrics that changed, by name: their new value less the old one.
    """

    years: float
    what: str
    page: int | None
    region: int | None
    leaf: str
    found_by: str
    mode: str
    acts: tuple[str, ...]
    changes: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The step as plain data; what does not apply is left out."""
        data = {
            "years": self.years, "what": self.what, "page": self.page, "region": self.region, "leaf": self.leaf,
            "found_by": self.found_by, "mode": self.mode, "acts": list(self.acts), "changes": dict(self.changes),
        }  # fmt: skip
        return {key: value for key, value in data.items() if value not in ("", None, [])}


@dataclass(frozen=True)
class Life:
    """One VM's life under one policy; made by `life_of`.

    Attributes:
        trial: Which.
        policy: Label of the policy.
        metrics: Every metric, for units.
        start: Their values before anything happened, by name.
        steps: What happened, in order of time; the first of it where no more was asked for.
        end: Their values at the end.
        n_steps: How many steps there are in all.
        on_loss: What follows when the VM is lost, as `vm.on_loss` says.
    """

    trial: int
    policy: str
    metrics: tuple[Metric, ...]
    start: Mapping[str, float]
    steps: tuple[Step, ...]
    end: Mapping[str, float]
    n_steps: int
    on_loss: str = "count"

    def lines(self) -> Iterator[str]:
        """The life in words, a line each."""
        return lines_of(self)


def life_of(result: Result, trial: int, policy: str | None = None, *, most: int | None = None) -> Life:
    """The life of one trial of a run under one of its policies, recomputed step by step by the same kernel.

    Args:
        result: The run.
        trial: From 0 to the run's trials less 1.
        policy: Label of the policy; default the last of the run.
        most: Steps to tell; the others are counted. Default all.

    Raises:
        MetricError: No such trial or policy.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["hgm2m"], trials=10, seed=7)
        >>> life = life_of(res, trial=3, policy="hgm2m")
        >>> len(life.steps) >= 100, life.steps[0].acts, life.steps[0].changes["table_bytes"]
        (True, ('SPLIT_TO 2M', 'SPLIT_TO 4K', 'UNMAP'), 16752.0)
    """
    plan, labels = result.plan, [p.label for p in result.plan.policies]
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial < result.n_trials:
        raise MetricError(f"trial {trial} is not from 0 to {result.n_trials - 1:,}, the trials of this run")
    label = labels[-1] if policy is None else policy
    if label not in labels:
        raise MetricError(no_such_policy(label, labels))
    compiled = plan.policies[labels.index(label)]
    block, place = divmod(trial, plan.block_trials)
    history = draw_history(plan.scenario, plan.seed, block, plan.block_trials)
    return life_through(result._valuer, compiled, trial, history, place, block, most)


def life_through(
    valuer: Valuer, policy: CompiledPolicy, trial: int, history: History, place: int, block: int, most: int | None
) -> Life:
    """The life of one trial through a given history, `trial` being what to call it.

    Args:
        place: The trial within the history.
        block: Number of the block, of whose stream luck with spares is drawn.
        most: Steps to tell; None for all.
    """
    alone = _alone(history, place)
    rows = trace_trial(valuer.plan, policy, alone, block)
    return _told(valuer, policy, trial, alone if policy.acts_on_ces else alone.uncorrected, rows, most)


def first_hit(result: Result) -> int:
    """The first trial of a run that sees an error; 0 if none does."""
    plan = result.plan
    for block in range(-(-result.n_trials // plan.block_trials)):
        history = draw_history(plan.scenario, plan.seed, block, plan.block_trials).uncorrected
        hit = history.trial[np.diff(history.start) > 0] + block * plan.block_trials
        if len(hit) and hit[0] < result.n_trials:
            return int(hit[0])
    return 0


def _alone(history: History, place: int) -> History:
    """The history of one trial of a block, which may be empty."""
    at = int(np.searchsorted(history.trial, place))
    hit = at < len(history.trial) and history.trial[at] == place
    first, end = (int(history.start[at]), int(history.start[at + 1])) if hit else (0, 0)
    stratum = history.stratum[at : at + 1] if hit else np.zeros(1, np.int64)
    return history.cut(np.array([place]), stratum, np.array([0, end - first]), slice(first, end))


def _told(valuer: Valuer, policy: CompiledPolicy, trial: int, history: History, rows: I64, most: int | None) -> Life:
    plan, names, dead = valuer.plan, [metric.name for metric in valuer.metrics], valuer.column("vm_lost")
    happened = list(_happened(plan, history, rows))
    told = happened[:most]
    # Only states that are told are valued: of a life of many errors that would take longest.
    states = np.concatenate((plan.zero_states[history.stratum[0]][None], rows[:, N_TRACE:]))
    last = happened[-1][1] if happened else -1
    values = valuer.values(policy, states[[*range(told[-1][1] + 2 if told else 1), last + 1]])
    steps: list[Step] = []
    before, died = values[0], 0.0
    for years, row, dies in told:
        if dies:
            changes = {} if died else {"vm_lost": 1.0}
            steps.append(Step(years, "guest dies", None, None, "", "", "", (), changes))
            before[dead] = died = 1.0
        else:
            after = values[row + 1]
            after[dead] = died
            changes = _changes(names, before, after)
            steps.append(_step(plan, history, rows[row], years, changes, policy.stage2_only))
            before = after
    values[-1, dead] = any(dies for _, _, dies in happened)
    first, end = (dict(zip(names, v.tolist(), strict=True)) for v in (values[0], values[-1]))
    return Life(trial, policy.label, valuer.metrics, first, tuple(steps), end, len(happened), plan.scenario.vm.on_loss)


def _happened(plan: Plan, history: History, rows: I64) -> Iterator[tuple[float, int, bool]]:
    """When something happened, its row, and whether it is the guest's death, after that row; until the trial ends."""
    whens = np.where(rows[:, T_EVENT] >= 0, _years(history, rows[:, T_EVENT]), rows[:, T_DAY] / DAYS_PER_YEAR).tolist()
    restarts, dying = (rows[:, T_LEVEL] == RESTARTED).tolist(), (rows[:, T_DIES] / NS_PER_YEAR).tolist()
    when, died = 0.0, False
    for row, own in enumerate(whens):
        when = when if restarts[row] else own
        yield when, row, False
        is_last = row + 1 == len(whens)
        later = plan.scenario.horizon.years if is_last else whens[row + 1]
        dies = max(dying[row], when)
        if (not is_last and restarts[row + 1]) or (dying[row] >= 0 and not died and dies <= later):
            when, died = dies, True
            yield when, row, True
            if plan.scenario.vm.on_loss == "end":
                return


def _years(history: History, events: I64) -> NDArray[np.float64]:
    """Years of events; of those that are none (negative), any."""
    return history.years[events] if len(history.years) else np.zeros(len(events))


def _step(
    plan: Plan, history: History, row: I64, years: float, changes: Mapping[str, float], stage2_only: bool
) -> Step:
    sizes, e = plan.ladder.sizes, int(row[T_EVENT])
    acts = _acts(int(row[T_ACTS]), sizes)
    if stage2_only and (acts != ("UNMAP",) or row[T_LEVEL] > 0):
        acts = tuple(re.sub("^(SPLIT_TO|UNMAP$)", Act.UNMAP_STAGE2.name, act) for act in acts)
    if e < 0:
        what = "restarted" if row[T_LEVEL] == RESTARTED else "timed rules"
        return Step(years, what, None, None, "", "", "", acts, changes)
    page, level, corrected = int(history.page[e]), int(row[T_LEVEL]), bool(history.corrected[e])
    return Step(
        years,
        "corrected errors" if corrected else "error",
        page,
        page // plan.scenario.vm.pages_per_region,
        sizes[level] if level >= 0 else "",
        "" if corrected else "read" if history.ar[e] else "patrol",
        MODES[history.mode[e]] if history.mode[e] < len(MODES) else "",
        acts,
        changes,
    )


def _acts(digits: int, sizes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the acts that a trace packs into one number, with the leaf size that they split to."""
    acts: list[str] = []
    while digits:
        act, target = divmod(digits % 256, 16)
        acts.append(f"{Act(act).name} {sizes[target]}" if target else Act(act).name)
        digits //= 256
    return tuple(acts[::-1])


def _changes(names: list[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(b - a) for name, a, b in zip(names, before, after, strict=True) if a != b}
