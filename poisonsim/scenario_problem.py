"""Problems of a scenario in words, and the helpers that find and word them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from poisonsim.errors import ScenarioError

MAX_ERRORS = 100_000_000
"""Errors of one VM above which a scenario is refused."""


class Problem(NamedTuple):
    """What is wrong with the value of one dotted key."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def shown(value: object) -> str:
    """`value` as a scenario file spells it, on one line, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, (str, int, float, list, tuple, dict)) else f"{type(value).__name__} {value}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def loads(kind: str, name: str, load: Callable[[str], object]) -> str:
    """What keeps the catalogue entry or file `name` from being read; empty where nothing does."""
    from poisonsim.catalog import unknown_name

    if not name.endswith(".toml"):
        return unknown_name(kind, name)
    try:
        load(name)
    except ScenarioError as error:
        return one_line(error)
    return ""


def one_line(error: ScenarioError) -> str:
    """All problems of an error on one line."""
    return " ".join("; ".join(error.problems).split())
