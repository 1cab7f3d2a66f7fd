"""The page of a fleet: what each policy costs all of it, VMs to drain, and the pages of its components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poisonsim.engine.store import write_whole
from poisonsim.report.assumptions import software
from poisonsim.report.page import colours_of, environment, facts_of, policy_text, title_of
from poisonsim.report.style import styles
from poisonsim.results.fleet_folder import COMPONENTS
from poisonsim.results.fleet_run import FleetRun
from poisonsim.results.fleet_words import TOTALS, TotalRow, drained_rows, paired_sentences, total_rows

FLEET_PAGE = "fleet.html"


@dataclass(frozen=True)
class ComponentText:
    """A component on the page, and where its own page is."""

    name: str
    vms: int
    title: str
    facts: list[tuple[str, str]]
    page: str


def write_fleet(found: FleetRun, folder: Path, *, thresholds: Sequence[str], command: str, fleet_id: str) -> Path:
    """Writes `fleet.html` into `folder`; returns its path. See `render_fleet`.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    html = render_fleet(found, thresholds=thresholds, command=command, fleet_id=fleet_id)
    write_whole(folder / FLEET_PAGE, html.encode())
    return folder / FLEET_PAGE


def render_fleet(found: FleetRun, *, thresholds: Sequence[str], command: str, fleet_id: str) -> str:
    """The page as text; the same bytes every time. It links to the reports in the run folders of the components.

    Args:
        thresholds: From where on VMs are to be drained, as `FleetRun.exceeding` takes them.
        command: What the reader runs to get the same.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.run_fleet([ps.FleetPart("mine", ps.load_scenario("seed-1t-distinct"), 30)],
        ...                      policies=["unmap1g"], trials=100)
        >>> html = render_fleet(found, thresholds=["guest_lost_bytes > 99GiB"], command="x", fleet_id="0" * 64)
        >>> 'href="components/mine/report.html"' in html
        True
    """
    looks = styles(found.policies)
    plans = found.results[0].plan.policies
    horizon = found.parts[0].scenario.horizon.years
    return environment().get_template("fleet.html").render(
        title=found.title or f"A fleet of {found.vms:,} VMs",
        colours=colours_of(looks),
        policies=[policy_text(str(p), *own) for p, own in enumerate(zip(plans, looks, strict=True))],
        facts=[
            ("VMs", f"{found.vms:,}"),
            ("Components", str(len(found.parts))),
            ("Horizon", f"{horizon:g} year{'s' if horizon != 1 else ''}"),
            ("Seed", str(found.seed)),
        ],
        headings=TOTALS,
        totals=_by_component(total_rows(found)),
        findings=paired_sentences(found),
        drained=[drained_rows(found, threshold) for threshold in thresholds],
        components=[
            ComponentText(
                part.name, part.vms, title_of(part.scenario), facts_of(result),
                f"{COMPONENTS}/{part.name}/report.html",
            )
            for part, result in zip(found.parts, found.results, strict=True)
        ],
        command=command,
        seed=found.seed,
        fleet_id=fleet_id,
        software=software(),
    )  # fmt: skip


def _by_component(rows: Sequence[TotalRow]) -> list[tuple[str, list[TotalRow]]]:
    """Rows of each component, those of the whole fleet first."""
    names = list(dict.fromkeys(row.component for row in rows))
    return [(name, [row for row in rows if row.component == name]) for name in (names[-1], *names[:-1])]
