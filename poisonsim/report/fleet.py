"""The page of a fleet: what each policy costs all of it, VMs to drain, and the pages of its components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poisonsim.engine.store import write_whole
from poisonsim.report.assumptions import NOT_MODELLED, cpu_notes, groups_of, software, title_of
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.figures import Mark, Spread, trade, undominated
from poisonsim.report.page import colours_of, environment, facts_of, policy_text
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.style import Style, styles
from poisonsim.report.verdict import choice, lost_vms
from poisonsim.results.fleet_folder import COMPONENTS
from poisonsim.results.fleet_run import FleetRun
from poisonsim.results.fleet_words import TOTALS, Drained, TotalRow, drained_rows, paired_sentences, total_rows
from poisonsim.results.metric_words import SAME_SLOWDOWN
from poisonsim.results.numbers import listed, minus, vms_of
from poisonsim.units import format_bytes

FLEET_PAGE = "fleet.html"


@dataclass(frozen=True)
class ComponentText:
    """A component on the page, and where its own page is."""

    name: str
    vms: int
    memory: str
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
    scenarios = {part.name: part.scenario for part in found.parts}
    groups = groups_of(scenarios)
    with fixed_settings():
        picture = _trade(found, looks, Pen(looks, "", {}))
    horizon = found.parts[0].scenario.horizon.years
    return environment().get_template("fleet.html").render(
        title=found.title or f"A fleet of {found.vms:,} VMs",
        colours=colours_of(looks),
        policies=[policy_text(str(p), *own) for p, own in enumerate(zip(plans, looks, strict=True))],
        facts=[
            ("VMs", f"{found.vms:,}"),
            ("Memory of all VMs", format_bytes(found.memory_bytes)),
            ("Components", str(len(found.parts))),
            ("Horizon", f"{horizon:g} year{'s' if horizon != 1 else ''}"),
            ("Seed", str(found.seed)),
        ],
        headings=TOTALS,
        totals=_by_component(total_rows(found)),
        findings=paired_sentences(found),
        picture=picture,
        drained=[_folded(drained_rows(found, threshold), found.policies) for threshold in thresholds],
        components=[
            ComponentText(
                part.name, part.vms, format_bytes(part.memory_bytes), title_of(part.scenario), facts_of(result),
                f"{COMPONENTS}/{part.name}/report.html",
            )
            for part, result in zip(found.parts, found.results, strict=True)
        ],
        groups=groups,
        n_assumed=sum(group.n_assumed for group in groups),
        cpu_notes=list(dict.fromkeys(note for scenario in scenarios.values() for note in cpu_notes(scenario))),
        not_modelled=NOT_MODELLED,
        command=command,
        seed=found.seed,
        fleet_id=fleet_id,
        software=software(),
    )  # fmt: skip


def _trade(found: FleetRun, looks: Sequence[Style], pen: Pen) -> Picture:
    """Host memory of the whole fleet against the mean slowdown of its VMs."""
    marks = []
    for label, style in zip(found.policies, looks, strict=True):
        cost, slowdown = found.total(label, "capacity_cost_bytes").best, found.mean(label, "slowdown").best
        marks.append(Mark(label, style, Spread(cost, None), Spread(round(100 * (slowdown - 1), 9) + 0.0, None)))
    best = [marks[i].label for i in undominated(marks)]
    finding = choice(best, len(marks))
    lost = {label: found.total(label, "vm_lost") for label in found.policies}
    finding += lost_vms({label: (of.best, vms_of(1, of)) for label, of in lost.items()})
    caption = (
        f"Host memory of the whole fleet, and the mean slowdown of its VMs, after {found.years[-1]:g} years. Dashed: "
        f"policies that no other beats in both, where {SAME_SLOWDOWN:g} points of run time are no difference."
    )
    alternative = "Host memory of the fleet and mean slowdown: " + "; ".join(
        f"{m.label} {format_bytes(m.cost_bytes.p50)}, {minus(f'{m.slowdown_pct.p50:.3g}')} per cent" for m in marks
    )
    heading = "Memory cost against slowdown"
    return pen.picture("trade", heading, finding, caption, alternative, lambda frame: trade(marks, frame))


def _folded(table: Drained, policies: Sequence[str]) -> tuple[Drained, str]:
    """A table without the policies under which no VM is expected beyond its threshold, and what is said of these.

    Examples:
        >>> table = Drained("slowdown > 1.01", (1.0,), ((0, ("0; p95 3",)), (1, ("12; p95 18",)), (2, ("0",))))
        >>> folded, note = _folded(table, ["hgm2m", "hgm4k", "unmap1g"])
        >>> folded.rows, note
        (((1, ('12; p95 18',)),), 'None is seen under hgm2m (p95 at most 3) and unmap1g.')
    """
    kept, none = [], []
    for place, cells in table.rows:
        if any(cell.partition(";")[0] != "0" for cell in cells):
            kept.append((place, cells))
            continue
        most = max(int(cell.rpartition(" ")[2].replace(",", "")) for cell in cells)
        none.append(f"{policies[place]}{f' (p95 at most {most:,})' if most else ''}")
    return table._replace(rows=tuple(kept)), f"None is seen under {listed(none)}." if none else ""


def _by_component(rows: Sequence[TotalRow]) -> list[tuple[str, list[TotalRow]]]:
    """Rows of each component, those of the whole fleet first."""
    names = list(dict.fromkeys(row.component for row in rows))
    return [(name, [row for row in rows if row.component == name]) for name in (names[-1], *names[:-1])]
