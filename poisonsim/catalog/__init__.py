"""The catalogue: scenarios, fault tables, time costs and CPUs as TOML, every number with its source and quality."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from poisonsim.errors import ScenarioError, did_you_mean, nearest, shown

KINDS = {
    "scenarios": "scenario",
    "faults": "fault table",
    "costs": "table of time costs",
    "cpus": "CPU",
    "dimms": "DIMM",
    "maps": "address map",
    "laws": "set of laws",
}
QUALITIES = ("measured-field", "published", "vendor", "assumed")


class Number(NamedTuple):
    """A number of a catalogue file and where it comes from.

    Args:
        key: Dotted path in the file.
        value: The number, or text with a unit such as `"1TiB"`.
        unit: Empty where the key or the text says it.
        source: Citation a reader can follow.
        quality: One of `QUALITIES`.

    Examples:
        >>> Number("chips", 18, "", "JEDEC", "published").value
        18
    """

    key: str
    value: float | str
    unit: str
    source: str
    quality: str


@dataclass(frozen=True, kw_only=True)
class Costs:
    """How long the steps of handling an error take, in nanoseconds.

    Args:
        split_table_page_ns: Filling one page-table page when a leaf is split eagerly.
        refault_leaf_ns: One vCPU fault that maps one leaf again, under contention.
        refault_locked_ns: The part of it for which the page-table lock of the process is held.
        copy_gib_ns: Copying 1 GiB to another huge page.
        clear_gib_ns: Clearing 1 GiB of a fresh huge page.
        shootdown_ns: Making every CPU of the VM drop a translation.
        hvo_restore_gib_ns: Giving a 1 GiB page its full vmemmap back.
        guest_machine_check_ns: Time after a machine check in which another one on the same vCPU resets the guest.
        evacuate_ns: Blackout of one live migration.
        restart_ns: From the reset of a guest until it serves again.
        collapse_gib_ns: Mapping 1 GiB by one leaf again.
        reboot_ns: From the shutdown of a host until its VM serves again.

    Examples:
        >>> load_costs("linux").split_table_page_ns
        33000
    """

    split_table_page_ns: int
    refault_leaf_ns: int
    refault_locked_ns: int
    copy_gib_ns: int
    clear_gib_ns: int
    shootdown_ns: int
    hvo_restore_gib_ns: int
    guest_machine_check_ns: int
    evacuate_ns: int
    restart_ns: int
    collapse_gib_ns: int
    reboot_ns: int


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names in the catalogue, sorted.

    Args:
        kind: `"scenarios"`, `"faults"`, `"costs"` or `"cpus"`.

    Examples:
        >>> names("costs")
        ('linux',)
    """
    stems = (file.name.removesuffix(".toml") for file in _folder(kind).iterdir() if file.name.endswith(".toml"))
    return tuple(sorted(stems))


def unknown_name(kind: str, name: str) -> str:
    """What is wrong with `name`, and which names the catalogue has; empty where it has that one.

    Examples:
        >>> unknown_name("costs", "linux")
        ''
        >>> unknown_name("costs", "linus")
        "'linus' is not a table of time costs of the catalogue; known: linux; did you mean linux?"
    """
    if name in names(kind):
        return ""
    near = nearest(name, names(kind)) or _titled(kind, name)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    article = "an" if KINDS[kind][0] in "aeiou" else "a"
    return f"{shown(name)} is not {article} {KINDS[kind]} of the catalogue; known: {', '.join(names(kind))}{hint}"


def _titled(kind: str, word: str) -> list[str]:
    """Names of which the title has a word; at most three."""
    word = word.lower()
    return [] if len(word) < 3 else [n for n in names(kind) if word in str(load(kind, n).get("title", "")).lower()][:3]


def split_options(name: str) -> tuple[str, str]:
    """Name or file of an address map, and the options behind its colon.

    Examples:
        >>> split_options("skx-open-6ch:ranks=4"), split_options("./a:b/mine.toml:ranks=4"), split_options("a:b/c.toml")
        (('skx-open-6ch', 'ranks=4'), ('./a:b/mine.toml', 'ranks=4'), ('a:b/c.toml', ''))
    """
    file, is_file, options = name.rpartition(".toml:")
    if is_file:
        return f"{file}.toml", options
    if name.endswith(".toml"):
        return name, ""
    name, _, options = name.partition(":")
    return name, options


def load(kind: str, name: str) -> dict[str, Any]:
    """The catalogue file of that kind and name, as plain tables.

    Raises:
        ScenarioError: The catalogue has no such name.

    Examples:
        >>> load("scenarios", "seed-1t")["faults"]["errors"]
        100
    """
    if problem := unknown_name(kind, name):
        raise ScenarioError(problem)
    return read_toml(_folder(kind) / f"{name}.toml", where=f"{name}.toml")


_CARRIED: ContextVar[Mapping[str, str]] = ContextVar("carried", default=MappingProxyType({}))


@contextmanager
def carrying(texts: Mapping[str, str]) -> Iterator[None]:
    """Within it, files that a scenario names need not be on this machine: their texts by path are given.

    Examples:
        >>> with carrying({"./far/away.toml": "a = 1"}):
        ...     read_toml(Path("./far/away.toml"), where="away")
        {'a': 1}
    """
    token = _CARRIED.set({str(Path(path)): text for path, text in texts.items()})
    try:
        yield
    finally:
        _CARRIED.reset(token)


def text_of(file: Traversable | Path) -> str:
    """The text of a catalogue file, or of a file that a scenario names.

    Raises:
        OSError, UnicodeDecodeError: It cannot be read.
    """
    carried = _CARRIED.get().get(str(file))
    return file.read_text(encoding="utf-8") if carried is None else carried


def read_toml(file: Traversable | Path, *, where: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        file: What to read.
        where: How messages call it.

    Raises:
        ScenarioError: No such file, not readable, not UTF-8, or not TOML (with line and column).

    Examples:
        >>> read_toml(Path("missing.toml"), where="missing.toml")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: missing.toml: cannot be read: No such file or directory; tried /...missing.toml
    """
    if isinstance(file, Path) and (problem := unreadable(file, where=where)):
        raise ScenarioError(problem)
    text = text_of(file)
    try:
        return toml_tables(text)
    except (ValueError, RecursionError) as error:  # ValueError also covers integers of thousands of digits
        raise ScenarioError(f"{where}: {_position(str(error), text)}") from None


def toml_tables(text: str) -> dict[str, Any]:
    """The tables of a TOML text, unless it is one that only takes time.

    Raises:
        ValueError: It is no TOML, or larger or deeper than any that means something.

    Examples:
        >>> toml_tables("a.b = 1")
        {'a': {'b': 1}}
        >>> toml_tables("a." * 1000 + "b = 1")
        Traceback (most recent call last):
        ...
        ValueError: a key of more than 100 parts; write tables that the manual knows
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"is longer than {_MOST_CHARACTERS:,} characters; no file of settings is")
    if _LONG_NUMBER.search(text):
        raise ValueError("an integer of more than 1,000 digits; write a smaller one")
    if any(part.count(".") > 100 and not part.lstrip().startswith("#") for part in _PARTS.split(text)):
        raise ValueError("a key of more than 100 parts; write tables that the manual knows")
    return tomllib.loads(text)


_MOST_CHARACTERS = 1 << 19
_LONG_NUMBER = re.compile(r"0[xob][0-9a-fA-F_]{1000}")  # Python reads those of any length, but does not write them
_PARTS = re.compile(r"[=,{\n]")


def unreadable(path: Path, *, where: str) -> str:
    """What keeps `path` from being read as text; empty where nothing does.

    Examples:
        >>> unreadable(Path("."), where="mine")
        'mine: is a directory; name a TOML file in it'
    """
    where = where if where.isprintable() else shown(where)
    try:
        text_of(path)
    except IsADirectoryError:
        return f"{where}: is a directory; name a TOML file in it"
    except OSError as error:
        return f"{where}: cannot be read: {error.strerror}; tried {path.absolute()}"
    except UnicodeDecodeError as error:
        return f"{where}: byte {error.start + 1} is not UTF-8 text; save the file as UTF-8"
    except ValueError:
        return f"{where}: cannot be read: no path has a NUL character; write the name of a TOML file"
    return ""


def numbers(kind: str, name: str) -> list[Number]:
    """Every number of a catalogue file with its source and quality, in file order.

    Examples:
        >>> [n.value for n in numbers("faults", "ddr4-alibaba") if n.key == "population.n_dimms"]
        [3000000]
        >>> {n.quality for n in numbers("scenarios", "seed-1t") if n.key == "faults.errors"}
        {'assumed'}
    """
    tables = load(kind, name)
    return scenario_numbers(tables) if kind == "scenarios" else list(_walk("", tables))


def scenario_numbers(tables: Mapping[str, Any]) -> list[Number]:
    """The values of a scenario file that its `[[provenance]]` entries (keys, source, quality) account for.

    Raises:
        ScenarioError: An entry that is not one, or names a key without a value; all problems are listed.

    Examples:
        >>> entry = {"keys": ["vm.memory"], "source": "us", "quality": "assumed"}
        >>> scenario_numbers({"vm": {"memory": "1TiB"}, "provenance": [entry]})
        [Number(key='vm.memory', value='1TiB', unit='', source='us', quality='assumed')]
    """
    entries, found, problems = tables.get("provenance", []), [], []
    if not isinstance(entries, list):
        raise ScenarioError("provenance: write [[provenance]] entries with keys, source and quality")
    for entry in entries:
        match entry:
            case {"keys": [*keys], "source": str(source), "quality": str(quality)} if quality in QUALITIES:
                for key in map(str, keys):
                    section, _, last = key.partition(".")
                    table = tables.get(section)
                    if isinstance(table, Mapping) and last in table:
                        found.append(Number(key, table[last], "", source, quality))
                    else:
                        problems.append(f"provenance: {key!r} has no value in this file")
            case _:
                problems.append(
                    "provenance: each entry needs keys (a list), source (text) and quality, "
                    f"one of {', '.join(QUALITIES)}"
                )
    if problems:
        raise ScenarioError(problems)
    return found


def load_costs(name: str) -> Costs:
    """The time costs of that name in the catalogue, or those of a TOML file.

    Raises:
        ScenarioError: No such entry or file, or a file with problems (all of them are listed).

    Examples:
        >>> load_costs("linux").copy_gib_ns
        94000000
    """
    from poisonsim.catalog.entries import check_costs

    if not name.endswith(".toml"):
        return _costs_of(load("costs", name))
    tables = read_toml(Path(name), where=name)
    check_costs(tables, where=name)
    return _costs_of(tables)


def _costs_of(tables: Mapping[str, Any]) -> Costs:
    return Costs(**{field.name: tables[field.name]["value"] for field in fields(Costs)})


def _folder(kind: str) -> Traversable:
    if kind not in KINDS:
        known = f"{', '.join(KINDS)}{did_you_mean(kind, KINDS)}"
        raise ScenarioError(f"{kind!r} is no part of the catalogue; known: {known}")
    return resources.files(__name__) / kind


def _position(message: str, text: str) -> str:
    """A TOML reader's message with line and column first."""
    if match := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL):
        what, line, column = match[1], int(match[2]), int(match[3])
    else:
        what = message.removesuffix(" (at end of document)")
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    return f"line {line}, column {column}: not TOML: {what}{_hint(what, text.splitlines()[line - 1 : line])}"


_LONGEST_WORD = 100


def _hint(what: str, lines: Sequence[str]) -> str:
    """What is most often wrong with such a line."""
    key, equals, value = (part.strip() for part in "".join(lines).partition("#")[0].partition("="))
    if what.startswith("Cannot overwrite"):
        return f"; {key} is given twice" if equals else "; this table is given twice"
    short = equals and len(value) <= _LONGEST_WORD  # the pattern takes the square of that
    if short and re.fullmatch(r"[\w.]+[A-Za-z%][\w.%-]*", value) and value not in ("true", "false"):
        return f'; text goes in quotes: {key} = "{value}"'
    return ""


def _walk(key: str, node: object) -> Iterator[Number]:
    """Numbers below `node`: tables `{value, source, quality}`, and plain numbers beside a source and quality."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from _walk(f"{key}[{i}]", item)
    elif isinstance(node, Mapping):
        sourced = "source" in node and "quality" in node
        for name, item in node.items():
            below = key if sourced and name == "value" else f"{key}.{name}".removeprefix(".")
            text = isinstance(item, str) and name == "value"  # such as the bits of an address map
            if sourced and (text or isinstance(item, (int, float)) and not isinstance(item, bool)):
                yield Number(below, item, node.get("unit", ""), node["source"], node["quality"])
            else:
                yield from _walk(below, item)
