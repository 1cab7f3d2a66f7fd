"""Fault modes, told from the coordinates of the cells that gave errors.

The field studies name a fault by the smallest part of the DRAM that holds its cells (V. Sridharan and D. Liberty, "A
study of DRAM failures in the field", SC 2012; the classification behind the catalogue's table `ddr4-alibaba`). They
leave open when cells far apart are one fault. Here those of one bank of a chip are; banks of a chip are if there are
three or more, or two that share a row; and ranks are if they share a row of a bank, or have three banks each. So a
stray bit beside a bad row stays a fault of its own.

It sees what manifested: a broken row of which one line was read is taken for a bit, so that modes err on the small
side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from poisonsim.faults.geometry import WORDS_PER_LINE
from poisonsim.fitting.cells import Cells
from poisonsim.fitting.findings import I64
from poisonsim.logs import Kind

HELD = 0.95
"""Share of the cells that a row or column must hold; logs have a few wrong coordinates."""
_MANY_BANKS = 3
_PLACE = ("rank", "device", "bank_group", "bank", "row", "column")
LASTING_S = 86_400
"""A fault whose errors span more than a day, one pass of the patrol, is taken for permanent."""


@dataclass(frozen=True)
class Fault:
    """Cells that are taken for one fault.

    Attributes:
        host: Number of its host.
        mode: One of `poisonsim.faults.tables.MODES`.
        first, last: Seconds since 1970 of its first and last error.
        n_cells: Distinct cells.
        n_errors: Errors.
        uncorrected: Whether any was uncorrected.
        where: Places of its cells in `Cells`, int64[n].
    """

    host: int
    mode: str
    first: int
    last: int
    n_cells: int
    n_errors: int
    uncorrected: bool
    where: I64

    @property
    def permanent(self) -> bool:
        """Whether its errors span more than a day."""
        return self.last - self.first > LASTING_S


def faults_of(cells: Cells) -> list[Fault]:
    """The faults behind some cells, by DIMM."""
    return [fault for of_dimm in cells.by_dimm for fault in _of_dimm(cells, of_dimm)]


def _of_dimm(cells: Cells, of_dimm: I64) -> Iterator[Fault]:
    rank, device, group, in_group, row, column = (cells.column(name)[of_dimm] for name in _PLACE)
    bank = in_group + (group << 32)

    def parts(which: I64, by: I64) -> list[I64]:
        return [which[by[which] == number] for number in np.unique(by[which])]

    def banks(which: I64) -> int:
        return len(np.unique(bank[which]))

    ranks = parts(np.arange(len(of_dimm)), rank)
    if len(ranks) > 1:
        rows = Counter(place for of in ranks for place in set(zip(bank[of].tolist(), row[of].tolist(), strict=True)))
        if max(rows.values()) > 1 or sum(banks(of) >= _MANY_BANKS for of in ranks) > 1:
            yield _fault(cells, of_dimm, "multi-rank")
            return
    for of_chip in (chip for of in ranks for chip in parts(of, device)):
        of_banks = parts(of_chip, bank)
        shared = Counter(number for of in of_banks for number in set(row[of].tolist()))
        if len(of_banks) >= _MANY_BANKS or max(shared.values()) > 1:
            yield _fault(cells, of_dimm[of_chip], "multi-bank")
            continue
        for of in of_banks:
            yield _fault(cells, of_dimm[of], mode_in_bank(row[of], column[of]))


def _fault(cells: Cells, which: I64, mode: str) -> Fault:
    places = np.unique(np.stack([cells.column(name)[which] for name in _PLACE if name != "device"]), axis=1)
    return Fault(
        int(cells.column("host")[which[0]]), mode, int(cells.first[which].min()), int(cells.last[which].max()),
        places.shape[1], int(cells.errors[which].sum()), bool((cells.column("kind")[which] == Kind.UE).any()), which,
    )  # fmt: skip


def mode_in_bank(row: I64, column: I64) -> str:
    """The mode of a fault with these cells of one bank: bit, row (or two adjacent ones), column, or bank.

    Columns are told apart by cache line, which is how finely most logs have them.

    Examples:
        >>> mode_in_bank(np.array([7, 7]), np.array([16, 17])), mode_in_bank(np.array([7, 8]), np.array([0, 80]))
        ('bit', 'row')
        >>> mode_in_bank(np.array([7, 900]), np.array([16, 16])), mode_in_bank(np.array([7, 900]), np.array([0, 80]))
        ('column', 'bank')
    """
    pairs = np.unique(np.stack([row, column // WORDS_PER_LINE]), axis=1)
    n = pairs.shape[1]
    if n == 1:
        return "bit"
    rows, of_row = np.unique(pairs[0], return_counts=True)
    adjacent = of_row[:-1][np.diff(rows) == 1] + of_row[1:][np.diff(rows) == 1]
    widest, longest = max(of_row.max(), adjacent.max(initial=0)), np.unique(pairs[1], return_counts=True)[1].max()
    if max(widest, longest) < HELD * n:
        return "bank"
    return "row" if widest >= longest else "column"
