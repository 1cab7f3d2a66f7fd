"""Problems of a scenario in words, and the helpers that find and word them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from poisonsim.errors import ScenarioError, shown

__all__ = ["MAX_ERRORS", "Problem", "lines", "loads", "shown"]

MAX_ERRORS = 10_000_000
"""Errors of one VM, or expected ones, above which a scenario is refused; a million take 1.3 GiB a thread."""
"""Errors of one VM above which a scenario is refused."""


class Problem(NamedTuple):
    """What is wrong with the value of one dotted key."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def loads(kind: str, name: str, load: Callable[[str], object]) -> list[str]:
    """What keeps the catalogue entry or file `name` from being read, one line each; empty where nothing does.

    Of a CPU, readings may stand behind a colon: `zen4:l2_1g=exclusive`.
    """
    from poisonsim.catalog import split_options, unknown_name, unreadable

    file, options = split_options(name) if kind == "cpus" else (name, "")
    if not file.endswith(".toml"):
        if (problem := unknown_name(kind, file)) or not options:
            return list(filter(None, [problem]))
    elif problem := unreadable(Path(file), where=file):
        return [problem]
    try:
        load(name)
    except ScenarioError as error:
        return lines(error)
    return []


def lines(error: ScenarioError) -> list[str]:
    """The problems of an error, each on one line."""
    return [" ".join(problem.split()) for problem in error.problems]
