"""What is wrong with a catalogue file, or with one of the user's own, collected so that all of it is said at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poisonsim.catalog import QUALITIES
from poisonsim.errors import ScenarioError, did_you_mean, shown

_LABELS = ("source", "quality", "unit", "title", "notes", "categories")
"""Keys that any table may have beside its numbers."""


class FileProblems:
    """What is wrong with one TOML file, and the ways to find out.

    Args:
        where: How messages call the file.

    Examples:
        >>> problems = FileProblems("mine.toml")
        >>> problems.whole("n_rows", "many", least=1, most=8)
        1
        >>> problems.list
        ["mine.toml: n_rows: 'many' is not a whole number from 1 to 8"]
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.list: list[str] = []

    def add(self, key: str, what: str) -> None:
        """Keep one problem of `key`."""
        self.list.append(f"{self.where}: {key}: {what}")

    def raise_any(self) -> None:
        """Raise all problems kept so far, if any.

        Raises:
            ScenarioError: There are some.
        """
        if self.list:
            raise ScenarioError(self.list)

    def known(self, key: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        """Keep a problem for each key of `table` that is neither in `known` nor a label such as `source`."""
        for name in table:
            if name not in known and name not in _LABELS:
                allowed = did_you_mean(name, (*known, *_LABELS)) or f"; allowed: {', '.join(known)}"
                self.add(f"{key}.{name}".removeprefix("."), f"unknown key{allowed}")

    def table(self, key: str, node: object) -> Mapping[str, Any]:
        """`node` if it is a table, otherwise an empty one and a problem."""
        if isinstance(node, Mapping):
            return node
        self.add(key, ("missing" if node is None else f"{shown(node)} is not a table") + f"; write [{key}]")
        return {}

    def sourced(self, key: str, table: Mapping[str, Any]) -> None:
        """Keep a problem where `table` does not say where its numbers come from."""
        if not isinstance(table.get("source"), str) or table.get("quality") not in QUALITIES:
            self.add(key, f"needs a source and a quality, one of {', '.join(QUALITIES)}")

    def in_unit(self, key: str, table: Mapping[str, Any], unit: str) -> None:
        """Keep a problem where `table` says that its numbers are in another unit than `unit`, in which they are read.

        Examples:
            >>> problems = FileProblems("mine.toml")
            >>> problems.in_unit("modes.bit", {"fit_permanent": 3, "unit": "FIT per Mbit"}, "FIT per chip")
            >>> problems.list
            ["mine.toml: modes.bit.unit: 'FIT per Mbit' is not what is read here; give FIT per chip, or leave unit out"]
        """
        given = table.get("unit", unit)
        if given != unit:
            self.add(f"{key}.unit", f"{shown(given)} is not what is read here; give {unit}, or leave unit out")

    def whole(self, key: str, value: object, *, least: int, most: int = 10**15) -> int:
        """`value` if it is a whole number from `least` to `most`, otherwise `least` and a problem."""
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        what = "missing; write" if value is None else f"{shown(value)} is not"
        allowed = f"a whole number, {least} or more" if most == 10**15 else f"a whole number from {least} to {most}"
        self.add(key, f"{what} {allowed}")
        return least

    def number(
        self, key: str, table: Mapping[str, Any], name: str, *, least: float, most: float, what: str = "a number"
    ) -> float:
        """The number that `table` has under `name`, with its source, plain or as `{value, source, quality}`.

        Anything else is a problem, and counts as `least`.

        Args:
            what: What the number is, for the message.
        """
        value = table.get(name)
        if isinstance(value, Mapping):
            table, value = value, value.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            text = "missing; write" if value is None else f"{shown(value)} is not"
            self.add(key, f"{text} {what} from {least:g} to {most:g}")
            return least
        self.sourced(key, table)
        return float(value)
