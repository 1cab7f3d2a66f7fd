"""The page of the self-check: a verdict on top, then one section per kind of check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonsim.engine.store import write_whole
from poisonsim.report.assumptions import software
from poisonsim.report.page import environment
from poisonsim.results.selfcheck.checks import Section
from poisonsim.results.selfcheck.every import verdict_of

_BEYOND = 1.45
"""How far past what is allowed a dot still moves; the picture of a row ends at 1.5."""


def write_verification(sections: Sequence[Section], path: Path, *, seed: int, command: str) -> Path:
    """Writes the page; returns its path.

    Args:
        seed: Of every run on it.
        command: What the reader runs to get the same page.

    Raises:
        RunFolderError: The page cannot be written.
    """
    write_whole(path, render_verification(sections, seed=seed, command=command).encode())
    return path


def render_verification(sections: Sequence[Section], *, seed: int, command: str) -> str:
    """The page as text; the same bytes for the same sections.

    Args:
        seed: Of every run on it.
        command: What the reader runs to get the same page.

    Examples:
        >>> from poisonsim.results.selfcheck.checks import equal
        >>> one = Section("k", "Tables", "s", "m", (equal("a < b", 1, 1, ""),))
        >>> html = render_verification([one], seed=1, command="poisonsim verify")
        >>> "All 1 checks hold" in html, "a &lt; b" in html
        (True, True)
    """
    template = environment().get_template("verification.html")
    return template.render(
        verdict=verdict_of(list(sections)), sections=sections, seed=seed, command=command, software=software(),
        place=_place, colours=[],
    )  # fmt: skip


def _place(value: float) -> str:
    """Where a number stands in the picture of a row, 120 wide, of which the middle 80 is what is allowed."""
    return f"{60 + 40 * min(max(value, -_BEYOND), _BEYOND):.1f}"
