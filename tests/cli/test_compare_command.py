"""`poisonsim compare`: what it says of one run and of two, and mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.cli import app
from poisonsim.cli.compare import EXAMPLES

Cli = Callable[..., CliResult]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: the same errors in a, b and longer c; others in d (seed), e (errors) and f (years)."""
    place = tmp_path_factory.mktemp("runs")

    def make(name: str, *overrides: str, policies: tuple[str, ...], trials: int = 1000, seed: int = 7) -> None:
        scenario = ps.load_scenario("seed-1t-distinct", overrides=list(overrides))
        ps.run(scenario, policies=policies, trials=trials, seed=seed, out=place / name)

    make("a", policies=("unmap1g", "hgm4k", "hgm2m"))
    make("b", "host.hvo_with_hgm=kept", policies=("hgm2m", "migrate1g:spares=2"))
    make("more", "host.hvo_with_hgm=kept", policies=("unmap1g", "hgm2m"))
    make("c", "faults.placement=uniform", policies=("hgm2m", "unmap1g"), trials=3000)
    make("d", "faults.placement=uniform", policies=("hgm2m",), seed=8)
    make("e", "faults.errors=90", policies=("hgm2m",))
    make("f", "horizon.years=0.5", "faults.placement=uniform", policies=("hgm2m",))
    make("g", "faults.placement=uniform", "host.cpu=zen5", policies=("hgm2m", "hgm4k"), trials=1000)
    return place


@pytest.fixture
def here(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line beside those runs."""
    monkeypatch.chdir(runs)
    return cli


def test_page_tables_on_the_same_errors(here: Cli) -> None:
    result = here("compare", "a", "--policy", "hgm2m", "--to", "hgm4k")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "hgm2m costs 256 ± 0 times less page table than hgm4k on the same errors\n" in result.stdout
    assert result.stdout.startswith(
        "hgm2m against hgm4k, in year 5: the same errors, paired over 1,000 trials, with 95 % intervals\n"
    )
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    titles = [cells[0] for cells in lines[2:9]]
    assert titles == ["mean", "guest lost", "host cost", "page tables", "TLB reach lost", "slower", "VMs lost"]
    assert "the same in every VM: guest lost, VMs lost\n" in result.stdout
    assert "~" not in result.stdout


def test_without_policies_all_are_compared_with_the_first(here: Cli) -> None:
    result = here("compare", "a", "-m", "guest_lost_bytes")
    assert [line.partition(",")[0] for line in result.stdout.splitlines() if " against " in line] == [
        "hgm4k against unmap1g",
        "hgm2m against unmap1g",
    ]
    assert "hgm2m loses 262,144 ± 0 times less guest memory than unmap1g on the same errors" in result.stdout


def test_what_one_has_and_the_other_has_not(here: Cli) -> None:
    told = here("compare", "a", "-p", "hgm2m", "-m", "table_bytes").stdout
    assert "hgm2m costs 1.598 MiB of page table, where unmap1g has none, on the same errors" in told
    told = here("compare", "a", "-p", "unmap1g", "--to", "hgm2m", "-m", "table_bytes").stdout
    assert "unmap1g costs no page table, which hgm2m does, on the same errors" in told


def test_two_runs_of_the_same_errors_are_paired(here: Cli) -> None:
    result = here("compare", "a", "b")
    assert result.exit_code == 0
    differs, _, rest = result.stdout.partition("\n\n")
    assert differs == "differs in: host.hvo_with_hgm off-everywhere → kept"
    assert rest.startswith("hgm2m of b against hgm2m of a, in year 5: the same errors, paired over 1,000")
    assert "hgm2m of b costs 5,904 ± 0 times less host memory than hgm2m of a on the same errors" in result.stdout
    assert "the same in every VM: guest lost, page tables, TLB reach lost, slower, VMs lost" in result.stdout


def test_policies_that_nothing_came_of_are_last(here: Cli) -> None:
    found = json.loads(here("compare", "a", "more", "--json").stdout)["comparisons"]
    assert [each["policy"] for each in found] == ["hgm2m", "unmap1g"]


def test_pairing_across_runs_is_pairing_within_one(here: Cli) -> None:
    """The first 1,000 of 3,000 trials against those of another run: as one run of both would say."""
    data = json.loads(here("compare", "g", "c", "-p", "unmap1g", "--to", "hgm4k", "--json").stdout)
    [found] = data["comparisons"]
    assert (found["paired"], found["unpaired_because"], found["trials"]) == (True, "", 1000)
    overrides = ["faults.placement=uniform"]
    scenario = ps.load_scenario("seed-1t-distinct", overrides=overrides)
    both = ps.run(scenario, policies=["unmap1g", "hgm4k"], trials=1000, seed=7)
    table = both.compare("unmap1g", to="hgm4k").table()
    of_states = ("guest_lost_bytes", "table_bytes", "vm_lost", "regions_hit", "stall_seconds")
    expected = table[table["metric"].isin(of_states)].reset_index(drop=True)
    rows = [row for row in found["rows"] if row["metric"] in of_states]
    assert len(rows) == len(expected) == 5 * 5
    for row, wanted in zip(rows, expected.to_dict("records"), strict=True):
        assert (row["metric"], row["year"]) == (wanted["metric"], wanted["year"])
        for key in ("diff", "diff_low", "diff_high", "share_less", "share_more"):
            assert row[key] == pytest.approx(wanted[key], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("other", "because"),
    [("d", "seed is 7 in one and 8 in the other"), ("e", "faults.errors is 100 in one and 90 in the other")],
)
def test_other_errors_are_not_paired_and_it_is_said(here: Cli, other: str, because: str) -> None:
    result = here("compare", "c" if other == "d" else "a", other, "-p", "hgm2m", "-m", "errors", "-m", "table_bytes")
    assert result.exit_code == 0
    text = result.stdout.replace("\n  ", " ")
    assert f"not paired, since {because}; intervals (95 %) are those of independent means, which are wider" in text
    assert "on the same errors" not in text
    if other == "d":
        assert "~ the interval spans zero: there may be no difference" in text
        assert "hgm2m of d costs ~as much page table as hgm2m of c, " in text


def test_an_unpaired_interval_is_that_of_independent_means(runs: Path) -> None:
    a, b = ps.open_run(runs / "c"), ps.open_run(runs / "d")
    both = ps.compare(b, a, policy="hgm2m")
    gap, (mine, theirs) = both.difference("table_bytes"), both.means("table_bytes")
    assert gap.best == pytest.approx(mine.best - theirs.best)
    assert gap.high - gap.best == pytest.approx(math.hypot(mine.high - mine.best, theirs.best - theirs.low))
    ratio = both.ratio("table_bytes")
    assert ratio is not None and ratio.low < 1 < ratio.high
    assert both.ratio("spares_used") is None
    assert both.table()["share_less"].isna().all()
    with pytest.raises(ps.MetricError, match=r"did not see the same errors \(seed is 7 .* use difference\(\)"):
        both.differences("table_bytes")


def test_json_and_csv_are_all_there_is_on_stdout(here: Cli) -> None:
    result = here("compare", "a", "-p", "hgm2m", "-p", "hgm4k", "--csv", "--year", 3)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert (result.exit_code, result.stderr, len(rows)) == (0, "", 2 * 32)
    assert {(row["policy"], row["to"], row["paired"], row["year"]) for row in rows} == {
        ("hgm2m", "unmap1g", "True", "3"),
        ("hgm4k", "unmap1g", "True", "3"),
    }
    data = json.loads(here("compare", "a", "-p", "hgm2m", "-m", "table_bytes", "--json").stdout)
    assert (data["schema"], [run["trials"] for run in data["runs"]]) == ("poisonsim.compare/1", [1000])
    [comparison] = data["comparisons"]
    assert [row["year"] for row in comparison["rows"]] == [1, 2, 3, 4, 5]
    assert {row["ratio"] for row in comparison["rows"]} == {None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "nope: does not exist"),
        (("a", "a"), "a: is named twice; name it once, with --policy and --to, or name another run"),
        (("a", "b", "c"), "3 runs are named; compare one, or two with each other"),
        (("a", "--policy", "hgm2"), "policy 'hgm2' is not in this run; did you mean hgm2m?"),
        (("a", "--to", "migrate1g"), "policy 'migrate1g' is not in this run; it has unmap1g, hgm4k, hgm2m"),
        (
            ("a", "b", "-p", "hgm4k"),
            "policy 'hgm4k' is not in b; did you mean hgm2m?; it has hgm2m, migrate1g:",
        ),
        (
            ("a", "b", "-p", "migrate1g:spares=2"),
            "policy 'migrate1g:spares=2' is not in a; it has unmap1g, hgm4k, hgm2m; --policy is of",
        ),
        (("a", "b", "--to", "migrate"), "policy 'migrate' is not in a; it has unmap1g, hgm4k, hgm2m\n"),
        (("a", "-p", "hgm2m", "--to", "hgm2m"), "the run has nothing to compare hgm2m with; it has unmap1g, hgm4k"),
        (("e",), "the run has nothing to compare hgm2m with; it has hgm2m; name two of them"),
        (("a", "-m", "table_byte"), "unknown metric 'table_byte'; did you mean table_bytes?"),
        (("a", "--year", "2.5"), "year 2.5 is not one at which policies are compared; those are 1, 2, 3, 4, 5"),
        (("a", "--year", "nan"), "year nan is not on the grid"),
        (("c", "f"), "the runs have no year in common: one knows 0.5, the other 1, 2, 3, 4, 5; run both to the same"),
        (("a", "--json", "--csv"), "--json and --csv exclude each other; give one of them"),
    ],
)
def test_a_mistake_is_refused(here: Cli, arguments: tuple[str, ...], message: str) -> None:
    result = here("compare", *arguments)
    crash = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    assert (result.exit_code, crash, result.stdout) == (2, "", "")
    assert result.stderr.startswith(f"error: {message}"), result.stderr


def test_policies_that_only_one_run_has_are_named(here: Cli) -> None:
    left = here("compare", "a", "b").stdout.partition("\n\nnot compared, as only one run has them: ")[2]
    assert left.replace("\n  ", " ") == (
        "unmap1g of a, hgm4k of a, migrate1g:spares=2 of b; name two with --policy (of the second run) and --to "
        "(of the first)\n"
    )
    assert "not compared" not in here("compare", "a", "b", "-p", "migrate1g:spares=2", "--to", "unmap1g").stdout


def test_runs_without_a_policy_in_common(here: Cli, runs: Path) -> None:
    ps.run("seed-1t-distinct", policies=["keep-mapped"], trials=1000, out=runs / "k")
    assert "the runs have no policy in common: one has unmap1g, hgm4k, hgm2m, the other keep-mapped" in (
        here("compare", "a", "k").stderr
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_help_are_commands(
    runs: Path, tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"reports/mine": "a", "reports/before": "a", "reports/after": "b"}
    words = [str(runs / names[word]) if word in names else word for word in shlex.split(example)[1:]]
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, words).exit_code == 0
