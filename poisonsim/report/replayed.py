"""The page of a replay: what a log's own errors would have cost and saved under each policy, by host and together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poisonsim.engine.store import write_whole
from poisonsim.replaying.modes import UNKNOWN
from poisonsim.replaying.replay import Replay
from poisonsim.replaying.words import HOST_COLUMNS, nameless
from poisonsim.report.assumptions import NOT_MODELLED, cpu_notes, software
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.figures import Mark, Spread, trade, undominated
from poisonsim.report.lives import MOST_CELLS, MOST_STEPS, LifeView, kinds_of, tones_of, view_of
from poisonsim.report.modes import modes_picture
from poisonsim.report.page import colours_of, environment, policy_text
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.style import TONES, Style, styles
from poisonsim.report.verdict import HEADINGS, choice, lost_vms, shown
from poisonsim.results.numbers import in_bytes
from poisonsim.results.statistics import Estimate
from poisonsim.units import format_bytes

_BY_MODE = (
    "Guest memory, when it is lost, by the mode of the DRAM fault that the error is taken to be of; lines from the "
    "lowest to the highest of the draws. A fault is told by the cells that gave errors, so modes err on the small side."
)
MOST_HOSTS = 20
"""Hosts with rows of their own; the others are counted."""


@dataclass(frozen=True)
class HostTable:
    """One metric of the hosts hit most: for each host its name, then a cell for each policy."""

    title: str
    rows: list[tuple[str, list[str]]]


def write_replay(found: Replay, path: Path, *, command: str, names: bool = False) -> Path:
    """Writes the page of a replay; see `render_replay`.

    Raises:
        RunFolderError: It cannot be written.
    """
    write_whole(path, render_replay(found, command=command, names=names).encode())
    return path


def render_replay(found: Replay, *, command: str, names: bool = False) -> str:
    """The page as text; the same bytes every time.

    Args:
        command: What the reader runs to get the same replay.
        names: Name hosts and logs as they are, and tell times and digests; else hosts have numbers in the order of
            their errors, and nothing of the page tells whose they are.

    Examples:
        >>> import tempfile
        >>> from poisonsim.replaying.replay import replay
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder, "host17.csv")
        ...     _ = log.write_text("time,kind,address\\n1740787200,UE,0x40000000\\n")
        ...     html = render_replay(replay(log, policies=["unmap1g", "hgm2m"]), command="poisonsim replay LOG")
        >>> html.startswith("<!DOCTYPE html>"), "host17" in html, "host 1 under hgm2m" in html
        (True, False, True)
    """
    looks, setting = styles(found.policies), found.setting
    order = np.argsort(-found.hosts["placed"].to_numpy(), kind="stable")
    labels = {h: str(found.hosts["host"].iloc[h]) if names else f"host {k}" for k, h in enumerate(order.tolist(), 1)}
    report = found.report if names or setting.anonymised else nameless(found.report)
    fleet = found.fleet().set_index(["policy", "metric"])
    n = len(found.hosts)
    pen = Pen(looks, "", {"Command": command})
    with fixed_settings():
        picture = _trade(found, fleet, looks, pen)
        by_mode = modes_picture(found.loss_by_mode(), dict(zip(found.policies, looks, strict=True)), _BY_MODE, pen)
    sizes = found.plan.ladder.sizes
    some = order[:MOST_HOSTS].tolist()
    return environment().get_template("replay.html").render(
        title=f"What {report.n_events:,} logged events would have done to {n:,} VM{'' if n == 1 else 's'}",
        facts=_facts(found, names),
        colours=colours_of(looks),
        policies=[policy_text(str(p), *own) for p, own in enumerate(zip(found.plan.policies, looks, strict=True))],
        headings=list(HEADINGS.values()),
        rows=[_cells(fleet, policy, n) for policy in found.policies],
        sentences=[_sentence(found, fleet, policy) for policy in found.policies],
        drawn=setting.imputations,
        picture=picture,
        by_mode=by_mode,
        modes=[_mode_row(row) for _, row in found.modes.iterrows()],
        tables=[_hosts(found, metric, some, labels) for metric in ("guest_lost_bytes", "capacity_cost_bytes")],
        log_columns=list(HOST_COLUMNS.items())[1:],
        log_rows=[(labels[h], _log_row(found.hosts.iloc[h])) for h in some],
        n_more=n - len(some),
        lives=_lives(found, int(order[0]), labels),
        kinds=kinds_of(sizes),
        tones=tones_of(sizes),
        tone_colours=TONES,
        per_cell=-(-found.plan.scenario.vm.n_regions // MOST_CELLS),
        notices=found.notices,
        warnings=report.warnings(),
        digests=[(file.path, file.sha256) for file in report.files if file.sha256],
        cpu_notes=cpu_notes(found.plan.scenario),
        not_modelled=NOT_MODELLED,
        command=command,
        seed=found.plan.seed,
        software=software(),
    )  # fmt: skip


def _facts(found: Replay, names: bool) -> list[tuple[str, str]]:
    setting, report, scenario = found.setting, found.report, found.plan.scenario
    since = f" from {setting.start}" if names or setting.anonymised else ""
    since += ", all times shifted by one unknown span" if setting.anonymised else ""
    read = f"{report.n_events:,} events of {report.n_records:,} records, {report.n_damaged:,} damaged"
    vm = f"{format_bytes(setting.vm_bytes)} on {scenario.vm.backing} pages, from address {setting.base_bytes:#x}"
    return [
        ("Hosts", f"{len(found.hosts):,}, those that the log names"), ("Log", read),
        ("Watched", f"{setting.watched}{since}"), ("VM on each host", vm), ("CPU", scenario.host.cpu),
    ]  # fmt: skip


def _estimate(row: Any) -> Estimate:
    return Estimate(float(row["low"]), float(row["mean"]), float(row["high"]), str(row["unit"]))


def _written(metric: str, value: Estimate, n: int = 1) -> str:
    """A metric as the verdict of a run shows it; of VMs lost their number, of `n`."""
    if metric == "vm_lost":  # low and high are whole VMs, of single draws
        spread = "" if value.low == value.high else f" ({value.low:,.6g}–{value.high:,.6g})"
        return f"{value.best:,.3g}{spread}{f' of {n:,}' if n > 1 else ''}"
    return str(shown(metric, value))


def _cells(fleet: pd.DataFrame, policy: str, n: int) -> list[str]:
    return [_written(metric, _estimate(fleet.loc[(policy, metric)]), n) for metric in HEADINGS]


def _vms_lost(value: Estimate, n: int) -> str:
    """How many of `n` VMs are lost, as the beginning of a sentence.

    Examples:
        >>> _vms_lost(Estimate(1.0, 1.5, 2.0, "1"), 3), _vms_lost(Estimate(0.0, 0.0, 0.0, "1"), 3)
        ('1.5 (1–2) of 3 VMs are lost', 'No VM is lost')
        >>> _vms_lost(Estimate(0.0, 0.25, 1.0, "1"), 1), _vms_lost(Estimate(1.0, 1.0, 1.0, "1"), 1)
        ('The VM is lost in 25 % of the draws', 'The VM is lost')
    """
    if value.high == 0:
        return "No VM is lost" if n > 1 else "The VM is not lost"
    if n > 1:
        return f"{_written('vm_lost', value, n)} VMs {'is' if value.low == value.high == 1 else 'are'} lost"
    return "The VM is lost" + ("" if value.low == 1 else f" in {100 * value.best:.3g} % of the draws")


def _sentence(found: Replay, fleet: pd.DataFrame, policy: str) -> str:
    """What a policy does, beside the first of the replay on the same draws."""
    to, places = found.policies[0], [m.name for m in found.metrics]
    lost, cost = (
        [found.values[found.policies.index(p)].sum(axis=0)[:, places.index(name)] for p in (policy, to)]
        for name in ("guest_lost_bytes", "capacity_cost_bytes")
    )
    mine = found.values[found.policies.index(policy)].sum(axis=0)
    mostly = mine[:, places.index("vmemmap_bytes")].sum() > cost[0].sum() / 2
    said = (
        f"{_vms_lost(_estimate(fleet.loc[(policy, 'vm_lost')]), len(found.hosts))}; guests lose {_over(lost[0])} of "
        f"memory, and the hosts give {_over(cost[0])} for it"
        f"{', most of that vmemmap (HVO given up)' if mostly else ''}"
    )
    if policy == to:
        return f"{said}."
    apart = [own - its for own, its in (lost, cost)]
    ends = [f"{_over(abs(d))} {'more' if d.mean() > 0 else 'less'}" if d.any() else "as much" for d in apart]
    return f"{said}: on the same errors {ends[0]} lost and {ends[1]} given than under {to}."


def _over(values: Any) -> str:
    return str(in_bytes(Estimate(float(values.min()), float(values.mean()), float(values.max()), "bytes")))


def _trade(found: Replay, fleet: pd.DataFrame, looks: tuple[Style, ...], pen: Pen) -> Picture:
    """Host memory against speed, all hosts together; whiskers to the highest of the draws."""
    marks = []
    for label, style in zip(found.policies, looks, strict=True):
        cost, slow = (_estimate(fleet.loc[(label, name)]) for name in ("capacity_cost_bytes", "slowdown"))
        pct = Spread(round(100 * (slow.best - 1), 6), round(100 * (slow.high - 1), 6))
        marks.append(Mark(label, style, Spread(cost.best, cost.high), pct))
    best = [marks[i].label for i in undominated(marks)]
    finding = choice(best, len(marks))
    lost = {label: _estimate(fleet.loc[(label, "vm_lost")]) for label in found.policies}
    n = len(found.hosts)
    finding += lost_vms({label: (of.best, _written("vm_lost", of, n)) for label, of in lost.items()})
    draws = f"{found.setting.imputations:,} draw{'' if found.setting.imputations == 1 else 's'}"
    caption = (
        "Memory of all hosts together, and the mean slowdown of their VMs, at the end of the log. Marker: mean of "
        f"{draws} of what the log does not say; lines from it: to the highest."
    )
    alternative = "; ".join(f"{m.label} {format_bytes(m.cost_bytes.p50)}, {m.slowdown_pct.p50:.3g} %" for m in marks)
    return pen.picture(
        "trade", "Memory cost against slowdown", finding, caption, alternative, lambda frame: trade(marks, frame)
    )


def _hosts(found: Replay, metric: str, some: list[int], labels: dict[int, str]) -> HostTable:
    column = [m.name for m in found.metrics].index(metric)
    rows = []
    for h in some:
        of_host = [values[h][:, column] for values in found.values]
        rows.append((labels[h], [_over(values) for values in of_host]))
    return HostTable(HEADINGS[metric], rows)


def _log_row(row: pd.Series) -> list[str]:
    return [f"{float(row[name]):,.6g}" for name in list(HOST_COLUMNS)[1:]]


def _mode_row(row: pd.Series) -> tuple[str, list[str]]:
    columns = ("faults", "hosts", "errors", "ue_pages", "ce_pages")
    cells = [f"{float(row[name]):,.6g}" for name in columns]
    return str(row["mode"]), cells if row["mode"] != UNKNOWN else ["–"] * 3 + cells[3:]


def _lives(found: Replay, host: int, labels: dict[int, str]) -> list[LifeView]:
    """The VM that is hit most, under each policy, by the first draw."""
    name, n = str(found.hosts["host"].iloc[host]), len(found.policies)
    views = []
    for p, policy in enumerate(found.policies):
        life = found.life(name, policy, most=MOST_STEPS // n)
        about = f"The VM with the most errors, by the first draw: {life.n_steps:,} steps."
        views.append(view_of(life, found.plan, p, name=f"{labels[host]} under {policy}", about=about))
    return views if any(view.steps for view in views) else []
