"""`poisonsim replay` on the command line: what it prints, in which form, and how it refuses."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as CliResult

Cli = Callable[..., CliResult]
QUICK = ("-p", "unmap1g", "-p", "hgm2m", "--imputations", "2")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "errors.csv"
    path.write_text(
        "time,host,kind,address,label\n2025-01-01T00:00:00Z,a<b>,UE,0x40000000,SN777\n"
        "2025-01-02T00:00:00Z,c,UE,,SN777\n2025-01-03T00:00:00Z,c,UE,zzz,SN777\n"
    )
    return path


def test_a_table_a_warning_of_what_is_damaged_and_notes(cli: Cli, log: Path) -> None:
    done = cli("replay", str(log), *QUICK)
    assert done.exit_code == 0
    assert done.stdout.startswith("2 hosts, 2 events of 3 records (1 damaged), ")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["unmap1g", "2", "2", "GiB", "2", "GiB", "0", "B"] in [row[:8] for row in rows]
    assert "1 record damaged" in done.stderr and "without an address placed anywhere" in done.stderr
    assert "SN777" not in done.stdout


def test_json_and_csv_have_every_host_policy_and_metric(cli: Cli, log: Path) -> None:
    found = json.loads(cli("replay", str(log), *QUICK, "--json").stdout)
    assert found["schema"] == "poisonsim.replay/1" and found["policies"] == ["unmap1g", "hgm2m"]
    assert [host["host"] for host in found["hosts"]] == ["a<b>", "c"]
    rows = list(csv.DictReader(io.StringIO(cli("replay", str(log), *QUICK, "--csv").stdout)))
    assert list(rows[0]) == ["host", "policy", "metric", "unit", "mean", "low", "high"]
    assert len(rows) == len(found["summary"]) == 2 * 2 * len({row["metric"] for row in rows})


def test_a_life_and_names_left_out(cli: Cli, log: Path) -> None:
    told = cli("replay", str(log), *QUICK, "--life", "--host", "a<b>").stdout
    assert told.startswith("a<b>:\n") and "SPLIT_TO 2M, SPLIT_TO 4K, UNMAP" in told
    done = cli("replay", str(log), *QUICK, "--anonymise", "--json")
    text = done.stdout + done.stderr
    assert all(secret not in text for secret in ("a<b>", "SN777", "errors.csv", "2025"))


def test_a_page_that_may_be_sent_around(cli: Cli, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["replay", str(log), *QUICK, "--host", "a<b>", "--host=c"]
    monkeypatch.setattr(sys, "argv", ["poisonsim", *words])
    done = cli(*words, "--out", "page.html")
    assert done.exit_code == 0 and done.stdout.endswith("page  page.html\n")
    page = Path("page.html").read_text()
    assert all(secret not in page for secret in ("a<b>", "a&lt;b&gt;", "SN777", "errors.csv", "2025", "SHA-256"))
    assert "poisonsim replay LOG -p unmap1g -p hgm2m --imputations 2 --host HOST --host=HOST" in re.sub(
        "<[^>]+>", "", page
    )
    assert "host 1 under hgm2m" in page and "SPLIT_TO 2M, SPLIT_TO 4K, UNMAP" in page
    told = html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")
    assert told.count("2 of 2 VMs are lost; guests lose 2 GiB of memory") == 1
    assert "VMs lost are not in this picture: unmap1g 2 of 2" in told
    assert "1 record damaged" in page and "src=" not in page and 'href="http' not in page


def test_modes_of_faults_are_told_where_the_log_names_cells(cli: Cli, log: Path) -> None:
    assert "by the mode" not in cli("replay", str(log), *QUICK).stdout
    log.write_text(
        "time,host,kind,address,rank,bank,row,column\n2025-01-01T00:00:00Z,c,UE,0x40000000,0,1,7,8\n"
        "2025-01-02T00:00:00Z,c,CE,0x40002000,0,1,7,16\n2025-01-03T00:00:00Z,c,UE,,,,,\n"
    )
    told = cli("replay", str(log), *QUICK, "--out", "page.html").stdout
    assert ["row", "1", "1", "2", "1", "0"] in [line.split() for line in told.splitlines()]
    assert ["hgm2m", "50.00", "%", "50.00", "%"] in [line.split() for line in told.splitlines()]
    page = Path("page.html").read_text()
    assert "By fault mode" in page and "Most of the loss: 50 % (50–50 %) from row" in page or "from row faults" in page


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--life"]])
def test_no_output_of_an_anonymised_replay_tells_a_time_of_the_log(
    cli: Cli, log: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    words = ["replay", str(log), *QUICK, "--anonymise", "--since", "2025-01-01", "--tz=Europe/Paris", *form]
    monkeypatch.setattr(sys, "argv", ["poisonsim", *words, "--out", "2025.html"])
    done = cli(*words, "--out", "2025.html")
    page = Path("2025.html").read_text()
    assert done.exit_code == 0
    assert all("2025" not in text.replace("2025.html", "") for text in (done.stdout, done.stderr))
    assert all(secret not in page for secret in ("2025", "Paris", "errors.csv", "SN777"))
    shown = re.sub("<[^>]+>", "", page)
    assert "--since TIME --tz=ZONE" in shown and "--out PAGE.html" in shown
    assert "times are shifted by one random span" in done.stderr and "times shifted by one unknown span" in page
    assert bool(form) or "(shifted)" in done.stdout


def test_names_are_text_never_markup(cli: Cli, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = log.rename(log.with_name("<i>&.csv"))
    monkeypatch.setattr(sys, "argv", ["poisonsim", "replay", str(named)])
    assert cli("replay", str(named), *QUICK, "--out", "page.html", "--names").exit_code == 0
    page = Path("page.html").read_text()
    assert "<i>&" not in page and "a<b>" not in page
    assert all(text in page for text in ("&lt;i&gt;&amp;.csv", "a&lt;b&gt; under hgm2m", "SHA-256", "2025-01-01"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no.log",), "no.log"), (("--host", "d"), "'d' is not in the log"), (("--json", "--csv"), "exclude"),
        (("--since", "2026-01-01"), "is after all"), (("--base", "1"), "base: "), (("--tz", "Mars"), "Mars"),
        (("-p", "hgm2"), "did you mean"), (("--set", "vm.memry=1TiB"), "vm.memory"),
        (("--out", "page.pdf"), "end it in .html"), (("--names",), "belongs to --out"),
        (("--out", "errors.csv/page.html"), "errors.csv"),
    ],
)  # fmt: skip
def test_bad_input_has_exit_code_2_and_no_traceback(cli: Cli, log: Path, words: tuple[str, ...], told: str) -> None:
    done = cli("replay", str(log), *QUICK, *words)
    assert done.exit_code == 2 and done.stdout == ""
    assert told in done.stderr and done.stderr.startswith("error: ")
