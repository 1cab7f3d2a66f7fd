"""`poisonsim fleet`: its tables, its other outputs, its page, and mistakes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.cli import progress
from poisonsim.report import render_fleet
from poisonsim.results.fleet_words import THRESHOLDS

Cli = Callable[..., CliResult]
HOSTS = """\
[[fleet]]
scenario = "seed-1t"
vms = 300
set = { faults.errors = 10 }

[[fleet]]
name = "small"
scenario = "seed-1t-distinct"
vms = 700
"""
QUICK = ("-p", "unmap1g", "-p", "hgm2m", "--trials", "1000", "--years", "2")


@pytest.fixture(autouse=True)
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)  # none on a busy machine either
    Path("hosts.toml").write_text(HOSTS)


def test_totals_and_vms_to_drain(cli: Cli) -> None:
    result = cli("fleet", "hosts.toml", *QUICK, "--threshold", "guest_lost_bytes > 99GiB", "--no-report")
    assert (result.exit_code, result.stderr) == (0, "")
    [folder] = Path("reports").iterdir()
    assert re.fullmatch(r"fleet-hosts-[0-9a-f]{12}", folder.name)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("hosts: 1,000 VMs in 2 components, 2 years, seed 1, fleet ")
    assert [line.split()[0] for line in lines[3:9:2]] == ["seed-1t", "small", "fleet"]
    assert re.search(r"^small +700 +unmap1g +700 \S+ +350 \S+ +68.36 TiB +68.36 TiB$", result.stdout, re.MULTILINE)
    said = " ".join(result.stdout.split())
    assert (
        "hgm2m against unmap1g on the same errors: guest memory lost" in said and "TiB less, host memory cost" in said
    )
    assert re.search(r"^guest_lost_bytes > 99GiB +unmap1g +0, p95 \d+ +700, p95 \d+$", result.stdout, re.MULTILINE)
    assert lines[-1] == f"next          poisonsim life {folder / 'components' / 'seed-1t'}"
    assert not list(folder.rglob("*.html"))
    life = cli("life", str(folder / "components" / "small"))
    assert life.exit_code == 0


def test_json_and_csv_are_alone_on_stdout_and_agree_with_the_table(cli: Cli) -> None:
    printed = json.loads(cli("fleet", "hosts.toml", *QUICK, "--json", "--no-report", "--out", "a").stdout)
    assert printed["schema"] == "poisonsim.fleet/1"
    assert [(each["name"], each["vms"], each["trials"]) for each in printed["components"]] == [
        ("seed-1t", 300, 1000), ("small", 700, 1000),
    ]  # fmt: skip
    assert [each["threshold"] for each in printed["thresholds"]][-1] == "vm_lost >= 1"
    table = cli("fleet", "hosts.toml", *QUICK, "--csv", "--no-report", "--out", "a").stdout
    assert table == Path("a/fleet.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == len(printed["summary"])
    assert all(float(row["mean"]) == own["mean"] for row, own in zip(rows, printed["summary"], strict=True))
    assert {"policies", "seed", "vms"} <= printed.keys() and printed["vms"] == 1000


def test_the_page_has_totals_and_links_to_the_components(cli: Cli) -> None:
    title = "<b>Two</b> kinds"
    Path("hosts.toml").write_text(f'title = "{title}"\n{HOSTS}')
    result = cli("fleet", "hosts.toml", "-p", "hgm2m", "--trials", "100", "--years", "1", "--out", "a")
    assert result.exit_code == 0, result.output
    html = Path("a/fleet.html").read_text()
    links = re.findall(r'href="([^"]+\.html)"', html)
    assert links == ["components/seed-1t/report.html", "components/small/report.html"]
    assert all((Path("a") / link).is_file() for link in links)
    assert title not in html and "&lt;b&gt;Two&lt;/b&gt; kinds" in html
    assert not re.search(r"https?://", html)
    assert len(re.findall(r'data-component="fleet"', html)) == 1
    assert "<dt>Memory of all VMs</dt><dd>1000 TiB</dd>" in html and "% of memory</small>" in html.replace("\xa0", " ")
    assert 'id="trade"' in html and "Scenario of seed-1t: " in html and "Not modelled yet" in html
    told = "poisonsim fleet hosts.toml --policy hgm2m --years 1 --trials 100"
    fleet_id = json.loads(Path("a/fleet.json").read_text())["fleet_id"]
    assert render_fleet(ps.open_fleet("a"), thresholds=THRESHOLDS, command=told, fleet_id=fleet_id) == html
    command = ("fleet", "hosts.toml", "-p", "hgm2m", "--trials", "100", "--years", "1", "--out", "a", "--no-report")
    assert cli(*command).exit_code == 0
    assert not list(Path("a").rglob("*.html")) and not list(Path("a").rglob("*.png"))


def test_components_whose_spares_are_many_are_told(cli: Cli, tmp_path: Path) -> None:
    part = '[[fleet]]\nscenario = "seed-1t"\nvms = 3\n'
    (tmp_path / "two.toml").write_text(f'{part}{part}name = "small"\nset = {{ vm.memory = "16GiB" }}\n')
    told = cli("fleet", "two.toml", "-p", "migrate1g", "--trials", "100", "--no-report", "--out", "c").stdout
    assert told.count("note: ") == 1 and "note: small: the 4 spares of migrate1g are 25 % of the memory" in told


def test_python_finds_the_same(cli: Cli) -> None:
    assert cli("fleet", "hosts.toml", *QUICK, "--no-report", "--out", "a").exit_code == 0
    found = ps.open_fleet("a")
    assert found.total("hgm2m", "errors").best == 300 * 10 + 700 * 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fleet",), "Missing argument 'FILE'"),
        (("fleet", "none.toml"), "error: none.toml: cannot be read: No such file or directory"),
        (("fleet", "seed-1t"), "error: seed-1t: is no file; name a TOML file that has [[fleet]]"),
        (
            ("run", "hosts.toml"),
            "error: hosts.toml: is a fleet of several scenarios, and one is wanted",
        ),
        (("fleet", "hosts.toml", "--threshold", "lost > 3"), "error: --threshold unknown metric 'lost'"),
        (("fleet", "hosts.toml", "--threshold", "slowdown"), "error: --threshold 'slowdown' is not `metric operator"),
        (("fleet", "hosts.toml", "-p", "hgm2"), "error: unknown policy 'hgm2'; did you mean hgm2m?"),
        (("fleet", "hosts.toml", "--years", "0"), "--years"),
        (("fleet", "hosts.toml", "--json", "--csv"), "error: --json and --csv exclude each other"),
    ],
)
def test_mistakes_are_told_before_any_trial(
    cli: Cli, arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poisonsim.engine import run

    def refuse(*_: object) -> None:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(run, "run_block", refuse)
    result = cli(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert not Path("reports").exists()
