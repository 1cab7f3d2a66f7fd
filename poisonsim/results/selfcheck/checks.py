"""A check and its verdict, and the bounds that chance may reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ALPHA = 1e-6
"""Chance that a check by sampling fails though all is well."""

HOLDS, FAILS, SHOWN = "holds", "fails", "shown"


@dataclass(frozen=True)
class Check:
    """One number of ours beside the truth.

    Args:
        what: What is compared.
        found: Our number in words.
        truth: What it should be, and by what.
        allowed: What would still be right.
        verdict: `holds`, `fails`, or `shown` where nothing is judged.
        at: Our number, and its interval where it has one, on a scale on which -1 to 1 is allowed; None for no picture.
        word: What to say instead of the verdict.
        note: What else has to be known.

    Examples:
        >>> equal("a", 4096, 4096, "table").verdict, equal("a", 4096, 8192, "table").verdict
        ('holds', 'fails')
    """

    what: str
    found: str
    truth: str
    allowed: str
    verdict: str
    at: tuple[float, float, float] | None = None
    word: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Section:
    """Checks of one kind.

    Args:
        key: Name in links.
        title: What is checked.
        source: Where the truth comes from.
        method: How it is compared, and what chance may do.
        checks: One row each.
        notes: What else has to be known.
    """

    key: str
    title: str
    source: str
    method: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """`fails` if any check does, `holds` if any holds, else `shown`.

        Examples:
            >>> Section("k", "t", "s", "m", (equal("a", 1, 1, ""), equal("b", 1, 2, ""))).verdict
            'fails'
        """
        verdicts = [check.verdict for check in self.checks]
        return next((verdict for verdict in (FAILS, HOLDS) if verdict in verdicts), SHOWN)

    @property
    def summary(self) -> str:
        """How many checks came out how, in words."""
        n = {verdict: sum(check.verdict == verdict for check in self.checks) for verdict in (HOLDS, FAILS, SHOWN)}
        judged = n[HOLDS] + n[FAILS]
        words = [f"{n[HOLDS]} of {judged} hold"] if judged else []
        return "; ".join(words + ([f"{n[SHOWN]} shown, not judged"] if n[SHOWN] else [])) or "not run here"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "section": self.key, "title": self.title, "verdict": self.verdict, "summary": self.summary,
            "source": self.source, "checks": [check.to_dict() for check in self.checks],
        }  # fmt: skip


def equal(what: str, found: int, truth: int, source: str) -> Check:
    """A number that must be exactly what it should."""
    verdict = HOLDS if found == truth else FAILS
    return Check(what, f"{found:,}", f"{truth:,}: {source}", "equal", verdict)


def within_law(what: str, law: Any, observed: int, n: int, source: str, alpha: float) -> Check:
    """A count, held to the quantiles that a draw from `law` leaves with chance `alpha`; shown as a mean over `n`.

    Args:
        law: A distribution of scipy.stats, frozen.
    """
    low, high, mean = float(law.ppf(alpha / 2)), float(law.isf(alpha / 2)), float(law.mean())
    half = max((high - low) / 2, 1e-300)
    place = (observed - (low + high) / 2) / half
    verdict = HOLDS if low <= observed <= high else FAILS
    return Check(
        what, f"{observed / n:.6g}", f"{mean / n:.6g}: {source}", f"{low / n:.4g} to {high / n:.4g}", verdict,
        (place, place, place),
    )  # fmt: skip


def within_normal(what: str, found: float, truth: float, variance: float, source: str, alpha: float) -> Check:
    """A mean with known variance, held to what a normal law leaves with chance `alpha`."""
    from scipy.stats import norm

    half = float(norm.isf(alpha / 2)) * variance**0.5
    place = min(max((found - truth) / max(half, 1e-12 * abs(truth)), -9.0), 9.0)
    verdict = HOLDS if abs(place) <= 1 else FAILS
    return Check(
        what, f"{found:.6g}", f"{truth:.6g}: {source}", f"{truth - half:.4g} to {truth + half:.4g}", verdict,
        (place, place, place),
    )  # fmt: skip
