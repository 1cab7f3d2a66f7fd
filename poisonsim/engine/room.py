"""Room in which the kernel works, made for each block: the kernel itself makes no arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.acting import L_LEAVES, N_REGION_COLUMNS, N_VM_NUMBERS, V_STAMP
from poisonsim.engine.codes import G_REGIONS
from poisonsim.engine.hashing import bits_for
from poisonsim.engine.timed import N_CLOCK, looks_at_age

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

FEWEST_SLOTS = 1 << 12
"""Slots of an index of states while there are few."""

N_TALLY_COLUMNS = 4
"""What is kept of a state beside it, where all answers are known: see `tallies`."""

FEW_STATES = 1 << 16
"""More states than a block has as a rule where all answers are known; room for one per record is slow to get."""


class Found(NamedTuple):
    """Distinct states, found by hash.

    Attributes:
        states: int64[most_states, n_columns].
        hashes: int64[most_states]; or int64[most_states, N_TALLY_COLUMNS] where all answers are known.
        slots: int32[a power of two], rows of `states` by hash, or -1.
    """

    states: I64
    hashes: I64
    slots: I32

    @classmethod
    def of(cls, most_states: int, n_columns: int, *, known: bool) -> Found:
        """Room for so many states."""
        shape = (most_states, N_TALLY_COLUMNS) if known else (most_states,)
        n_slots = max(1 << bits_for(2 * most_states), FEWEST_SLOTS)
        return cls(np.empty((most_states, n_columns), np.int64), np.empty(shape, np.int64), np.empty(n_slots, np.int32))


class Records(NamedTuple):
    """From which grid point on a trial is in which state.

    Attributes:
        start: int64[n_trials + 1], first record of each trial.
        grid, state: int32[most_records].
    """

    start: I64
    grid: I32
    state: I32

    @classmethod
    def of(cls, n_trials: int, most_records: int) -> Records:
        """Room for so many records."""
        return cls(np.empty(n_trials + 1, np.int64), np.empty(most_records, np.int32), np.empty(most_records, np.int32))


class Kept(NamedTuple):
    """What is known of one VM, the same room for one after the other.

    Attributes:
        vm: s, v, regions, ledgers, touched, moved_at, earlier, latest, gone: see `acting`; keys, stamps, values: a
            table of the nodes (leaves that were split or lost), and of chunks and groups of the direct map. Of regions,
            ledgers and nodes that is valid whose stamp is that of now.
        now: counters int64[9]; asked, ages bool[n_timed]: timed rules that were tried since the last change, and those
            that look at the age; clock float64[N_CLOCK] and marks int64[4]: see `pass_time`.
    """

    vm: tuple[I64, I64, I32, I64, I64, NDArray[np.float64], I32, I32, NDArray[np.int8], I64, I32, I32]
    now: tuple[I64, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], I64]

    @classmethod
    def of(cls, start: I64, geometry: I64, n_levels: int, n_columns: int, *, ledger: bool, timed: I64) -> Kept:
        """Room for VMs whose events begin at `start`; ledgers only where there is a `ledger`; `timed` rules' rows."""
        n_regions = int(geometry[G_REGIONS])
        n_kept, n_events = (n_regions, int(start[-1])) if ledger else (0, 0)
        keys_per_event = n_levels - 2 + 2 * ledger  # a node of each level between; and chunk and group
        size = 1 << bits_for(keys_per_event * max(int(np.diff(start).max(initial=1)), 1))
        v = np.zeros(N_VM_NUMBERS, np.int64)
        v[V_STAMP] = -1
        counters = np.zeros(9, np.int64)
        counters[8] = n_levels - 1
        return cls(
            (
                np.empty(n_columns, np.int64), v, np.full((n_regions, N_REGION_COLUMNS), -1, np.int32),
                np.empty((n_kept, L_LEAVES + n_levels), np.int64), np.empty(n_kept, np.int64), np.empty(n_kept),
                np.empty((n_events, 2), np.int32), np.full(size if ledger else 0, -1, np.int32),
                np.empty(n_events, np.int8),
                np.empty(size, np.int64), np.full(size, -1, np.int32), np.empty(size, np.int32),
            ),
            (
                counters, np.zeros(len(timed), np.bool_), looks_at_age(timed, 0, len(timed)), np.zeros(N_CLOCK),
                np.zeros(4, np.int64),
            ),
        )  # fmt: skip
