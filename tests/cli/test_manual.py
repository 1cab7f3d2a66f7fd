"""The manual: every block of code does what its page says, the reference is what the code says, and `help` shows it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import documents
import pytest
from conftest import on_a_terminal
from typer.testing import Result as CliResult

from poisonsim.cli import commands
from poisonsim.cli.common import EXIT_CODES
from poisonsim.engine.store import DATA_FILES, REPORT_FILES
from poisonsim.manual import PARTS, index, topic, topic_names
from poisonsim.manual.generate import WRITERS, reference_pages
from poisonsim.manual.of_files import SUMMARY_COLUMNS, files_of

Cli = Callable[..., CliResult]
ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "poisonsim" / "manual"
FIRST_WORDS = {name.partition(" ")[0] for name, _ in commands()}
WRITTEN = [name for part in ("tutorial", "howto", "background") for name in PARTS[part][1]]
REGENERATE = "run .ci/regenerate.py"


def same(known: str, now: str) -> None:
    diff = difflib.unified_diff(known.splitlines(), now.splitlines(), "committed", "now", lineterm="")
    if known != now:
        pytest.fail("\n".join([*diff, f"if this is meant: {REGENERATE}"]), pytrace=False)


# ---------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("name", WRITTEN)
def test_every_block_of_a_page_does_what_it_shows(name: str, tmp_path: Path, field_data: Callable[[str], Path]) -> None:
    if needed := documents.NEEDS.get(name):
        (tmp_path / Path(needed).name).symlink_to(field_data(needed))
    same(topic(name).text, documents.refreshed(topic(name).text, tmp_path))


@pytest.mark.parametrize("name", PARTS["reference"][1])
def test_the_blocks_of_the_reference_are_commands(name: str, tmp_path: Path) -> None:
    assert {block.language for block in documents.blocks(topic(name).text)} <= {"sh"}
    documents.refreshed(topic(name).text, tmp_path)


def test_the_reference_is_what_the_code_says() -> None:
    for name, page in reference_pages().items():
        same(topic(name).text, page)


def test_the_index_lists_every_page_that_is_there() -> None:
    same((MANUAL / "README.md").read_text(), index())
    assert {path.stem for path in MANUAL.glob("*/*.md")} == set(topic_names())
    assert set(PARTS["reference"][1]) == set(WRITERS)


@pytest.mark.parametrize("name", topic_names())
def test_a_page_says_what_one_gets_and_its_links_lead_somewhere(name: str) -> None:
    page = topic(name)
    assert page.title and len(page.summary) <= 62 and page.summary.endswith(".")
    for target in re.findall(r"\]\(([^)#]+)", page.text):
        assert (MANUAL / page.part / target).is_file(), target
    assert set(re.findall(r"poisonsim help ([a-z-]+)", page.text)) <= {*topic_names(), *FIRST_WORDS}


def test_the_tables_of_a_run_folder_name_all_that_is_in_one(cli: Cli) -> None:
    assert cli("run", "-p", "hgm2m", "--trials", "1000", "--no-report", "--out", "mine").exit_code == 0
    assert files_of(Path("mine")) == set(DATA_FILES)
    sample = files_of(ROOT / "reports" / "seed-1t")
    assert "trade.png" in sample and sample <= {*DATA_FILES, *REPORT_FILES}
    assert Path("mine/summary.csv").read_text().splitlines()[0].split(",") == list(SUMMARY_COLUMNS)


def test_every_exit_code_of_the_reference_is_in_the_help(cli: Cli) -> None:
    told = " ".join(cli("--help").stdout.split())
    assert all(f"{code} {what}" in told for code, (what, _) in EXIT_CODES.items())


# ------------------------------------------------------------------------------------------------------- documents


def test_a_document_that_shows_something_else_is_told_apart(tmp_path: Path) -> None:
    told = "```console\n$ poisonsim --version\npoisonsim 0.0.0\n```\n"
    assert documents.refreshed(told, tmp_path) == told.replace(
        "0.0.0", documents.output_of("poisonsim --version")[0].split()[1]
    )


def test_an_exit_code_that_nobody_shows_is_a_failure(tmp_path: Path) -> None:
    wrong = "$ poisonsim catalog show nothing\n"
    with pytest.raises(AssertionError, match="exit code 2"):
        documents.refreshed(f"```console\n{wrong}$ poisonsim --version\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="exit code 2"):
        documents.refreshed(f"```console\n{wrong}```\n", tmp_path)
    assert "\n2\n" in documents.refreshed(f"```console\n{wrong}$ echo $?\n0\n```\n", tmp_path)


@pytest.mark.parametrize(
    "block",
    [
        "```toml\n# mine.toml\n[vm]\nmemry = 3\n```\n",
        "```python\n# mine.py\nx = 1\n```\n",
        "```python\nraise ValueError\n```\n",
        "```sh\npoisonsim run --no-such-option\n```\n",
        "```sh\npoisonsim runs\n```\n",
        "```basic\n10 PRINT\n```\n",
    ],
)
def test_a_block_that_does_not_work_is_a_failure(block: str, tmp_path: Path) -> None:
    with pytest.raises(BaseException):  # noqa: B017 - each is of its own kind
        documents.refreshed(block, tmp_path)


def test_what_is_left_out_stays_left_out() -> None:
    assert documents.as_shown("a\nb\nc\nd\n", "x\n...\ny\n") == "a\n...\nd\n"
    assert documents.as_shown("a\nb\n", "") == ""
    assert documents.as_shown("a\nb\n", "x\n\n") == "a\nb\n\n"


# ------------------------------------------------------------------------------------------------------------ help


def test_help_lists_every_topic_with_a_line_each(cli: Cli) -> None:
    result = cli("help")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    for name in topic_names():
        assert [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"  {name} ")] == [topic(name).summary]
    assert max(map(len, lines)) <= 82
    assert [title for title, _ in PARTS.values()] == [line[:-1] for line in lines if line.endswith(":")]


@pytest.mark.parametrize("name", topic_names())
def test_help_on_a_topic_is_its_page(cli: Cli, name: str) -> None:
    result = cli("help", name)
    assert (result.exit_code, result.stdout, result.stderr) == (0, topic(name).text, "")


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_help_on_a_command_is_its_section(cli: Cli, name: str) -> None:
    result = cli("help", *name.split())
    assert result.exit_code == 0 and result.stdout.startswith(f"## `poisonsim {name}`\n")
    assert result.stdout.count("\n## ") == 0
    assert result.stdout in topic("commands").text
    assert cli("help", "poisonsim", *name.split()).stdout == result.stdout


def test_help_on_a_group_is_that_of_all_its_commands(cli: Cli) -> None:
    told = cli("help", "policies").stdout
    assert re.findall(r"^## `poisonsim (.*)`$", told, re.MULTILINE) == [
        "policies list", "policies show", "policies check", "policies new",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("migrate1g", "## migrate1g\n", "`poisonsim policies show migrate1g`.\n"),
        ("host.spares", "## `host.spares`\n\n- takes: a whole number", "`poisonsim help scenario-keys`.\n"),
        ("vm_lost", "## `vm_lost`\n\n- unit: ", "`poisonsim help metrics`.\n"),
        ("p99.9", "## p99.9\n\nA statistic of a metric over all VMs", "`poisonsim help precision`.\n"),
        ("P", "## P\n\nA probability at the end", "`poisonsim help precision`.\n"),
    ],
)
def test_help_on_an_entry_of_the_reference_is_that_entry(cli: Cli, name: str, begins: str, ends: str) -> None:
    result = cli("help", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(begins) and result.stdout.endswith(ends) and len(result.stdout) < 1500
    assert {*re.findall(r"poisonsim help ([a-z-]+)", result.stdout)} <= {*topic_names()}


def test_no_topic_has_the_name_of_a_command() -> None:
    assert FIRST_WORDS & set(topic_names()) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("spares",), "error: no help on 'spares'; did you mean size-spares? `poisonsim help` lists all topics\n"),
        (("metric",), "error: no help on 'metric'; did you mean metrics? `poisonsim help` lists all topics\n"),
        (("polices", "show"), "did you mean policies show"),
        (("policies", "shwo"), "did you mean policies show"),
        (("zzz",), "error: no help on 'zzz'; `poisonsim help` lists all topics\n"),
        (("",), "error: no help on ''; `poisonsim help` lists all topics\n"),
        (("../metrics",), "no help on '../metrics'; did you mean metrics?"),
        (("x" * 5000,), "no help on 'xxxxx"),
        (("run\n\x1b[31m",), r"no help on 'run\n\x1b[31m'"),
    ],
)
def test_an_unknown_topic_is_refused_with_those_that_are_near(cli: Cli, words: tuple[str, ...], said: str) -> None:
    result = cli("help", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr) < 300 and "Traceback" not in result.stderr


def test_on_a_terminal_a_page_is_laid_out() -> None:
    shown = on_a_terminal("help", "size-spares", COLUMNS="80")
    assert "\x1b[" in shown and "# Size spares" not in shown and "```" not in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert "Size spares" in plain and "poisonsim sweep cloud-1t-ddr4" in " ".join(plain.split())


def test_no_color_means_no_escape_codes_at_all() -> None:
    shown = on_a_terminal("help", "choose-a-policy", COLUMNS="80", NO_COLOR="1")
    assert "\x1b" not in shown and "Choose a policy" in shown
    assert "own-faults (poisonsim help own-faults)" in " ".join(shown.split())  # links lead nowhere in a terminal
