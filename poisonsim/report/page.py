"""Puts the report together: the numbers, the figures and the page around them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import shorten

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from poisonsim.engine.store import write_whole
from poisonsim.errors import PoisonsimWarning, PolicyError
from poisonsim.policy import CompiledPolicy, find_policy
from poisonsim.report.assumptions import NOT_MODELLED, cpu_notes, numbers_in_use, settings, software
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.plots import pictures
from poisonsim.report.style import MARKER_PATHS, Style, styles
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import (
    Shown,
    as_probability,
    fallback_sentence,
    in_bytes,
    in_percent,
    simulated_of,
    verdict,
)
from poisonsim.scenario import Scenario
from poisonsim.units import format_bytes

DECIDING = ("guest_lost_bytes", "capacity_cost_bytes", "slowdown", "tlb_reach_loss", "vm_lost")
"""Metrics of the verdict, in table order."""

_HEADINGS = {
    "guest_lost_bytes": "Guest memory lost",
    "capacity_cost_bytes": "Host memory it costs",
    "slowdown": "Slowdown",
    "tlb_reach_loss": "TLB reach lost",
    "vm_lost": "VMs lost",
}


def write_report(result: Result, folder: Path, *, command: str) -> Path:
    """Writes `report.html` and one PNG per figure into `folder`; returns the page's path.

    Args:
        command: What the reader runs to get the same result.

    Raises:
        RunFolderError: The folder cannot be written.

    Examples:
        >>> import tempfile
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=100, seed=7)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(res, Path(folder), command="poisonsim run --policy hgm2m --trials 100 --seed 7")
        ...     sorted(path.name for path in page.parent.iterdir())
        ['reach.png', 'report.html', 'tables.png', 'trade.png']
    """
    html, images = render(result, command=command)
    for name, data in images.items():
        write_whole(folder / name, data)
    write_whole(folder / "report.html", html.encode())
    return folder / "report.html"


def render(result: Result, *, command: str) -> tuple[str, dict[str, bytes]]:
    """The page as text, and the PNG files by name; the same bytes every time.

    Args:
        command: What the reader runs to get the same result.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g"], trials=100, seed=7)
        >>> html, images = render(res, command="poisonsim run --policy unmap1g --trials 100 --seed 7")
        >>> html.startswith("<!DOCTYPE html>"), sorted(images)
        (True, ['reach.png', 'tables.png', 'trade.png'])
    """
    plan = result.plan
    looks = styles(result.policies)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = result.summary()
    notices = [str(w.message) for w in caught if issubclass(w.category, PoisonsimWarning)]
    at_horizon = summary[summary["year"] == result.years[-1]].set_index(["policy", "metric"])
    provenance = {"Command": command, "Run-Id": plan.run_id, "Seed": str(plan.seed), "Trials": str(result.n_trials)}
    untitled = f"Memory errors in a {format_bytes(plan.scenario.vm.memory_bytes)} VM"
    title = " ".join(plan.scenario.title.split()) or untitled
    subtitle = f"{shorten(title, 90, placeholder=' …')} · run {plan.run_id[:12]}"
    with fixed_settings():
        drawn = pictures(result, looks, at_horizon, subtitle=subtitle, provenance=provenance)
    numbers = numbers_in_use(plan.scenario)
    template = _environment().get_template("report.html")
    html = template.render(
        title=title,
        facts=_facts(result),
        colours=_colours(looks),
        policies=[_policy(policy, style) for policy, style in zip(plan.policies, looks, strict=True)],
        headings=[_HEADINGS[name] for name in DECIDING],
        horizon=_years(plan.scenario.horizon.years),
        rows=_table(result, at_horizon),
        definitions={metric.name: metric.definition for metric in result.metrics},
        notices=notices,
        pictures=drawn,
        n_assumed=sum(row.assumed for row in numbers),
        numbers=numbers,
        settings=settings(plan.scenario),
        cpu_notes=cpu_notes(plan.scenario),
        not_modelled=NOT_MODELLED,
        command=command,
        run_id=plan.run_id,
        software=software(),
    )
    return html, {f"{picture.name}.png": picture.png for picture in drawn}


@dataclass(frozen=True)
class Cell:
    """One metric of one policy in the verdict's table.

    Attributes:
        raw: The mean exactly as in `summary.csv`.
        p99, raw_p99: The value that 1 % of VMs exceed; empty and None where too few trials lie beyond it.
        band: What the mean becomes with the lowest and the highest published walk cost; slowdown only.
        least: Whether no policy of the run does better, as far as the paired differences tell.
    """

    metric: str
    mean: Shown
    raw: float
    p99: str
    raw_p99: float | None
    band: str
    least: bool


@dataclass(frozen=True)
class Row:
    """One policy in the verdict."""

    sentence: str
    cells: tuple[Cell, ...]


def _table(result: Result, at_horizon: pd.DataFrame) -> list[Row]:
    estimates = {
        policy: {name: _mean(at_horizon.loc[(policy, name)]) for name in DECIDING} for policy in result.policies
    }
    least = {name: _least(result, name, {p: means[name] for p, means in estimates.items()}) for name in DECIDING}
    rows = []
    for policy in result.policies:
        cells = tuple(_cell(policy, name, at_horizon, policy in least[name]) for name in DECIDING)
        sentences = verdict(result, policy, estimates[policy]), fallback_sentence(result, policy)
        rows.append(Row(" ".join(filter(None, sentences)), cells))
    return rows


def _cell(policy: str, metric: str, at_horizon: pd.DataFrame, least: bool) -> Cell:
    row = at_horizon.loc[(policy, metric)]
    p99, raw_p99, band = "", None, ""
    if metric != "vm_lost" and pd.notna(row["p99"]):
        raw_p99 = float(row["p99"])
        shown = _shown(metric, Estimate(raw_p99, raw_p99, raw_p99, row["unit"]))
        p99 = f"{shown.value} {shown.unit}"
    if metric == "slowdown":
        ends = [float(at_horizon.loc[(policy, name), "mean"]) for name in ("slowdown_low", "slowdown_high")]
        low, high = (_shown(metric, Estimate(end, end, end, "1")).value for end in ends)
        band = "" if low == high else f"{low} to {high}"
    return Cell(metric, _shown(metric, _mean(row)), float(row["mean"]), p99, raw_p99, band, least)


def _mean(row: pd.Series) -> Estimate:
    return Estimate(float(row["mean_low"]), float(row["mean"]), float(row["mean_high"]), str(row["unit"]))


def _shown(metric: str, estimate: Estimate) -> Shown:
    if metric == "slowdown":
        return in_percent(Estimate(estimate.low - 1, estimate.best - 1, estimate.high - 1, "1"))
    if metric == "vm_lost":
        return as_probability(estimate)
    return in_bytes(estimate) if metric.endswith("_bytes") else in_percent(estimate)


def _least(result: Result, metric: str, means: Mapping[str, Estimate]) -> set[str]:
    """Policies with the lowest mean, as far as digits shown and paired differences tell; none where that is all."""
    best = min(means, key=lambda policy: means[policy].best)
    least = str(_shown(metric, means[best]))
    found = {policy for policy, mean in means.items() if str(_shown(metric, mean)) == least}
    for policy in means.keys() - found:
        difference = result.compare(policy, to=best).differences(metric).mean()
        if difference.low <= 0 <= difference.high:
            found.add(policy)
    return found if len(found) < len(means) else set()


def _facts(result: Result) -> list[tuple[str, str]]:
    scenario, plan = result.plan.scenario, result.plan
    vm = scenario.vm
    guest = ", ".join(f"{share:.0%} {size}" if share < 1 else size for size, share in vm.guest_page_shares.items())
    return [
        ("VM", f"{format_bytes(vm.memory_bytes)} on {vm.backing} pages, guest pages {guest}, {vm.arch}"),
        ("CPU", scenario.host.cpu),
        ("Horizon", _years(scenario.horizon.years)),
        ("Errors", _errors(scenario)),
        ("Trials", ", ".join(filter(None, (f"{result.n_trials:,}", simulated_of(result))))),
        ("Seed", str(plan.seed)),
        ("Run", plan.run_id[:12]),
    ]


def _errors(scenario: Scenario) -> str:
    faults = scenario.faults.__dict__
    match scenario.faults.model:
        case "count":
            return f"{faults['errors']:,}, {faults['placement']}"
        case "rate":
            return f"{faults['ue_per_tib_year']:g} per TiB and year"
        case _:
            return f"field table {faults['table']}"


def unbroken(text: str) -> str:
    """`text` with its numbers held together with their units and intervals at the end of a line.

    Examples:
        >>> ascii(unbroken("79 GiB less"))
        "'79\\\\xa0GiB less'"
    """
    text = re.sub(r"(?<=[\d)]) (?=%|[KMGT]?i?B\b|points\b|\([\d−])", "\N{NO-BREAK SPACE}", text)
    return text.replace("–", "\N{WORD JOINER}–\N{WORD JOINER}")


def _years(years: float) -> str:
    return f"{years:g} year{'s' if years != 1 else ''}"


def _colours(looks: Sequence[Style]) -> list[Style]:
    return list({style.colour: style for style in looks}.values())


@dataclass(frozen=True)
class PolicyText:
    """A policy as the page tells it; status and source are empty where its class cannot be had without running code."""

    compiled: CompiledPolicy
    style: Style
    marker: str
    dashes: str
    status: str
    source: str
    origin: str


def _policy(compiled: CompiledPolicy, style: Style) -> PolicyText:
    name = compiled.spec.partition(":")[0]
    status = source = origin = ""
    # A file is Python code, and a report only reads: what its docstring says is left out.
    if name and not name.endswith(".py"):
        try:
            found = find_policy(name)
            status, source, origin = found.note("Status"), found.note("Source"), found.origin
        except PolicyError:
            pass
    dashes = " ".join(f"{2.1 * length:.3g}" for length in style.dashes)
    return PolicyText(compiled, style, MARKER_PATHS[style.marker], dashes, status, source, origin)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("poisonsim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment
