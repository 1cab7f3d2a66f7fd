"""Every command, program and file that the README shows does what the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import documents
import pytest

from poisonsim.scenario import load_scenario

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return [block.text for block in documents.blocks(README, language)]


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: block.partition("\n")[0])
def test_a_console_block_prints_what_it_shows(block: str, tmp_path: Path) -> None:
    document = f"```console\n{block}```\n"
    assert documents.refreshed(document, tmp_path) == document


def test_the_capacity_script_prints_what_is_shown() -> None:
    (script,) = [block for block in blocks("python") if "spares_exhausted" in block]
    assert sum(bool(line.strip()) for line in script.splitlines()) <= 15
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.rstrip() == blocks("text")[0].rstrip()


def test_the_policy_shown_is_the_shipped_one() -> None:
    assert (ROOT / "policies" / "hgm2m.py").read_text() in blocks("python")


def test_the_scenario_file_shown_loads(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(blocks("toml")[0])
    assert load_scenario(str(path)).vm.n_regions == 6 * 1024


def test_the_rate_it_quotes_is_the_catalogue_s() -> None:
    from poisonsim.faults.tables import load_fault_table

    rate = load_fault_table("ddr4-alibaba").ue_per_tib_year(32 << 30)
    assert f"give {rate:.4f} faults\nwith UEs" in README
    assert f"some {round(100 / (5 * rate), -2):,.0f} times fewer than 100" in README


def test_the_decide_shown_runs(tmp_path: Path) -> None:
    import poisonsim as ps

    (script,) = [block for block in blocks("python") if "def decide" in block]
    path = tmp_path / "save_spares.py"
    path.write_text(script)
    result = ps.run("seed-1t", policies=[str(path), "hgm2m"], trials=1000, seed=1)
    assert result.distribution("save-spares", "spares_used").values.max() > 0


def test_the_address_map_shown_is_told_from_cells(tmp_path: Path) -> None:
    """Cells of one DIMM, laid out by a known map above an unknown base, in the file that the README names."""
    import numpy as np

    from poisonsim.faults.address_map import load_address_map
    from poisonsim.faults.geometry import load_dimm

    (script,) = [block for block in blocks("python") if "fit_address_map" in block]
    amap = load_address_map("skx-closed-6ch", load_dimm("ddr4-32g-2rx4"))
    addresses = np.random.default_rng(1).integers(amap.n_bytes, size=20_000)
    cells = amap.decode(addresses)
    mine = np.flatnonzero((cells.controller == 0) & (cells.channel == 1))[:60]
    columns = (cells.rank, cells.bank_group, cells.bank, cells.row, cells.column, addresses - cells.offset + (3 << 30))
    np.savetxt(tmp_path / "cells.csv", np.column_stack([column[mine] for column in columns]), fmt="%d", delimiter=",")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"
    assert "closed" in done.stdout
