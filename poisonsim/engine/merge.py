"""Adds up blocks: distinct states over the whole run, and how many trials are in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import Block

I64 = NDArray[np.int64]


@dataclass
class _Table:
    """Distinct integer rows with counts that add up over blocks."""

    index: dict[bytes, int] = field(default_factory=dict)
    rows: list[I64] = field(default_factory=list)
    counts: list[I64] = field(default_factory=list)

    def add(self, rows: I64, counts: I64) -> I64:
        """Adds counts to each row; returns where the rows are in this table."""
        places = np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            key = row.tobytes()
            place = self.index.setdefault(key, len(self.rows))
            if place == len(self.rows):
                self.rows.append(row)
                self.counts.append(counts[i].copy())
            else:
                self.counts[place] += counts[i]
            places[i] = place
        return places


@dataclass(frozen=True)
class Tally:
    """What a run found, summed over its blocks.

    Attributes:
        n_trials: Trials counted.
        states: Per policy int64[n_states, n_columns]; the states without errors come first, by stratum.
        counts: Per policy int64[n_states, n_grid].
        joint: Per whole year int64[n_joint, n_policies], rows of `states` that occur together in a trial.
        joint_counts: Per whole year int64[n_joint].
    """

    n_trials: int
    states: tuple[I64, ...]
    counts: tuple[I64, ...]
    joint: tuple[I64, ...]
    joint_counts: tuple[I64, ...]


class Merger:
    """Accumulates blocks, or sums of consecutive ones; call `add` in block order for the same rows every time."""

    def __init__(self, n_policies: int, n_years: int) -> None:
        self.n_trials = 0
        self._states = [_Table() for _ in range(n_policies)]
        self._joint = [_Table() for _ in range(n_years)]

    def add(self, block: Block | Tally) -> None:
        """Counts one more block, or the sum of some."""
        self.n_trials += block.n_trials
        places = [
            table.add(states, counts)
            for table, states, counts in zip(self._states, block.states, block.counts, strict=True)
        ]
        joints: Sequence[NDArray[Any]] = block.joint
        for table, joint, times in zip(self._joint, joints, block.joint_counts, strict=True):
            table.add(np.column_stack([places[p][joint[:, p]] for p in range(len(places))]), times)

    def tally(self) -> Tally:
        """Everything added so far."""
        return Tally(
            self.n_trials,
            tuple(np.array(table.rows) for table in self._states),
            tuple(np.array(table.counts) for table in self._states),
            tuple(np.array(table.rows) for table in self._joint),
            tuple(np.array(table.counts) for table in self._joint),
        )
