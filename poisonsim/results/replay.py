"""`poisonsim.replay`: what would have happened to each host of a log under each policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
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
from poisonsim.faults.laws import CeThreshold, load_laws
from poisonsim.logs import read
from poisonsim.logs.gather import Corrected, gather, passed_threshold
from poisonsim.logs.placing import place
from poisonsim.logs.report import ReadReport
from poisonsim.policy import Policy
from poisonsim.results.life import Life, life_through
from poisonsim.results.metrics import Metric
from poisonsim.results.replay_history import US_PER_YEAR, Memory, histories_of
from poisonsim.results.replay_words import Setting, host_table, nameless, notices_of, shuffled
from poisonsim.results.runs import policies_of, scenario_of
from poisonsim.results.values import Valuer
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, Scenario
from poisonsim.units import DAYS_PER_YEAR, format_bytes, parse_bytes, parse_years

F64 = NDArray[np.float64]

IMPUTE = ("uniform", "known", "none")
"""Where errors without an address go: anywhere in the host's memory; into backing pages known to be bad, or anywhere on
a host where none is known; nowhere."""
STOCK_THRESHOLD = "rasdaemon"
"""Threshold of corrected errors where neither the call nor the scenario names one."""
DEFAULT_IMPUTATIONS = 20
_MOST_IMPUTATIONS = 10_000
_MONTHS, _MOST_MONTHS = 12, 1200
_AVERAGED = ("1",)


@dataclass(frozen=True)
class Replay:
    """What replaying a log found; made by `replay`.

    Attributes:
        plan: The VM, host and policies.
        setting: Where memory and time begin, and what was drawn.
        report: What was read, damaged and assumed.
        notices: What one should know of the result, a sentence each.
        hosts: One row per host: its name, and what its log holds; see `replay_words.HOST_COLUMNS`.
        values: By policy float64[n_hosts, imputations, n_metrics], at the end of the log.
    """

    plan: Plan
    setting: Setting
    report: ReadReport
    notices: tuple[str, ...]
    hosts: pd.DataFrame
    values: tuple[F64, ...]
    _valuer: Valuer
    _histories: tuple[History, ...]

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

    def life(self, host: str, policy: str | None = None, imputation: int = 0) -> Life:
        """One host's VM event by event, of one imputation; `Life.trial` is the imputation.

        Args:
            policy: Default the last.

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
                return life_through(self._valuer, compiled, imputation, history, place, 0)
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
        anonymise: Name hosts by number, files likewise, and no digest, time or text of the log.
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
    chosen, begin, asked = policies_of(policies), _moment(since), None if years is None else _months(years)
    memory, threshold = _checked(whole, base, host_memory, impute, imputations), _threshold(whole, ce_threshold)
    make_plan(_replayed(whole, 1), chosen, seed, counts_ces=True)  # before a long log is read
    reading_of = read(list(logs) if isinstance(logs, (list, tuple)) else logs, **reading)
    try:
        gathered = gather(reading_of, page_bytes=memory.page_bytes, since=begin, hosts=tuple(hosts))
    except LogError as error:
        if reading_of.report.n_events:
            raise
        report = nameless(reading_of.report) if anonymise else reading_of.report
        raise LogError([*error.problems, *report.warnings()]) from None
    if anonymise:
        gathered = gathered.renumbered(shuffled(reading_of, gathered.hosts, seed))
    start, months = _watched(gathered.first, gathered.last, begin, asked)
    plan = make_plan(_replayed(whole, months), chosen, seed, counts_ces=True)
    given, end = memory.given, start + int(months / _MONTHS * US_PER_YEAR)
    placed = place(
        gathered, page_bytes=memory.page_bytes, end=end if gathered.last is None else min(gathered.last, end)
    )
    window_s = threshold.window_years * DAYS_PER_YEAR * 86_400
    passed: Corrected = passed_threshold(gathered.corrected, ces=threshold.ces, window_s=window_s)

    valuer, histories, counts = Valuer(plan), [], []
    values: list[list[F64]] = [[] for _ in plan.policies]
    n_metrics, last = len(valuer.metrics), np.array([plan.scenario.horizon.n_steps])
    for chunk in histories_of(
        gathered, placed, passed, memory, start=start, years=plan.scenario.horizon.years, imputations=imputations,
        impute=impute, p_ar=detection_of(whole).p_ar, seed=seed,
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
        start=None if anonymise else f"{np.datetime64(start, 'us').astype('M8[s]')}Z",
        years=plan.scenario.horizon.years, base_bytes=memory.base, vm_bytes=memory.vm_bytes, host_memory_bytes=given,
        ce_threshold=threshold.name, ces=threshold.ces, impute=impute, imputations=imputations, anonymised=anonymise,
    )  # fmt: skip
    report = nameless(reading_of.report) if anonymise else reading_of.report
    table = host_table(gathered, placed, drawn, names)
    notices = notices_of(table, setting, plan, gathered)
    return Replay(
        plan, setting, report, notices, table, tuple(np.concatenate(of) for of in values), valuer, tuple(histories)
    )


def _checked(
    scenario: Scenario, base: int | str, host_memory: int | str | None, impute: str, imputations: int
) -> Memory:
    """The memory of the hosts, once all arguments are known to be good."""
    vm, problems = scenario.vm, []
    sizes: dict[str, int | None] = {"base": None, "host_memory": None}
    for name, value in (("base", base), ("host_memory", host_memory)):
        try:
            sizes[name] = None if value is None else address_of(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    first, given = sizes["base"], sizes["host_memory"]
    if first is not None and (first < 0 or first % vm.region_bytes):
        problems.append(f"base: {shown(base)} is not a whole number of backing pages of {vm.backing}, from 0")
    elif first is not None and given is not None and first + vm.memory_bytes > given:
        needed = format_bytes(first + vm.memory_bytes)
        problems.append(
            f"host_memory: {shown(host_memory)} has no room for the VM: base and vm.memory need {needed}; give that, "
            "or set vm.memory"
        )
    if impute not in IMPUTE:
        problems.append(f"impute: {shown(impute)} is not one of {', '.join(IMPUTE)}{did_you_mean(impute, IMPUTE)}")
    if isinstance(imputations, bool) or not isinstance(imputations, int) or not 1 <= imputations <= _MOST_IMPUTATIONS:
        problems.append(f"imputations: {shown(imputations)} is not a whole number from 1 to {_MOST_IMPUTATIONS:,}")
    if problems or first is None:
        raise ScenarioError(problems)
    return Memory(first, vm.memory_bytes, vm.base_bytes, vm.region_bytes, given)


def address_of(value: int | str) -> int:
    """An address or a size in bytes: a number, hexadecimal text, or text with a unit.

    Raises:
        ValueError: It is none of these.

    Examples:
        >>> address_of("0x40000000"), address_of("1GiB"), address_of(4096)
        (1073741824, 1073741824, 4096)
    """
    if isinstance(value, str) and value.lower().startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            raise ValueError(f"{shown(value)} is not a number; write one such as 0x40000000 or 1GiB") from None
    if value in (0, "0"):
        return 0
    return parse_bytes(value)


def _threshold(scenario: Scenario, named: str | None) -> CeThreshold:
    faults = scenario.faults
    known = load_laws(faults.laws if isinstance(faults, FieldFaults) else "field").thresholds
    name = named or (STOCK_THRESHOLD if scenario.host.ce_threshold == "off" else scenario.host.ce_threshold)
    if name not in known:
        raise ScenarioError(f"ce_threshold: {shown(name)} is not one of {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def _replayed(scenario: Scenario, months: int) -> Scenario:
    """The VM, host and workload of a scenario, watched for so many months; its own faults and horizon do not count."""
    return Scenario(
        title=scenario.title, vm=scenario.vm, host=dataclasses.replace(scenario.host, ce_threshold="off"),
        faults=CountFaults(), workload=scenario.workload, horizon=Horizon(years=months / _MONTHS, grid="1month"),
    )  # fmt: skip


def _moment(since: str | np.datetime64 | None) -> np.datetime64 | None:
    if since is None:
        return None
    try:
        moment = np.array([str(since).removesuffix("Z")], "M8[us]")
    except ValueError:
        moment = np.array(["NaT"], "M8[us]")
    if np.isnat(moment[0]):
        raise ScenarioError(f"since: {shown(str(since))} is not a time; write one such as 2025-03-01T06:00:00, UTC")
    begin: np.datetime64 = moment[0]
    return begin


def _months(years: float | str) -> int:
    try:
        wanted = parse_years(years)
    except ValueError as error:
        raise ScenarioError(f"years: {error}") from None
    months = ceil(wanted * _MONTHS - 1e-9)
    if not 1 <= months <= _MOST_MONTHS:
        raise ScenarioError(f"years: {shown(years)} is not between one month and {_MOST_MONTHS // _MONTHS} years")
    return months


def _watched(first: int | None, last: int | None, since: np.datetime64 | None, months: int | None) -> tuple[int, int]:
    """When time begins, in microseconds since 1970, and for how many months it runs."""
    begin = None if since is None else int(since.astype(np.int64))
    if first is None or last is None:
        if months is None:
            raise LogError(
                "logs: no event has a time, so that nobody can say in how long all this happened; give --years (and "
                "--boot for a log that counts from boot)"
            )
        return begin or 0, months
    start = first if begin is None else begin
    if months is None:
        months = max(ceil((last - start) / US_PER_YEAR * _MONTHS - 1e-9), 1)
        if months > _MOST_MONTHS:
            raise LogError(
                f"logs: run from {np.datetime64(first, 's')} to {np.datetime64(last, 's')}, more than "
                f"{_MOST_MONTHS // _MONTHS} years; leave out what has a wrong time with --since or --years"
            )
    return start, months
