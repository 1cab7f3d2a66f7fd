"""DIMM geometries: ranks, chips, banks, rows and columns from TOML files, each number with its source and quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from poisonsim import catalog
from poisonsim.catalog.problems import FileProblems
from poisonsim.errors import ScenarioError, shown
from poisonsim.units import GIB

WORD_BYTES = 8
"""Bytes of one column of a rank: what a column number counts."""
LINE_BYTES = 64
"""Bytes of a cache line."""
WORDS_PER_LINE = LINE_BYTES // WORD_BYTES

GENERATIONS = ("DDR2", "DDR3", "DDR4", "DDR5")

_SECTIONS = {
    "module": ("n_ranks", "n_subchannels", "n_chips_per_rank", "device_width_bits", "on_die_ecc"),
    "banks": ("n_bank_groups", "n_banks_per_group"),
    "array": ("n_rows", "n_columns"),
}
_POWERS_OF_TWO = {
    "n_ranks": (1, 8),
    "n_subchannels": (1, 2),
    "device_width_bits": (4, 16),
    "n_bank_groups": (1, 16),
    "n_banks_per_group": (1, 16),
    "n_rows": (512, 1 << 22),
    "n_columns": (64, 1 << 14),
}


@dataclass(frozen=True, kw_only=True)
class Dimm:
    """What one DIMM is made of.

    Args:
        name: Name in the catalogue, or the stem of the file it came from.
        title: Name people use.
        generation: One of `GENERATIONS`.
        n_ranks: Ranks of the DIMM.
        n_subchannels: Independent halves of the DIMM: 2 for DDR5, otherwise 1.
        n_chips_per_rank: Chips of one rank of one subchannel, those for ECC included.
        device_width_bits: Data bits of one chip: 4, 8 or 16.
        n_bank_groups: Bank groups of a rank.
        n_banks_per_group: Banks of a bank group.
        n_rows: Rows of a bank.
        n_columns: Words of 8 bytes in a row of a rank.
        on_die_ecc: Whether the chips correct errors themselves.

    Examples:
        >>> dimm = load_dimm("ddr5-64g-2rx4")
        >>> dimm.n_banks, dimm.n_lines_per_row, dimm.rank_bytes >> 30, dimm.bytes >> 30, dimm.n_chips
        (32, 128, 16, 64, 40)
    """

    name: str
    title: str
    generation: str
    n_ranks: int
    n_subchannels: int
    n_chips_per_rank: int
    device_width_bits: int
    n_bank_groups: int
    n_banks_per_group: int
    n_rows: int
    n_columns: int
    on_die_ecc: bool

    @property
    def n_banks(self) -> int:
        """Banks of a rank."""
        return self.n_bank_groups * self.n_banks_per_group

    @property
    def n_lines_per_row(self) -> int:
        """Cache lines in a row of a rank."""
        return self.n_columns // WORDS_PER_LINE

    @property
    def rank_bytes(self) -> int:
        """Data bytes of one rank of one subchannel."""
        return self.n_rows * self.n_columns * WORD_BYTES * self.n_banks

    @property
    def bytes(self) -> int:
        """Data bytes of the DIMM."""
        return self.rank_bytes * self.n_ranks * self.n_subchannels

    @property
    def data_bits(self) -> int:
        """Data bits that a rank of one subchannel moves at a time."""
        return 8 * WORD_BYTES // self.n_subchannels

    @property
    def n_chips(self) -> int:
        """Chips of the DIMM, those for ECC included."""
        return self.n_chips_per_rank * self.n_ranks * self.n_subchannels


def load_dimm(name_or_path: str | Path) -> Dimm:
    """The DIMM of that name in the catalogue, or the one a TOML file describes.

    Args:
        name_or_path: A name from `catalog.names("dimms")`, or a path that ends in `.toml`.

    Raises:
        ScenarioError: No such DIMM or file, or a file with problems (all of them are listed).

    Examples:
        >>> load_dimm("ddr4-32g-2rx4").n_rows
        131072
        >>> load_dimm("ddr4-32g")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: 'ddr4-32g' is not a DIMM of the catalogue; known: ...
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return _parse(catalog.read_toml(Path(text), where=text), name=Path(text).stem, where=text)
    return _load_shipped(text)


@cache
def _load_shipped(name: str) -> Dimm:
    if problem := catalog.unknown_name("dimms", name):
        raise ScenarioError(f"{problem}; a file works too: ./{name}.toml")
    return _parse(catalog.load("dimms", name), name=name, where=f"{name}.toml")


def _parse(tables: Mapping[str, Any], *, name: str, where: str) -> Dimm:
    problems = FileProblems(where)
    problems.known("", tables, ("generation", *_SECTIONS))
    generation = tables.get("generation")
    if generation not in GENERATIONS:
        what = "missing" if generation is None else f"{shown(generation)} is not known"
        problems.add("generation", f"{what}; allowed: {', '.join(GENERATIONS)}")
    found: dict[str, Any] = {}
    for section, keys in _SECTIONS.items():
        table = problems.table(section, tables.get(section))
        if table:
            problems.known(section, table, keys)
            for key in keys:
                found[key] = _value(problems, f"{section}.{key}", table, key)
    if not problems.list:
        _check_together(problems, found)
    problems.raise_any()
    return Dimm(name=name, title=str(tables.get("title", "")), generation=str(generation), **found)


def _value(problems: FileProblems, where: str, table: Mapping[str, Any], key: str) -> int | bool:
    """The value of `key`, plain or as `{value, source, quality}`."""
    value = table.get(key)
    if isinstance(value, Mapping):
        table, value = value, value.get("value")
    if value is not None:
        problems.sourced(where, table)
    if key == "on_die_ecc":
        if not isinstance(value, bool):
            problems.add(
                where, ("missing" if value is None else f"{shown(value)} is neither") + "; write true or false"
            )
        return bool(value)
    if key not in _POWERS_OF_TWO:
        return problems.whole(where, value, least=1, most=64)
    least, most = _POWERS_OF_TWO[key]
    number = problems.whole(where, value, least=least, most=most)
    if number & (number - 1):
        problems.add(where, f"{number} is not a power of two; nearest: {1 << number.bit_length() - 1}")
    return number


def _check_together(problems: FileProblems, found: Mapping[str, int]) -> None:
    """Keep what no single value is to blame for."""
    width, n_chips = found["device_width_bits"], found["n_chips_per_rank"]
    needed = 8 * WORD_BYTES // found["n_subchannels"]
    check = needed // 8
    if n_chips * width != needed and not needed + check <= n_chips * width <= 2 * needed:
        fewest = -(-(needed + check) // width)
        problems.add(
            "module.n_chips_per_rank",
            f"{n_chips} chips of {width} bits are {n_chips * width} data and ECC bits; a rank of a DIMM with "
            f"{found['n_subchannels']} subchannels has {needed} data bits, and ECC takes {check} or more: write "
            f"{needed // width} without ECC, or {fewest} to {2 * needed // width} with it",
        )
    rank_bytes = found["n_rows"] * found["n_columns"] * WORD_BYTES
    rank_bytes *= found["n_bank_groups"] * found["n_banks_per_group"]
    if rank_bytes > 1024 * GIB:
        problems.add(
            "array.n_rows",
            f"rows, columns and banks make a rank of {rank_bytes // GIB} GiB; at most 1024 are allowed",
        )
