"""Boxes: which cells of a rank a fault of each mode spoils.

A rank has `n_banks` x `n_rows` x `n_lines_per_row` cache lines of 64 bytes, and each of its chips holds some bits of
every line. Inside its chip a fault reaches a box: a window of banks x rows x lines, and a window of the DIMM's ranks,
at the same chip position in each. A window of n out of N starts at a multiple of n, each with equal chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.faults.tables import MODES

I64 = NDArray[np.int64]

BOX_COLUMNS = ("bank_low", "n_banks", "row_low", "n_rows", "line_low", "n_lines")
"""Columns of the boxes in results."""

BIT, WORD = MODES.index("bit"), MODES.index("word")
ON_DIE_WORD_BITS = 128


class DimmShape(Protocol):
    """What the fault model asks of a DIMM; where a DIMM has two subchannels, it means one of them."""

    @property
    def n_banks(self) -> int:
        """Banks of a chip."""
        ...

    @property
    def n_rows(self) -> int:
        """Rows of a bank."""
        ...

    @property
    def n_lines_per_row(self) -> int:
        """Cache lines in one row of a rank."""
        ...

    @property
    def n_chips_per_rank(self) -> int:
        """Chips of a rank, those that hold check bits included."""
        ...

    @property
    def n_ranks(self) -> int:
        """Ranks of the DIMM."""
        ...

    @property
    def device_width_bits(self) -> int:
        """Data pins (DQ) of a chip."""
        ...

    @property
    def on_die_ecc(self) -> bool:
        """Whether each chip corrects one bit per 128 by itself."""
        ...


@dataclass(frozen=True)
class Shape:
    """One form that faults of a mode take: the window it reaches in each direction, 0 for all there is.

    Args:
        share: Share of the mode's faults that take this form.
        n_rows: Rows.
        n_lines: Cache lines within a row.
        n_banks: Banks.
        n_ranks: Ranks of the DIMM.

    Raises:
        ScenarioError: A share outside 0 to 1, or a window that is no whole number.

    Examples:
        >>> Shape(0.5, n_rows=512, n_lines=1)
        Shape(share=0.5, n_rows=512, n_lines=1, n_banks=1, n_ranks=1)
        >>> Shape(1.5)
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: share: 1.5 is not a share between 0 and 1
    """

    share: float = 1.0
    n_rows: int = 1
    n_lines: int = 1
    n_banks: int = 1
    n_ranks: int = 1

    def __post_init__(self) -> None:
        problems = [] if 0 <= self.share <= 1 else [f"share: {self.share!r} is not a share between 0 and 1"]
        for name in ("n_rows", "n_lines", "n_banks", "n_ranks"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                problems.append(f"{name}: {value!r} is not a whole number; write 0 for all")
        if problems:
            raise ScenarioError(problems)


Shapes = Mapping[str, Sequence[Shape]]

DEFAULT_SHAPES: Shapes = MappingProxyType(
    {
        "bit": (Shape(),),
        "word": (Shape(),),
        "column": (Shape(n_rows=0),),
        "row": (Shape(n_lines=0),),
        "bank": (Shape(n_rows=0, n_lines=0),),
        "multi-bank": (Shape(n_rows=0, n_lines=0, n_banks=0),),
        "multi-rank": (Shape(n_rows=0, n_lines=0, n_banks=0, n_ranks=0),),
    }
)
"""Each mode at its full reach: a column in all rows of its bank, a multi-bank fault in all banks."""


def chip_bits_per_line(dimm: DimmShape) -> int:
    """Bits of one cache line that one chip holds: a burst of 8 on every pin, or of 16 where it has on-die ECC (DDR5).

    Examples:
        >>> from types import SimpleNamespace
        >>> chip_bits_per_line(SimpleNamespace(device_width_bits=4, on_die_ecc=True))
        64
    """
    return dimm.device_width_bits * (16 if dimm.on_die_ecc else 8)


def dimm_sizes(dimm: DimmShape) -> I64:
    """Ranks, chips per rank, banks, rows, lines per row, bits per chip and line: int64[6], as the kernels want them."""
    ranks, chips, bits = dimm.n_ranks, dimm.n_chips_per_rank, chip_bits_per_line(dimm)
    return np.array([ranks, chips, dimm.n_banks, dimm.n_rows, dimm.n_lines_per_row, bits], np.int64)


def shape_windows(shape: Shape, dimm: DimmShape) -> tuple[int, int, int, int]:
    """Ranks, banks, rows and lines that a fault of this shape reaches in this DIMM.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=2, n_banks=16, n_rows=1 << 17, n_lines_per_row=128)
        >>> shape_windows(DEFAULT_SHAPES["row"][0], dimm)
        (1, 1, 1, 128)
    """
    return (
        shape.n_ranks or dimm.n_ranks,
        shape.n_banks or dimm.n_banks,
        shape.n_rows or dimm.n_rows,
        shape.n_lines or dimm.n_lines_per_row,
    )


def dimm_problems(dimm: DimmShape) -> list[str]:
    """What is wrong with the sizes of a DIMM, one line each.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm_problems(SimpleNamespace(n_ranks=1, n_chips_per_rank=18, n_banks=0, n_rows=1, n_lines_per_row=1,
        ...                               device_width_bits=5, on_die_ecc=False))
        ['dimm.n_banks: 0 is not a whole number, 1 or more', 'dimm.device_width_bits: 5 is not 4, 8 or 16']
    """
    problems = []
    for name in ("n_ranks", "n_chips_per_rank", "n_banks", "n_rows", "n_lines_per_row"):
        value = getattr(dimm, name)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            problems.append(f"dimm.{name}: {value!r} is not a whole number, 1 or more")
    if dimm.device_width_bits not in (4, 8, 16):
        problems.append(f"dimm.device_width_bits: {dimm.device_width_bits!r} is not 4, 8 or 16")
    if not problems and math.prod(map(int, dimm_sizes(dimm))) >= 1 << 62:
        problems.append("dimm: more than 2^62 bits; check its banks, rows and lines")
    if not problems and dimm.on_die_ecc and dimm.n_lines_per_row * chip_bits_per_line(dimm) % ON_DIE_WORD_BITS:
        problems.append(f"dimm.n_lines_per_row: {dimm.n_lines_per_row} lines of a chip are no whole on-die words")
    return problems


def shape_problems(shapes: Shapes, modes: Iterable[str], dimm: DimmShape) -> list[str]:
    """What is wrong with the shapes of these modes in a DIMM whose sizes are sound, one line each.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=1, n_banks=8, n_rows=768, n_lines_per_row=128)
        >>> print(*shape_problems({"column": [Shape(0.9, n_rows=512)]}, ["column", "row"], dimm), sep="\\n")
        shapes.column: the shares sum to 0.9, not 1
        shapes.column: 512 rows do not divide the 768 of the DIMM
        shapes.row: missing; say what a fault of this mode reaches
    """
    problems = [
        f"shapes.{name}: unknown mode; known: {', '.join(MODES)}{did_you_mean(name, MODES)}"
        for name in shapes
        if name not in MODES
    ]
    wholes = (dimm.n_ranks, dimm.n_banks, dimm.n_rows, dimm.n_lines_per_row)
    for mode in modes:
        if mode not in shapes:
            problems.append(f"shapes.{mode}: missing; say what a fault of this mode reaches")
            continue
        total = sum(shape.share for shape in shapes[mode])
        if abs(total - 1) > 1e-9:
            problems.append(f"shapes.{mode}: the shares sum to {total:g}, not 1")
        for shape in shapes[mode]:
            for window, whole, what in zip(
                shape_windows(shape, dimm), wholes, ("ranks", "banks", "rows", "lines"), strict=True
            ):
                if whole % window:
                    problems.append(f"shapes.{mode}: {window} {what} do not divide the {whole} of the DIMM")
            if mode in ("bit", "word") and {shape.n_rows, shape.n_lines, shape.n_banks, shape.n_ranks} != {1}:
                problems.append(f"shapes.{mode}: a {mode} fault reaches one line; write 1 for every window")
    return problems
