"""Adds up blocks: distinct states over the whole run, and how many trials are in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import Block
from poisonsim.engine.rows import Extendable, Rows

I64 = NDArray[np.int64]


class _Table:
    """Distinct integer rows with counts that add up over blocks."""

    def __init__(self) -> None:
        self._rows, self._counts = Rows(1), Extendable()

    def add(self, rows: I64, counts: I64) -> I64:
        """Adds counts to each of some distinct rows; returns where the rows are in this table."""
        if not len(self._rows):
            self._rows, self._counts = Rows(rows.shape[1]), Extendable(*counts.shape[1:])
        places = self._rows.add(rows)
        self._counts.to_write(len(self._rows))[places] += counts
        return places

    def shown(self) -> tuple[I64, I64]:
        """Rows and counts, which stay as they are."""
        return self._rows.all, self._counts.all


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
        """Everything added so far; when more is added while somebody holds it, that goes to a copy."""
        states, joint = ([table.shown() for table in tables] for tables in (self._states, self._joint))
        return Tally(
            self.n_trials,
            tuple(rows for rows, _ in states),
            tuple(counts for _, counts in states),
            tuple(rows for rows, _ in joint),
            tuple(counts for _, counts in joint),
        )
