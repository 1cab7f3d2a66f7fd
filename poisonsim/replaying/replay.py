"""`poisonsim.replay`: what would have happened to each host of a log under each policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.block import follow
from poisonsim.engine.counting import states_at
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.errors import LogError, MetricError, ScenarioError, did_you_mean, shown
from poisonsim.faults.field import detection_of
from poisonsim.faults.history import History
from poisonsim.fitting.cells import CellCounter
from poisonsim.fitting.modes import faults_of
from poisonsim.fitting.times import moment
from poisonsim.logs import read
from poisonsim.logs.gather import Corrected, gather, passed_threshold
from poisonsim.logs.placing import place
from poisonsim.logs.report import ReadReport
from poisonsim.policy import Policy
from poisonsim.replaying.arguments import MONTHS_PER_YEAR, checked, months_of, replayed, threshold_of, watched
from poisonsim.replaying.histories import US_PER_YEAR, histories_of
from poisonsim.replaying.modes import modes_of_pages, modes_table, noted, shares_by_mode
from poisonsim.replaying.words import Setting, host_table, iso_time, nameless, notices_of, shift_of, shuffled
from poisonsim.results.life import Life, life_through
from poisonsim.results.metrics import Metric
from poisonsim.results.runs import policies_of, scenario_of
from poisonsim.results.statistics import Estimate
from poisonsim.results.values import Valuer
from poisonsim.scenario import Scenario
from poisonsim.units import DAYS_PER_YEAR

F64 = NDArray[np.float64]

DEFAULT_IMPUTATIONS = 20
_AVERAGED = ("1",)


@dataclass(frozen=True, repr=False)
class Replay:
    """What replaying a log found; made by `replay`.

    Attributes:
        plan: The VM, host and policies.
        setting: Where memory and time begin, and what was drawn.
        report: What was read, damaged and assumed.
        notices: What one should know of the result, a sentence each.
        hosts: One row per host: its name, and what its log holds; see `words.HOST_COLUMNS`.
        modes: One row per fault mode told from the DRAM cells of the log; see `modes.MODE_COLUMNS`.
        values: By policy float64[n_hosts, imputations, n_metrics], at the end of the log.
    """

    plan: Plan
    setting: Setting
    report: ReadReport
    notices: tuple[str, ...]
    hosts: pd.DataFrame
    modes: pd.DataFrame
    values: tuple[F64, ...]
    _valuer: Valuer
    _histories: tuple[History, ...]

    def __repr__(self) -> str:
        n = len(self.hosts)
        return (
            f"<poisonsim replay: {self.report.n_events:,} events on {n:,} host{'' if n == 1 else 's'}; "
            f"{', '.join(self.policies)}; seed {self.plan.seed}>"
        )

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies."""
        return tuple(self.plan.labels)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What was worked out, in the order of the last axis of `values`."""
        return self._valuer.metrics

    def summary(self) -> pd.DataFrame:
        """Every metric of every host under every policy, at the end of the log.

        Returns:
            Columns host, policy, metric, unit, mean, low, high: over the imputations, of which low and high are the
            lowest and the highest.
        """
        frames = [self._rows(policy, host, self.values[p][h])
                  for h, host in enumerate(self.hosts["host"]) for p, policy in enumerate(self.policies)]  # fmt: skip
        return pd.concat(frames, ignore_index=True)

    def fleet(self) -> pd.DataFrame:
        """As `summary`, of all hosts together: sums, and means of shares and of what is per access.

        Returns:
            Columns policy, metric, unit, over (`"sum"`, `"mean"` or `"highest"` over the hosts), mean, low, high.
        """
        frames = []
        for policy, values in zip(self.policies, self.values, strict=True):
            overs = [_over(metric.name, metric.unit, metric.kind) for metric in self.metrics]
            by = {"sum": values.sum(axis=0), "mean": values.mean(axis=0), "highest": values.max(axis=0)}
            all_hosts = np.column_stack([by[over][:, m] for m, over in enumerate(overs)])
            frame = self._rows(policy, "", all_hosts).drop(columns="host")
            frame.insert(3, "over", overs)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def loss_by_mode(self) -> dict[str, dict[str, Estimate]]:
        """Share of the guest memory lost on all hosts that is from faults of each mode, by policy.

        The ends are the lowest and the highest of the imputations. A policy that loses nothing is left out.
        """
        return shares_by_mode(self.plan, self._histories, len(self.hosts), self.setting.imputations)

    def life(self, host: str, policy: str | None = None, imputation: int = 0, *, most: int | None = None) -> Life:
        """One host's VM event by event, of one imputation; `Life.trial` is the imputation.

        Args:
            policy: Default the last.
            most: Steps to tell; the others are counted. Default all.

        Raises:
            MetricError: No such host, policy or imputation.
        """
        names, label = self.hosts["host"].tolist(), self.policies[-1] if policy is None else policy
        if host not in names:
            raise MetricError(f"host {shown(host)} is not in the log{did_you_mean(host, names)}")
        if label not in self.policies:
            raise MetricError(
                f"policy '{label}' is not in this replay{did_you_mean(label, self.policies)}; "
                f"it has {', '.join(self.policies)}"
            )
        if isinstance(imputation, bool) or not 0 <= imputation < self.setting.imputations:
            raise MetricError(f"imputation {imputation} is not from 0 to {self.setting.imputations - 1:,}")
        compiled = self.plan.policies[self.policies.index(label)]
        place = names.index(host) * self.setting.imputations + imputation
        for history in self._histories:
            if place < len(history.trial):
                return life_through(self._valuer, compiled, imputation, history, place, 0, most)
            place -= len(history.trial)
        raise AssertionError("every host has a history")

    def to_dict(self) -> dict[str, Any]:
        """The replay as plain data: what `--json` prints."""
        return {
            "schema": "poisonsim.replay/1",
            "scenario": {**self.plan.scenario.to_dict(), "title": "", "faults": {"model": "log"}},
            "seed": self.plan.seed,
            "policies": list(self.policies),
            "setting": self.setting.to_dict(),
            "log": self.report.to_dict(),
            "notices": list(self.notices),
            "hosts": self.hosts.to_dict("records"),
            "modes": self.modes.to_dict("records"),
            "loss_by_mode": {
                policy: {mode: dataclasses.asdict(share) for mode, share in shares.items()}
                for policy, shares in self.loss_by_mode().items()
            },
            "fleet": self.fleet().to_dict("records"),
            "summary": self.summary().to_dict("records"),
        }

    def _rows(self, policy: str, host: str, values: F64) -> pd.DataFrame:
        """Rows of float64[imputations, n_metrics]."""
        metrics = self.metrics
        return pd.DataFrame({
            "host": host, "policy": policy, "metric": [m.name for m in metrics], "unit": [m.unit for m in metrics],
            "mean": values.mean(axis=0), "low": values.min(axis=0), "high": values.max(axis=0),
        })  # fmt: skip


def _over(name: str, unit: str, kind: str) -> str:
    if name.startswith("worst_"):
        return "highest"
    return "mean" if (unit in _AVERAGED and kind != "flag") or name.startswith(("tlb_", "walks_")) else "sum"


def replay(
    logs: str | Path | Sequence[str | Path],
    *,
    policies: Iterable[str | Policy | type[Policy]],
    scenario: Scenario | str | Path = "seed-1t",
    base: int | str = 0,
    host_memory: int | str | None = None,
    since: str | np.datetime64 | None = None,
    years: float | str | None = None,
    ce_threshold: str | None = None,
    impute: str = "uniform",
    imputations: int = DEFAULT_IMPUTATIONS,
    hosts: Sequence[str] = (),
    anonymise: bool = False,
    seed: int = 1,
    **reading: Any,
) -> Replay:
    """What would have happened to a VM on each host of a log under each policy.

    The VM's memory is one piece of the host's physical memory: address `base` backs its first byte. What the log does
    not say is drawn, `imputations` times: where an error without an address lies, when one without a time happened,
    who found it, and whether the guest can do without what it loses.

    Args:
        logs: Logs as `poisonsim.logs.read` takes them.
        policies: As `poisonsim.run` takes them.
        scenario: The VM, its host and its workload; its faults and horizon are not used.
        base: Physical address at which the VM's memory begins, in bytes or as text; whole backing pages.
        host_memory: Each host's memory as its addresses run, holes included; errors beyond are left out. Default: up to
            the largest address seen, in whole GiB, and no less than the VM needs.
        since: Begin here, UTC, and leave out what was before; default the first event.
        years: How long to watch; default to the last event. In whole months.
        ce_threshold: Which corrected errors of a page set off `on_ce` rules: a threshold of the laws. Default:
            `host.ce_threshold` of the scenario, or rasdaemon's where that is off.
        impute: Where errors without an address go, one of `IMPUTE`.
        imputations: How often to draw.
        hosts: Names of the hosts to replay; default all that the log names.
        anonymise: Name hosts by number, files likewise, no digest and no text of the log, and shift all times by one
            span that only the logs themselves tell.
        seed: Of all that is drawn.
        **reading: `format`, `host`, `tz`, `year`, `boot`, `repeats` and `progress` of `poisonsim.logs.read`.

    Raises:
        LogError: A log that cannot be read, without an event, without a time, or without the hosts asked for.
        ScenarioError: An argument that cannot be used.
        PolicyError: All problems of all policies.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "host17.csv")
        ...     _ = path.write_text("time,kind,address\\n1740787200,UE,0x40000000\\n1741478400,CE,0x0\\n")
        ...     found = replay(path, policies=["unmap1g", "hgm2m"])
        >>> found.hosts.loc[0, "host"], float(found.hosts.loc[0, "placed"]), round(found.setting.years, 3)
        ('host17', 1.0, 0.083)
        >>> found.fleet().query("metric == 'guest_lost_bytes'")["mean"].tolist()
        [1073741824.0, 4096.0]
    """
    whole = scenario_of(scenario)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ScenarioError(f"seed = {seed!r} is not a whole number from 0 to 2**64 - 1")
    chosen, begin, asked = policies_of(policies), moment("since", since), None if years is None else months_of(years)
    memory, threshold = checked(whole, base, host_memory, impute, imputations), threshold_of(whole, ce_threshold)
    make_plan(replayed(whole, 1), chosen, seed, counts_ces=True)  # before a long log is read
    reading_of = read(list(logs) if isinstance(logs, (list, tuple)) else logs, **reading)
    counter, earliest = CellCounter(), None if begin is None else np.datetime64(begin, "us")
    try:
        gathered = gather(
            noted(reading_of, counter, earliest), page_bytes=memory.page_bytes, since=earliest, hosts=tuple(hosts)
        )
    except LogError as error:
        if reading_of.report.n_events:
            raise
        report = nameless(reading_of.report) if anonymise else reading_of.report
        raise LogError([*error.problems, *report.without_events(), *report.warnings()]) from None
    cells, numbers = counter.found(gathered.hosts), gathered.hosts
    faults = faults_of(cells)
    if anonymise:
        order = shuffled(reading_of, gathered.hosts, seed)
        gathered, numbers = gathered.renumbered(order), np.argsort(order)
    modes = modes_of_pages(faults, cells, numbers, memory.page_bytes)
    start, months = watched(gathered.first, gathered.last, begin, asked)
    shift = shift_of(reading_of, start, seed) if anonymise else None
    plan = make_plan(replayed(whole, months), chosen, seed, counts_ces=True)
    given, end = memory.given, start + int(months / MONTHS_PER_YEAR * US_PER_YEAR)
    placed = place(
        gathered, page_bytes=memory.page_bytes, end=end if gathered.last is None else min(gathered.last, end)
    )
    window_s = threshold.window_years * DAYS_PER_YEAR * 86_400
    passed: Corrected = passed_threshold(gathered.corrected, ces=threshold.ces, window_s=window_s)

    valuer, histories, counts = Valuer(plan), [], []
    values: list[list[F64]] = [[] for _ in plan.policies]
    n_metrics, last = len(valuer.metrics), np.array([plan.scenario.horizon.n_steps])
    for chunk in histories_of(
        gathered, placed, passed, memory, modes, start=start, years=plan.scenario.horizon.years,
        imputations=imputations, impute=impute, p_ar=detection_of(whole).p_ar, seed=seed,
    ):  # fmt: skip
        histories.append(chunk.history)
        counts.append(chunk.counts)
        for p, path in enumerate(follow(plan, chunk.history, 0)):
            at = states_at(path.start, path.grid, path.state, chunk.history.stratum, last)[0]
            of_state = valuer.values(plan.policies[p], path.states)
            values[p].append(of_state[at].reshape(len(chunk.hosts), imputations, n_metrics))
    drawn = {name: np.concatenate([of[name] for of in counts]) for name in counts[0]}
    names = [f"host-{k}" for k in range(1, len(gathered.hosts) + 1)] if anonymise else [
        reading_of.hosts[number] for number in gathered.hosts.tolist()
    ]  # fmt: skip
    setting = Setting(
        start=iso_time(start + (shift or 0)),
        years=plan.scenario.horizon.years,
        log_years=None if asked is not None or gathered.last is None else (gathered.last - start) / US_PER_YEAR,
        base_bytes=memory.base, vm_bytes=memory.vm_bytes, host_memory_bytes=given,
        ce_threshold=threshold.name, ces=threshold.ces, impute=impute, imputations=imputations, anonymised=anonymise,
    )  # fmt: skip
    report = reading_of.report if shift is None else nameless(reading_of.report, shift)
    table = host_table(gathered, placed, drawn, names)
    notices = notices_of(table, setting, plan, gathered)
    return Replay(
        plan,
        setting,
        report,
        notices,
        table,
        modes_table(faults, histories, imputations),
        tuple(np.concatenate(of) for of in values),
        valuer,
        tuple(histories),
    )
