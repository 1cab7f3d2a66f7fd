"""Every command's help: a first line that says what one gets, units and defaults, examples that are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import documents
import pytest
import typer
from typer.testing import Result as CliResult

from poisonsim.cli import app, commands
from poisonsim.manual.of_commands import WORDS

Cli = Callable[..., CliResult]
COMMANDS = dict(commands())
GROUPS = ("", "policies", "catalog")

PARSED = {
    "calibrate": "it measures the machine, for minutes",
    "verify": "it simulates for minutes, or maps the machine's huge pages; --published alone is run",
    "sudo ": "it needs root",
}
"""Examples that are parsed but not run here, by how they begin, and why; their commands have tests of their own."""

SMALL = {
    "run": ("--trials", "1000", "--no-report"), "sweep": ("--trials", "200"), "plan": ("--trials", "1000"),
    "fleet": ("--trials", "1000", "--no-report"),
}  # fmt: skip
"""Options that make the examples of a command small."""


def examples_of(command: Any) -> list[str]:
    return [line for line in command.epilog.split("\n\n") if line.startswith(("poisonsim ", "sudo poisonsim "))]


EXAMPLES = [example for command in COMMANDS.values() for example in examples_of(command)]


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_help_works_in_both_spellings_and_names_every_option(cli: Cli, name: str) -> None:
    short, long = cli(*name.split(), "-h"), cli(*name.split(), "--help")
    assert (long.exit_code, long.stderr) == (0, "")
    assert short.stdout == long.stdout and "Usage: " in long.stdout
    for parameter in COMMANDS[name].params if name in COMMANDS else ():
        assert parameter.param_type_name == "argument" or max(parameter.opts, key=len) in long.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_line_says_what_one_gets(name: str) -> None:
    first = COMMANDS[name].help.splitlines()[0]
    assert 20 <= len(first) <= 118 and first[0].isupper() and first.endswith(".")
    assert len(first.split()) >= 4 and first.split()[0].lower() not in ("command", "this", name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_a_unit_and_a_default(cli: Cli, name: str) -> None:
    text = cli(*name.split(), "--help").stdout
    for parameter in COMMANDS[name].params:
        called = max(parameter.opts, key=len)
        assert parameter.help and parameter.help.rstrip(".") != parameter.help, f"{called}: no help, or no sentence"
        if getattr(parameter, "is_flag", False):
            continue
        words = re.findall(r"[A-Z]+(?:\.(?:py|toml))?", parameter.metavar or "")
        assert words, f"{called}: no word for what it takes"
        unknown = {word for word in words if not re.fullmatch(r"V\d?", word)} - set(WORDS)
        assert not unknown, f"{called}: poisonsim.manual.of_commands.WORDS does not say what {unknown} stand for"
        if not parameter.required:
            assert "default" in row_of(text, called, parameter.metavar).lower(), f"{called}: no default"


def row_of(text: str, called: str, metavar: str) -> str:
    """The row of the help on an argument or option."""
    rows = [
        row for row in text.splitlines() if re.match(rf"│ +\*? *({re.escape(called)}|\[?{re.escape(metavar)})", row)
    ]
    assert rows, f"{called} has no row"
    return rows[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_there_are_three_examples_at_least(name: str) -> None:
    assert len(set(examples_of(COMMANDS[name]))) >= 3
    assert COMMANDS[name].epilog.startswith("Examples:")


def test_every_command_is_in_the_help(cli: Cli) -> None:
    top = cli("--help").stdout
    assert all(name.partition(" ")[0] in top for name in COMMANDS) and "--version" in top
    assert "Exit codes: 0 ok, 1 a bug of ours, 2 wrong usage or input" in " ".join(top.split())
    assert set(GROUPS[1:]) == {name.partition(" ")[0] for name in COMMANDS if " " in name}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples speak of."""
    place = tmp_path_factory.mktemp("examples")
    runner, quick = typer.testing.CliRunner(), ("--trials", "1000", "--no-report", "--policy", "hgm2m")
    (place / "fleet.toml").write_text('base = "cloud-1t-ddr4"\n\n[vm]\nmemory = "512GiB"\n')
    (place / "hosts.toml").write_text('[[fleet]]\nscenario = "cloud-1t-ddr4"\nvms = 6000\n')
    for name, more in {"mine": ("--policy", "hgm4k"), "before": (), "after": ("--seed", "2")}.items():
        done = runner.invoke(app, ["run", *quick, *more, "--out", str(place / "reports" / name)])
        assert done.exit_code == 0, done.output
    for words in (("policies", "new", "my-policy", "--folder", str(place)),):
        assert runner.invoke(app, list(words)).exit_code == 0
    (place / "errors.csv").write_text(
        "time,host,kind,address,count\n2025-03-01T06:00:00Z,web7,UE,0x140000000,1\n2025-03-02T06:00:00Z,web7,CE,0x0,60\n"
    )
    (place / "mine.toml").write_text(runner.invoke(app, ["catalog", "show", "zen4", "--toml"]).stdout)
    return place


@pytest.mark.parametrize("example", dict.fromkeys(EXAMPLES))
def test_an_example_is_a_command_that_works(
    example: str, cli: Cli, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.parse(example)
    if example.removeprefix("poisonsim ").startswith(tuple(PARSED)) and "--published" not in example:
        return
    monkeypatch.chdir(workplace)
    words = shlex.split(example)[1:]
    if words[:2] == ["policies", "new"]:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
    result = cli(*words, *SMALL.get(words[0], ()))
    undecided = 3 if words[0] == "plan" or "--until" in words else 0  # from so few trials
    assert result.exit_code in (0, undecided), result.output


def test_what_is_only_parsed_is_there(cli: Cli) -> None:
    assert all(any(example.removeprefix("poisonsim ").startswith(begun) for example in EXAMPLES) for begun in PARSED)


def test_an_example_that_is_no_command_is_found() -> None:
    for wrong in ("poisonsim calibrate --quikc", "sudo poisonsim verify --kernle", "poisonsim runn"):
        with pytest.raises(BaseException):  # noqa: B017 - an option or a command that does not exist
            documents.parse(wrong)
