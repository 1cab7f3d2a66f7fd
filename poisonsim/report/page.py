"""Puts the report together: the numbers, the figures and the page around them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import shorten

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from poisonsim.engine.store import write_whole
from poisonsim.errors import PoisonsimWarning, PolicyError, ScenarioError
from poisonsim.faults.words import in_words
from poisonsim.policy import CompiledPolicy, find_policy
from poisonsim.policy.drawing import state_ladder
from poisonsim.report.assumptions import NOT_MODELLED, cpu_notes, groups_of, software, title_of
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.lives import MOST_CELLS, grid_png, kinds_of, lives, tones_of
from poisonsim.report.plots import pictures
from poisonsim.report.style import MARKER_PATHS, TONES, Style, styles
from poisonsim.report.tables import FLEET, fleet_tables, how_sure, of_vms_hit, paired_tables
from poisonsim.report.verdict import HEADINGS, glance, rows_of
from poisonsim.results.cost_words import (
    hvo_sentence,
    kept_sentence,
    loss_sentence,
    reach_sentence,
    same_sentence,
    spares_sentence,
)
from poisonsim.results.hits import rarely_hit, share_hit
from poisonsim.results.metric_words import faster
from poisonsim.results.numbers import as_probability
from poisonsim.results.result import Result
from poisonsim.results.words import rate_notes, simulated_of, thought_experiment
from poisonsim.scenario import Scenario
from poisonsim.units import format_bytes


def write_report(result: Result, folder: Path, *, command: str, vms: int = FLEET) -> Path:
    """Writes `report.html` and one PNG per figure into `folder`; returns the page's path.

    Args:
        command: What the reader runs to get the same result.
        vms: Size of the fleet that the page speaks of.

    Raises:
        RunFolderError: The folder cannot be written.

    Examples:
        >>> import tempfile
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=100, seed=7)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(res, Path(folder), command="poisonsim run --policy hgm2m --trials 100 --seed 7")
        ...     page.name, len(list(page.parent.glob('*.png')))
        ('report.html', 8)
    """
    html, images = render(result, command=command, vms=vms)
    for name, data in images.items():
        write_whole(folder / name, data)
    write_whole(folder / "report.html", html.encode())
    return folder / "report.html"


def render(result: Result, *, command: str, vms: int = FLEET) -> tuple[str, dict[str, bytes]]:
    """The page as text, and the PNG files by name; the same bytes every time.

    Args:
        command: What the reader runs to get the same result.
        vms: Size of the fleet that the page speaks of.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g"], trials=100, seed=7)
        >>> html, images = render(res, command="poisonsim run --policy unmap1g --trials 100 --seed 7")
        >>> html.startswith("<!DOCTYPE html>"), sorted(images)
        (True, ['convergence.png', 'life.png', 'reach.png', 'stage2.png', 'tables.png', 'tail.png', 'trade.png'])
    """
    plan = result.plan
    looks = styles(result.policies)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = result.summary()
    notices = [str(w.message) for w in caught if issubclass(w.category, PoisonsimWarning)]
    asides = (
        thought_experiment(plan.scenario),
        hvo_sentence(plan.scenario),
        spares_sentence(plan),
        kept_sentence(plan),
    )
    notices += filter(None, asides)
    at_horizon = summary[summary["year"] == result.years[-1]].set_index(["policy", "metric"])
    provenance = {"Command": command, "Run-Id": plan.run_id, "Seed": str(plan.seed), "Trials": str(result.n_trials)}
    title = title_of(plan.scenario)
    subtitle = f"{shorten(title, 90, placeholder=' …')} · run {plan.run_id[:12]}"
    with fixed_settings():
        drawn = pictures(result, looks, at_horizon, subtitle=subtitle, provenance=provenance, vms=vms)
        images = {f"{picture.name}.png": picture.png for picture in drawn}
        views = lives(result)
        if views:
            images["life.png"] = grid_png(views[0], plan.ladder.sizes, subtitle, provenance)
    groups = groups_of({"": plan.scenario})
    template = environment().get_template("report.html")
    html = template.render(
        title=title,
        facts=facts_of(result),
        colours=colours_of(looks),
        policies=[policy_text(str(p), *own) for p, own in enumerate(zip(plan.policies, looks, strict=True))],
        headings=list(HEADINGS.values()),
        horizon=_years(plan.scenario.horizon.years),
        rows=rows_of(result, at_horizon),
        faster=any(faster(result.mean(policy, "slowdown")) for policy in result.policies),
        definitions={metric.name: metric.definition for metric in result.metrics},
        notices=notices,
        pictures={picture.name: picture for picture in drawn},
        ladders=[state_ladder(policy, plan.ladder.sizes) for policy in plan.policies],
        share_hit=as_probability(share_hit(result)),
        few_hit=_few_hit(result),
        glance=glance(result, at_horizon),
        at_loss=loss_sentence(result),
        on_reach=reach_sentence(result),
        alike=same_sentence(result),
        of_hit=of_vms_hit(result),
        n_fleet=vms,
        fleet=fleet_tables(result, vms),
        lives=views,
        kinds=kinds_of(plan.ladder.sizes),
        tones=tones_of(plan.ladder.sizes),
        tone_colours=TONES,
        per_cell=-(-plan.scenario.vm.n_regions // MOST_CELLS),
        paired=paired_tables(result),
        sure=how_sure(result),
        fault_words=_fault_words(plan.scenario),
        n_assumed=sum(group.n_assumed for group in groups),
        groups=groups,
        cpu_notes=cpu_notes(plan.scenario),
        not_modelled=NOT_MODELLED,
        command=command,
        seed=plan.seed,
        run_id=plan.run_id,
        software=software(),
    )
    return html, images


def _few_hit(result: Result) -> str:
    """What to know before reading means over all VMs of which few are hit; empty where many are."""
    if not rarely_hit(result):
        return ""
    return (
        f"{as_probability(share_hit(result))} of VMs see an error in {_years(result.plan.scenario.horizon.years)}. "
        "Figures are means over all VMs, most of which see nothing."
    )


def facts_of(result: Result) -> list[tuple[str, str]]:
    """What was run, by name."""
    scenario, plan = result.plan.scenario, result.plan
    vm = scenario.vm
    guest = ", ".join(f"{share:.0%} {size}" if share < 1 else size for size, share in vm.guest_page_shares.items())
    pages = f"guest pages {guest}" if scenario.workload.virtualised else "accesses walk the host's table alone"
    return [
        ("VM", f"{format_bytes(vm.memory_bytes)} on {vm.backing} pages, {pages}, {vm.arch}"),
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


def unbroken(text: str, cell: bool = False) -> str:
    """`text` with its numbers held together with their units and intervals at the end of a line.

    Args:
        cell: It stands in a table, where there may be no room for a number and its interval in one line.

    Examples:
        >>> ascii(unbroken("79 (78-80) GiB less")), ascii(unbroken("79 (78-80) GiB less", cell=True))
        ("'79\\\\xa0(78-80)\\\\xa0GiB less'", "'79 (78-80)\\\\xa0GiB less'")
    """
    interval = "" if cell else r"|\([\d−]"
    text = re.sub(rf"(?<=[\d)]) (?=%|[KMGT]?i?B\b|points\b{interval})", "\N{NO-BREAK SPACE}", text)
    return text.replace("–", "\N{WORD JOINER}–\N{WORD JOINER}")


def command_text(text: str) -> Markup:
    """A command whose options are not broken at the end of a line, as HTML.

    Examples:
        >>> print(command_text("run <x> --seed 7"))
        run &lt;x&gt; <span class="whole">--seed</span> 7
    """
    words = (
        Markup('<span class="whole">{}</span>').format(word) if word.startswith("-") else escape(word)
        for word in text.split(" ")
    )
    return Markup(" ").join(words)


def name_text(text: str) -> Markup:
    """The name of a policy as HTML: a line breaks before its parameters, if it must.

    Examples:
        >>> print(name_text("migrate1g:spares=8"))
        migrate1g:<wbr>spares=8
    """
    return Markup(":<wbr>").join(map(escape, text.split(":")))


def _fault_words(scenario: Scenario) -> list[str]:
    """The fault model in sentences, then where its rates are from; empty where a file that it names is gone."""
    try:
        return [*in_words(scenario), as_sentences(rate_notes(scenario))]
    except ScenarioError:
        return []


def as_sentences(lines: Sequence[str]) -> str:
    """Lines of a note as sentences; those that go on with "but" or "and" stay in the sentence before.

    Examples:
        >>> as_sentences(["rates: DDR4", "but not all", "intervals are wide,", "and more"]), as_sentences([])
        ('Rates: DDR4, but not all. Intervals are wide, and more.', '')
    """
    text = ""
    for line in lines:
        if line.startswith(("but ", "and ")):
            text = f"{text.rstrip(',.')}, {line}"
        else:
            text += f"{'. ' if text else ''}{line[0].upper()}{line[1:]}"
    return f"{text}." if text else ""


def _years(years: float) -> str:
    return f"{years:g} year{'s' if years != 1 else ''}"


def colours_of(looks: Sequence[Style]) -> list[Style]:
    """One style of each colour."""
    return list({style.colour: style for style in looks}.values())


@dataclass(frozen=True)
class PolicyText:
    """A policy as the page tells it; status and source are empty where its class cannot be had without running code.

    Attributes:
        key: Tells it apart from others of the page in ids.
    """

    key: str
    compiled: CompiledPolicy
    style: Style
    marker: str
    dashes: str
    status: str
    source: str
    origin: str


def policy_text(key: str, compiled: CompiledPolicy, style: Style) -> PolicyText:
    """A policy as the page tells it."""
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
    return PolicyText(key, compiled, style, MARKER_PATHS[style.marker], dashes, status, source, origin)


@cache
def environment() -> Environment:
    """The templates, which escape whatever they are given."""
    found = Environment(
        loader=PackageLoader("poisonsim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"unbroken": unbroken, "command": command_text, "policy_name": name_text}
    return found
