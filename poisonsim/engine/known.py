"""Policies whose every answer is known beforehand: no rule on the way of a poison has a guard or needs anything.

What poison does then depends only on the largest leaf in which it is the first, which `index_events` has found out for
all policies, and always changes the state alike. So the kernel counts poisons by the leaf they met and the pages of the
direct map that were split, all packed into two integers; states are made of these tallies, each once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.answers import follow_rules
from poisonsim.engine.codes import (
    EVACUATE,
    G_ANSWERS,
    G_DIRECT_MAP,
    G_RESTART_AT_LOSS,
    G_STAGE2_ONLY,
    HOLE,
    KEEP,
    MIGRATE,
)
from poisonsim.engine.events import FIRST_IN_CHUNK, FIRST_IN_GROUP, LEVEL_BITS, N_FLAGS
from poisonsim.engine.guest import GuestLaw
from poisonsim.policy import CompiledPolicy

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


class KnownAnswers(NamedTuple):
    """What an event of each kind does, by its flags of `index_events`, and what that makes of the state.

    Attributes:
        low, high: int64[N_FLAGS], what it adds to the two words of tallies: see `tallies.lane`.
        p_dies: float64[N_FLAGS], probability that the guest dies of it, sooner or later.
        loses: int64[N_FLAGS], level of the leaf that is lost.
        change: int64[n_levels, n_columns], what poison in a leaf of each level adds to each column of the state.
        bits: Of each tally.
    """

    low: I64
    high: I64
    p_dies: F64
    loses: I64
    change: I64
    bits: int

    @property
    def most_events(self) -> int:
        """No tally of a trial with this many events runs over; each may split the direct map twice."""
        return 1 << (self.bits - 1)


def needs_ledger(policy: CompiledPolicy, geometry: I64) -> bool:
    """Whether the kernel must keep a ledger of every region: for a policy that does more than split and unmap."""
    acts = policy.rows[:, -2]
    does_more = bool((acts >= EVACUATE).any() or np.isin(acts, (KEEP, MIGRATE)).any())
    return does_more or bool(geometry[G_ANSWERS] != 0 or geometry[G_RESTART_AT_LOSS] == 1)


def known_answers(
    policy: CompiledPolicy, shift: I64, tables: I64, stall_split: I64, guest: GuestLaw, geometry: I64, n_columns: int
) -> KnownAnswers | None:
    """The answers of a policy, or None if one depends on what happened before.

    Args:
        policy: Its rules.
        shift, tables, stall_split, guest, geometry: As `simulate` takes them.
        n_columns: Of a state.
    """
    if needs_ledger(policy, geometry) or policy.acts_on_ces or policy.has_timed_rules or geometry[G_STAGE2_ONLY] == 1:
        return None
    n_levels = len(shift)
    change = np.zeros((n_levels, n_columns), np.int64)
    becomes = np.zeros(n_levels, np.int64)
    loses = np.zeros(n_levels, np.int64)
    if not follow_rules(
        policy.rows, policy.row_start, shift, tables, stall_split, guest.faults, geometry, change, becomes, loses
    ):
        return None
    bits = 63 // ((n_levels + 2) // 2)
    words, p_dies, lost = np.zeros((2, N_FLAGS), np.int64), np.zeros(N_FLAGS), np.zeros(N_FLAGS, np.int64)
    for flag in range(N_FLAGS):
        new_from, level = flag & LEVEL_BITS, 0
        if new_from >= n_levels:
            continue
        while HOLE < level < new_from:  # its block was hit before, and has become smaller leaves or a hole
            level = int(becomes[level])
        if level == HOLE:
            continue
        words[level & 1, flag] += 1 << (level // 2 * bits)
        if geometry[G_DIRECT_MAP]:
            n_split = (flag & FIRST_IN_CHUNK > 0) + (flag & FIRST_IN_GROUP > 0)
            words[n_levels & 1, flag] += n_split << (n_levels // 2 * bits)
        lost[flag] = loses[level]
        p_dies[flag] = guest.p_dies[loses[level]]
    return KnownAnswers(words[0], words[1], p_dies, lost, change, bits)


def answers_for(known: KnownAnswers | None, start: I64) -> KnownAnswers | None:
    """`known`, if no tally can run over in trials whose events begin at `start`."""
    longest: Any = np.diff(start).max(initial=0)
    return known if known is not None and longest < known.most_events else None


class Told(NamedTuple):
    """What the kernel is told of one policy; see `simulate`.

    Attributes:
        policy: The policy itself.
        geometry, tables, stall_split, steps_down, params: int64 arrays.
        has_ledger: See `needs_ledger`.
        known: Its answers, if they are known beforehand.
    """

    policy: CompiledPolicy
    geometry: I64
    tables: I64
    stall_split: I64
    steps_down: I64
    params: I64
    has_ledger: bool
    known: KnownAnswers | None

    @classmethod
    def of(
        cls, policy: CompiledPolicy, geometry: I64, tables: I64, stall_split: I64, steps_down: I64, shift: I64,
        guest: GuestLaw, n_columns: int,
    ) -> Told:  # fmt: skip
        """All that, given what the plan says; states have `n_columns`."""
        params = np.array(list(policy.params.values()) or [0], np.int64)
        known = known_answers(policy, shift, tables, stall_split, guest, geometry, n_columns)
        return cls(policy, geometry, tables, stall_split, steps_down, params, needs_ledger(policy, geometry), known)
