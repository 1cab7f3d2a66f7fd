"""`poisonsim.fit`: what a log says of the errors of a fleet, with intervals, and what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poisonsim.errors import ScenarioError, did_you_mean, shown
from poisonsim.faults.geometry import Dimm, load_dimm
from poisonsim.fitting.counts import HostCounts, alike_check, dispersion_of, needed_for_rate, rates_of
from poisonsim.fitting.exposure import Exposure
from poisonsim.fitting.findings import Check, Finding, Refusal, counted
from poisonsim.fitting.maps import DimmMap, maps_of
from poisonsim.fitting.mode_rates import ModeRate, mode_rates
from poisonsim.fitting.model import DEFAULT_DIMM, model_files
from poisonsim.fitting.modes import Fault, faults_of
from poisonsim.fitting.observed import Observed, notices_of, observe
from poisonsim.fitting.space import space_of
from poisonsim.fitting.timing import Times, bursts_check, even_check, repeats_of, shape_of
from poisonsim.fitting.warning import warnings_of
from poisonsim.logs import Kind, Severity
from poisonsim.logs.report import ReadReport
from poisonsim.results.statistics import binomial

MODELS = ("rate", "field")
MOST_SHOWN = 4
"""Hosts with so many errors or more are one class in the table of hosts by number."""


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """What a log says; made by `fit`.

    Attributes:
        observed: What was watched and seen.
        dimm: What the DIMMs are taken to be.
        dimm_name: The same as it was named, an entry of the catalogue or a file; empty where it was not.
        findings: Numbers with their intervals.
        refusals: What the log cannot say, and what it would take.
        checks: How well simple laws describe the log.
        errors: Uncorrected errors by host.
        incidents: Incidents by host: errors with no more than 30 days between them are one.
        times: Of the errors whose time is known.
        faults: By coordinates of cells.
        modes: How often each mode strikes.
        maps: Address maps by DIMM.
        notices: What one should know of the numbers, a sentence each.
    """

    observed: Observed
    dimm: Dimm
    dimm_name: str
    findings: tuple[Finding, ...]
    refusals: tuple[Refusal, ...]
    checks: tuple[Check, ...]
    errors: HostCounts
    incidents: HostCounts
    times: Times
    faults: tuple[Fault, ...]
    modes: tuple[ModeRate, ...]
    maps: tuple[DimmMap, ...]
    notices: tuple[str, ...]
    _model: str | None = None

    def __repr__(self) -> str:
        exposure = self.exposure
        return (
            f"<poisonsim fit: {counted(self.errors.total, 'UE')} on {counted(exposure.n_hosts, 'host')}, "
            f"{exposure.tib_years:,.4g} TiB-years; {counted(len(self.findings), 'finding')}, "
            f"{counted(len(self.refusals), 'refusal')}>"
        )

    @property
    def exposure(self) -> Exposure:
        """What was watched."""
        return self.observed.exposure

    @property
    def report(self) -> ReadReport:
        """What was read, damaged and assumed."""
        return self.observed.report

    @property
    def model(self) -> str:
        """`rate`, or `field` where errors come in bursts or lie together, as they do if a fault makes several."""
        if self._model is not None:
            return self._model
        together = [check for check in self.checks if check.name in ("bursts", "same_1g", "same_2m")]
        return "field" if any(not check.holds for check in together) else "rate"

    @property
    def events(self) -> HostCounts:
        """What the model draws for each host: UEs, or incidents if it is `field`."""
        return self.errors if self.model == "rate" else self.incidents

    @property
    def model_was_asked(self) -> bool:
        """Whether the model is what was asked for, and not chosen by how errors cluster."""
        return self._model is not None

    def __getitem__(self, name: str) -> Finding:
        """The finding of that name.

        Raises:
            KeyError: The log does not say it, or nobody asks.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        why = [refusal.why for refusal in self.refusals if refusal.name == name]
        known = [finding.name for finding in self.findings]
        raise KeyError(f"{name}: {why[0]}" if why else f"{name!r} is no finding{did_you_mean(name, known)}")

    def __contains__(self, name: str) -> bool:
        return any(finding.name == name for finding in self.findings)

    def to_toml(self, **names: str) -> dict[str, str]:
        """The fault model as files by their names: a scenario, and a fault table where the log gives one.

        Args:
            **names: `name="model.toml"` of the scenario.

        Raises:
            FitError: The log has no uncorrected error, or nobody says how many hosts were watched.
        """
        return model_files(self, **names)

    def hosts_by_number(self) -> list[dict[str, Any]]:
        """Hosts by how many UEs they have, or incidents if the model is `field`: seen, and expected by two laws.

        Empty where nobody says how many hosts have none.
        """
        if "hosts" in self.exposure.derived or not self.errors.total:
            return []
        expected, seen = self.events.expected(MOST_SHOWN), self.events.seen(MOST_SHOWN)
        return [
            {"events": k, "or_more": k == MOST_SHOWN, "seen": int(seen[k]), "alike": float(expected["alike"][k]),
             "differing": float(expected["differing"][k])}
            for k in range(MOST_SHOWN + 1)
        ]  # fmt: skip

    def quantiles(self) -> list[dict[str, float]]:
        """Times of incidents as shares of the window, beside those of a fleet with a constant rate."""
        share = self.times.incidents.share
        even = (np.arange(len(share)) + 0.5) / max(len(share), 1)
        return [{"even": float(e), "seen": float(s)} for e, s in zip(even, share, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain data: what `--json` prints."""
        exposure = self.exposure
        return {
            "schema": "poisonsim.fit/1",
            "exposure": {
                "hosts": exposure.n_hosts, "memory_bytes": exposure.mean_memory_bytes,
                "since": _iso(exposure.window[0]), "until": _iso(exposure.window[1]),
                "installed": exposure.installed is not None, "alike": exposure.weight is None,
                "tib_years": exposure.tib_years, "derived": list(exposure.derived),
            },
            "log": self.report.to_dict(),
            "model": self.model,
            "findings": [finding.to_dict() for finding in self.findings],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "checks": [check.to_dict() for check in self.checks],
            "hosts_by_number": self.hosts_by_number(),
            "quantiles": self.quantiles(),
            "modes": [mode.to_dict() for mode in self.modes],
            "maps": [found.to_dict() for found in self.maps],
            "notices": list(self.notices),
        }  # fmt: skip


def _iso(micros: int) -> str:
    return f"{np.datetime64(micros, 'us').astype('M8[s]')}Z"


def fit(
    logs: str | Path | Sequence[str | Path],
    *,
    hosts: int | None = None,
    memory: int | str | None = None,
    since: str | np.datetime64 | None = None,
    until: str | np.datetime64 | None = None,
    installed: str | np.datetime64 | None = None,
    inventory: str | Path | None = None,
    dimm: str | None = None,
    model: str | None = None,
    **reading: Any,
) -> Fit:
    """What the logs of a fleet say: rates per TiB-year, how hosts differ, clusters, fault modes, address maps, ageing.

    Every number has an interval of 95 %, and what the log cannot say is refused with what it would take.

    Args:
        logs: Logs as `poisonsim.logs.read` takes them.
        hosts: Hosts that were watched, those without a record among them; default those that the log names.
        memory: Of each host, in bytes or as text; default up to the largest address seen.
        since, until: When the hosts were watched, UTC; default from the first to the last event.
        installed: When the hosts went into service, UTC, if all did at about the same time.
        inventory: A CSV file of the hosts, where they are not all alike: columns host, memory, since, until and
            installed. The arguments of these names then hold for what it leaves open.
        dimm: What the DIMMs are, a name of the catalogue or a TOML file; for fault modes and address maps. Default
            `DEFAULT_DIMM`, which is then assumed.
        model: Fault model to write, one of `MODELS`; default by how errors cluster.
        **reading: `format`, `host`, `tz`, `year`, `boot`, `repeats` and `progress` of `poisonsim.logs.read`.

    Raises:
        LogError: A log that cannot be read, or that leaves open what was watched.
        ScenarioError: An argument that cannot be used.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "errors.csv")
        ...     _ = path.write_text("time,host,kind,address\\n1740787200,a,UE,0x40000000\\n1741478400,b,UE,0x0\\n")
        ...     found = fit(path, hosts=200, memory="1TiB", since="2025-01-01", until="2026-01-01")
        >>> print(found["rate.ue_per_tib_year"].estimate)
        0.01 (0.0012–0.036) per TiB-year
        >>> found.model, [refusal.name for refusal in found.refusals][:2]
        ('rate', ['dispersion.ue', 'dispersion.incident'])
    """
    if model is not None and model not in MODELS:
        raise ScenarioError(
            f"model: {shown(model)} is not one of {', '.join(MODELS)}{did_you_mean(str(model), MODELS)}"
        )
    of_dimm = load_dimm(dimm or DEFAULT_DIMM)
    observed = observe(
        logs, hosts=hosts, memory=memory, since=since, until=until, installed=installed, inventory=inventory, **reading
    )
    exposure, times = observed.exposure, Times(*observed.timed, observed.exposure)
    incidents = times.incidents
    errors = HostCounts(observed.counts, exposure.weight)
    by_host = np.bincount(incidents.host, minlength=exposure.n_hosts)
    of_incidents = HostCounts(
        np.where(errors.counts > 0, np.maximum(by_host, 1), 0), exposure.weight
    )  # some errors have no time
    faults = faults_of(observed.cells)
    modes = mode_rates(faults, observed, of_dimm)
    maps = maps_of(observed.cells, observed.hosts, of_dimm)
    in_space, space_checks = space_of(observed)
    said = [
        *_hosts_hit(observed), *rates_of("ue", "UEs", errors, exposure),
        *rates_of("incident", "incidents", of_incidents, exposure), dispersion_of("ue", "UEs", errors, exposure),
        dispersion_of("incident", "incidents", of_incidents, exposure),
        *repeats_of(times), *in_space, *_found_by_reads(observed), shape_of(incidents), *warnings_of(observed),
        *_of_cells(observed, faults, maps),
    ]  # fmt: skip
    alike = alike_check("ue", "UEs", errors, exposure), alike_check("incident", "incidents", of_incidents, exposure)
    checks = [*alike, bursts_check(times), *space_checks, even_check(incidents)]
    notices = tuple(_notices(observed, errors, modes, dimm or f"{DEFAULT_DIMM}, which is assumed (say --dimm)"))
    return Fit(
        observed, of_dimm, dimm or "", tuple(s for s in said if isinstance(s, Finding)),
        tuple(s for s in said if isinstance(s, Refusal)), tuple(check for check in checks if check is not None), errors,
        of_incidents, times, tuple(faults), tuple(modes), tuple(maps), notices, model,
    )  # fmt: skip


def _hosts_hit(observed: Observed) -> list[Finding | Refusal]:
    exposure, n_seen = observed.exposure, len(observed.hosts)
    if "hosts" in exposure.derived:
        why, needed = "hosts without a record count too, and nobody says how many", "give --hosts"
        return [Refusal("hosts.with_ue", "hosts with a UE", why, needed)]
    n_hit = int((observed.counts > 0).sum())
    n_ce = int((observed.by_kind[Kind.CE] > 0).sum()) if n_seen else 0
    told = f"of {exposure.n_hosts:,} hosts in {exposure.years:.3g} years"
    return [
        Finding(f"hosts.with_{kind.lower()}", f"hosts with a {kind}", binomial(n, exposure.n_hosts), f"{n:,} {told}",
                "exact binomial")
        for kind, n in (("UE", n_hit), ("CE", n_ce))
    ]  # fmt: skip


def _found_by_reads(observed: Observed) -> list[Finding | Refusal]:
    """Share of the errors that a read found, not the patrol."""
    ar = observed.errors.ar
    name, label, n = "found.by_reads", "UEs that a read found, not the patrol", int((ar >= 0).sum())
    if not n:
        why = "the log does not say who found an error"
        return [Refusal(name, label, why, "machine checks (MCi_STATUS), or EDAC lines that name the transaction")]
    by_reads = int((ar == Severity.AR).sum())
    return [Finding(name, label, binomial(by_reads, n), f"{by_reads:,} of {n:,} that say", "exact binomial")]


def _of_cells(observed: Observed, faults: list[Fault], maps: list[DimmMap]) -> list[Finding | Refusal]:
    """Refusals of modes and maps; what they found is in tables of their own."""
    cells, found = observed.cells, []
    told = f"{cells.n_named:,} of {counted(cells.n_events, 'CE and UE', 'CEs and UEs')} name bank, row and column"
    if not faults:
        needed = "logs with DRAM coordinates: rasdaemon's driver_detail, EDAC lines, or CSV columns bank, row, column"
        found.append(Refusal("modes", "fault modes", told, needed))
    if not any(each.explained for each in maps):
        few = "no DIMM has five distinct cells with an address, 1 MiB apart or more"
        why = maps[0].why if maps else told if not faults else few
        found.append(Refusal("map", "address map", why, "cells of several rows of one DIMM, with their addresses"))
    return list(found)


def _notices(observed: Observed, errors: HostCounts, modes: list[ModeRate], dimm: str) -> list[str]:
    told = notices_of(observed)
    if not errors.total:
        told.append("the log has no UE: if it is one of corrected errors only, the zeros of UEs say nothing")
    if (more := needed_for_rate(errors.total, observed.exposure)) and errors.total:
        told.append(f"rate of UEs: {more}")
    if modes:
        told.append(
            f"modes are of cells that gave errors, so they err on the small side; chips are counted as of {dimm}, "
            "and a fault led to a UE if its host had one after it began: an upper bound"
        )
    return told
