"""Scenario files: lays catalogue, file and overrides over each other, and says where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import exists, isdir, isfile  # which are false, not an error, of a name too long for a file
from pathlib import Path
from typing import Any, NamedTuple

from poisonsim import catalog
from poisonsim.catalog import Number, split_options
from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.scenario_checks import (
    FILE_KEYS,
    SECTIONS,
    SWITCHES,
    TAGS,
    all_keys,
    check,
    fill,
    keys_of,
    unknown_key,
    unused_key,
)
from poisonsim.scenario_problem import Problem, shown


class _Layer(NamedTuple):
    """Tables that go over those before them."""

    origin: str
    tables: Mapping[str, Any]
    numbers: Sequence[Number] = ()


class Resolution(NamedTuple):
    """Tables ready for `Scenario(**parts)`, and where each of their values came from."""

    parts: dict[str, Any]
    origins: dict[str, str]
    numbers: tuple[Number, ...]


OTHER = ", with other "
"""What a title goes on with where overrides changed a value; then their keys follow."""


def resolve(
    name_or_path: str | Path, overrides: Mapping[str, object] | Sequence[str], years: float | str | None
) -> Resolution:
    """What a catalogue scenario or a file says, with overrides over it.

    Raises:
        ScenarioError: No such scenario, a file that is not TOML, or values that cannot be used, all listed.
    """
    file_layers, file_problems = _read_layers(name_or_path)
    override_tables, override_problems = _read_overrides(overrides)
    defaults = _Layer("default", {}, catalog.numbers("scenarios", "seed-1t"))
    layers = [defaults, *file_layers, _Layer("--set", override_tables)]
    if years is not None:
        layers.append(_Layer("--years", {"horizon": {"years": years}}))

    tables, origins = _merge(layers)
    _without_hvo_on_arm64(tables, origins)
    _own_title(tables, origins, file_layers, layers)
    parts, found = read_tables(tables, without_base=any(problem.startswith("base: ") for problem in file_problems))
    problems = [f"{name_or_path}: {problem}" for problem in file_problems]
    problems += [f"{_where(problem.key, name_or_path, origins)}: {problem.message}" for problem in found]
    problems += override_problems
    if problems:
        raise ScenarioError(problems)
    numbers = [n for layer in layers for n in layer.numbers if origins.get(n.key, "default") == layer.origin]
    return Resolution(parts, origins, tuple(numbers))


def _without_hvo_on_arm64(tables: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Linux has no HVO there: it is off unless somebody asks for it."""
    vm, host = tables.get("vm"), tables.get("host", {})
    arch = vm.get("arch") if isinstance(vm, Mapping) else None
    if isinstance(arch, str) and arch.startswith("arm64") and isinstance(host, Mapping) and "host.hvo" not in origins:
        tables["host"] = {**host, "hvo": False}


def _own_title(
    tables: dict[str, Any], origins: dict[str, str], file_layers: Sequence[_Layer], layers: Sequence[_Layer]
) -> None:
    """A title speaks of the values it was written with: a file does not inherit one, and overrides are named in it."""
    if file_layers and "title" in tables and "title" not in file_layers[-1].tables:
        tables["title"], origins["title"] = "", "default"
    changed = [key for key, origin in origins.items() if origin in ("--set", "--years") and key != "title"]
    if changed and tables.get("title") and len(layers) > 1 and origins.get("title") != "--set":
        tables["title"] += f"{OTHER}{', '.join(changed)}"


def _where(key: str, name_or_path: str | Path, origins: Mapping[str, str]) -> str:
    origin = origins.get(key, "")
    if origin in ("--set", "--years"):
        return f"--set {key}" if origin == "--set" else origin
    return f"{origin if origin.endswith('.toml') else name_or_path}: {key}"


def _read_layers(name_or_path: str | Path, above: tuple[Path, ...] = ()) -> tuple[list[_Layer], list[str]]:
    """The layers of a catalogue scenario or a file, lowest first, and what is wrong with its base.

    Args:
        above: The files that are based on it.
    """
    text = str(name_or_path)
    if text in catalog.names("scenarios"):
        origin, tables = f"catalogue: {text}", catalog.load("scenarios", text)
    elif text.endswith(".py"):
        raise ScenarioError(
            f"{text}: is a Python file, as policies are, and a scenario is TOML; name a policy with --policy {text}"
        )
    elif isfile(text) or text.endswith(".toml"):
        origin = text
        try:
            tables = catalog.read_toml(Path(text), where=text)
        except ScenarioError as error:
            if exists(text):
                raise
            known = catalog.names("scenarios")
            hint = f"scenarios of the catalogue: {', '.join(known)}{did_you_mean(Path(text).stem, known)}"
            raise ScenarioError([f"{problem}; {hint}" for problem in error.problems]) from None
        if isinstance(tables.get("fleet"), list):
            raise ScenarioError(
                f"{text}: is a fleet of several scenarios, and one is wanted; name that of one component, with what it "
                f"sets as --set; the whole runs with: poisonsim fleet {text}"
            )
        if not tables:
            raise ScenarioError(
                f'{text}: is empty; write what differs from the defaults, such as base = "cloud-1t-ddr4"; '
                "`poisonsim help scenario-keys` lists every key"
            )
        tables = _beside(Path(text), tables)
    elif isdir(text):
        raise ScenarioError(f"{text}: is a directory; name a TOML file in it")
    else:
        raise ScenarioError(
            f"{catalog.unknown_name('scenarios', text)}; a file works too: ./{Path(text).stem}.toml; "
            "`poisonsim catalog list` says what each is"
        )

    layers: list[_Layer] = []
    problems: list[str] = []
    base = tables.pop("base", None)
    if base is not None:
        layers, problems = _base_layers(base, Path(text), above)
    numbers = []
    try:
        numbers = catalog.scenario_numbers(tables)
    except ScenarioError as error:
        problems += error.problems
    tables.pop("provenance", None)
    return [*layers, _Layer(origin, tables, numbers)], problems


def _base_layers(base: object, file: Path, above: tuple[Path, ...]) -> tuple[list[_Layer], list[str]]:
    """The layers of the scenario that a file goes over: one of the catalogue, or a file, named as from there."""
    if base in catalog.names("scenarios"):
        return _read_layers(str(base))
    if not (isinstance(base, str) and base.endswith(".toml")):
        known = catalog.unknown_name("scenarios", str(base))
        return [], [f"base: {known}; a file works too: ./{Path(str(base)[:40]).stem}.toml"]
    path, files = file.parent / base, (*above, file.resolve())
    if path.resolve() in files:
        return [], [f"base: {shown(base)} is based on this file; a base goes over another one"]
    try:
        layers, problems = _read_layers(path, files)
    except ScenarioError as error:
        return [], [f"base: {problem}" for problem in error.problems]
    return layers, [f"base: {path}: {problem}" for problem in problems]


def _beside(file: Path, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of a scenario file with the files that it names taken from its own folder."""
    found = dict(tables)
    for name, key in (dotted.split(".") for dotted in FILE_KEYS):
        table = found.get(name)
        value = table.get(key) if isinstance(table, Mapping) else None
        if isinstance(table, Mapping) and isinstance(value, str) and split_options(value)[0].endswith(".toml"):
            found[name] = {**table, key: str(file.parent / value)}
    return found


def _read_overrides(overrides: Mapping[str, object] | Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Tables of `key=value` overrides, the last of a key winning, and what is wrong with them."""
    tables: dict[str, Any] = {}
    problems: list[str] = []
    pairs: list[tuple[str, object]]
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        texts = [overrides] if isinstance(overrides, str) else overrides
        problems += [f"--set {shown(t)}: write key=value, such as vm.memory=8TiB" for t in texts if "=" not in t]
        pairs = [(key.strip(), value.strip()) for key, equals, value in (t.partition("=") for t in texts) if equals]
    for key, value in pairs:
        table, _, last = key.partition(".")
        if key in SECTIONS:
            first = keys_of(SECTIONS[key][0])[0]
            problems.append(f"--set {key}: is a table; set one of its keys, such as {key}.{first}")
        elif key not in all_keys():
            problems.append(f"--set {key}: {unknown_key('', key, all_keys())}")
        elif not last:
            tables[key] = str(value)
        else:
            tables.setdefault(table, {})[last] = toml_value(value) if isinstance(value, str) else value
    return tables, problems


def toml_value(text: str) -> object:
    """The TOML value that `text` spells, or `text` itself where it spells none."""
    try:
        tables = catalog.toml_tables(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return tables["value"] if len(tables) == 1 else text


def replaced(tables: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, Any]:
    """Tables of a scenario with other values of some dotted keys, read as `--set` reads them.

    Raises:
        ScenarioError: A key that no scenario has.

    Examples:
        >>> replaced({"faults": {"model": "count", "errors": 9}}, {"faults.model": "field", "faults.scale": "2"})
        {'faults': {'model': 'field', 'scale': 2}}
    """
    given, problems = _read_overrides(values)
    if problems:
        raise ScenarioError(problems)
    layers = [_Layer("", tables), _Layer("--set", given)]
    merged, origins = _merge(layers)
    _own_title(merged, origins, [], layers)
    return merged


def _merge(layers: Sequence[_Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Tables laid over each other, and the origin of every dotted key.

    Where a layer changes a table's tag, such as `faults.model`, or a switch, such as `faults.service`, the keys below
    that go with another value go.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, tables, _ in layers:
        for name, table in tables.items():
            below = merged.get(name)
            if not isinstance(table, Mapping):
                merged[name], origins[name] = table, origin
                continue
            below = dict(below) if isinstance(below, Mapping) else {}
            tag = TAGS.get(name)
            if tag in table:
                for key in below.keys() - allowed_keys(name, table[tag]):
                    del below[key], origins[f"{name}.{key}"]
            for key in [key for key in below if unused_key(name, table, key)]:
                del below[key], origins[f"{name}.{key}"]
            merged[name] = {**below, **table}
            origins |= {f"{name}.{key}": origin for key in table}
    return merged, origins


def read_tables(tables: Mapping[str, Any], *, without_base: bool = False) -> tuple[dict[str, Any], list[Problem]]:
    """What `Scenario` takes, made from plain tables, and every problem they have.

    Args:
        tables: As in a file, `base` and `provenance` apart.
        without_base: Whether the tables were to go over others that could not be found; what they leave out is
            then unknown, and checks that need it are skipped.

    Examples:
        >>> read_tables({"vm": {"memry": "1TiB"}})[1]
        [Problem(key='vm.memry', message='unknown key; did you mean memory?')]
    """
    problems = []
    for name in (name for name in tables if name not in SECTIONS and name != "title"):
        is_table = isinstance(tables[name], Mapping)
        problem = f"unknown table{did_you_mean(name, SECTIONS)}" if is_table else unknown_key("", name, ())
        problems.append(Problem(name, problem))
    title = tables.get("title", "")
    if not isinstance(title, str):
        problems.append(Problem("title", f"{shown(title)} is not text"))
    parts: dict[str, Any] = {"title": title}
    values: dict[str, Any] = {}
    for name in SECTIONS:
        table = tables.get(name, {})
        if not isinstance(table, Mapping):
            problems.append(Problem(name, f"{shown(table)} is not a table; write [{name}]"))
            continue
        parts[name], valid, found = _read_table(name, table, without_base=without_base)
        values |= valid
        problems += found
    return parts, problems + check(values)


def _read_table(
    name: str, table: Mapping[str, Any], *, without_base: bool
) -> tuple[object, dict[str, Any], list[Problem]]:
    """An instance of the table's class, the dotted keys whose values are valid, and the problems of the rest."""
    cls, problems, given = _class_of(name, table, without_base)
    instance = object.__new__(cls)
    if found := fill(instance, (), given):
        bad = {problem.key.partition(".")[2] for problem in found}
        problems += found
        if fill(instance, (), {key: value for key, value in given.items() if key not in bad}):
            return instance, {}, problems  # a key that must be given is missing
    else:
        bad = set()
    bad |= {problem.key.partition(".")[2] for problem in problems}
    known = table.keys() if without_base else vars(instance).keys()
    valid = {f"{name}.{key}": value for key, value in vars(instance).items() if key in known and key not in bad}
    return instance, valid, problems


def _class_of(
    name: str, table: Mapping[str, Any], without_base: bool
) -> tuple[type[Any], list[Problem], dict[str, Any]]:
    """The class that the table's tag picks, the problems that the tag makes, and the keys left to that class."""
    classes = SECTIONS[name]
    if name not in TAGS:
        return classes[0], [], dict(table)
    tag = TAGS[name]
    value = str(table.get(tag, "" if without_base else getattr(classes[0], tag)))
    models = {getattr(cls, tag): cls for cls in classes}
    if len(classes) == 1 or value in models:
        cls = models.get(value, classes[0])
        defaults = {} if without_base else {key: getattr(cls, key, "") for key in SWITCHES.get(name, {})}
        unused = {key: problem for key in table if (problem := unused_key(name, {**defaults, **table}, key))}
        idle = unused.keys() & set(keys_of(cls))  # what the class does not have at all is said by the class
        problems = [Problem(f"{name}.{key}", problem) for key, problem in unused.items() if key in idle]
        return cls, problems, {key: value for key, value in table.items() if key not in idle}
    # An unknown model: the one with most of the keys given checks them, so that their own mistakes still show.
    best = max(classes, key=lambda cls: len(table.keys() & set(keys_of(cls))))
    others = {tag} | {key for cls in classes for key in keys_of(cls)} - set(keys_of(best))
    problems = []
    if tag in table:
        allowed = f"{', '.join(models)}{did_you_mean(value, models)}"
        problems.append(Problem(f"{name}.{tag}", f"{shown(table[tag])} is not one of {allowed}"))
    return best, problems, {key: table[key] for key in table if key not in others}


def allowed_keys(name: str, tag_value: object) -> set[str]:
    """Keys that table `name` may have when its tag has that value; every key of the table where the value is unknown.

    Examples:
        >>> sorted(allowed_keys("faults", "count"))
        ['errors', 'model', 'placement']
    """
    if name == "workload":
        return {key for key in keys_of(SECTIONS[name][0]) if not unused_key(name, {TAGS[name]: tag_value}, key)}
    matching = [cls for cls in SECTIONS[name] if getattr(cls, TAGS[name]) == tag_value]
    return {key for cls in matching or SECTIONS[name] for key in keys_of(cls)}
