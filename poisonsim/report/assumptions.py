"""What a result rests on: the scenario, every catalogue number in use with its source, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from poisonsim import catalog
from poisonsim.catalog.entries import of_file, shipped
from poisonsim.errors import ScenarioError
from poisonsim.policy import Act, CompiledPolicy
from poisonsim.scenario import FieldFaults, Scenario, load_scenario
from poisonsim.scenario_file import OTHER
from poisonsim.translation.cpus import FOR_THE_RECORD, load_cpu
from poisonsim.translation.walks import model_numbers
from poisonsim.units import format_bytes

NOT_MODELLED = (
    "VMs move, restart and collapse their mappings, and hosts reboot, only where a policy has rules that say so.",
    "Corrected errors start nothing, unless the host counts them (host.ce_threshold) and a policy has rules on_ce.",
    "A host that panics is taken to be replaced at once; its other VMs, and devices that read poison, are left out.",
    "Hosts that are kept to take evacuated VMs cost nothing.",
    "A VM that moves takes along which pages are poisoned; where it arrives, its huge pages are whole.",
    "Memory for page tables can always be had; only the memory map of a page that is dissolved may find none.",
)
"""What the results leave out, in plain words."""

_PACKAGES = ("poisonsim", "numpy", "scipy", "numba", "pandas", "pydantic", "matplotlib", "jinja2")
_DEFAULTS = "seed-1t"


@dataclass(frozen=True)
class InUse:
    """A number that a result depends on.

    Attributes:
        where: The part of the catalogue it is from, such as `CPU sapphire-rapids`.
        quality: One of `catalog.QUALITIES`.
    """

    where: str
    key: str
    value: str
    source: str
    quality: str

    @property
    def assumed(self) -> bool:
        """Whether nothing measured or published stands behind it."""
        return self.quality == "assumed"


@dataclass(frozen=True)
class Setting:
    """A value of the resolved scenario; `quality` is empty where nothing states one."""

    key: str
    value: str
    quality: str


@dataclass(frozen=True)
class Group:
    """Numbers from one part of the catalogue, the assumed ones first."""

    title: str
    rows: tuple[InUse, ...]

    @property
    def n_assumed(self) -> int:
        """How many of them are assumed."""
        return sum(row.assumed for row in self.rows)


def groups_of(scenarios: Mapping[str, Scenario]) -> list[Group]:
    """Every value that runs of these scenarios rest on, each once, by where it is from.

    Keys of a scenario that stand behind no number of the catalogue are among its numbers, as chosen.

    Args:
        scenarios: By name; the name of a single one is not told.

    Examples:
        >>> groups = groups_of({"": load_scenario("seed-1t")})
        >>> [group.title for group in groups]
        ['Scenario', 'CPU sapphire-rapids', 'Run-time model', 'Costs linux']
        >>> [(row.value, row.quality) for row in groups[0].rows if row.key in ("vm.memory", "host.hvo")]
        [('1 TiB', 'assumed'), ('true', 'chosen')]
    """
    found: dict[str, dict[str, InUse]] = {}
    for name, scenario in scenarios.items():
        own = found.setdefault(f"scenario of {name}" if len(scenarios) > 1 else "scenario", {})
        for row in numbers_in_use(scenario):
            group = own if row.where == "scenario" else found.setdefault(row.where, {})
            group.setdefault(row.key, replace(row, value=_readable(row.key, row.value)))
        for setting in settings(scenario):
            value = _readable(setting.key, setting.value)
            own.setdefault(setting.key, InUse("scenario", setting.key, value, "", "chosen"))
    return [
        Group(title[0].upper() + title[1:], tuple(sorted(rows.values(), key=lambda row: not row.assumed)))
        for title, rows in found.items()
    ]


_SHARES = ("host.kernel_reads", "vm.unrecoverable", "vm.unretired", "vm.unmovable")
_TIMES = (("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("µs", 10**3), ("ns", 1))


def _readable(key: str, value: str) -> str:
    """A value in the unit that keeps it readable.

    Examples:
        >>> _readable("", "900,000,000,000 ns"), _readable("", "14,500 ns"), _readable("", "110,100,480 bytes")
        ('15 min', '14.5 µs', '105 MiB')
        >>> _readable("host.kernel_reads", "1e-05"), _readable("", "8 entries")
        ('0.001 %', '8 entries')
    """
    if key in _SHARES:
        return f"{100 * float(value):.6g} %"
    number, _, unit = value.rpartition(" ")
    if unit not in ("ns", "bytes") or not number.replace(",", "").isdecimal():
        return value
    n = int(number.replace(",", ""))
    if unit == "bytes":
        return format_bytes(n)
    name, scale = next((each for each in _TIMES if n >= each[1]), _TIMES[-1])
    return f"{n / scale:.6g} {name}"


def numbers_in_use(scenario: Scenario) -> list[InUse]:
    """Every sourced number that a run of `scenario` uses, the assumed ones first.

    Examples:
        >>> rows = numbers_in_use(load_scenario("seed-1t"))
        >>> rows[0].assumed, rows[-1].assumed
        (True, False)
        >>> sorted({row.where for row in rows})
        ['CPU sapphire-rapids', 'costs linux', 'run-time model', 'scenario']
    """
    return sorted(_numbers(scenario), key=lambda row: not row.assumed)


_SPLITTING = (
    "split_table_page_ns",
    "refault_leaf_ns",
    "refault_locked_ns",
    "vm.vcpus",
    "host.table_lock",
    "host.page_tables",
)
_MOVING = ("copy_gib_ns", "clear_gib_ns", "host.spares", "host.replenish")
_BEHIND: Mapping[Act, tuple[str, ...]] = {
    Act.SPLIT_TO: _SPLITTING,
    Act.SPLIT_VM_TO: _SPLITTING,
    Act.UNMAP: (
        "shootdown_ns",
        "vm.unrecoverable",
        "vm.unretired",
        "guest_machine_check_ns",
        "workload.reads_per_hour",
    ),
    Act.KEEP: ("vm.unrecoverable", "vm.unretired", "host.kernel_reads", "workload.reads_per_hour"),
    Act.MIGRATE: _MOVING,
    Act.OFFLINE: (*_MOVING, "vm.unmovable"),
    Act.EVACUATE: ("evacuate_ns", "host.spare_hosts", "host.moves_poison"),
    Act.RESTART: ("restart_ns", "clear_gib_ns", "host.spares"),
    Act.COLLAPSE: ("collapse_gib_ns",),
    Act.REBOOT: ("reboot_ns", "host.spares", "host.spare_rows"),
}


def numbers_behind(policy: CompiledPolicy, scenario: Scenario) -> list[InUse]:
    """The sourced numbers that what a policy does rests on, the assumed ones first.

    Examples:
        >>> from poisonsim.engine.plan import make_plan
        >>> scenario = load_scenario("seed-1t")
        >>> (policy,) = make_plan(scenario, ["migrate1g"], seed=1).policies
        >>> [row.key for row in numbers_behind(policy, scenario) if row.where == "costs linux" and row.assumed]
        ['copy_gib_ns', 'shootdown_ns', 'guest_machine_check_ns']
    """
    keys = {key for act in {*policy.rows[:, -2].tolist()} for key in _BEHIND[Act(act)]}
    if policy.stage2_only:
        keys = keys - {"refault_locked_ns", "host.table_lock", "host.page_tables"} | {"host.kernel_reads"}
    if not policy.leaks or policy.acts_on_ces:
        keys |= {"hvo_restore_gib_ns", "host.free_memory"}
    return [row for row in numbers_in_use(scenario) if row.key in keys]


def settings(scenario: Scenario) -> list[Setting]:
    """The resolved scenario, one row per key.

    Examples:
        >>> [s for s in settings(load_scenario("seed-1t")) if s.key in ("vm.memory", "host.hvo")]
        [Setting(key='vm.memory', value='1 TiB', quality='assumed'), Setting(key='host.hvo', value='true', quality='')]
    """
    quality = {row.key: row.quality for row in _scenario_numbers(scenario)}
    return [Setting(key, _plain(key, value), quality.get(key, "")) for key, value in _flat(scenario.to_dict()).items()]


def title_of(scenario: Scenario) -> str:
    """What the scenario calls itself, with the values that overrides gave it, or what there is to say of it.

    Examples:
        >>> title_of(load_scenario("seed-1t", overrides=["vm.memory=2048GiB", "host.hvo=false"]))
        '2 TiB VM, 100 uniform errors in 5 years, but host.hvo = false'
    """
    title = " ".join(scenario.title.split())
    own, with_other, names = title.rpartition(OTHER)
    keys, values = names.split(", "), {row.key: row.value for row in settings(scenario)}
    if with_other and values.keys() >= set(keys):
        if "vm.memory" in keys and (size := re.match(r"\d+ [KMGT]iB(?= VM\b)", own)):
            own = own.replace(size[0], values["vm.memory"], 1)
            keys.remove("vm.memory")
        title = own + (f", but {', '.join(f'{key} = {values[key]}' for key in keys)}" if keys else "")
    return title or f"Memory errors in a {format_bytes(scenario.vm.memory_bytes)} VM"


def cpu_notes(scenario: Scenario) -> tuple[str, ...]:
    """What the CPU's numbers leave out; empty where the CPU's file is no longer there."""
    try:
        return load_cpu(scenario.host.cpu).notes
    except ScenarioError:
        return ()


def software() -> dict[str, str]:
    """Versions of what computed and drew the result."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _numbers(scenario: Scenario) -> Iterator[InUse]:
    yield from _scenario_numbers(scenario)
    faults, costs, cpu = scenario.faults, scenario.host.costs, scenario.host.cpu
    if isinstance(faults, FieldFaults):
        amap = catalog.split_options(faults.map)[0]
        for kind, name in {"faults": faults.table, "laws": faults.laws, "dimms": faults.dimm, "maps": amap}.items():
            yield from _numbers_of(kind, name)
    try:
        for number in load_cpu(cpu).numbers:
            if number.key in FOR_THE_RECORD:
                continue
            yield InUse(f"CPU {cpu}", number.key, _number(number.value, number.unit), number.source, number.quality)
    except ScenarioError:
        yield InUse(f"CPU {cpu}", "every number", "", "stated in that file", "")
    for number in model_numbers():
        if number.key != "cycles_per_access":  # the scenario's workload sets it
            value = _number(number.value, number.unit)
            yield InUse("run-time model", number.key, value, number.source, number.quality)
    yield from _numbers_of("costs", costs)


def _numbers_of(kind: str, name: str) -> Iterator[InUse]:
    """The numbers of one file that a scenario names."""
    where = f"costs {name}" if kind == "costs" else f"{catalog.KINDS[kind]} {name}"
    try:
        entry = of_file(name) if name.endswith(".toml") else shipped(name)
    except ScenarioError:  # a file that is no longer there
        yield InUse(where, "every number", "", "stated in that file", "")
        return
    for line in entry.listed:
        yield InUse(where, line.label, line.shown, line.number.source, line.number.quality)


def _scenario_numbers(scenario: Scenario) -> list[InUse]:
    """Values that the scenario shares with the catalogue scenario of its title, or with the defaults."""
    values = _flat(scenario.to_dict())
    known = {name: catalog.load("scenarios", name).get("title") for name in catalog.names("scenarios")}
    titled = [name for name, title in known.items() if title == scenario.title]
    found: dict[str, InUse] = {}
    for name in dict.fromkeys([*titled, _DEFAULTS]):
        stated = _flat(load_scenario(name).to_dict())
        for number in catalog.numbers("scenarios", name):
            key = number.key
            if key in values and key not in found and values[key] == stated.get(key):
                found[key] = InUse("scenario", key, _plain(key, values[key]), number.source, number.quality)
    return list(found.values())


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key, without the title."""
    inner = {name: table for name, table in tables.items() if isinstance(table, Mapping)}
    return {f"{name}.{key}": value for name, table in inner.items() for key, value in table.items()}


def _plain(key: str, value: object) -> str:
    """A value of a scenario as its file would spell it."""
    if key in ("vm.memory", "host.free_memory") and isinstance(value, int):
        return format_bytes(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{size}: {share:g}" for size, share in value.items())
    return _number(value, "") if isinstance(value, (int, float)) else str(value)


def _number(value: object, unit: str) -> str:
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()
