"""The grid of a sweep: which values each key takes, and words for its points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Literal, TypeAlias, get_args, get_origin

import numpy as np

from poisonsim import catalog
from poisonsim.errors import ScenarioError, ValueLeftOut, did_you_mean, warn
from poisonsim.faults.laws import load_laws
from poisonsim.memory import backings
from poisonsim.policy import Policy
from poisonsim.policy.loader import split_spec
from poisonsim.scenario import FieldFaults, Scenario
from poisonsim.scenario_checks import GUEST_PAGES, SECTIONS, all_keys, family, keys_of, unknown_key
from poisonsim.scenario_file import toml_value
from poisonsim.scenario_problem import shown
from poisonsim.units import size_text

Settings: TypeAlias = Mapping[str, object]
"""Value of each swept key at one point."""

BYTES_KEYS = ("vm.memory", "host.free_memory")
"""Keys whose values are sizes."""

MOST_POINTS = 400
"""Points of one sweep, whose results are all in memory: some megabytes each."""

_CATALOGUES = {
    "host.cpu": "cpus", "host.costs": "costs",
    "faults.table": "faults", "faults.laws": "laws", "faults.dimm": "dimms", "faults.map": "maps",
}  # fmt: skip


def values_of(
    scenario: Scenario, over: Mapping[str, Iterable[object] | None], policies: Sequence[Policy] = ()
) -> dict[str, tuple[object, ...]]:
    """The values of each swept key, checked as far as one can without the other keys.

    A key is a dotted key of the scenario, or a parameter of one of `policies`, such as `migrate1g:spares` or
    `./mine.py:spares`.

    Raises:
        ScenarioError: No key, an unknown one, one without values, a value twice, or too many points; all are listed.

    Examples:
        >>> values_of(Scenario(), {"host.spares": ["0", 4], "host.hvo": None})
        {'host.spares': (0, 4), 'host.hvo': (True, False)}
        >>> from poisonsim.policy import load_policy
        >>> values_of(Scenario(), {"migrate1g:spares": ["0", 4]}, [load_policy("migrate1g")])
        {'migrate1g:spares': (0, 4)}
    """
    if not isinstance(over, Mapping):
        raise ScenarioError(f"over = {shown(over)} is not a table of keys; write one such as {{'host.spares': [0, 4]}}")
    if not over:
        raise ScenarioError("no key is swept; name one, such as --over host.hvo_with_hgm")
    values: dict[str, tuple[object, ...]] = {}
    problems: list[str] = []
    known = all_keys()
    for key, given in over.items():
        if key in SECTIONS:
            first = keys_of(SECTIONS[key][0])[0]
            problems.append(f"--over {key}: is a table; sweep one of its keys, such as {key}.{first}")
            continue
        if key == "title":
            problems.append("--over title: changes no result; sweep another key")
            continue
        if problem := _parameter_problem(key, policies) if is_parameter(key) else "":
            problems.append(problem)
            continue
        if not is_parameter(key) and key not in known:
            problems.append(f"--over {key}: {unknown_key('', str(key), known)}")
            continue
        try:
            values[key] = _own_values(scenario, key, given)
        except ScenarioError as error:
            problems += error.problems
    n_points = prod(len(each) for each in values.values())
    if n_points > MOST_POINTS and not problems:
        sizes = " x ".join(f"{len(each):,}" for each in values.values())
        problems.append(
            f"--over {', '.join(values)}: the grid has {n_points:,} points ({sizes}); "
            f"give fewer values, for at most {MOST_POINTS}"
        )
    if problems:
        raise ScenarioError(problems)
    return values


def is_parameter(key: object) -> bool:
    """Whether a swept key is a parameter of a policy, not a key of the scenario.

    Examples:
        >>> is_parameter("migrate1g:spares"), is_parameter("host.spares")
        (True, False)
    """
    return ":" in str(key)


def at_point(policies: Sequence[Policy], settings: Settings) -> list[Policy]:
    """The policies with the parameters that a point gives them.

    Raises:
        PolicyError: A value that a parameter cannot have.

    Examples:
        >>> from poisonsim.policy import load_policy
        >>> at_point([load_policy("unmap1g"), load_policy("migrate1g")], {"migrate1g:spares": 8, "host.spares": 1})
        [<policy unmap1g>, <policy migrate1g:spares=8>]
    """
    found = []
    for policy in policies:
        given = {
            parameter: value
            for (name, parameter), value in ((_parts(key), value) for key, value in settings.items())
            if _is_called(policy, name)
        }
        found.append(_with_parameters(policy, given) if given else policy)
    return found


def closed_values(scenario: Scenario, key: str) -> tuple[object, ...]:
    """Every value that a dotted key can have, largest page first, or none where there is no end of them.

    Those are its choices; or of the pages, catalogue entries and thresholds that it could name, the ones that
    `scenario` takes.

    Raises:
        ScenarioError: `scenario` takes none of them.

    Examples:
        >>> closed_values(Scenario(), "host.hvo_with_hgm"), closed_values(Scenario(), "host.hvo")
        (('off-everywhere', 'off-where-split', 'kept'), (True, False))
        >>> closed_values(Scenario(), "vm.guest_page"), closed_values(Scenario(), "host.spares")
        (('1G', '2M', '4K'), ())
        >>> "zen5" in closed_values(Scenario(), "host.cpu"), "neoverse-v2" in closed_values(Scenario(), "host.cpu")
        (True, False)
    """
    return _closed_values(scenario, key)[0]


def _closed_values(scenario: Scenario, key: str) -> tuple[tuple[object, ...], dict[str, ScenarioError]]:
    """As `closed_values`, and the values that the scenario refuses, with why."""
    table, _, last = key.partition(".")
    annotations = [cls.__pydantic_fields__[last].annotation for cls in SECTIONS[table] if last in keys_of(cls)]
    if choices := dict.fromkeys(choice for annotation in annotations for choice in _choices(annotation)):
        return tuple(choices), {}
    taken: list[object] = []
    refused: dict[str, ScenarioError] = {}
    for value in _candidates(scenario, key):
        try:
            scenario.replace({key: value})
            taken.append(value)
        except ScenarioError as error:
            refused[value] = error
    if refused and not taken:
        raise ScenarioError([f"--over {problem}" for problem in next(iter(refused.values())).problems])
    return tuple(taken), refused


def spelled(value: object) -> str:
    """A value as `--over` and `--set` take it.

    Examples:
        >>> spelled(True), spelled(4), spelled({"2M": 0.9, "4K": 0.1})
        ('true', '4', '{"2M" = 0.9, "4K" = 0.1}')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(key))} = {spelled(share)}' for key, share in value.items())}}}"
    return str(value)


def settings_text(settings: Settings) -> str:
    """A point in words, such as `host.spares=0 faults.errors=10`."""
    return " ".join(f"{key}={spelled(value)}" for key, value in settings.items())


def places(where: Sequence[Settings], n_points: int) -> str:
    """At which of `n_points` points something is so.

    Examples:
        >>> places([{"host.spares": 0}, {"host.spares": 1}], 3), places([{"host.spares": 0}], 1)
        ('at host.spares=0 and 1 other point', 'at host.spares=0')
    """
    if len(where) == n_points > 1:
        return "at every point"
    others = len(where) - 1
    more = f" and {others:,} other point{'s' if others > 1 else ''}" if others else ""
    return f"at {settings_text(where[0])}{more}"


def _parts(key: str) -> tuple[str, str]:
    name, _, parameter = key.rpartition(":")
    return name, parameter


def _is_called(policy: Policy, name: str) -> bool:
    """Whether a policy goes by a name, or is what that file holds."""
    return bool(name) and name in (policy.name, split_spec(policy.spec)[0])


def _with_parameters(policy: Policy, given: Mapping[str, object]) -> Policy:
    """A policy of the same class with more parameters, and how the command line spells it."""
    params = {**policy.params, **given}
    changed = type(policy)(**params)  # type: ignore[arg-type]
    if policy.spec:
        changed.spec = f"{split_spec(policy.spec)[0]}:{','.join(f'{name}={value}' for name, value in params.items())}"
    return changed


def _parameter_problem(key: str, policies: Sequence[Policy]) -> str:
    """Why a parameter of a policy cannot be swept; empty where it can."""
    name, parameter = _parts(key)
    names = [policy.name for policy in policies]
    meant = [policy for policy in policies if _is_called(policy, name)]
    if not meant:
        close = did_you_mean(name, names)
        return f"--over {key}: no policy of the sweep is called {name!r}{close}; add it with --policy {name}"
    for policy in meant:
        known = type(policy).parameters()
        if parameter not in known:
            close = did_you_mean(parameter, known)
            return f"--over {key}: {name} has no parameter {parameter!r}{close}; it has {', '.join(known) or 'none'}"
        if parameter in policy.params:
            return f"--over {key}: is swept, but --policy {policy.label} holds it still; drop one of them"
    return ""


def _own_values(scenario: Scenario, key: str, given: Iterable[object] | None) -> tuple[object, ...]:
    """The values given for one key, as plain data, or all that it can have."""
    if given is None:
        if is_parameter(key):
            raise ScenarioError(f"--over {key}: has no closed set of values; name them, as in {key}=0,4")
        found, refused = _closed_values(scenario, key)
        if found:
            if refused:
                all_refused = ", ".join(map(str, refused))
                told = "is left out" if len(refused) == 1 else "are left out; of the first"
                why = next(iter(refused.values())).problems[0]
                warn(f"--over {key}: {all_refused} {told}: {why}", ValueLeftOut)
            return found
        table, _, last = key.partition(".")
        now = scenario.to_dict()[table].get(last)
        if isinstance(now, int) and key in BYTES_KEYS:
            now = size_text(now)
        here = "" if now is None else f" (it is {spelled(now)} in this scenario)"
        raise ScenarioError(f"--over {key}: has no closed set of values; name them, as in {key}=V1,V2,...{here}")
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise ScenarioError(f"--over {key}: {shown(given)} is not a list of values; write one such as [0, 4]")
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    values = [toml_value(value) if isinstance(value, str) else value for value in values]
    if not values:
        raise ScenarioError(f"--over {key}: has no values; name at least one")
    texts = [spelled(value) for value in values]
    if twice := next((text for i, text in enumerate(texts) if text in texts[:i]), None):
        raise ScenarioError(f"--over {key}: {shown(twice)} is given twice; give each value once")
    return tuple(values)


def _choices(annotation: object) -> tuple[object, ...]:
    """The values of a type that has few."""
    if annotation is bool:
        return (True, False)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _candidates(scenario: Scenario, key: str) -> Iterator[str]:
    """What a key could name that is not a plain choice."""
    if key in _CATALOGUES:
        yield from catalog.names(_CATALOGUES[key])
    elif key == "vm.guest_page":
        yield from GUEST_PAGES[family(scenario.vm.arch)]
    elif key == "vm.backing":
        yield from backings(scenario.vm.arch)
    elif key == "host.ce_threshold" and isinstance(scenario.faults, FieldFaults):
        yield from ("off", *load_laws(scenario.faults.laws).thresholds)
