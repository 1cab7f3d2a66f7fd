"""What the shell completes: names of scenarios, policies, metrics and catalogue entries, and scenario keys.

A completion that cannot be had is none: the shell must not print errors while one types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps

from poisonsim.errors import PoisonsimError

_LEAVES = ("1G", "2M", "4K")


def _completing(names: Callable[[str], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion of those of `names` that begin with what is typed, which is passed to it."""

    @wraps(names)
    def complete(incomplete: str) -> list[str]:
        with _quiet():
            return [name for name in names(incomplete) if name.startswith(incomplete)]
        return []

    complete.__annotations__ = {"incomplete": str, "return": list}
    return complete


@contextmanager
def _quiet() -> Iterator[None]:
    with suppress(PoisonsimError, OSError):
        yield


@_completing
def scenarios(incomplete: str) -> Iterable[str]:
    """Scenarios of the catalogue."""
    from poisonsim import catalog

    return catalog.names("scenarios")


@_completing
def entries(incomplete: str) -> Iterable[str]:
    """All entries of the catalogue."""
    from poisonsim import catalog

    return [name for kind in catalog.KINDS for name in catalog.names(kind)]


@_completing
def policies(incomplete: str) -> Iterable[str]:
    """Policies that are shipped or installed; their parameters after a colon."""
    from poisonsim.policy import find_policy, policy_names

    name, colon, _ = incomplete.partition(":")
    return [f"{name}:{each}=" for each in find_policy(name).cls.parameters()] if colon else policy_names()


@_completing
def topics(incomplete: str) -> Iterable[str]:
    """Topics of the manual."""
    from poisonsim.manual import topic_names

    return topic_names()


@_completing
def metrics(incomplete: str) -> Iterable[str]:
    """Metrics of a VM on x86-64."""
    from poisonsim.results.metrics import metrics_for

    return [metric.name for metric in metrics_for(_LEAVES)]


@_completing
def settings(incomplete: str) -> Iterable[str]:
    """Scenario keys with an equals sign; after it the values of those that have few."""
    key, equals, _ = incomplete.partition("=")
    return [f"{key}={value}" for value in _values(key)] if equals else [f"{each}=" for each in _keys()]


@_completing
def swept(incomplete: str) -> Iterable[str]:
    """Scenario keys; after an equals sign the values of those that have few."""
    key, equals, given = incomplete.partition("=")
    before = given.rpartition(",")[0]
    return [f"{key}={before}{',' * bool(before)}{value}" for value in _values(key)] if equals else _keys()


def _keys() -> list[str]:
    import poisonsim.scenario  # noqa: F401 - it defines the keys
    from poisonsim.scenario_checks import all_keys

    return [key for key in all_keys() if "." in key]


def _values(key: str) -> list[str]:
    from poisonsim.results.sweep_grid import closed_values, spelled
    from poisonsim.scenario import Scenario

    return [spelled(value) for value in closed_values(Scenario(), key)] if key in _keys() else []
