"""`poisonsim fit` on the command line: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as CliResult

Cli = Callable[..., CliResult]
WATCHED = ("--hosts", "50", "--memory", "1TiB", "--since", "2025-01-01", "--until", "2026-01-01")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "errors.csv"
    path.write_text(
        "time,host,kind,address,count,label\n2025-01-01T00:00:00Z,a<b>,CE,0x40000000,70,SN777\n"
        "2025-01-02T00:00:00Z,a<b>,UE,0x40000000,1,SN777\n2025-07-02T00:00:00Z,c,UE,0x50000000,1,SN777\n"
        "2025-01-03T00:00:00Z,c,UE,zzz,1,SN777\n"
    )
    return path


def test_a_line_a_finding_with_its_interval_and_what_cannot_be_said(cli: Cli, log: Path) -> None:
    done = cli("fit", str(log), *WATCHED)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "50 hosts of 1 TiB for 365 days: 49.97 TiB-years"
    assert any(line.startswith("UEs per TiB-year") and "0.04 (0.0048–0.14)" in line for line in lines)
    assert any(line.startswith("warned by rasdaemon") and "1 of 1 host with a UE in 30 d" in line for line in lines)
    assert ["seen", "48", "2", "0", "0", "0"] in [line.split() for line in lines]
    assert "cannot be said" in lines and "model: rate, as errors come singly" in lines
    assert "give --installed" in done.stdout and "SN777" not in done.stdout
    assert "1 record damaged" in done.stderr and "to know it to ±25 % takes some 62 of them" in done.stderr


def test_json_is_all_of_it_and_nothing_else(cli: Cli, log: Path) -> None:
    found = json.loads(cli("fit", str(log), *WATCHED, "--json").stdout)
    assert found["schema"] == "poisonsim.fit/1" and found["model"] == "rate"
    assert found["exposure"]["hosts"] == 50 and found["exposure"]["derived"] == []
    rate = {finding["name"]: finding for finding in found["findings"]}["rate.ue_per_tib_year"]
    assert rate["low"] < rate["value"] < rate["high"] and rate["quality"] == "measured-field"
    assert len(found["log"]["files"][0]["sha256"]) == 64
    assert all(refusal["needed"] for refusal in found["refusals"])


def test_the_model_runs(cli: Cli, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "fitted.toml"
    done = cli("fit", str(log), *WATCHED, "--out", str(out), "--png", str(tmp_path / "fit.png"))
    assert done.exit_code == 0 and f"model  {out}" in done.stdout
    assert tomllib.loads(out.read_text())["faults"]["ue_per_tib_year"] == pytest.approx(2 / 49.97, rel=1e-3)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    done = cli("run", str(out), "-p", "hgm2m", "--trials", "500", "--no-report", "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    [row] = [line for line in cli("catalog", "show", str(out), "--all").stdout.splitlines() if "95 % interval" in line]
    assert "faults.ue_per_tib_year" in row and "measured-field" in row and "errors.csv (sha256 " in row


def test_hosts_that_are_not_alike_are_listed(cli: Cli, log: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text("host,memory,installed\na<b>,2TiB,2024-01-01\nc,1TiB,\nd,1TiB,\n")
    words = ("--inventory", str(tmp_path / "hosts.csv"), "--since", "2025-01-01", "--until", "2026-01-01")
    lines = cli("fit", str(log), *words).stdout.splitlines()
    assert lines[0] == "3 hosts of 1.333 TiB in the mean for 365 days in the mean: 3.997 TiB-years"
    found = json.loads(cli("fit", str(log), *words, "--json").stdout)
    assert found["exposure"]["installed"] and not found["exposure"]["alike"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no.log",), "no.log"), (("--hosts", "1"), "fewer than the 2"), (("--hosts", "0"), "hosts: 0"),
        (("--memory", "much"), "memory: 'much'"), (("--since", "x"), "since: 'x' is not a time"),
        (("--until", "2020-01-01"), "is not after since"), (("--installed", "2025-03-01"), "is after since"),
        (("--dimm", "ddr4"), "'ddr4' is not a DIMM"), (("--model", "fields"), "did you mean field?"),
        (("--inventory", "hosts.csv"), "exclude each other"),
        (("--out", "model"), "--out: 'model' does not end in .toml; write model.toml"),
        (("--png", "a.svg"), "--png: 'a.svg' does not end in .png"), (("--tz", "Mars"), "Mars"),
        (("--since", "2030-01-01", "--until", "2031-01-01", "--out", "a.toml"), "there is no UE in 49.97"),
    ],
)  # fmt: skip
def test_bad_input_has_exit_code_2_and_no_traceback(cli: Cli, log: Path, words: tuple[str, ...], told: str) -> None:
    done = cli("fit", str(log), *WATCHED, *words)
    assert done.exit_code == 2 and done.stdout == ""
    assert told in done.stderr and done.stderr.startswith("error: ")
