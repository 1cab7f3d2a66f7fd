"""The pages on commands, their options and exit codes."""

from __future__ import annotations

import re
from typing import Any

from poisonsim.cli import commands
from poisonsim.cli.common import EXIT_CODES
from poisonsim.manual.markdown import code, page, table

WORDS = {
    "KIND": "a kind of entry of the catalogue, such as `cpus`",
    "ADDRESS": "where a Dask scheduler listens, such as `tcp://scheduler:8786`; see `poisonsim help cluster`",
    "CONDITION": "a comparison, in quotes, such as `'p99(slowdown) > 1.02'`; see `poisonsim help pipelines`",
    "CPU": "a CPU of the catalogue",
    "FILE": "path of a file",
    "FILE.py": "path of a policy file, with `:PARAM=N` behind it for its parameters",
    "FILE.toml": "path of a TOML file; written with a folder before it, as in `./mine.toml`, where a name could stand "
    "too",
    "FOLDER": "path of a folder",
    "KEY": "a key of the scenario, such as `host.spares`; see `poisonsim help scenario-keys`",
    "LOG": "path of a log, packed with gzip, bzip2 or xz or not",
    "N": "a whole number",
    "NAME": "a name: of a policy, a metric or an entry of the catalogue, as the option says",
    "PARAM": "a parameter of a policy; `poisonsim policies show` lists them",
    "RUN": "path of a run folder, as `poisonsim run` prints it",
    "SCENARIO": "a scenario of the catalogue, or path of a TOML file",
    "SHARE": "a share, such as `1%` or `0.01`",
    "SIZE": "bytes with a unit, such as `256MiB`, or a page size, such as `2M`, as the option says",
    "TIME": "a time: years as a number, or with a unit (`h`, `d`, `weeks`, `months`, `y`); where the option says UTC, "
    "a moment such as `2025-03-01T06:00:00`",
    "TOPIC": "a topic of the manual",
    "COMMAND": "a command, such as `run` or `policies show`",
    "VALUE": "what the key takes",
    "YEAR": "a year of the horizon, such as 5 or 0.25; those of the summary",
}
"""What the words in capitals stand for, and in which unit."""


def commands_page() -> str:
    """Every command with its arguments, options and examples."""
    words = table(["word", "stands for"], [[code(word), meaning] for word, meaning in sorted(WORDS.items())])
    return page(
        "Commands",
        "Every command with its options, units, defaults, examples.",
        "Results go to stdout, everything else to stderr. `-h` and `--help` work after every command, "
        "`poisonsim --version` prints the version, and `poisonsim --install-completion` makes the shell complete "
        "names. `NO_COLOR` is respected. `poisonsim help run` prints what stands here of a command.",
        "Words in capitals:",
        words,
        *(_section(name, command) for name, command in commands()),
    )


def _section(name: str, command: Any) -> str:
    usage = " ".join(["poisonsim", name, "[OPTIONS]", *(_argument(p) for p in _arguments(command))])
    rows = [[code(_argument(p)), _plain(p.help), _default(p)] for p in _arguments(command)]
    rows += [[_flags(p), _plain(p.help), _default(p)] for p in _options(command)]
    examples = [line for line in (command.epilog or "").split("\n\n") if line and line != "Examples:"]
    shown = [line for line in examples if line.startswith(("poisonsim ", "sudo "))]
    others = [line for line in examples if line not in shown]
    return "\n\n".join(
        [
            f"## `poisonsim {name}`",
            *(_plain(part) for part in command.help.split("\n\n")),
            f"    {usage}",
            table(["argument or option", "what it is", "default"], rows).strip(),
            "Examples:",
            "\n".join(["```sh", *shown, "```"]),
            *others,
        ]
    )


def _arguments(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "argument"]


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and p.name != "help"]


def _argument(parameter: Any) -> str:
    word = parameter.metavar or parameter.name.upper()
    return word if parameter.required or word.startswith("[") else f"[{word}]"


def _flags(parameter: Any) -> str:
    names = sorted(parameter.opts, key=len, reverse=True)
    value = "" if parameter.is_flag else f" {parameter.metavar}"
    return ", ".join([code(names[0] + value), *map(code, names[1:])])


def _plain(text: str) -> str:
    """Help as a cell: one line, without the default, which has a column of its own."""
    kept = re.sub(r"\s*\b(Default: [^.]*(?:\.[^ ][^.]*)*\.|No default\.)", "", " ".join(text.split()))
    return kept.replace("<", "&lt;")


def _default(parameter: Any) -> str:
    """The default as the help says it."""
    if said := re.search(r"\bDefault: (.*?)(?:\.(?= [A-Z]|$)|$)", " ".join(parameter.help.split())):
        return said[1].replace("<", "&lt;")
    if getattr(parameter, "is_flag", False):
        return "off"
    if parameter.required:
        return "must be given"
    return code(parameter.default) if parameter.default not in (None, [], ()) else "none"


def exit_codes_page() -> str:
    """What each exit code says."""
    return page(
        "Exit codes",
        "What a script can tell from how a command ended.",
        table(["code", "is", "then"], [[code(number), what, then] for number, (what, then) in EXIT_CODES.items()]),
        "`calibrate` and `verify --kernel --reserve` set the pool of huge pages back when a signal ends them, and then "
        "end with 128 plus the number of the signal.",
    )
