"""Fleet files: how many VMs of which scenarios a fleet has, in TOML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import floor, isfinite
from os.path import isfile
from pathlib import Path
from typing import Any

from poisonsim import catalog
from poisonsim.errors import ScenarioError, did_you_mean, shown
from poisonsim.scenario import Scenario, resolve_scenario
from poisonsim.scenario_checks import FILE_KEYS, SECTIONS

WHOLE = "fleet"
"""What the rows of all components together are called in tables, so that no component is."""

MOST_VMS = 1_000_000_000
_KEYS = ("scenario", "name", "vms", "weight", "set")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_EXAMPLE = '[[fleet]] with scenario = "cloud-1t-ddr4" and vms = 6000'


@dataclass(frozen=True)
class FleetPart:
    """A component of a fleet: `vms` independent VMs of one scenario.

    Attributes:
        name: Tells it from the others; names its folder, too.
        scenario: What each of its VMs is like.
        vms: How many there are.

    Raises:
        ScenarioError: The name cannot be one, or `vms` is no whole number of at least 1.

    Examples:
        >>> FleetPart("old", Scenario(), vms=6000).vms
        6000
        >>> FleetPart("old", Scenario(), vms=0)
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: old: vms = 0 is not a whole number from 1 to 1,000,000,000
    """

    name: str
    scenario: Scenario
    vms: int

    def __post_init__(self) -> None:
        problems = (
            []
            if isinstance(self.scenario, Scenario)
            else [
                f"{shown(self.scenario)} is no Scenario; write load_scenario({shown(self.scenario)})"
                if isinstance(self.scenario, str)
                else f"{shown(self.scenario)} is no Scenario"
            ]
        )
        if self.name == WHOLE:
            problems.append(f"name = {shown(self.name)} is what all components together are called; choose another")
        elif not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            problems.append(
                f"name = {shown(self.name)} cannot name a folder; use up to 60 letters, digits, '.', '_' and '-', a "
                "letter or digit first"
            )
        if not _is_whole(self.vms):
            problems.append(f"vms = {shown(self.vms)} is not a whole number from 1 to {MOST_VMS:,}")
        if problems:
            raise ScenarioError([f"{self.name}: {problem}" for problem in problems])

    @property
    def memory_bytes(self) -> int:
        """Memory of all its VMs together."""
        return self.vms * self.scenario.vm.memory_bytes


def read_fleet(path: str | Path, *, years: float | str | None = None) -> tuple[str, tuple[FleetPart, ...]]:
    """Title and components of the fleet that a TOML file describes.

    Each `[[fleet]]` has `scenario`, a name of the catalogue or a TOML file beside this one; how many VMs there are, as
    `vms`, or as `weight` where the file says `vms` of the whole fleet; `set`, keys that go over the scenario's; and
    `name`, where two components have the same scenario.

    Args:
        path: The file.
        years: Horizon of all components; default that of their scenarios.

    Raises:
        ScenarioError: It cannot be read, or has mistakes (all are listed).

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "hosts.toml")
        ...     _ = file.write_text('''
        ... vms = 9000
        ... [[fleet]]
        ... scenario = "cloud-1t-ddr4"
        ... weight = 2
        ... [[fleet]]
        ... scenario = "ddr5-1t"
        ... weight = 1
        ... set = { vm.memory = "512GiB" }
        ... ''')
        ...     title, parts = read_fleet(file)
        >>> [(part.name, part.vms, part.scenario.vm.n_regions) for part in parts]
        [('cloud-1t-ddr4', 6000, 1024), ('ddr5-1t', 3000, 512)]
    """
    path = Path(path)
    if not isfile(path) and path.suffix != ".toml":
        raise ScenarioError(f"{path}: is no file; name a TOML file that has {_EXAMPLE}")
    tables = catalog.read_toml(path, where=str(path))
    entries = tables.get("fleet")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        is_scenario = bool(tables.keys() & {"base", *SECTIONS})
        hint = f"; to run the one scenario: poisonsim run {path}" if is_scenario else ""
        raise ScenarioError(f"{path}: has no [[fleet]] tables; write one for each kind of VM, as {_EXAMPLE}{hint}")
    problems = [
        f"unknown key {shown(key)}{did_you_mean(key, ('title', 'vms', 'fleet'))}; allowed: title, vms, [[fleet]]"
        for key in tables
        if key not in ("title", "vms", "fleet")
    ]
    title = tables.get("title", "")
    if not isinstance(title, str):
        problems.append(f"title = {shown(title)} is not text")
    names = [_name_of(entry) for entry in entries]
    wheres = [f"[[fleet]] {i} ({name[:60]})" if name else f"[[fleet]] {i}" for i, name in enumerate(names, 1)]
    for where, entry in zip(wheres, entries, strict=True):
        problems += [f"{where}: {problem}" for problem in _own_problems(entry)]
    problems += _of_names(names)
    sizes, found = _sizes(tables.get("vms"), entries, wheres)
    problems += found
    parts = []
    for where, name, entry, vms in zip(wheres, names, entries, sizes, strict=True):
        try:
            scenario = _scenario_of(entry, path.parent, years)
            if scenario is not None and name:
                parts.append(FleetPart(name, scenario, vms or 1))
        except ScenarioError as error:
            problems += [f"{where}: {as_in_file(problem).removeprefix(f'{name}: ')}" for problem in error.problems]
    if problems:
        raise ScenarioError([f"{path}: {problem}" for problem in dict.fromkeys(problems)])
    return " ".join(title.split()), tuple(parts)


def _name_of(entry: Mapping[str, Any]) -> str:
    """The name of a component: its own, or that of its scenario; empty where neither can be told."""
    name = entry.get("name", Path(scenario).stem if isinstance(scenario := entry.get("scenario"), str) else "")
    return name if isinstance(name, str) else ""


def _own_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a component beside its scenario and its size."""
    for key in entry:
        if key not in _KEYS:
            yield f"unknown key {shown(key)}{did_you_mean(key, _KEYS)}; allowed: {', '.join(_KEYS)}"
    if "scenario" not in entry:
        yield "names no scenario; write scenario = with a name of the catalogue or a TOML file"
    elif not isinstance(entry["scenario"], str):
        yield f"scenario = {shown(entry['scenario'])} is neither a name of the catalogue nor a TOML file"
    if "name" in entry and not isinstance(entry["name"], str):
        yield f"name = {shown(entry['name'])} is not text"
    if "set" in entry and not isinstance(entry["set"], dict):
        yield f'set = {shown(entry["set"])} is not a table; write set = {{ vm.memory = "2TiB" }}'


def _of_names(names: Iterable[str]) -> list[str]:
    """Names that more than one component has, also where only the case differs, which some file systems ignore."""
    known: dict[str, int] = {}
    for name in filter(None, names):
        known[name.lower()] = known.get(name.lower(), 0) + 1
    return [
        f"{n} components are called {shown(name)}; give each a name of its own" for name, n in known.items() if n > 1
    ]


def _sizes(total: object, entries: list[Any], wheres: list[str]) -> tuple[list[int], list[str]]:
    """VMs of each component, and what is wrong with what the file says of them."""
    problems = []
    if both := [where for where, entry in zip(wheres, entries, strict=True) if {"vms", "weight"} <= set(entry)]:
        problems = [f"{where}: has vms and weight; give one of them, the same for every component" for where in both]
        return [0] * len(entries), problems
    by_weight = any("weight" in entry for entry in entries)
    key = "weight" if by_weight else "vms"
    for where, entry in zip(wheres, entries, strict=True):
        value = entry.get(key)
        if by_weight and "vms" in entry:
            problems.append(f"{where}: has vms where another has a weight; give every component the same of the two")
        elif key not in entry:
            problems.append(f"{where}: has no {key}; say how many VMs there are" if not by_weight else
                            f"{where}: has no weight, as others have; give every component one")  # fmt: skip
        elif by_weight and not _is_weight(value):
            problems.append(f"{where}: weight = {shown(value)} is not a number above 0")
        elif not by_weight and not _is_whole(value):
            problems.append(f"{where}: vms = {shown(value)} is not a whole number from 1 to {MOST_VMS:,}")
    if by_weight and not _is_whole(total):
        told = "is missing" if total is None else f"= {shown(total)} is not a whole number from 1 to {MOST_VMS:,}"
        problems.append(f"vms {told}; components have weights, so say how many VMs the whole fleet has")
    if not by_weight and total is not None:
        problems.append("vms of the whole fleet goes with weights; components say their own, so drop it")
    if problems:
        return [0] * len(entries), problems
    if not by_weight:
        return [entry["vms"] for entry in entries], []
    assert isinstance(total, int)
    sizes = shared_out(total, [float(entry["weight"]) for entry in entries])
    small = [f"{where}: its weight is less than one of {total:,} VMs; leave it out, or raise it"
             for where, size in zip(wheres, sizes, strict=True) if size == 0]  # fmt: skip
    return sizes, small


def shared_out(total: int, weights: list[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that add up to `total` (largest remainders).

    Examples:
        >>> shared_out(10, [1.0, 1.0, 1.0])
        [4, 3, 3]
    """
    shares = [total * weight / sum(weights) for weight in weights]
    sizes = [floor(share) for share in shares]
    order = sorted(range(len(sizes)), key=lambda i: sizes[i] - shares[i])
    for i in order[: total - sum(sizes)]:
        sizes[i] += 1
    return sizes


def _scenario_of(entry: Mapping[str, Any], folder: Path, years: float | str | None) -> Scenario | None:
    """The scenario of a component, its files beside the fleet's; None where it names none."""
    name, given = entry.get("scenario"), entry.get("set", {})
    if not isinstance(name, str) or not isinstance(given, dict):
        return None
    where = str(folder / name) if name.endswith(".toml") else name
    overrides = dict(_flat(given))
    for key in FILE_KEYS & overrides.keys():
        value = overrides[key]
        if isinstance(value, str) and catalog.split_options(value)[0].endswith(".toml"):
            overrides[key] = str(folder / value)
    return resolve_scenario(where, overrides=overrides, years=years).scenario


def _flat(tables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted keys of what `set` says, whose keys may be dotted, quoted or tables; a value may be a table itself."""
    for name, value in tables.items():
        if isinstance(value, dict) and "." not in name:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


_SETTINGS = re.compile(r"(?:--set [\w.]+=\w+ ?)+")


def as_in_file(problem: str) -> str:
    """A problem that speaks of overrides as one of the key `set` of a component.

    Examples:
        >>> as_in_file("for example --set host.spare_hosts=1 --set host.hgm=true")
        'for example set = { "host.spare_hosts" = "1", "host.hgm" = "true" }'
        >>> as_in_file("--set vm.memry: unknown key")
        'set vm.memry: unknown key'
    """

    def table(found: re.Match[str]) -> str:
        pairs = (f'"{key}" = "{value}"' for key, value in re.findall(r"--set ([\w.]+)=(\w+)", found[0]))
        return f"set = {{ {', '.join(pairs)} }}{' ' if found[0].endswith(' ') else ''}"

    told = _SETTINGS.sub(table, problem)
    return told.replace("--set ", "set ", 1) if told.startswith("--set ") else told


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_VMS


def _is_weight(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and 0 < value < 1e15
