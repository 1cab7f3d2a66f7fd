"""Arguments of a replay: which memory and which time it is of, once they are known to be good."""

from __future__ import annotations

import dataclasses
from math import ceil

import numpy as np

from poisonsim.errors import LogError, ScenarioError, did_you_mean, shown
from poisonsim.faults.laws import CeThreshold, load_laws
from poisonsim.replaying.histories import US_PER_YEAR, Memory
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, Scenario
from poisonsim.units import format_bytes, parse_bytes, parse_years

IMPUTE = ("uniform", "known", "none")
"""Where errors without an address go: anywhere in the host's memory; into backing pages known to be bad, or anywhere on
a host where none is known; nowhere."""
STOCK_THRESHOLD = "rasdaemon"
"""Threshold of corrected errors where neither the call nor the scenario names one."""
MONTHS_PER_YEAR = 12
_MOST_IMPUTATIONS = 10_000
_MOST_MONTHS = 1200


def checked(
    scenario: Scenario, base: int | str, host_memory: int | str | None, impute: str, imputations: int
) -> Memory:
    """The memory of the hosts, once all arguments are known to be good."""
    vm, problems = scenario.vm, []
    sizes: dict[str, int | None] = {"base": None, "host_memory": None}
    for name, value in (("base", base), ("host_memory", host_memory)):
        try:
            sizes[name] = None if value is None else address_of(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    first, given = sizes["base"], sizes["host_memory"]
    if first is not None and (first < 0 or first % vm.region_bytes):
        problems.append(f"base: {shown(base)} is not a whole number of backing pages of {vm.backing}, from 0")
    elif first is not None and given is not None and first + vm.memory_bytes > given:
        needed = format_bytes(first + vm.memory_bytes)
        problems.append(
            f"host_memory: {shown(host_memory)} has no room for the VM: base and vm.memory need {needed}; give that, "
            "or set vm.memory"
        )
    if impute not in IMPUTE:
        problems.append(f"impute: {shown(impute)} is not one of {', '.join(IMPUTE)}{did_you_mean(impute, IMPUTE)}")
    if isinstance(imputations, bool) or not isinstance(imputations, int) or not 1 <= imputations <= _MOST_IMPUTATIONS:
        problems.append(f"imputations: {shown(imputations)} is not a whole number from 1 to {_MOST_IMPUTATIONS:,}")
    if problems or first is None:
        raise ScenarioError(problems)
    return Memory(first, vm.memory_bytes, vm.base_bytes, vm.region_bytes, given)


def address_of(value: int | str) -> int:
    """An address or a size in bytes: a number, hexadecimal text, or text with a unit.

    Raises:
        ValueError: It is none of these.

    Examples:
        >>> address_of("0x40000000"), address_of("1GiB"), address_of(4096)
        (1073741824, 1073741824, 4096)
    """
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            raise ValueError(f"{shown(value)} is not a number; write one such as 0x40000000 or 1GiB") from None
    if value in (0, "0"):
        return 0
    return parse_bytes(value)


def threshold_of(scenario: Scenario, named: str | None) -> CeThreshold:
    """The threshold of corrected errors that is named, else that of the scenario's host, else the stock one."""
    faults = scenario.faults
    known = load_laws(faults.laws if isinstance(faults, FieldFaults) else "field").thresholds
    name = named or (STOCK_THRESHOLD if scenario.host.ce_threshold == "off" else scenario.host.ce_threshold)
    if name not in known:
        raise ScenarioError(f"ce_threshold: {shown(name)} is not one of {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def replayed(scenario: Scenario, months: int) -> Scenario:
    """The VM, host and workload of a scenario, watched for so many months; its own faults and horizon do not count."""
    return Scenario(
        title=scenario.title, vm=scenario.vm, host=dataclasses.replace(scenario.host, ce_threshold="off"),
        faults=CountFaults(), workload=scenario.workload,
        horizon=Horizon(years=months / MONTHS_PER_YEAR, grid="1month"),
    )  # fmt: skip


def months_of(years: float | str) -> int:
    """How long to watch, in whole months."""
    try:
        wanted = parse_years(years)
    except ValueError as error:
        raise ScenarioError(f"years: {error}") from None
    months = ceil(wanted * MONTHS_PER_YEAR - 1e-9)
    if not 1 <= months <= _MOST_MONTHS:
        raise ScenarioError(
            f"years: {shown(years)} is not between one month and {_MOST_MONTHS // MONTHS_PER_YEAR} years"
        )
    return months


def watched(first: int | None, last: int | None, begin: int | None, months: int | None) -> tuple[int, int]:
    """When time begins, in microseconds since 1970, and for how many months it runs."""
    if first is None or last is None:
        if months is None:
            raise LogError(
                "logs: no event has a time, so that nobody can say in how long all this happened; give --years (and "
                "--boot for a log that counts from boot)"
            )
        return begin or 0, months
    start = first if begin is None else begin
    if months is None:
        months = max(ceil((last - start) / US_PER_YEAR * MONTHS_PER_YEAR - 1e-9), 1)
        if months > _MOST_MONTHS:
            raise LogError(
                f"logs: run from {np.datetime64(first, 's')} to {np.datetime64(last, 's')}, more than "
                f"{_MOST_MONTHS // MONTHS_PER_YEAR} years; leave out what has a wrong time with --since or --years"
            )
    return start, months
