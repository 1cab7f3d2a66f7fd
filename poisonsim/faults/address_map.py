"""Address maps: which DRAM cell a physical address is, and back, exactly.

From the address down, a map first XORs address bits (`[hash]`), then takes controller, channel, subchannel and rank
out of the address, digit by digit (`[[interleave]]`), and last finds column, row and bank in what is left (`[bits]`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim import catalog
from poisonsim.errors import ScenarioError
from poisonsim.faults.geometry import LINE_BYTES, WORD_BYTES, Dimm
from poisonsim.faults.map_file import LEVELS, Level, field_bits, hash_matrix, invert, read_parts

I64 = NDArray[np.int64]

# compiled code takes the image of a cell from so many tables, each for so many of its bits; no DIMM has more in all
_N_PARTS, _PART_BITS = 5, 9


class Coordinates(NamedTuple):
    """Cells, each an int64 array of one shape.

    Args:
        controller: Memory controller of the interleave set.
        channel: Channel of the controller; on DDR5 2 x channel + subchannel.
        rank: Rank of the channel, over all its DIMMs.
        bank_group: Bank group of the rank.
        bank: Bank of the bank group.
        row: Row of the bank.
        column: Word of 8 bytes in the row.
        offset: Byte of the word.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> cells = load_address_map("linear", load_dimm("ddr4-16g-1rx4")).decode(np.array([0x20009]))
        >>> cells.row.tolist(), cells.column.tolist(), cells.offset.tolist()
        ([1], [1], [1])
    """

    controller: I64
    channel: I64
    rank: I64
    bank_group: I64
    bank: I64
    row: I64
    column: I64
    offset: I64


@dataclass(frozen=True, kw_only=True)
class AddressMap:
    """An exact, invertible map between the bytes of one interleave set and the cells of its DIMMs.

    Made by `load_address_map` and `parse_address_map`, which check what it is made of.

    Args:
        name: Name in the catalogue with its options, or the stem of the file it came from.
        title: Name people use.
        dimm: The DIMM in every slot.
        levels: Digits in the order they are taken out of the address.
        hash_rows: `(bit, mask)`: that address bit is the XOR of the mask's address bits before anything else is done.
        rank_rows: For each bit of offset, column, row, bank and bank group, lowest first, the mask of the bits of the
            address within the rank that are XORed to it.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> amap = load_address_map("skx-closed-6ch", load_dimm("ddr4-32g-2rx4"))
        >>> amap.n_bytes >> 30, amap.n_controllers, amap.n_channels, amap.n_ranks, amap.n_dimms, amap.stripe_bytes
        (192, 2, 3, 2, 6, 1536)
        >>> cells = amap.decode(np.array([0, 4096, 123_456_789_012]))
        >>> amap.encode(cells).tolist()
        [0, 4096, 123456789012]
    """

    name: str
    title: str
    dimm: Dimm
    levels: tuple[Level, ...]
    hash_rows: tuple[tuple[int, int], ...]
    rank_rows: tuple[int, ...]

    def _ways(self, *whats: str) -> int:
        return prod(level.ways for level in self.levels if level.what in whats)

    @property
    def n_controllers(self) -> int:
        """Memory controllers of the set."""
        return self._ways("controller")

    @property
    def n_channels(self) -> int:
        """Channels of a controller; a subchannel counts as one."""
        return self._ways("channel", "subchannel")

    @property
    def n_ranks(self) -> int:
        """Ranks of a channel, over all its DIMMs."""
        return self._ways("rank")

    @property
    def n_dimms(self) -> int:
        """DIMMs of the set."""
        n_ranks = self.n_controllers * self.n_channels * self.n_ranks
        return n_ranks // (self.dimm.n_ranks * self.dimm.n_subchannels)

    @property
    def n_bytes(self) -> int:
        """Bytes of the set: addresses run from 0 to `n_bytes` - 1."""
        return self.dimm.rank_bytes * self._ways(*LEVELS)

    @property
    def stripe_bytes(self) -> int:
        """Bytes in which every channel of the set has its turn; a cache line where there is but one channel."""
        stripe = LINE_BYTES
        for i, level in enumerate(self.levels):
            if level.what != "rank" and level.ways > 1:
                above = prod(before.ways for before in self.levels[:i] if before.shift <= level.shift)
                stripe = max(stripe, (1 << level.shift) * level.ways * above)
        return stripe

    def decode(self, addresses: I64) -> Coordinates:
        """The cells at byte addresses of the set.

        Args:
            addresses: int64[...], from 0 to `n_bytes` - 1.

        Raises:
            ValueError: An address outside the set.
        """
        a = np.asarray(addresses, dtype=np.int64)
        _check("address", a, self.n_bytes)
        if self.hash_rows:
            a = _apply(self._hash_tables[0], a)
        digit = {what: np.zeros_like(a) for what in LEVELS}
        for level in self.levels:
            chunk, below = a >> level.shift, a & ((1 << level.shift) - 1)
            turn = chunk % level.ways
            digit[level.what] = turn if level.add < 0 else (turn + (a >> level.add & 1)) % level.ways
            a = chunk // level.ways << level.shift | below
        word = _apply(self._rank_tables[0], a)
        field = {}
        for name, (start, n_bits) in self._fields.items():
            field[name] = word >> start & ((1 << n_bits) - 1)
        channel = digit["channel"] * self._ways("subchannel") + digit["subchannel"]
        return Coordinates(controller=digit["controller"], channel=channel, rank=digit["rank"], **field)

    def encode(self, coordinates: Coordinates) -> I64:
        """The byte addresses of cells: the inverse of `decode`.

        Args:
            coordinates: Arrays or numbers that broadcast to one shape.

        Raises:
            ValueError: A coordinate the set does not have.
        """
        c = Coordinates(*np.broadcast_arrays(*(np.asarray(part, dtype=np.int64) for part in coordinates)))
        dimm = self.dimm
        limits = (self.n_controllers, self.n_channels, self.n_ranks, dimm.n_bank_groups, dimm.n_banks_per_group)
        for name, part, limit in zip(c._fields, c, (*limits, dimm.n_rows, dimm.n_columns, WORD_BYTES), strict=True):
            _check(name, part, limit)
        word = np.zeros_like(c.row)
        for name, (start, _) in self._fields.items():
            word |= getattr(c, name) << start
        a = _apply(self._rank_tables[1], word)
        ways = self._ways("subchannel")
        digit = {
            "controller": c.controller, "channel": c.channel // ways, "subchannel": c.channel % ways, "rank": c.rank
        }  # fmt: skip
        for level in reversed(self.levels):
            chunk, below = a >> level.shift, a & ((1 << level.shift) - 1)
            turn = digit[level.what] if level.add < 0 else (digit[level.what] - (a >> level.add & 1)) % level.ways
            a = chunk * level.ways + turn << level.shift | below
        return _apply(self._hash_tables[1], a) if self.hash_rows else a

    def encoder(self) -> tuple[I64, ...]:
        """The arrays `encoding.encode_cell` works with, all int64 and C-contiguous; made once per map.

        Examples:
            >>> from poisonsim.faults.geometry import load_dimm
            >>> len(load_address_map("linear", load_dimm("ddr4-16g-1rx4")).encoder())
            6
        """
        return self._encoder

    @cached_property
    def _encoder(self) -> tuple[I64, ...]:
        dimm, line_bits = self.dimm, self._fields["column"][0] + 3  # of a byte in its line
        row_shift = dimm.n_lines_per_row.bit_length() - 1
        bank_shift = row_shift + dimm.n_rows.bit_length() - 1
        rank_shift = bank_shift + dimm.n_banks.bit_length() - 1
        cells = np.arange(1 << _PART_BITS) << (_PART_BITS * np.arange(_N_PARTS))[:, None]
        cells[cells >> rank_shift != 0] = 0
        parts = _apply(self._rank_tables[1], cells << line_bits)
        shape = (self.n_controllers, self.n_channels, self.n_ranks)
        controller, channel, rank = np.indices(shape, dtype=np.int64)
        sub = self._ways("subchannel")
        digit = {"controller": controller, "channel": channel // sub, "subchannel": channel % sub, "rank": rank}
        left = [level for level in self.levels if level.ways > 1]
        place = np.zeros(shape, dtype=np.int64)
        while left and left[-1].add < 0 and left[-1].ways.bit_count() == 1:  # its digit just takes some bits
            level = left.pop()
            parts = _make_room(parts, level)
            place = _make_room(place, level) | digit[level.what] << level.shift
        levels: list[tuple[int, int, int, int]] = []
        digits: list[I64] = []
        for level in left:
            ways = level.ways
            if levels and level.add < 0 and levels[-1][0] == level.shift and levels[-1][2] < 0:  # one larger digit
                digits[-1] = digits[-1] + levels[-1][1] * digit[level.what]
                levels[-1] = (level.shift, levels[-1][1] * ways, -1, levels[-1][3])
            else:
                digits.append(digit[level.what])
                levels.append((level.shift, ways, level.add, (1 << level.shift) - 1))
        return (
            np.array([row_shift, bank_shift, rank_shift, self.n_channels, self.n_ranks]),
            np.ascontiguousarray(parts),
            place.ravel(),
            np.array(levels, dtype=np.int64).reshape(-1, 4),
            np.array(digits, dtype=np.int64).reshape(len(levels), place.size),
            self._hash_tables[1] if self.hash_rows else np.zeros((0, 256), dtype=np.int64),
        )

    @cached_property
    def _fields(self) -> dict[str, tuple[int, int]]:
        """Lowest bit and number of bits of each part of the word that `rank_rows` yields."""
        fields, start = {}, 0
        for name, n_bits in field_bits(self.dimm).items():
            fields[name] = (start, n_bits)
            start += n_bits
        return fields

    @property
    def _rank_tables(self) -> tuple[I64, I64]:
        return _both_tables(self.rank_rows)

    @cached_property
    def _hash_tables(self) -> tuple[I64, I64]:
        return _both_tables(tuple(hash_matrix(self.hash_rows, self.n_bytes)))


def load_address_map(name_or_path: str | Path, dimm: Dimm) -> AddressMap:
    """The address map of that name in the catalogue, or the one of a TOML file, for hosts with `dimm` in every slot.

    Args:
        name_or_path: A name from `catalog.names("maps")` or a path that ends in `.toml`; options may follow, such as
            `"skx-open-6ch:controllers=1,channels=2,ranks=4"`. As many ranks as `dimm` has take turns where neither the
            file nor an option says how many.
        dimm: The DIMM.

    Raises:
        ScenarioError: No such map or file, a file with problems, or one that does not fit the DIMM (all are listed).

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> dimm = load_dimm("ddr4-32g-2rx4")
        >>> load_address_map("skx-open-6ch:ranks=4", dimm).n_dimms
        12
        >>> load_address_map("skx-open", dimm)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: 'skx-open' is not an address map of the catalogue; known: ...
    """
    text, options = catalog.split_options(str(name_or_path))
    if text.endswith(".toml"):
        tables, where = catalog.read_toml(Path(text), where=text), text
    elif problem := catalog.unknown_name("maps", text):
        raise ScenarioError(f"{problem}; a file works too: ./{text}.toml")
    else:
        tables, where = catalog.load("maps", text), f"{text}.toml"
    name = Path(text).name.removesuffix(".toml") + (f":{options}" if options else "")
    return parse_address_map(tables, dimm, name=name, where=where, options=options)


def parse_address_map(
    tables: Mapping[str, Any], dimm: Dimm, *, name: str, where: str = "map", options: str = ""
) -> AddressMap:
    """The address map described by tables laid out as the catalogue's TOML files are.

    Args:
        tables: Optional `hash.value`, `interleave` entries with `what`, `shift`, `ways` and `add`, and either `bits`
            with a table for each field or `order.value`; each table with `source` and `quality`.
        dimm: The DIMM in every slot.
        name: Name the map gets.
        where: Words that error messages begin with.
        options: Ways that replace those of the tables, such as `"channels=2,ranks=4"`.

    Raises:
        ScenarioError: Anything missing, unknown, not invertible or not fitting the DIMM; all problems are listed.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> parse_address_map({}, load_dimm("ddr4-16g-1rx4"), name="toy")
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: map: bits: missing; write [bits.column], [bits.row], ... or [order]
    """
    parts = read_parts(tables, dimm, where=where, options=options)
    return AddressMap(name=name, title=str(tables.get("title", "")), dimm=dimm, **parts._asdict())


def _check(name: str, values: I64, limit: int) -> None:
    if values.size and not (values.min() >= 0 and values.max() < limit):
        bad = values[(values < 0) | (values >= limit)].flat[0]
        raise ValueError(f"{name} {bad} is not from 0 to {limit - 1}")


@lru_cache(maxsize=64)
def _both_tables(rows: tuple[int, ...]) -> tuple[I64, I64]:
    """Tables of the matrix with these rows, and of its inverse."""
    return _tables(rows), _tables(tuple(invert(rows)[0]))


def _tables(rows: tuple[int, ...]) -> I64:
    """int64[n_bytes, 256]: what each byte of the input adds to the product with the matrix of these rows."""
    n_bytes, byte = (len(rows) + 7) // 8, np.arange(256, dtype=np.int64)
    tables = np.zeros((n_bytes, 256), dtype=np.int64)
    for bit in range(len(rows)):
        image = sum((row >> bit & 1) << i for i, row in enumerate(rows))
        tables[bit // 8] ^= (byte >> bit % 8 & 1) * np.int64(image)
    return tables


def _make_room(a: I64, level: Level) -> I64:
    """Addresses with the digit of a level put in, as 0."""
    return (a >> level.shift) * level.ways << level.shift | a & ((1 << level.shift) - 1)


def _apply(tables: I64, a: I64) -> I64:
    result = np.zeros_like(a)
    for k, table in enumerate(tables):
        result ^= table[a >> 8 * k & 255]
    return result
