"""Pieces of Markdown that the generated pages are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, one row on a line.

    Examples:
        >>> print(table(["key", "value"], [["a", "1|2"]]))
        | key | value |
        |---|---|
        | a | 1\\|2 |
        <BLANKLINE>
    """
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in [header, *rows]]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:], ""])


def code(text: object) -> str:
    """Text as it is typed.

    Examples:
        >>> code("vm.memory"), code("")
        ('`vm.memory`', '')
    """
    return f"`{text}`" if str(text) else ""


def page(title: str, summary: str, *parts: str) -> str:
    """A page: its title, what the reader gets, and the rest."""
    return "\n\n".join([f"# {title}", summary, *(part.strip("\n") for part in parts)]) + "\n"


def meanings_of(cls: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of each of its arguments."""
    listed = (inspect.getdoc(cls) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (?=\w+: )", listed, flags=re.MULTILINE)[1:]
    return {key: " ".join(text.split()) for key, _, text in (entry.partition(": ") for entry in entries)}
