"""Address maps are exact inverses, whatever their bits, digits and hash."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poisonsim import catalog
from poisonsim.faults.address_map import AddressMap, load_address_map, parse_address_map
from poisonsim.faults.encoding import cell_of, encode_cell, unit_of
from poisonsim.faults.geometry import Dimm, load_dimm
from poisonsim.faults.map_file import LEVELS

SOURCED = {"source": "drawn", "quality": "assumed"}


def log2(n: int) -> int:
    return n.bit_length() - 1


@st.composite
def dimms(draw: st.DrawFn) -> Dimm:
    def power(least: int, most: int) -> int:
        return 1 << draw(st.integers(least, most))

    return Dimm(
        name="drawn", title="", generation="DDR5", n_ranks=power(0, 1), n_subchannels=power(0, 1), n_chips_per_rank=9,
        device_width_bits=8, n_bank_groups=power(0, 3), n_banks_per_group=power(0, 2), n_rows=power(9, 12),
        n_columns=power(6, 10), on_die_ecc=False,
    )  # fmt: skip


@st.composite
def bit_tables(draw: st.DrawFn, dimm: Dimm) -> dict[str, Any]:
    """Fields of a random invertible matrix: a permutation of the bits, then one row added to another many times."""
    top = log2(dimm.rank_bytes)
    rows = [{bit} for bit in draw(st.permutations(range(3, top)))]
    steps = st.tuples(st.integers(0, top - 4), st.integers(0, top - 4))
    for to, what in draw(st.lists(steps, max_size=30)):
        if to != what:
            rows[to] = rows[to] ^ rows[what]
    tables, start = {}, 0
    sizes = {
        "column": dimm.n_columns,
        "row": dimm.n_rows,
        "bank": dimm.n_banks_per_group,
        "bank_group": dimm.n_bank_groups,
    }
    for name, n in sizes.items():
        # A list longer than the DIMM needs is cut; with no bit at all the list still names one.
        terms = ["^".join(map(str, sorted(row))) for row in rows[start : start + log2(n)]] + ["50"]
        tables[name] = {"value": " ".join(terms), **SOURCED}
        start += log2(n)
    return tables


@st.composite
def maps(draw: st.DrawFn) -> AddressMap:
    dimm = draw(dimms())
    top = log2(dimm.rank_bytes)
    ways = {
        "controller": draw(st.sampled_from([1, 2, 5])),
        "channel": draw(st.sampled_from([1, 2, 3, 5, 7])),
        "subchannel": dimm.n_subchannels,
        "rank": dimm.n_ranks * draw(st.integers(1, 3)),
    }
    interleave = []
    for what in draw(st.permutations(LEVELS)):
        shift = draw(st.integers(6, top))
        entry = {"what": what, "shift": shift, "ways": ways[what], **SOURCED}
        if shift > 6 and draw(st.booleans()):
            entry["add"] = draw(st.integers(6, shift - 1))
        interleave.append(entry)
    tables = {"interleave": interleave, "bits": draw(bit_tables(dimm))}
    if targets := draw(st.lists(st.integers(6, top - 1), unique=True, max_size=4)):
        last = (dimm.rank_bytes * prod(ways.values()) - 1).bit_length() - 1
        terms = []
        for bit in targets:
            above = draw(st.lists(st.integers(bit + 1, last), unique=True, max_size=3)) if bit < last else []
            terms.append("^".join(map(str, [bit, *above])))
        tables["hash"] = {"value": " ".join(terms), **SOURCED}
    return parse_address_map(tables, dimm, name="drawn")


def check_inverses(amap: AddressMap, seed: int) -> None:
    a = np.random.default_rng(seed).integers(amap.n_bytes, size=200)
    a = np.concatenate([a, np.arange(130), amap.n_bytes - 1 - np.arange(130)])
    cells = amap.decode(a)
    np.testing.assert_array_equal(amap.encode(cells), a)
    limits = (amap.n_controllers, amap.n_channels, amap.n_ranks)
    for part, limit in zip(cells[:3], limits, strict=True):
        assert part.min() >= 0 and part.max() < limit
    bank = cells.bank_group * amap.dimm.n_banks_per_group + cells.bank
    words = amap.encode(cells._replace(column=cells.column // 8 * 8, offset=np.zeros_like(a)))
    m = amap.encoder()
    for i in range(0, len(a), 9):
        unit = unit_of(m, cells.controller[i], cells.channel[i], cells.rank[i])
        assert encode_cell(m, unit, cell_of(m, bank[i], cells.row[i], cells.column[i] // 8)) == words[i]


@given(maps(), st.integers(0, 1 << 32))
@settings(max_examples=150, deadline=None)
def test_random_maps_are_exact_inverses(amap: AddressMap, seed: int) -> None:
    check_inverses(amap, seed)


def fits(name: str, dimm: str) -> bool:
    """Skylake-SP's bits are those of DDR4, and only some maps have subchannels."""
    return dimm.startswith("ddr4") if name.startswith("skx") else not (name.startswith("zen-df3") and "ddr5" in dimm)


SHIPPED = [(name, dimm) for name in catalog.names("maps") for dimm in catalog.names("dimms") if fits(name, dimm)]


@given(st.integers(0, 1 << 32))
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize(("name", "dimm"), SHIPPED)
def test_shipped_maps_are_exact_inverses(name: str, dimm: str, seed: int) -> None:
    check_inverses(load_address_map(name, load_dimm(dimm)), seed)
