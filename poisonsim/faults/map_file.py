"""Map files: the parts of an address map from the tables of a TOML file, checked against the DIMM they are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from poisonsim.catalog.problems import FileProblems
from poisonsim.errors import did_you_mean, shown
from poisonsim.faults.geometry import WORD_BYTES, Dimm

LEVELS = ("controller", "channel", "subchannel", "rank")
"""What an interleave can take turns over."""
MOST_WAYS = {"controller": 32, "channel": 32, "subchannel": 2, "rank": 16}
"""How many of each take turns at most: more than any server has."""
FIELDS = ("column", "row", "bank", "bank_group")
"""What the address within a rank is made of, above the byte of an 8-byte word."""


@dataclass(frozen=True)
class Level:
    """One digit taken out of the address: chunks of `1 << shift` bytes take turns over `ways`.

    Args:
        what: One of `LEVELS`.
        shift: log2 of the chunk's bytes.
        ways: How many take turns; any number, not only powers of two.
        add: Bit below `shift` that is added to the digit, modulo `ways`; -1 for none.

    Examples:
        >>> Level("channel", 8, 3).ways
        3
    """

    what: str
    shift: int
    ways: int
    add: int = -1


class MapParts(NamedTuple):
    """What a map file holds; the meaning of each part stands at `AddressMap`.

    Examples:
        >>> MapParts((Level("channel", 8, 3),), (), ()).levels[0].ways
        3
    """

    levels: tuple[Level, ...]
    hash_rows: tuple[tuple[int, int], ...]
    rank_rows: tuple[int, ...]


def read_parts(tables: Mapping[str, Any], dimm: Dimm, *, where: str, options: str) -> MapParts:
    """The parts of the map that `tables` describe; `parse_address_map` says how they are laid out.

    Raises:
        ScenarioError: Anything missing, unknown, not invertible or not fitting the DIMM; all problems are listed.

    Examples:
        >>> from poisonsim.catalog import load
        >>> from poisonsim.faults.geometry import load_dimm
        >>> tables = load("maps", "skx-open-6ch")
        >>> read_parts(tables, load_dimm("ddr4-32g-2rx4"), where="skx-open-6ch.toml", options="").levels[1]
        Level(what='channel', shift=8, ways=3, add=-1)
    """
    problems = FileProblems(where)
    problems.known("", tables, ("hash", "interleave", "bits", "order"))
    levels = _levels(problems, tables.get("interleave", []), dimm, _options(problems, options))
    parts = MapParts(levels, _hash_rows(problems, tables.get("hash")), _rank_rows(problems, tables, dimm))
    if not problems.list:
        _check_fit(problems, parts, dimm)
    problems.raise_any()
    return parts


def field_bits(dimm: Dimm) -> dict[str, int]:
    """Bits of each part of an address within a rank, in the order `rank_rows` holds them.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> field_bits(load_dimm("ddr4-16g-1rx4"))
        {'offset': 3, 'column': 10, 'row': 17, 'bank': 2, 'bank_group': 2}
    """
    sizes = (WORD_BYTES, dimm.n_columns, dimm.n_rows, dimm.n_banks_per_group, dimm.n_bank_groups)
    return {name: n.bit_length() - 1 for name, n in zip(("offset", *FIELDS), sizes, strict=True)}


def hash_matrix(hash_rows: tuple[tuple[int, int], ...], n_bytes: int) -> list[int]:
    """Rows of the square matrix of bits that hashes the addresses of a set of `n_bytes`.

    Examples:
        >>> hash_matrix(((0, 0b101),), 8)
        [5, 2, 4]
    """
    n_bits = (n_bytes - 1).bit_length()
    rows = [1 << bit for bit in range(n_bits)]
    for bit, mask in hash_rows:
        rows[bit] = mask & ((1 << n_bits) - 1)
    return rows


def invert(rows: tuple[int, ...] | list[int]) -> tuple[list[int], list[int]]:
    """Rows of the inverse of a square matrix of bits, and the rows that depend on those before them.

    Row i is the mask of the input bits that are XORed to output bit i.

    Examples:
        >>> invert([0b11, 0b10]), invert([0b11, 0b11])[1]
        (([3, 2], []), [1])
    """
    left, right, dependent = list(rows), [1 << i for i in range(len(rows))], []
    for i in range(len(rows)):
        if left[i] == 0:
            dependent.append(i)
            continue
        pivot = left[i] & -left[i]
        for j in range(len(rows)):
            if j != i and left[j] & pivot:
                left[j] ^= left[i]
                right[j] ^= right[i]
    inverse = dict(zip(left, right, strict=True))
    return [inverse.get(1 << bit, 0) for bit in range(len(rows))], dependent


def _options(problems: FileProblems, text: str) -> dict[str, int]:
    """Ways by level from `"channels=2,ranks=4"`."""
    names, ways = {f"{what}s": what for what in LEVELS}, {}
    for option in filter(None, text.split(",")):
        key, _, value = option.partition("=")
        if key not in names:
            problems.add(f"option {shown(key)}", f"unknown; allowed: {', '.join(names)}{did_you_mean(key, names)}")
        elif names[key] in ways:
            problems.add(f"option {key!r}", "is given twice; give it once")
        elif not value.isascii() or not value.isdecimal():
            problems.add(f"option {key!r}", f"{shown(value)} is not a whole number; write {key}=2")
        elif len(value) > 9 or not 1 <= int(value) <= MOST_WAYS[names[key]]:
            problems.add(f"option {key!r}", f"{shown(value)} is not from 1 to {MOST_WAYS[names[key]]}; write {key}=2")
        else:
            ways[names[key]] = int(value)
    return ways


def _levels(problems: FileProblems, entries: object, dimm: Dimm, options: dict[str, int]) -> tuple[Level, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        problems.add("interleave", f"{shown(entries)} is not a list of tables; write [[interleave]] once per level")
        return ()
    from_dimm = {"subchannel": dimm.n_subchannels, "rank": dimm.n_ranks}
    rank_shift, levels = dimm.rank_bytes.bit_length() - 1, []
    seen: list[object] = []
    for i, entry in enumerate(entries):
        key, what = f"interleave[{i}]", entry.get("what")
        problems.known(key, entry, ("what", "shift", "ways", "add"))
        problems.sourced(key, entry)
        if what not in LEVELS or what in seen:
            why = "appears twice" if what in seen else "is not something to take turns over"
            problems.add(f"{key}.what", f"{shown(what)} {why}; allowed, once each: {', '.join(LEVELS)}")
            continue
        seen.append(what)
        shift = problems.whole(f"{key}.shift", entry.get("shift", rank_shift), least=6, most=60)
        given = options.pop(what, entry.get("ways", from_dimm.get(what)))
        ways = problems.whole(f"{key}.ways", given, least=1, most=MOST_WAYS[what])
        add = problems.whole(f"{key}.add", entry["add"], least=6, most=shift - 1) if "add" in entry else -1
        levels.append(Level(what, shift, ways, add))
    for what in options:
        problems.add(f"option '{what}s'", f"this map has no [[interleave]] with what = {what!r}")
    found = {level.what: level.ways for level in levels}
    if not problems.list and found.get("rank", 1) % dimm.n_ranks:
        problems.add(
            "interleave",
            f"{found.get('rank', 1)} ranks take turns, not a multiple of the {dimm.n_ranks} of {dimm.name}",
        )
    n_subchannels = found.get("subchannel", 1)
    if not problems.list and n_subchannels != dimm.n_subchannels:
        problems.add(
            "interleave",
            f"{n_subchannels} subchannel{' takes' if n_subchannels == 1 else 's take'} turns, but {dimm.name} has "
            f"{dimm.n_subchannels}; choose another DIMM, or a map with what = 'subchannel'",
        )
    return tuple(levels)


def _terms(problems: FileProblems, key: str, table: Mapping[str, Any]) -> list[list[int]]:
    """The bit numbers of `value = "6^20 7"`: one list for each term."""
    value = table.get("value")
    problems.known(key, table, ("value",))
    problems.sourced(key, table)
    if not isinstance(value, str) or not re.fullmatch(r"\s*\d+(\^\d+)*(\s+\d+(\^\d+)*)*\s*", value, re.ASCII):
        what = "missing" if value is None else f"{shown(value)} is not a list of bits"
        problems.add(f"{key}.value", f'{what}; write bit numbers as in "6^20 7 8", where ^ is XOR')
        return []
    terms = []
    for text in value.split():
        term = [int(bit) if len(bit) < 10 else 10**9 for bit in text.split("^")]  # Python reads no thousands of digits
        if max(term) > 60 or len(set(term)) < len(term):
            text = text if len(text) <= 60 else f"{text[:57]}..."
            problems.add(f"{key}.value", f"{text}: bits are from 0 to 60, each once in a term")
        terms.append(term)
    return [] if any(max(term) > 60 for term in terms) else terms


_PLURALS = {"column": "columns", "row": "rows", "bank": "banks of a group", "bank_group": "bank groups"}


def _term(mask: int) -> str:
    return "^".join(str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1)


def _mask(bits: list[int]) -> int:
    return sum(1 << bit for bit in set(bits))


def _hash_rows(problems: FileProblems, table: object) -> tuple[tuple[int, int], ...]:
    if table is None:
        return ()
    terms = _terms(problems, "hash", problems.table("hash", table))
    targets = [term[0] for term in terms]
    if len(set(targets)) < len(targets):
        problems.add("hash.value", f"first bits {' '.join(map(str, targets))} are not all different")
    return tuple((term[0], _mask(term)) for term in terms)


def _rank_rows(problems: FileProblems, tables: Mapping[str, Any], dimm: Dimm) -> tuple[int, ...]:
    n_bits = field_bits(dimm)
    rows = {"offset": [1 << bit for bit in range(n_bits["offset"])]}
    if ("bits" in tables) == ("order" in tables):
        what = "give one of bits and order, not both" if "bits" in tables else "missing"
        problems.add("bits", f"{what}; write [bits.column], [bits.row], ... or [order]")
        return ()
    if "order" in tables:
        table = problems.table("order", tables["order"])
        problems.known("order", table, ("value",))
        problems.sourced("order", table)
        order = str(table.get("value", "")).split()
        if sorted(order) != sorted(FIELDS):
            problems.add(
                "order.value", f"{shown(table.get('value'))} is not {', '.join(FIELDS)} in some order, lowest first"
            )
            return ()
        start = n_bits["offset"]
        for name in order:
            rows[name] = [1 << bit for bit in range(start, start + n_bits[name])]
            start += n_bits[name]
        return tuple(row for name in n_bits for row in rows[name])
    bits = problems.table("bits", tables["bits"])
    problems.known("bits", bits, FIELDS)
    top = sum(n_bits.values())
    for name in FIELDS:
        terms = _terms(problems, f"bits.{name}", problems.table(f"bits.{name}", bits.get(name)))
        if terms and len(terms) < n_bits[name]:
            lacks = n_bits[name] - len(terms)
            problems.add(
                f"bits.{name}",
                f"has {len(terms)} bit{'s' * (len(terms) != 1)}, {dimm.name} needs {n_bits[name]}: "
                f"add {'one' if lacks == 1 else lacks}, or name a DIMM with fewer {_PLURALS[name]}",
            )
        rows[name] = [_mask(term) for term in terms[: n_bits[name]]]
        if beyond := sorted({bit for term in terms[: n_bits[name]] for bit in term if bit >= top}):
            problems.add(
                f"bits.{name}",
                f"bit {beyond[0]} is beyond the address within a rank of {dimm.name}; allowed: 0 to {top - 1}",
            )
    flat = [(name, i, row) for name in n_bits for i, row in enumerate(rows[name])]
    if not problems.list:
        first: dict[int, str] = {}
        twice = False
        for name, i, row in flat:
            if row in first:
                twice = True
                problems.add(
                    f"bits.{name}", f"{_term(row)} (bit {i}) is told twice, by {first[row]} too; each must tell its own"
                )
            first.setdefault(row, f"bits.{name} (bit {i})" if name != "offset" else "the byte of the word")
        for index in [] if twice else invert([row for _, _, row in flat])[1]:
            name, i, row = flat[index]
            term = _term(row)
            problems.add(
                f"bits.{name}", f"{term} (bit {i}) repeats what other bits tell; all {top} must be independent"
            )
        used = 0
        for _, _, row in flat:
            used |= row
        if missing := [str(bit) for bit in range(top) if not used >> bit & 1]:
            problems.add(
                "bits", f"nothing is made of bit {', '.join(missing)} of the {top} of an address within a rank"
            )
    return tuple(row for _, _, row in flat)


def _check_fit(problems: FileProblems, parts: MapParts, dimm: Dimm) -> None:
    """Keep what stops digits and hash from being exact over the whole set."""
    n_bytes = all_bytes = dimm.rank_bytes * prod(level.ways for level in parts.levels)
    if n_bytes >= 1 << 60:
        problems.add("interleave", f"a set of {n_bytes} bytes is too large; at most 2^60 are allowed")
        return
    for i, level in enumerate(parts.levels):
        n_bytes //= level.ways
        if n_bytes % (1 << level.shift):
            most = (n_bytes & -n_bytes).bit_length() - 1
            problems.add(f"interleave[{i}].shift", f"{level.shift} is too large for these DIMMs; at most {most} fits")
    if parts.hash_rows and not problems.list:
        top, whole = max(bit for bit, _ in parts.hash_rows), all_bytes & -all_bytes
        most = (all_bytes - 1).bit_length() - 1
        beyond = max(mask.bit_length() - 1 for _, mask in parts.hash_rows)
        if 2 << top > whole:
            problems.add("hash.value", f"bit {top} of a set of {all_bytes} bytes cannot be hashed; up to "
                         f"{whole.bit_length() - 2} can")  # fmt: skip
        elif beyond > most:
            problems.add(
                "hash.value",
                f"bit {beyond} is beyond the addresses of a set of {all_bytes} bytes; allowed: 0 to {most}",
            )
        elif invert(hash_matrix(parts.hash_rows, all_bytes))[1]:
            problems.add("hash.value", "two addresses become one; let no term undo another")
