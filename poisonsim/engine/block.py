"""One block: draw its histories once, run every policy over them, keep counts of distinct states."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, njit, types
from numba.core.config import DISABLE_JIT
from numba.core.errors import NumbaError
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray

from poisonsim.compiled import callback
from poisonsim.engine.codes import G_CHUNK_SHIFT, G_END_AT_LOSS, G_GROUP_SHIFT, G_LUCK, G_REGIONS, NO_ROOM
from poisonsim.engine.counting import count_rows, count_states, states_at
from poisonsim.engine.events import ALONE_IN_GROUP, grid_and_day, index_events
from poisonsim.engine.heap import keep_freed_memory
from poisonsim.engine.kernel import simulate
from poisonsim.engine.known import answers_for
from poisonsim.engine.plan import Plan
from poisonsim.engine.records import N_TRACE, T_EVENT
from poisonsim.engine.room import FEW_STATES, N_TALLY_COLUMNS, Found, Kept, Records
from poisonsim.engine.tallies import simulate_known
from poisonsim.errors import PolicyError
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.streams import Purpose, stream
from poisonsim.policy import Act, CompiledPolicy
from poisonsim.policy.rules import ANSWERS, DECIDE_FIELDS
from poisonsim.units import DAYS_PER_YEAR

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_DECIDE = types.int64(types.int64[::1], types.int64[::1])


@dataclass(frozen=True)
class Paths:
    """What one policy made of the trials of a block that see any error.

    Attributes:
        states: int64[n_states, n_columns]; the first rows are the state without errors, one per stratum.
        start: int64[n_hit + 1], first change of each of those trials.
        grid: int32[n_changes], grid point from which the trial is in `state`.
        state: int32[n_changes], row of `states`.
    """

    states: I64
    start: I64
    grid: I32
    state: I32


@dataclass(frozen=True)
class Block:
    """Counts of one block of trials, mergeable by addition.

    Attributes:
        index: Number of the block.
        n_trials: Trials counted: all of the block, or its first ones where the run ends inside it.
        states: Per policy int64[n_states, n_columns], the distinct states met, those without errors first.
        counts: Per policy int64[n_states, n_grid], trials in that state at that grid point.
        joint: Per whole year int32[n_joint, n_policies], rows of `states` that occur together in one trial.
        joint_counts: Per whole year int64[n_joint], trials in which they do.
    """

    index: int
    n_trials: int
    states: tuple[I64, ...]
    counts: tuple[I64, ...]
    joint: tuple[I32, ...]
    joint_counts: tuple[I64, ...]


_wrapping = np.errstate(over="ignore")  # hashes wrap around; only the interpreted kernels would say so


@_wrapping
def run_block(plan: Plan, index: int, n_trials: int) -> Block:
    """Block `index` of `plan`, counted over its first `n_trials` trials; a pure function of its arguments.

    Raises:
        PolicyError: A policy's `decide` answered what cannot be done.
    """
    keep_freed_memory()
    history = draw_history(plan.scenario, plan.seed, index, plan.block_trials).first(n_trials)
    paths = follow(plan, history, index)
    n_hit, n_grid = len(history.trial), plan.scenario.horizon.n_steps + 1
    counts = tuple(
        count_states(p.start, p.grid, p.state, history.stratum, len(p.states), n_grid, n_trials - n_hit) for p in paths
    )
    joint, joint_counts = [], []
    points = np.array(year_points(plan))
    at_years = np.stack([states_at(p.start, p.grid, p.state, history.stratum, points) for p in paths], axis=-1)
    for together in at_years:
        together = np.concatenate((np.zeros((1, len(paths)), np.int32), together))
        rows, times = count_rows(together)
        times[0] += n_trials - n_hit - 1  # row 0 was put there to stand for the untouched trials
        joint.append(rows)
        joint_counts.append(times)
    return Block(index, n_trials, tuple(p.states for p in paths), counts, tuple(joint), tuple(joint_counts))


@_wrapping
def follow(plan: Plan, history: History, index: int) -> tuple[Paths, ...]:
    """The paths of every policy of `plan` through the same histories."""
    errors = _Indexed.of(plan, history.uncorrected)
    with_ces = errors
    if any(policy.acts_on_ces for policy in plan.policies):
        with_ces = _Indexed.of(plan, history)
        with_ces.flags[:] &= 0xFF ^ ALONE_IN_GROUP  # corrected errors may ask what became of the group
    return tuple(
        _follow_one(plan, policy, with_ces if policy.acts_on_ces else errors, index) for policy in plan.policies
    )


class _Indexed(NamedTuple):
    """Histories, and what can be said of them before any policy sees them: see `events`."""

    history: History
    grid: I32
    day: I32
    flags: NDArray[np.uint8]

    @classmethod
    def of(cls, plan: Plan, history: History) -> _Indexed:
        horizon, geometry = plan.scenario.horizon, plan.geometry
        grid, day = grid_and_day(history.years, horizon.n_steps / horizon.years, DAYS_PER_YEAR)
        flags = index_events(
            history.start,
            history.page,
            history.corrected,
            plan.shifts,
            geometry[G_CHUNK_SHIFT],
            geometry[G_GROUP_SHIFT],
            geometry[G_REGIONS],
        )
        return cls(history, grid, day, flags)


def year_points(plan: Plan) -> list[int]:
    """Grid points at which states are kept jointly over policies: whole years that lie on the grid, and the end."""
    horizon = plan.scenario.horizon
    per_year = horizon.n_steps / horizon.years
    whole = [round(y * per_year) for y in range(1, int(horizon.years) + 1) if abs(y * per_year % 1) < 1e-9]
    return sorted({*whole, horizon.n_steps})


@_wrapping
def trace_trial(plan: Plan, policy: CompiledPolicy, history: History, index: int) -> I64:
    """What a policy makes of a history of one trial, step by step: rows as in `records`, -1 after the last event."""
    indexed = _Indexed.of(plan, history if policy.acts_on_ces else history.uncorrected)
    n_rows = len(indexed.history.page) + int(plan.scenario.horizon.years * DAYS_PER_YEAR) + 1
    trace = np.full((n_rows, N_TRACE + plan.zero_states.shape[1]), -2, np.int64)
    _follow_one(plan, policy, indexed, index, trace)
    filled: I64 = trace[trace[:, T_EVENT] != -2]
    return filled


def _follow_one(
    plan: Plan, policy: CompiledPolicy, indexed: _Indexed, index: int, trace: I64 | None = None, room: int = 1
) -> Paths:
    history, grid, day, flags = indexed
    told, horizon, zero_states = plan.told(policy), plan.scenario.horizon, plan.zero_states
    geometry = told.geometry.copy()
    geometry[G_LUCK] = stream(plan.seed, Purpose.REPLENISHING, index).integers(1 << 62)
    restarts = plan.scenario.vm.on_loss == "restart"
    timed = np.empty(0, np.bool_) if policy.has_timed_rules or restarts else None
    known = answers_for(told.known, history.start) if trace is None else None
    n_trials, n_columns = len(history.trial), zero_states.shape[1]
    longest = max(int(np.diff(history.start).max(initial=1)), 1)
    # beside errors: death, timed rules
    most_records = len(history.page) * (1 + restarts)
    most_records += n_trials * (horizon.n_steps + 1 if policy.has_timed_rules else 1)
    most_states = most_records * room if known is None else min(most_records, FEW_STATES * room)
    found = Found.of(most_states + len(zero_states), n_columns, known=known is not None)
    found.states[: len(zero_states)] = zero_states
    records, fault = Records.of(n_trials, most_records), np.zeros(4, np.int64)
    steps_per_year = horizon.n_steps / horizon.years
    if known is not None:
        n_states, n_records = simulate_known(
            history.start, history.years, grid, history.fate, history.ar, flags,
            plan.shifts, plan.guest, bool(geometry[G_END_AT_LOSS] == 1), steps_per_year, horizon.n_steps,
            history.stratum, zero_states, known, found, records, np.empty((longest + 1, N_TALLY_COLUMNS), np.int64),
        )  # fmt: skip
        fault[0] = NO_ROOM if n_states < 0 else 0
    else:
        kept = Kept.of(
            history.start, geometry, len(plan.shifts), n_columns, ledger=told.has_ledger, timed=policy.timed_rows
        )
        n_states, n_records = simulate(
            history.start, history.trial, history.page, history.years, history.born, grid, day, history.fate,
            history.ar, flags,
            plan.shifts, told.tables, told.stall_split, plan.guest, geometry, steps_per_year, horizon.n_steps,
            policy.rows, policy.row_start, told.params,
            compile_decide(policy.decide, tuple(policy.params)), told.steps_down,
            history.stratum, zero_states, timed, trace, found, records, kept, fault,
        )  # fmt: skip
    if fault[0] == NO_ROOM:
        return _follow_one(plan, policy, indexed, index, trace, 4 * room)
    if fault[0]:
        _refuse(plan, policy, history, index, fault)
    return Paths(found.states[:n_states], records.start, records.grid[:n_records], records.state[:n_records])


def _refuse(plan: Plan, policy: CompiledPolicy, history: History, index: int, fault: I64) -> None:
    _, hit, answer, level = (int(x) for x in fault)
    trial = index * plan.block_trials + int(history.trial[hit])
    size = plan.ladder.sizes[level]
    says = next((says for act, says in ANSWERS.items() if act == answer), None)
    named = str(answer) if says is None else Act(answer).name
    where = {Act.SPLIT: " above the base page", Act.MIGRATE: " while c.spares_left > 0"}
    allowed = ", ".join(f"{act.name}{where.get(act, '')}" for act in policy.answers)
    more = f"; {named} if the class says {says} = True" if says and answer not in policy.answers else ""
    raise PolicyError(
        f"policy {policy.label}: decide answered {named} for a {size} leaf in trial {trial}; allowed: {allowed}{more}"
    )


@cache
def compile_decide(decide: Callable[[Any, Any], int] | None, params: tuple[str, ...]) -> Any:
    """`decide(c, p)` as a function of two integer arrays that the compiled kernel can call.

    Raises:
        PolicyError: Numba cannot compile it.
    """
    if decide is None:
        return _never if DISABLE_JIT else callback(_DECIDE, _never)
    counters_of = namedtuple("Counters", DECIDE_FIELDS)  # type: ignore[misc]
    params_of = namedtuple("Params", params or ("none",))  # type: ignore[misc]
    if DISABLE_JIT:
        return lambda c, p: decide(counters_of(*c), params_of(*p))
    n_counters, n_params = len(DECIDE_FIELDS), max(len(params), 1)
    compiled = njit(decide, error_model="numpy")  # a division by zero is 0, not a traceback from the kernel

    def entry(c: Any, p: Any) -> Any:
        return compiled(counters_of(*to_fixed_tuple(c, n_counters)), params_of(*to_fixed_tuple(p, n_params)))

    where = f"{decide.__code__.co_filename}:{decide.__code__.co_firstlineno}"
    try:
        typed = njit(entry)
        typed.compile((types.int64[::1], types.int64[::1]))
        answer = typed.overloads[typed.signatures[0]].signature.return_type
        if isinstance(answer, (types.Optional, types.NoneType, types.Float)):
            raise PolicyError(
                f"{where}: decide does not answer with an action in every case; let every path return UNMAP, SPLIT, "
                "KEEP or MIGRATE"
            )
        return cfunc(_DECIDE)(entry)
    except NumbaError as error:
        reason = _reason_of(error)
        if "Literal[str]" in reason or "unicode_type" in reason:
            raise PolicyError(
                f"{where}: decide uses text, which cannot be compiled; if it answers text, write UNMAP, not 'UNMAP'"
            ) from None
        raise PolicyError(
            f"{where}: decide cannot be compiled: {reason}; "
            "use whole numbers, comparisons and the fields of c and p only; "
            f"c has {', '.join(DECIDE_FIELDS)}"
        ) from None


def _reason_of(error: NumbaError) -> str:
    """The line of Numba's long message that says what is wrong."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Failed in", "During", "File", "<", "^"))]
    return told[0].rstrip(".") if told else "Numba does not say why"


def _never(c: Any, p: Any) -> int:
    return 0
