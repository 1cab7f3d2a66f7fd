"""Several runs in one page: what differs between them, and what every policy does in each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from poisonsim.engine.store import write_whole
from poisonsim.errors import MetricError, PoisonsimWarning
from poisonsim.report.assumptions import settings, title_of
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.page import PolicyText, colours_of, environment, facts_of, policy_text
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.plots import trade_picture
from poisonsim.report.style import Style, styles
from poisonsim.report.verdict import HEADINGS, Row, rows_of
from poisonsim.results.compare_runs import compare, pairs_of, what_else_differs
from poisonsim.results.compare_words import Compared, compared, left_out
from poisonsim.results.hits import rarely_hit
from poisonsim.results.numbers import listed
from poisonsim.results.result import Result


@dataclass(frozen=True)
class RunText:
    """One run on the page."""

    name: str
    title: str
    command: str
    facts: list[tuple[str, str]]
    policies: list[PolicyText]
    rows: list[Row]
    trade: Picture


def write_comparison(runs: Sequence[tuple[str, Result, str]], path: Path) -> Path:
    """Writes one page about several runs; returns its path.

    Args:
        runs: Name of each run, its result, and the command that computes it again.

    Raises:
        RunFolderError: The page cannot be written.
    """
    write_whole(path, render_comparison(runs).encode())
    return path


def render_comparison(runs: Sequence[tuple[str, Result, str]]) -> str:
    """One page about several runs, as text; the same bytes every time.

    Args:
        runs: Name of each run, its result, and the command that computes it again.

    Examples:
        >>> import poisonsim as ps
        >>> few, more = (ps.load_scenario("seed-1t", overrides=[f"faults.errors={n}"]) for n in (10, 20))
        >>> results = [ps.run(scenario, policies=["unmap1g"], trials=50) for scenario in (few, more)]
        >>> html = render_comparison([("few", results[0], ""), ("more", results[1], "")])
        >>> "faults.errors" in html, "horizon.years" in html
        (True, False)
    """
    named = [name for name, _, _ in runs]
    labels = list(dict.fromkeys(label for _, result, _ in runs for label in result.policies))
    looks = dict(zip(labels, styles(labels), strict=True))
    with fixed_settings():
        shown = [_run(i, *run, looks) for i, run in enumerate(runs)]
    values = [{setting.key: setting.value for setting in settings(result.plan.scenario)} for _, result, _ in runs]
    keys = dict.fromkeys(key for own in values for key in own)
    rows = [(key, [own.get(key, "–") for own in values]) for key in keys]
    return (
        environment()
        .get_template("several.html")
        .render(
            title=f"{listed(named) if len(runs) < 4 else f'{len(runs)} runs'} compared",
            comparisons=_comparisons(runs),
            runs=shown,
            colours=colours_of(list(looks.values())),
            headings=list(HEADINGS.values()),
            differing_else=what_else_differs([result for _, result, _ in runs]),
            differing=[(key, row) for key, row in rows if len(set(row)) > 1],
        )
    )


class PairText(NamedTuple):
    """A run against the first one: names, what both saw, a comparison for each policy, or why there is none."""

    title: str
    pairs: list[tuple[tuple[str, str], Compared]]
    why_none: str
    left_out: str


def _comparisons(runs: Sequence[tuple[str, Result, str]]) -> list[PairText]:
    """Each run against the first one, by the policies that `pairs_of` names; those with most differences come first."""
    (base_name, base, _), *others = runs
    found = []
    for name, result, _ in others:
        wanted = pairs_of(result, base)
        pairs, why_none = [], "" if wanted else "These runs have no policy in common."
        try:
            compared_ = [compare(result, base, policy=policy, to=to) for policy, to in wanted]
        except MetricError as error:
            compared_, why_none = [], f"{error}."
        for each in compared_:
            names = f"{each.policy} of {name}", f"{each.to} of {base_name}"
            pairs.append((names, compared(each, names=names)))
        pairs.sort(key=lambda pair: pair[1].n_same)
        left = left_out(result, base, names=(name, base_name)) if pairs else ""
        found.append(PairText(f"{name} against {base_name}", pairs, why_none, left))
    return found


def _run(place: int, name: str, result: Result, command: str, every_look: dict[str, Style]) -> RunText:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoisonsimWarning)
        summary = result.summary()
    at_horizon = summary[summary["year"] == result.years[-1]].set_index(["policy", "metric"])
    looks = [every_look[label] for label in result.policies]
    return RunText(
        name,
        title_of(result.plan.scenario),
        command,
        facts_of(result),
        [policy_text(f"{place}-{p}", *own) for p, own in enumerate(zip(result.plan.policies, looks, strict=True))],
        rows_of(result, at_horizon),
        trade_picture(result, looks, at_horizon, Pen(looks, "", {}), rarely_hit(result), f"trade-{place}"),
    )
