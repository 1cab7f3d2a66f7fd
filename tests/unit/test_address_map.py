"""DIMM geometries and address maps: shipped ones, pages touched by one fault, and what is said of wrong files."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from poisonsim import catalog
from poisonsim.errors import FitError, ScenarioError
from poisonsim.faults.address_map import AddressMap, Coordinates, load_address_map
from poisonsim.faults.encoding import cell_of, encode_cell, unit_of
from poisonsim.faults.geometry import Dimm, load_dimm
from poisonsim.faults.map_fit import LoggedCells, fit_address_map

GIB = 1 << 30


def dimm_for(name: str) -> Dimm:
    """A DIMM that the shipped map of that name fits."""
    return load_dimm("ddr5-64g-2rx4" if name.startswith(("spr", "zen-df4")) else "ddr4-32g-2rx4")


def shipped(name: str) -> AddressMap:
    return load_address_map(name, dimm_for(name))


# -------------------------------------------------------------------------------------------------------- geometries


@pytest.mark.parametrize(
    ("name", "dimm_gib", "rank_gib", "n_banks", "n_lines", "n_chips", "on_die_ecc"),
    [
        ("ddr2-2g-1rx4", 2, 2, 8, 256, 18, False),
        ("ddr4-16g-1rx4", 16, 16, 16, 128, 18, False),
        ("ddr4-32g-2rx4", 32, 16, 16, 128, 36, False),
        ("ddr4-32g-2rx8", 32, 16, 16, 128, 18, False),
        ("ddr4-64g-2rx4", 64, 32, 16, 128, 36, False),
        ("ddr5-64g-2rx4", 64, 16, 32, 128, 40, True),
    ],
)
def test_shipped_dimms_have_the_bytes_of_their_name(
    name: str, dimm_gib: int, rank_gib: int, n_banks: int, n_lines: int, n_chips: int, on_die_ecc: bool
) -> None:
    dimm = load_dimm(name)
    assert (dimm.bytes, dimm.rank_bytes) == (dimm_gib * GIB, rank_gib * GIB)
    assert (dimm.n_banks, dimm.n_lines_per_row, dimm.n_chips, dimm.on_die_ecc) == (
        n_banks,
        n_lines,
        n_chips,
        on_die_ecc,
    )
    data_chips = 64 // dimm.n_subchannels // dimm.device_width_bits
    chip_bits = dimm.rank_bytes * 8 // data_chips
    assert chip_bits == {"ddr2-2g-1rx4": 1, "ddr4-16g-1rx4": 8, "ddr4-32g-2rx4": 8}.get(name, 16) * GIB


def test_every_shipped_dimm_is_tested_above() -> None:
    assert catalog.names("dimms") == (
        "ddr2-2g-1rx4", "ddr4-16g-1rx4", "ddr4-32g-2rx4", "ddr4-32g-2rx8", "ddr4-64g-2rx4", "ddr5-64g-2rx4",
    )  # fmt: skip


DIMM = """
title = "mine"
generation = "DDR4"
[module]
n_ranks = 1
n_subchannels = 1
n_chips_per_rank = 18
device_width_bits = 4
on_die_ecc = false
source = "data sheet"
quality = "vendor"
[banks]
n_bank_groups = 4
n_banks_per_group = 4
source = "data sheet"
quality = "vendor"
[array]
n_rows = 131072
n_columns = 1024
source = "data sheet"
quality = "vendor"
"""


def test_a_dimm_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DIMM)
    dimm = load_dimm(path)
    assert (dimm.name, dimm.title, dimm.bytes) == ("mine", "mine", 16 * GIB)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("n_rows = 131072", "n_rows = 131073", "array.n_rows: 131073 is not a power of two; nearest: 131072"),
        ("n_rows = 131072", "n_rows = 8388608", "array.n_rows: 8388608 is not a whole number from 512 to 4194304"),
        ("n_rows = 131072", "", "array.n_rows: missing; write a whole number from 512 to 4194304"),
        ("n_rows = 131072", "n_row = 131072\nn_rows = 131072", "array.n_row: unknown key; did you mean n_rows?"),
        ("n_ranks = 1", "n_ranks = true", "module.n_ranks: true is not a whole number from 1 to 8"),
        ("n_ranks = 1", "n_ranks = {value = 1}", "module.n_ranks: needs a source and a quality, one of measured-field, published, vendor, assumed"),
        ("on_die_ecc = false", "on_die_ecc = 0", "module.on_die_ecc: 0 is neither; write true or false"),
        ("chips_per_rank = 18", "chips_per_rank = 15", "module.n_chips_per_rank: 15 chips of 4 bits are 60 data and ECC bits; a rank of a DIMM with 1 subchannels has 64 data bits, and ECC takes 8 or more: write 16 without ECC, or 18 to 32 with it"),
        ("chips_per_rank = 18", "chips_per_rank = 17", "module.n_chips_per_rank: 17 chips of 4 bits are 68 data and ECC bits; a rank of a DIMM with 1 subchannels has 64 data bits, and ECC takes 8 or more: write 16 without ECC, or 18 to 32 with it"),
        ('title = "mine"', 'titel = "mine"', "titel: unknown key; did you mean title?"),
        ('"DDR4"', '"DDR9"', "generation: 'DDR9' is not known; allowed: DDR2, DDR3, DDR4, DDR5"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_wrong_dimm(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DIMM.replace(old, new, 1))
    with pytest.raises(ScenarioError) as caught:
        load_dimm(path)
    assert caught.value.problems == (f"{path}: {problem}",)


def test_a_rank_too_large_and_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DIMM.replace("131072", "4194304").replace("n_columns = 1024", "n_columns = 16384"))
    with pytest.raises(ScenarioError, match="array.n_rows: rows, columns and banks make a rank of 8192 GiB"):
        load_dimm(path)
    path.write_text("generation = 4\n[module]\nn_ranks = 3\n[arrays]\n")
    with pytest.raises(ScenarioError) as caught:
        load_dimm(path)
    assert {problem.split(": ")[1] for problem in caught.value.problems} == {
        "arrays", "generation", "module.n_ranks", "module.n_subchannels", "module.n_chips_per_rank",
        "module.device_width_bits", "module.on_die_ecc", "banks", "array",
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize(
    ("name", "controllers", "channels", "ranks", "dimms", "stripe"),
    [
        ("linear", 1, 1, 2, 1, 64),
        ("skx-closed-6ch", 2, 3, 2, 6, 1536),
        ("skx-open-6ch", 2, 3, 2, 6, 1536),
        ("skx-open-fbg-6ch", 2, 3, 2, 6, 1536),
        ("skx-open-fbg-8ch-4k", 2, 4, 2, 8, 32768),
        ("spr-8ch", 4, 4, 2, 8, 4096),
        ("zen-df3-nps1-8ch", 4, 2, 2, 8, 16384),
        ("zen-df4-nps1-12ch", 4, 6, 2, 12, 49152),
    ],
)
def test_shipped_maps(name: str, controllers: int, channels: int, ranks: int, dimms: int, stripe: int) -> None:
    amap = shipped(name)
    assert (amap.n_controllers, amap.n_channels, amap.n_ranks, amap.n_dimms) == (controllers, channels, ranks, dimms)
    assert amap.n_bytes == dimms * amap.dimm.bytes
    assert amap.stripe_bytes == stripe
    cells = amap.decode(np.arange(0, stripe, 64) + 5 * 49152)
    assert len(set(zip(cells.controller.tolist(), cells.channel.tolist(), strict=True))) == controllers * channels


def test_every_shipped_map_is_tested_above() -> None:
    assert catalog.names("maps") == (
        "linear", "skx-closed-6ch", "skx-open-6ch", "skx-open-fbg-6ch", "skx-open-fbg-8ch-4k", "spr-8ch",
        "zen-df3-nps1-8ch", "zen-df4-nps1-12ch",
    )  # fmt: skip


def bit(a: Any, *bits: int) -> Any:
    return sum(a >> b for b in bits) & 1


def gather(a: Any, bits: str) -> Any:
    return sum((a >> int(b) & 1) << i for i, b in enumerate(bits.split()))


@pytest.mark.parametrize("page", ["closed", "open", "open-fbg"])
def test_skylake_decodes_as_its_published_steps_say(page: str) -> None:
    """The decoder's steps once more, written out: channel, rank, then the bits of each field."""
    amap = shipped(f"skx-{page}-6ch")
    a = np.random.default_rng(7).integers(amap.n_bytes, size=5_000)
    cells = amap.decode(a)
    for ways, name in ((2, "controller"), (3, "channel")):
        np.testing.assert_array_equal(getattr(cells, name), (a >> 8) % ways)
        a = (a >> 8) // ways << 8 | a & 255
    shift = 6 if page == "closed" else 13
    np.testing.assert_array_equal(cells.rank, (a >> shift) % 2)
    a = (a >> shift) // 2 << shift | a & ((1 << shift) - 1)
    if page == "closed":
        row, column = "15 16 17 18 20 21 22 28 10 11 12 13 29 30 31 32 33", "3 4 5 14 19 23 24 25 26 27"
        group, bank = bit(a, 6, 20) + 2 * bit(a, 7, 21), bit(a, 8, 22) + 2 * bit(a, 9, 28)
    else:
        row = "14 15 16 20 28 21 22 23 24 25 26 27 29 30 31 32 33"
        column = "3 4 5 6 7 8 9 10 11 12" if page == "open" else "3 4 5 7 8 9 10 11 12 13"
        group = bit(a, 13 if page == "open" else 6, 20) + 2 * bit(a, 17, 21)
        bank = bit(a, 18, 22) + 2 * bit(a, 19, 23)
    for name, expected in (
        ("row", gather(a, row)),
        ("column", gather(a, column)),
        ("bank_group", group),
        ("bank", bank),
    ):
        np.testing.assert_array_equal(getattr(cells, name), expected)


def test_the_hashed_channels_of_data_fabric_3() -> None:
    amap = shipped("zen-df3-nps1-8ch")
    a = np.random.default_rng(7).integers(amap.n_bytes, size=5_000)
    cells = amap.decode(a)
    expected = bit(a, 8, 14, 18, 23, 32) + 2 * bit(a, 12, 16, 21, 30) + 4 * bit(a, 13, 17, 22, 31)
    np.testing.assert_array_equal(2 * cells.controller + cells.channel, expected)


def test_the_twelve_channels_of_data_fabric_4() -> None:
    """From group, offset in the group and address within the channel to the physical address, as Linux goes."""
    amap, rng, n = shipped("zen-df4-nps1-12ch"), np.random.default_rng(7), 5_000
    group, offset, hashed = rng.integers(4, size=n), rng.integers(3, size=n), rng.integers(2, size=n)
    a = (rng.integers(amap.n_bytes >> 16, size=n) // 3 * 3 + (offset - hashed) % 3) << 14
    a |= rng.integers(1 << 11, size=n) << 1 & 0xEFF  # bits 0 to 7 and 9 to 11 stay where they are
    a |= (hashed + bit(a, 14, 16, 21, 30)) % 2 << 8
    a |= (group % 2 + bit(a, 17, 22, 31)) % 2 << 12
    a |= (group // 2 + bit(a, 18, 23, 32)) % 2 << 13
    cells = amap.decode(a)
    np.testing.assert_array_equal(cells.controller, group)
    np.testing.assert_array_equal(cells.channel // 2, offset)


@njit  # type: ignore[untyped-decorator]
def addresses(m: Any, places: Any) -> Any:
    out = np.empty(len(places), dtype=np.int64)
    for i in range(len(places)):
        controller, channel, rank, bank, row, line = places[i]
        out[i] = encode_cell(m, unit_of(m, controller, channel, rank), cell_of(m, bank, row, line))
    return out


@pytest.mark.parametrize("name", catalog.names("maps"))
def test_compiled_code_gets_the_same_addresses(name: str) -> None:
    amap, rng = shipped(name), np.random.default_rng(7)
    dimm = amap.dimm
    limits = (amap.n_controllers, amap.n_channels, amap.n_ranks, dimm.n_banks, dimm.n_rows, dimm.n_lines_per_row)
    places = np.stack([rng.integers(limit, size=500) for limit in limits], axis=1)

    controller, channel, rank, bank, row, line = places.T
    group, bank_of_group = np.divmod(bank, dimm.n_banks_per_group)
    expected = amap.encode(Coordinates(controller, channel, rank, group, bank_of_group, row, line * 8, np.int64(0)))
    np.testing.assert_array_equal(addresses(amap.encoder(), places), expected)
    assert addresses.py_func(amap.encoder(), places[:20]).tolist() == expected[:20].tolist()
    assert all(array.dtype == np.int64 and array.flags.c_contiguous for array in amap.encoder())


def test_addresses_and_cells_outside_the_set() -> None:
    amap = shipped("skx-open-6ch")
    with pytest.raises(ValueError, match=f"address {amap.n_bytes} is not from 0 to {amap.n_bytes - 1}"):
        amap.decode(np.array([0, amap.n_bytes]))
    with pytest.raises(ValueError, match="address -1 is not from 0"):
        amap.decode(np.array([-1]))
    cell = amap.decode(np.array([0]))
    with pytest.raises(ValueError, match="channel 3 is not from 0 to 2"):
        amap.encode(cell._replace(channel=np.array([3])))
    assert amap.encode(cell._replace(row=np.arange(4))).shape == (4,)


# ------------------------------------------------------------------------------------------- pages touched by one fault

TABLE = {
    # fault: distinct 4K, 2M and 1G pages under each of the five maps below, medians over places
    "row": ((128, 64, 3), (24, 1, 1), (12, 1, 1), (4, 1, 1), (2, 1, 1)),
    "two rows": ((256, 64, 3), (48, 1, 1), (24, 1, 1), (8, 1, 1), (4, 1, 1)),
    "column, 512 rows": ((512, 48, 2), (512, 96, 2), (512, 80, 2), (512, 64, 2), (512, 32, 1)),
    "column, 2048 rows": ((2048, 48, 2), (2048, 384, 4), (2048, 320, 3), (2048, 256, 4), (2048, 128, 1)),
    "column": ((131072, 1536, 64), (131072, 24576, 192), (131072, 20480, 96), (131072, 16384, 256), (131072, 8192, 16)),
    "subarray": ((65536, 3072, 6), (12288, 96, 2), (6144, 80, 2), (2048, 64, 2), (1024, 32, 1)),
}
MAPS = (
    ("skx-closed-6ch", "ddr4-32g-2rx4"),
    ("skx-open-fbg-6ch", "ddr4-32g-2rx4"),
    ("skx-open-6ch", "ddr4-16g-1rx4"),
    ("skx-open-fbg-8ch-4k", "ddr4-32g-2rx4"),
    ("linear", "ddr4-16g-1rx4"),
)


@pytest.mark.parametrize("fault", TABLE)
@pytest.mark.parametrize("which", range(len(MAPS)), ids=[name for name, _ in MAPS])
def test_pages_that_one_fault_touches(fault: str, which: int) -> None:
    amap = load_address_map(MAPS[which][0], load_dimm(MAPS[which][1]))
    dimm, rng = amap.dimm, np.random.default_rng(which)
    lines = np.arange(0, dimm.n_columns, 8)
    height = {"row": 1, "two rows": 2, "column, 512 rows": 512, "column, 2048 rows": 2048, "subarray": 512}
    n_rows = height.get(fault, dimm.n_rows)
    touched = []
    for _ in range(3 if fault == "column" else 25):
        limits = (amap.n_controllers, amap.n_channels, amap.n_ranks, dimm.n_bank_groups, dimm.n_banks_per_group)
        place = [rng.integers(limit) for limit in limits]
        rows = rng.integers(dimm.n_rows) // n_rows * n_rows + np.arange(n_rows)
        columns = rng.choice(lines) if fault.startswith("column") else lines
        a = amap.encode(Coordinates(*place, rows[:, np.newaxis], columns, np.int64(0)))
        touched.append([len(np.unique(a >> shift)) for shift in (12, 21, 30)])
    assert tuple(np.median(touched, axis=0).astype(int)) == TABLE[fault][which]


# ------------------------------------------------------------------------------------------- options, files of one's own


def test_options_replace_ways() -> None:
    dimm = load_dimm("ddr4-32g-2rx4")
    amap = load_address_map("skx-open-6ch:controllers=1,channels=2,ranks=4", dimm)
    assert (amap.name, amap.n_dimms, amap.n_ranks) == ("skx-open-6ch:controllers=1,channels=2,ranks=4", 4, 4)
    assert amap.stripe_bytes == 512


@pytest.mark.parametrize(
    ("name", "dimm", "problem"),
    [
        ("skx-open-6ch:channel=2", "ddr4-32g-2rx4", "option 'channel': unknown; allowed: controllers, channels, subchannels, ranks; did you mean channels?"),
        ("skx-open-6ch:ranks=two", "ddr4-32g-2rx4", "option 'ranks': 'two' is not a whole number; write ranks=2"),
        ("skx-open-6ch:ranks=3", "ddr4-32g-2rx4", "interleave: 3 ranks take turns, not a multiple of the 2 of ddr4-32g-2rx4"),
        ("skx-open-6ch:channels=0", "ddr4-32g-2rx4", "option 'channels': '0' is not from 1 to 32; write channels=2"),
        ("skx-open-6ch:ranks=" + "2" * 5000, "ddr4-32g-2rx4", f"option 'ranks': '{'2' * 56}... is not from 1 to 16; write ranks=2"),
        ("skx-open-6ch:ranks=18", "ddr4-32g-2rx4", "option 'ranks': '18' is not from 1 to 16; write ranks=2"),
        ("skx-open-6ch:controllers=64", "ddr4-32g-2rx4", "option 'controllers': '64' is not from 1 to 32; write controllers=2"),
        ("skx-open-6ch:ranks=2,ranks=4", "ddr4-32g-2rx4", "option 'ranks': is given twice; give it once"),
        ("skx-open-6ch:subchannels=2", "ddr4-32g-2rx4", "option 'subchannels': this map has no [[interleave]] with what = 'subchannel'"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_options(name: str, dimm: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_address_map(name, load_dimm(dimm))
    assert caught.value.problems == (f"skx-open-6ch.toml: {problem}",)


def test_a_dimm_that_does_not_fit_the_map() -> None:
    with pytest.raises(ScenarioError, match="1 subchannel takes turns, but ddr5-64g-2rx4 has 2"):
        load_address_map("skx-open-6ch", load_dimm("ddr5-64g-2rx4"))
    with pytest.raises(ScenarioError) as caught:
        load_address_map("skx-open-6ch", load_dimm("ddr2-2g-1rx4"))
    assert (
        "skx-open-6ch.toml: bits.column: has 10 bits, ddr2-2g-1rx4 needs 11: add one, or name a DIMM with fewer columns"
        in caught.value.problems
    )
    with pytest.raises(ScenarioError, match="'skx' is not .* of the catalogue; known: linear.*a file works too"):
        load_address_map("skx", load_dimm("ddr4-32g-2rx4"))


MAP = """
title = "mine"
[hash]
value = "8^20 9^21^30"
source = "us"
quality = "assumed"
[[interleave]]
what = "channel"
shift = 8
ways = 3
source = "us"
quality = "assumed"
[bits]
column = {value = "3 4 5 6 7 8 9 10 11 12", source = "us", quality = "assumed"}
row = {value = "17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34", source = "us", quality = "assumed"}
bank_group = {value = "13^17 14^18", source = "us", quality = "assumed"}
bank = {value = "15 16", source = "us", quality = "assumed"}
"""


def test_a_map_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MAP)
    amap = load_address_map(path, load_dimm("ddr4-16g-1rx4"))
    assert (amap.name, amap.title, amap.n_dimms, amap.n_bytes) == ("mine", "mine", 3, 48 * GIB)
    a = np.random.default_rng(1).integers(amap.n_bytes, size=1000)
    np.testing.assert_array_equal(amap.encode(amap.decode(a)), a)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('bank = {value = "15 16"', 'bank = {value = "15 17"', "bits.bank: 17 (bit 1) is told twice, by bits.row (bit 0) too; each must tell its own"),
        ('bank = {value = "15 16"', 'bank = {value = "15 17"', "bits: nothing is made of bit 16 of the 34 of an address within a rank"),
        ('"3 4 5 6', '"3 4 5 5^6^5', "bits.column.value: 5^6^5: bits are from 0 to 60, each once in a term"),
        ('"13^17 14^18"', '"13^17 13"', "bits: nothing is made of bit 14 of the 34 of an address within a rank"),
        ('"15 16"', '"15 40"', "bits.bank: bit 40 is beyond the address within a rank of ddr4-16g-1rx4; allowed: 0 to 33"),
        ('"15 16"', '"15"', "bits.bank: has 1 bit, ddr4-16g-1rx4 needs 2: add one, or name a DIMM with fewer banks of a group"),
        ('"15 16"', '"15,16"', "bits.bank.value: '15,16' is not a list of bits; write bit numbers as in \"6^20 7 8\", where ^ is XOR"),
        ('"13^17 14^18"', '"13^14 14^15"', ""),
        ('"15 16"', '"15 99999999999999999999"', "bits.bank.value: 99999999999999999999: bits are from 0 to 60, each once in a term"),
        ('"15 16"', f'"15 1{"0" * 4999}"', f"bits.bank.value: 1{'0' * 56}...: bits are from 0 to 60, each once in a term"),
        ('"8^20 9^21^30"', '"8^20 9^99999999999999999999"', "hash.value: 9^99999999999999999999: bits are from 0 to 60, each once in a term"),
        ('what = "channel"', 'what = ["channel"]', "interleave[0].what: ['channel'] is not something to take turns over; allowed, once each: controller, channel, subchannel, rank"),
        ('value = "8^20 9^21^30"', "value = [8]", 'hash.value: [8] is not a list of bits; write bit numbers as in "6^20 7 8", where ^ is XOR'),
        ("9^21^30", "9^21^36", "hash.value: bit 36 is beyond the addresses of a set of 51539607552 bytes; allowed: 0 to 35"),
        ("9^21^30", "9^21^35", ""),
        ("ways = 3", "ways = 33", "interleave[0].ways: 33 is not a whole number from 1 to 32"),
        ('"15 16"', '"15 15"', "bits.bank: 15 (bit 1) is told twice, by bits.bank (bit 0) too; each must tell its own"),
        ('"15 16"', '"15 13^17"', "bits.bank_group: 13^17 (bit 0) is told twice, by bits.bank (bit 1) too; each must tell its own"),
        ('"15 16"', '"15 2"', "bits.bank: 2 (bit 1) is told twice, by the byte of the word too; each must tell its own"),
        ('title = "mine"', 'titel = "mine"', "titel: unknown key; did you mean title?"),
        ('"15 16"', '"13^14^16 13^14^16^17"', "bits.bank: 13^14^16^17 (bit 1) repeats what other bits tell; all 34 must be independent"),
        ("ways = 3", "ways = 0", "interleave[0].ways: 0 is not a whole number from 1 to 32"),
        ("ways = 3", "", "interleave[0].ways: missing; write a whole number from 1 to 32"),
        ("shift = 8", "shift = 3", "interleave[0].shift: 3 is not a whole number from 6 to 60"),
        ("shift = 8", "shift = 35", "interleave[0].shift: 35 is too large for these DIMMs; at most 34 fits"),
        ("shift = 8", "shift = 8\nadd = 8", "interleave[0].add: 8 is not a whole number from 6 to 7"),
        ("shift = 8", "shfit = 8\nshift = 8", "interleave[0].shfit: unknown key; did you mean shift?"),
        ('what = "channel"', 'what = "socket"', "interleave[0].what: 'socket' is not something to take turns over; allowed, once each: controller, channel, subchannel, rank"),
        ("[bits]", '[[interleave]]\nwhat = "channel"\nsource = "us"\nquality = "assumed"\n[bits]', "interleave[1].what: 'channel' appears twice; allowed, once each: controller, channel, subchannel, rank"),
        ("[[interleave]]", "[interleave]", "interleave: {'what': 'channel', 'shift': 8, 'ways': 3, 'source': 'us'... is not a list of tables; write [[interleave]] once per level"),
        ("9^21^30", "20^8", "hash.value: two addresses become one; let no term undo another"),
        ("9^21^30", "8^21", "hash.value: first bits 8 8 are not all different"),
        ("9^21^30", "35^9", "hash.value: bit 35 of a set of 51539607552 bytes cannot be hashed; up to 33 can"),
        ("[bits]", '[order]\nvalue = "row"\nsource = "us"\nquality = "assumed"\n[bits]', "bits: give one of bits and order, not both; write [bits.column], [bits.row], ... or [order]"),
        ("[hash]", "[hush]", "hush: unknown key; did you mean hash?"),
        ('source = "us"\nquality = "assumed"\n[[', 'source = "us"\n[[', "hash: needs a source and a quality, one of measured-field, published, vendor, assumed"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_wrong_map(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in MAP
    path = tmp_path / "mine.toml"
    path.write_text(MAP.replace(old, new, 1))
    if not problem:
        load_address_map(path, load_dimm("ddr4-16g-1rx4"))
        return
    with pytest.raises(ScenarioError) as caught:
        load_address_map(path, load_dimm("ddr4-16g-1rx4"))
    assert f"{path}: {problem}" in caught.value.problems


def test_an_order_that_lacks_a_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[order]\nvalue = "column row bank"\nsource = "us"\nquality = "assumed"\n')
    with pytest.raises(
        ScenarioError, match="order.value: 'column row bank' is not column, row, bank, bank_group in some order"
    ):
        load_address_map(path, load_dimm("ddr4-16g-1rx4"))


def test_a_colon_in_a_folder_is_no_option(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "mine.toml").write_text(MAP)
    dimm = load_dimm("ddr4-16g-1rx4")
    assert load_address_map(folder / "mine.toml", dimm).name == "mine"
    assert load_address_map(f"{folder}/mine.toml:channels=4", dimm).n_channels == 4
    with pytest.raises(
        ScenarioError, match=r"gone.toml: cannot be read: No such file or directory; tried /.*gone.toml"
    ):
        load_address_map("./gone.toml:channels=4", dimm)
    with pytest.raises(ScenarioError, match="no path has a NUL character"):
        load_address_map("a\0.toml", dimm)


# --------------------------------------------------------------------------------------------------- cells from logs

DIMM_32 = load_dimm("ddr4-32g-2rx4")


def logged(name: str, dimm: Dimm, controller: int, channel: int, n: int = 40) -> LoggedCells:
    amap, rng = load_address_map(name, dimm), np.random.default_rng(7)
    c = amap.decode(rng.integers(amap.n_bytes, size=n))
    c = c._replace(controller=np.full(n, controller), channel=np.full(n, channel), offset=np.zeros(n, dtype=np.int64))
    return LoggedCells(c.rank, c.bank_group, c.bank, c.row, c.column, amap.encode(c) + (4 << 30))


def test_amd_hosts_are_found_whatever_the_channel_of_the_dimm() -> None:
    for controller, channel in ((0, 0), (3, 1)):
        found = fit_address_map(logged("zen-df3-nps1-8ch", DIMM_32, controller, channel), dimm=DIMM_32)
        assert (found.best.name, found.residual_bytes, found.n_tied) == ("zen-df3-nps1-8ch:ranks=2", 0, 1)
        assert found.tried[0].base == 4 << 30
    ddr5 = load_dimm("ddr5-64g-2rx4")
    found = fit_address_map(logged("zen-df4-nps1-12ch", ddr5, 2, 5), dimm=ddr5)
    assert (found.best.name, found.residual_bytes) == ("zen-df4-nps1-12ch:ranks=2", 0)


ROWS = np.arange(6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"row": ROWS[:5]}, "the columns are of unequal lengths (rank 6, bank_group 6, bank 6, row 5, column 6, address 6); give one number of each for every cell"),
        ({"row": ROWS * 1.0}, "row: float64 is no type of whole numbers; give int64, as from .astype('int64')"),
        ({"row": ROWS.astype(str)}, "row: <U21 is no type of whole numbers; give int64, as from .astype('int64')"),
        ({"row": ROWS > 3}, "row: bool is no type of whole numbers; give int64, as from .astype('int64')"),
        ({"row": 3}, "row: an array of shape () is no list; give one number for each cell"),
        ({"row": ROWS[np.newaxis]}, "row: an array of shape (1, 6) is no list; give one number for each cell"),
        ({"bank": ROWS}, "bank: 5 of cell 5 is not one of the 4 of ddr4-32g-2rx4, 0 to 3"),
        ({"rank": -ROWS // 5}, "rank: -1 of cell 1 is not one of the 2 of ddr4-32g-2rx4, 0 to 1"),
        ({"address": ROWS.astype(np.uint64) << np.uint64(61)}, "address: 11529215046068469760 of cell 5 is not one of the 1152921504606846976, 0 to 1152921504606846975"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_cells(change: dict[str, Any], problem: str) -> None:
    zero = np.zeros(6, dtype=np.int64)
    cells = LoggedCells(zero, zero, zero, ROWS, zero, ROWS << 30)._replace(**change)
    with pytest.raises(FitError) as caught:
        fit_address_map(cells, dimm=DIMM_32)
    assert caught.value.problems == (problem,)


def test_every_wrong_column_is_named() -> None:
    with pytest.raises(FitError) as caught:
        fit_address_map(LoggedCells(*np.full((6, 3), 1.5)), dimm=DIMM_32)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == list(LoggedCells._fields)


def test_one_cell_no_cell_and_candidates_of_another_dimm() -> None:
    one = np.zeros(1, dtype=np.int64)
    with pytest.raises(FitError, match="1 distinct cell cannot tell one address map from another; give 5 or more"):
        fit_address_map(LoggedCells(one, one, one, one, one, one), dimm=DIMM_32)
    with pytest.raises(FitError, match="0 distinct cells cannot tell"):
        fit_address_map(LoggedCells([], [], [], [], [], []), dimm=DIMM_32)  # type: ignore[arg-type]
    other = load_address_map("linear", load_dimm("ddr4-16g-1rx4"))
    with pytest.raises(FitError, match="candidate linear is a map of ddr4-16g-1rx4, not of ddr4-32g-2rx4; load it"):
        fit_address_map(logged("skx-open-6ch", DIMM_32, 0, 0), [other], dimm=DIMM_32)
