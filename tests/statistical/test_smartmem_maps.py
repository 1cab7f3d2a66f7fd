"""Address maps recovered from real corrected errors that were logged with both cell and physical address."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.geometry import load_dimm
from poisonsim.faults.map_fit import AddressMapFit, FitError, LoggedCells, fit_address_map

DIMM = load_dimm("ddr4-32g-2rx4")


Fit = Callable[[str], AddressMapFit]


@pytest.fixture
def fit(field_data: Callable[[str], Path]) -> Fit:
    """Fits a map to the cells of one DIMM of the SmartMem sample, named by its serial."""

    def of(serial: str) -> AddressMapFit:
        with field_data("smartmem/cells.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["dimm"] == serial]
        columns = ("RankId", "BankgroupId", "BankId", "RowId", "ColumnId", "MciAddr")
        rank, *rest = (np.array([int(row[name]) for row in rows], dtype=np.int64) for name in columns)
        # ranks are numbered 0 to 3 on the channel's first DIMM, 4 to 7 on the second
        return fit_address_map(LoggedCells(rank % 4, *rest), dimm=DIMM)

    return of


def test_a_host_with_closed_page_is_explained_to_the_byte(fit: Fit) -> None:
    found = fit("sn_10")
    assert found.n_cells == 10 and found.residual_bytes == 0 and found.explains
    assert found.best.name.startswith("skx-closed: 2x3 channels") and found.best.n_ranks == 2
    # Which granularity, bank XOR or not, ranks or channels first: one row of one bank cannot tell.
    assert found.n_tied > 1
    assert {tried.address_map.name.split(":")[0] for tried in found.tried[: found.n_tied]} == {"skx-closed"}
    wrong = next(tried for tried in found.tried if tried.residual_bytes > 0)
    assert wrong.residual_bytes > 500_000_000


def test_a_host_with_open_page_and_fine_grained_bank_groups_is_explained_to_the_byte(fit: Fit) -> None:
    found = fit("sn_16171")
    assert found.n_cells == 61 and found.residual_bytes == 0 and found.explains
    assert found.best.name == "skx-open-fbg: 2x3 channels at 256 B, 2 ranks"
    assert found.stripe_bytes == 1536 and found.n_tied == 2 and found.share_outside < 0.02
    by_name = {tried.address_map.name: tried.residual_bytes for tried in found.tried}
    assert by_name["skx-open-fbg: 2x3 channels at 64 B, 2 ranks"] == 640
    assert by_name["skx-open: 2x3 channels at 256 B, 2 ranks"] == 92_160
    assert by_name["skx-closed: 2x3 channels at 256 B, 2 ranks"] > 1 << 30


def test_the_base_is_that_of_an_interleave_set_and_a_channel(fit: Fit) -> None:
    assert fit("sn_16171").tried[0].base == 0x30_4000_0000 + 2 * 256
    assert all(fit(serial).tried[0].aligned for serial in ("sn_10", "sn_16171", "sn_3"))


def test_six_cells_far_apart_tell_that_bank_xor_is_off(fit: Fit) -> None:
    found = fit("sn_3")
    assert (found.n_cells, found.residual_bytes, found.n_tied) == (6, 0, 1)
    assert found.best.name == "skx-open-fbg: 2x3 channels at 256 B, 4 ranks, no bank XOR"


@pytest.mark.parametrize("serial", ["sn_5", "sn_7"])
def test_contradictory_pairs_are_explained_by_no_map(fit: Fit, serial: str) -> None:
    found = fit(serial)
    assert not found.explains and found.n_contradictory > 0.4 * found.n_cells


@pytest.mark.parametrize("serial", ["sn_2", "sn_8854", "sn_58122"])
def test_dimms_with_too_few_cells_are_refused(fit: Fit, serial: str) -> None:
    with pytest.raises(FitError, match="distinct cells? cannot tell one address map from another; give 5 or more"):
        fit(serial)


# ------------------------------------------------------------------------------------------ the same with made-up cells


def made_up(name: str, n: int, base: int, seed: int) -> LoggedCells:
    """Cells of one DIMM of a host with that map: its second controller's third channel."""
    amap, rng = load_address_map(name, DIMM), np.random.default_rng(seed)
    cells = amap.decode(rng.integers(amap.n_bytes, size=n))
    cells = cells._replace(controller=np.full(n, 1), channel=np.full(n, 2), offset=np.zeros(n, dtype=np.int64))
    address = amap.encode(cells._replace(column=cells.column // 8 * 8)) + base
    return LoggedCells(cells.rank, cells.bank_group, cells.bank, cells.row, cells.column // 8 * 8, address)


@pytest.mark.parametrize("page", ["closed", "open", "open-fbg"])
def test_made_up_cells_give_back_their_map(page: str) -> None:
    found = fit_address_map(made_up(f"skx-{page}-6ch", 40, 3 << 30, 1), dimm=DIMM)
    assert found.best.name == f"skx-{page}: 2x3 channels at 256 B, 2 ranks"
    assert (found.residual_bytes, found.n_tied, found.share_outside, found.n_contradictory) == (0, 1, 0.0, 0)


def test_a_few_wrong_pairs_fall_outside() -> None:
    cells = made_up("skx-open-6ch", 60, 3 << 30, 2)
    address = cells.address.copy()
    address[:3] += 1 << 33
    found = fit_address_map(cells._replace(address=address), dimm=DIMM)
    assert found.best.name == "skx-open: 2x3 channels at 256 B, 2 ranks"
    assert found.residual_bytes == 0 and found.share_outside == 3 / 60


def test_ones_own_candidates_and_refusals() -> None:
    cells = made_up("skx-open-6ch", 20, 0, 3)
    own = [load_address_map(name, DIMM) for name in ("linear", "skx-open-6ch")]
    found = fit_address_map(cells, own, dimm=DIMM)
    assert (found.best.name, len(found.tried)) == ("skx-open-6ch", 2)
    with pytest.raises(FitError, match="no candidate"):
        fit_address_map(cells, [], dimm=DIMM)
    near = cells._replace(address=np.arange(20) * 64)
    with pytest.raises(FitError, match="20 distinct cells within 1216 bytes .*; give cells of more rows or columns"):
        fit_address_map(near, dimm=DIMM)
