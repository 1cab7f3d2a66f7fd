"""The host's memory as DRAM: interleave sets of DIMMs, and what of them backs the VM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import compiled
from poisonsim.faults.address_map import AddressMap
from poisonsim.faults.reach import (
    F_BANK,
    F_BANKS,
    F_CHANNEL,
    F_CONTROLLER,
    F_LINE,
    F_LINES,
    F_MANY,
    F_MODE,
    F_RANK,
    F_RANKS,
    F_ROW,
    F_ROWS,
    F_SET,
    N_FAULT_COLUMNS,
)

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class HostMemory:
    """As many whole interleave sets as it takes to back the VM, which lies in them from the first byte on.

    What the last set has beyond the VM belongs to others: faults strike there too, and do not count.

    Args:
        address_map: How one set's addresses lie in its DIMMs.
        vm_bytes: Memory of the VM.

    Examples:
        >>> from poisonsim.faults.address_map import load_address_map
        >>> from poisonsim.faults.geometry import load_dimm
        >>> memory = HostMemory(load_address_map("skx-closed-6ch", load_dimm("ddr4-32g-2rx4")), 1 << 40)
        >>> memory.n_sets, memory.n_dimms, round(memory.vm_share, 3)
        (6, 36, 0.889)
    """

    address_map: AddressMap
    vm_bytes: int

    @property
    def n_sets(self) -> int:
        """Interleave sets."""
        return -(-self.vm_bytes // self.address_map.n_bytes)

    @property
    def n_dimms(self) -> int:
        """DIMMs of all sets."""
        return self.n_sets * self.address_map.n_dimms

    @property
    def vm_share(self) -> float:
        """Share of this memory that backs the VM."""
        return self.vm_bytes / (self.n_sets * self.address_map.n_bytes)

    def place(self, where: I64, modes: I64, windows: I64, kind: I64, many: NDArray[np.bool_]) -> I64:
        """Rows of faults at random places, for `growth.find_lines`.

        Args:
            where: int64[n], a cache line of the host's memory, of `n_lines`, that each fault reaches.
            modes: int64[n_kinds], fault mode of each kind.
            windows: int64[n_kinds, 4], ranks, banks, rows and lines that a fault of the kind reaches.
            kind: int64[n], kind of each fault.
            many: bool[n], whether each spoils many lines at once.

        Returns:
            int64[n, N_FAULT_COLUMNS].
        """
        m, dimm = self.address_map, self.address_map.dimm
        sizes = (dimm.n_lines_per_row, dimm.n_rows, dimm.n_banks, m.n_ranks, m.n_channels, m.n_controllers)
        rows: I64 = _place(where, modes, windows, kind, many, np.array(sizes, np.int64))
        return rows

    def place_box(self, unit: I64, rank: I64, box: I64, modes: I64, many: NDArray[np.bool_]) -> I64:
        """Rows of faults that reach given boxes, for `growth.find_lines`.

        Args:
            unit: int64[n], which DIMM (subchannel of a DIMM that has two).
            rank: int64[n], rank of that DIMM.
            box: int64[n, 6], columns as in `boxes.BOX_COLUMNS`.
            modes: int64[n], fault modes.
            many: bool[n], whether each spoils many lines at once.

        Returns:
            int64[n, N_FAULT_COLUMNS].
        """
        m = self.address_map
        rows = np.empty((len(unit), N_FAULT_COLUMNS), np.int64)
        dimms_per_channel = m.n_ranks // m.dimm.n_ranks
        slot, left = unit % dimms_per_channel, unit // dimms_per_channel
        rows[:, F_RANK], rows[:, F_RANKS] = slot * m.dimm.n_ranks + rank, 1
        rows[:, [F_BANK, F_BANKS, F_ROW, F_ROWS, F_LINE, F_LINES]] = box
        rows[:, F_CHANNEL], left = left % m.n_channels, left // m.n_channels
        rows[:, F_CONTROLLER], rows[:, F_SET] = left % m.n_controllers, left // m.n_controllers
        rows[:, F_MODE], rows[:, F_MANY] = modes, many
        return rows

    @property
    def n_lines(self) -> int:
        """Cache lines of all sets."""
        return self.n_sets * self.address_map.n_bytes // 64


@compiled
def log2_of(n: int) -> int:
    """log2 of a power of two."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


@compiled
def _place(where: Any, modes: Any, windows: Any, kind: Any, many: Any, sizes: Any) -> Any:
    rows = np.empty((len(where), N_FAULT_COLUMNS), np.int64)
    row_shift = log2_of(sizes[0])
    bank_shift = row_shift + log2_of(sizes[1])
    rank_shift = bank_shift + log2_of(sizes[2])
    for i in range(len(where)):
        here = where[i]
        row, window = rows[i], windows[kind[i]]
        # a window is as many of a power of two, so it begins where its lower bits are 0
        row[F_LINE], row[F_LINES] = here & (sizes[0] - 1) & -window[3], window[3]
        row[F_ROW], row[F_ROWS] = (here >> row_shift) & (sizes[1] - 1) & -window[2], window[2]
        row[F_BANK], row[F_BANKS] = (here >> bank_shift) & (sizes[2] - 1) & -window[1], window[1]
        left = here >> rank_shift
        row[F_RANK], row[F_RANKS] = left % sizes[3] & -window[0], window[0]
        left //= sizes[3]
        row[F_CHANNEL] = left % sizes[4]
        left //= sizes[4]
        row[F_CONTROLLER], row[F_SET] = left % sizes[5], left // sizes[5]
        row[F_MODE], row[F_MANY] = modes[kind[i]], many[i]
    return rows


@compiled
def sort_within(start: Any, years: Any, faults: Any) -> None:
    """Sorts the faults of each trial by time, in place; most trials have one.

    Args:
        start: int64[n_trials + 1], first fault of each trial.
        years: float64[n_faults].
        faults: int64[n_faults, N_FAULT_COLUMNS].
    """
    moved = np.empty(N_FAULT_COLUMNS, np.int64)
    for t in range(len(start) - 1):
        for f in range(start[t] + 1, start[t + 1]):
            if years[f] >= years[f - 1]:
                continue
            when, k = years[f], f
            moved[:] = faults[f]
            while k > start[t] and years[k - 1] > when:
                years[k] = years[k - 1]
                faults[k] = faults[k - 1]
                k -= 1
            years[k] = when
            faults[k] = moved


@compiled
def pick_kinds(u: Any, host: Any, spoils: Any, chances: Any) -> Any:
    """Kind of each fault: int64[n_faults].

    Args:
        u: float64[n_faults], uniform.
        host: int64[n_faults], class of each one's host.
        spoils: bool[n_faults], whether it spoils many lines at once.
        chances: float64[n_classes, 2, n_kinds], of the kinds, cumulated: of faults with few lines, and with many.
    """
    kind = np.empty(len(u), np.int64)
    for f in range(len(u)):
        cumulative = chances[host[f], np.int64(spoils[f])]
        at = u[f] * cumulative[-1]
        n = 0
        for chance in cumulative:
            n += chance <= at
        kind[f] = n
    return kind


@compiled
def chosen(u: Any, start: Any, many: Any) -> Any:
    """Which faults are among those chosen, `many` of each trial's, all choices alike: bool[n_faults].

    Args:
        u: float64[n_faults], uniform.
        start: int64[n_trials + 1], first fault of each trial.
        many: int64[n_trials].
    """
    among = np.empty(len(u), np.bool_)
    for t in range(len(start) - 1):
        left = many[t]
        for f in range(start[t], start[t + 1]):
            among[f] = u[f] * (start[t + 1] - f) < left
            left -= among[f]
    return among
