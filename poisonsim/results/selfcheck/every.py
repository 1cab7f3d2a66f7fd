"""All sections of the self-check, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable

from poisonsim.results.selfcheck.checks import FAILS, HOLDS, Section
from poisonsim.results.selfcheck.closed_forms import closed_forms
from poisonsim.results.selfcheck.coverage import RUNS, coverage
from poisonsim.results.selfcheck.translation import kernel_counters, oracle, published_runs


def self_check(
    *, seed: int = 1, runs: int = RUNS, full: bool = False, progress: Callable[[str], None] | None = None
) -> list[Section]:
    """Every section.

    Args:
        seed: Of every run and simulation.
        runs: Runs of each kind whose intervals are looked at.
        full: The whole grid beside the exact simulation, and every setting of intervals.
        progress: Called with what is checked next.
    """
    say = progress or (lambda _: None)
    say("runs against closed forms")
    found = [closed_forms(seed)]
    say(f"coverage of intervals, {runs:,} runs of each kind")
    found.append(coverage(runs, seed=seed, full=full))
    say("TLB model against exact simulation")
    found.append(oracle(seed, full=full, progress=say if full else None))
    return [*found, published_runs(), kernel_counters()]


def verdict_of(sections: list[Section]) -> str:
    """What came out, in one sentence.

    Examples:
        >>> from poisonsim.results.selfcheck.checks import equal
        >>> one = Section("k", "Tables", "s", "m", (equal("a", 1, 1, ""), equal("b", 1, 2, "")))
        >>> verdict_of([one])
        '1 of 2 checks fails: Tables (b).'
    """
    checks = [check for section in sections for check in section.checks]
    failed = [f"{s.title} ({c.what})" for s in sections for c in s.checks if c.verdict == FAILS]
    n = sum(check.verdict in (HOLDS, FAILS) for check in checks)
    if failed:
        return f"{len(failed)} of {n} checks fail{'s' if len(failed) == 1 else ''}: {'; '.join(failed)}."
    return f"All {n} checks hold; {len(checks) - n} more numbers are shown and not judged."
