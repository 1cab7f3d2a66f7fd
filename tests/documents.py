"""Documents whose blocks are run: the README and the pages of the manual.

- `console`: lines that begin with `$ ` are run, and what follows each is what it prints, on stderr last.
  `$ echo $?` is the exit code of the command before, which is 0 where nobody asks. A command that shows nothing may
  print anything, and a line `...` stands for any lines.
- `python` and `toml`: with a first line such as `# mine.py` a file that later blocks can use, which is loaded as what
  it is; else a program, and a `text` block behind it what it prints. The programs of a page share their names.
- `sh`: commands that touch the machine; those of poisonsim are parsed, not run.
"""

from __future__ import annotations

import io
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from poisonsim.cli import app

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"# ([\w.-]+\.(?:toml|py))\n")
_PROGRESS = re.compile(
    r"^(?:[\d,]+(/| of at most )[\d,]+ trials, |compiling the simulation kernel, |[\d,]+ choices measured, now: ).*\n",
    re.MULTILINE,
)
ANYTHING = "..."
NEEDS = {"public-sample": "smartmem/events.csv.gz"}
"""Pages whose blocks are run on field data, which is not of this project, and the file that they find beside them."""


class Block(NamedTuple):
    """A fenced block of a document: its language, its text, and where the text begins and ends."""

    language: str
    text: str
    start: int
    end: int


def blocks(document: str, language: str = "") -> list[Block]:
    """The blocks of a document in order, or those of one language."""
    found = [Block(match[1], match[2], *match.span(2)) for match in _FENCE.finditer(document)]
    return [block for block in found if language in ("", block.language)]


def refreshed(document: str, folder: Path, only: Sequence[str] = ()) -> str:
    """The document with what its blocks print now, run one after the other in `folder`.

    Args:
        only: Languages whose blocks are run; all of them if none is named.
    """
    parts, at, printed = [], 0, ""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(document):
        if only and block.language not in only:
            continue
        text = block.text
        with chdir(folder):
            if block.language == "console":
                text = "".join(_run(command, shown) for command, shown in commands(text))
            elif named := _NAMED.match(text):
                Path(named[1]).write_text(text)
                load(named[1])
            elif block.language == "python":
                printed = _printed(text, names)
            elif block.language == "text":
                text = printed
            elif block.language == "sh":
                for line in text.splitlines():
                    parse(line)
            else:
                raise AssertionError(f"a block of {block.language} that nothing runs:\n{text}")
        parts += [document[at : block.start], text]
        at = block.end
    _settled("the end")
    return "".join([*parts, document[at:]])


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Commands of a console block, each with what it shows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            line, _, shown = shown.partition("\n")
            command += f"\n{line}"
        yield command, shown


_ended = 0


def _run(command: str, shown: str) -> str:
    """A command and what it prints, in the form in which it was shown."""
    global _ended
    if command == "echo $?":
        code, _ended = _ended, 0
        return f"$ {command}\n{code}\n"
    _settled(f"`$ {command}`")
    output, _ended = output_of(command)
    return f"$ {command}\n{as_shown(output, shown)}"


def _settled(before: str) -> None:
    """Fails where the last command did, and nobody asked for its exit code."""
    global _ended
    code, _ended = _ended, 0
    assert code == 0, f"exit code {code} before {before}; show it with `$ echo $?`"


def output_of(command: str) -> tuple[str, int]:
    """What a command prints, on stderr last and without progress, and its exit code; run in this process."""
    command = command.replace("\\\n", " ")
    into = re.fullmatch(r"(.*) > ([\w./-]+)", command)
    program, *arguments = shlex.split(into[1] if into else command)
    assert program == "poisonsim", command
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        patch.setattr("sys.argv", [program, *arguments])
        done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    notices = _PROGRESS.sub("", done.stderr)
    if into:
        Path(into[2]).write_text(done.stdout)
        return notices, done.exit_code
    return done.stdout + notices, done.exit_code


def as_shown(output: str, shown: str) -> str:
    """`output` with as much left out as `shown` leaves out."""
    if not shown.strip():
        return shown
    blank = "\n" * (len(shown) - len(shown.rstrip("\n")) - 1)
    lines, kept = output.rstrip("\n").split("\n"), shown.rstrip("\n").split("\n")
    if ANYTHING in kept:
        first, last = kept.index(ANYTHING), len(kept) - 1 - kept.index(ANYTHING)
        lines = [*lines[:first], ANYTHING, *lines[len(lines) - last :]]
    return "\n".join(lines) + "\n" + blank


def _printed(program: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(program, "<manual>", "exec"), names)
    return out.getvalue()


def load(name: str) -> None:
    """Loads a file as what it is: a policy, service levels, a fleet, a scenario, or a part of the catalogue."""
    from poisonsim.catalog.entries import check_costs, of_file
    from poisonsim.faults.address_map import load_address_map
    from poisonsim.faults.geometry import load_dimm
    from poisonsim.faults.laws import load_laws
    from poisonsim.faults.tables import load_fault_table
    from poisonsim.policy import load_policy
    from poisonsim.results.fleet_file import read_fleet
    from poisonsim.results.levels import read_levels
    from poisonsim.scenario import load_scenario
    from poisonsim.translation import load_cpu

    path = f"./{name}"
    if name.endswith(".py"):
        load_policy(path)
        return
    keys = tomllib.loads(Path(name).read_text()).keys()
    if keys == {"levels"}:
        read_levels(Path(name))
        return
    if "fleet" in keys:
        read_fleet(path)
        return
    loaders = {
        "scenarios": load_scenario, "cpus": load_cpu, "dimms": load_dimm, "laws": load_laws, "faults": load_fault_table,
        "maps": lambda file: load_address_map(file, load_dimm("ddr4-32g-2rx4")),
    }  # fmt: skip
    entry = of_file(path)
    check_costs(entry.tables, where=path) if entry.kind == "costs" else loaders[entry.kind](path)


def parse(line: str) -> None:
    """Parses a command line of poisonsim, and runs nothing of it; other commands pass."""
    words = shlex.split(line, comments=True)
    words = words[1:] if words[:1] == ["sudo"] else words
    if words[:1] != ["poisonsim"]:
        return
    command: Any = typer.main.get_command(app)
    words, name = words[1:], "poisonsim"
    while hasattr(command, "commands") and words[:1] != ["--version"]:
        assert words and words[0] in command.commands, f"no such command: {line}"
        name = words.pop(0)
        command = command.commands[name]
    command.make_context(name, words, resilient_parsing="--version" in words)
