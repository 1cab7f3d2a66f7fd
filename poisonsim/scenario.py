"""Scenarios: the VM, its host, the errors that strike it, its workload and how long it is watched.

Frozen dataclasses that are checked when they are made, and their readers for TOML files and plain tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from poisonsim.catalog import Number
from poisonsim.errors import ScenarioError
from poisonsim.scenario_checks import SECTIONS, check, speak_plainly, unused_key
from poisonsim.scenario_file import read_tables, replaced, resolve
from poisonsim.scenario_tables import CONFIG, CountFaults, Faults, FieldFaults, Horizon, Host, RateFaults, Vm, Workload
from poisonsim.units import Time, time_text

__all__ = [
    "CountFaults", "Faults", "FieldFaults", "Horizon", "Host", "RateFaults", "ResolvedScenario", "Scenario", "Vm",
    "Workload", "load_scenario", "resolve_scenario",
]  # fmt: skip


@speak_plainly
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Scenario:
    """Everything that fixes the histories of errors and what they cost; the default is the catalogue's `seed-1t`.

    Raises:
        ScenarioError: Parts that do not fit together; all problems are listed.

    Examples:
        >>> scenario = Scenario(vm=Vm(memory="4TiB"), faults=RateFaults(ue_per_tib_year=0.011))
        >>> scenario.vm.n_regions, scenario.horizon.n_steps
        (4096, 60)
        >>> Scenario(vm=Vm(backing="2M", guest_page="1G"))
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: vm.guest_page: '1G' is larger than the backing; write 2M or smaller
    """

    title: str = ""
    vm: Vm = Field(default_factory=Vm)
    host: Host = Field(default_factory=Host)
    faults: Annotated[Faults, Field(discriminator="model")] = Field(default_factory=CountFaults)
    workload: Workload = Field(default_factory=Workload)
    horizon: Horizon = Field(default_factory=Horizon)

    def __post_init__(self) -> None:
        values = {f"{name}.{key}": value for name in SECTIONS for key, value in vars(getattr(self, name)).items()}
        if problems := check(values):
            raise ScenarioError([str(problem) for problem in problems])

    def to_dict(self) -> dict[str, Any]:
        """The scenario as plain tables of text and numbers, keys in a fixed order, none that has no effect.

        Examples:
            >>> Scenario().to_dict()["faults"]
            {'model': 'count', 'errors': 100, 'placement': 'uniform'}
        """
        from poisonsim.memory import ladder

        tables: dict[str, Any] = dataclasses.asdict(self)
        for name in SECTIONS:
            table = {key: time_text(value) if isinstance(value, Time) else value for key, value in tables[name].items()}
            tables[name] = {key: value for key, value in table.items() if not unused_key(name, table, key)}
        if not ladder(self.vm.arch, self.vm.backing, contiguous=self.vm.contiguous).contiguous_sizes:
            del tables["host"]["stage2_contiguous"]
        # Keys that came later: with what was so before them they leave the run id as it was.
        for key, before in (("smt_threads", 1), ("virtualised", True)):
            if tables["workload"][key] == before:
                del tables["workload"][key]
        return tables

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Scenario:
        """The scenario that such tables describe; what they leave out has its default.

        Raises:
            ScenarioError: Unknown keys or values that cannot be used; all problems are listed.

        Examples:
            >>> Scenario.from_dict({"faults": {"model": "rate", "ue_per_tib_year": "1/month"}}).faults.model
            'rate'
            >>> Scenario.from_dict(Scenario().to_dict()) == Scenario()
            True
        """
        parts, problems = read_tables(tables)
        if problems:
            raise ScenarioError([str(problem) for problem in problems])
        return cls(**parts)

    def replace(self, values: Mapping[str, object]) -> Scenario:
        """The scenario with other values of some dotted keys, read as `--set` reads them.

        Raises:
            ScenarioError: Unknown keys or values that cannot be used; all problems are listed.

        Examples:
            >>> Scenario().replace({"host.spares": 8, "vm.memory": "2TiB"}).vm.n_regions
            2048
        """
        return Scenario.from_dict(replaced(self.to_dict(), values))


@dataclasses.dataclass(frozen=True)
class ResolvedScenario:
    """A scenario and where each of its values came from.

    Attributes:
        name: Catalogue name, or stem of the file.
        scenario: The scenario.
        origins: By dotted key: `"catalogue: seed-1t"`, the file's name, `"--set"`, `"--years"` or `"default"`.
        numbers: Values in use whose source and quality the catalogue or the file states.

    Examples:
        >>> resolved = resolve_scenario("seed-1t", overrides=["host.spares=8"])
        >>> resolved.origins["host.spares"], resolved.origins["vm.memory"], resolved.origins["host.hvo"]
        ('--set', 'catalogue: seed-1t', 'default')
        >>> [number.quality for number in resolved.numbers if number.key == "faults.errors"]
        ['assumed']
    """

    name: str
    scenario: Scenario
    origins: Mapping[str, str]
    numbers: tuple[Number, ...]


def load_scenario(
    name_or_path: str | Path,
    *,
    overrides: Mapping[str, object] | Sequence[str] = (),
    years: float | str | None = None,
) -> Scenario:
    """The scenario of that name in the catalogue, or the one a TOML file describes.

    Args:
        name_or_path: A name from `catalog.names("scenarios")`, or a path. A file may begin with `base = "seed-1t"`,
            a catalogue scenario to go over; without it, what it leaves out has its default.
        overrides: `["vm.memory=8TiB"]` or `{"vm.memory": "8TiB"}`; go over the file.
        years: Horizon; goes over everything.

    Raises:
        ScenarioError: No such scenario, a file that is not TOML, or values that cannot be used, all listed.

    Examples:
        >>> load_scenario("seed-1t", overrides=["vm.memory=8TiB"]).vm.n_regions
        8192
        >>> load_scenario("seed-1t", overrides=["vm.memry=8TiB"])
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: overrides: vm.memry: unknown key; did you mean vm.memory?
    """
    return resolve_scenario(name_or_path, overrides=overrides, years=years).scenario


def resolve_scenario(
    name_or_path: str | Path,
    *,
    overrides: Mapping[str, object] | Sequence[str] = (),
    years: float | str | None = None,
) -> ResolvedScenario:
    """As `load_scenario`, with the origin of every value.

    Raises:
        ScenarioError: As `load_scenario`.

    Examples:
        >>> resolve_scenario("seed-1t", years="10y").origins["horizon.years"]
        '--years'
    """
    parts, origins, numbers = resolve(name_or_path, overrides, years)
    scenario = Scenario(**parts)
    keys = (f"{name}.{key}" for name, table in scenario.to_dict().items() if name != "title" for key in table)
    by_key = {key: origins.get(key, "default") for key in ("title", *keys)}
    return ResolvedScenario(Path(name_or_path).stem, scenario, by_key, tuple(n for n in numbers if n.key in by_key))
