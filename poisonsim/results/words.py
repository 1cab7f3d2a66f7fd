"""Sentences about a run: what its policies do, how they compare, and how sure its rates are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import gammaincinv

from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.field import field_model
from poisonsim.faults.tables import load_fault_table
from poisonsim.faults.words import departures, figure
from poisonsim.policy import Act
from poisonsim.results.numbers import (
    as_probability,
    in_bytes,
    in_number,
    in_percent,
    times_text,
)
from poisonsim.results.statistics import Estimate
from poisonsim.scenario import FieldFaults, Scenario
from poisonsim.units import TIB

if TYPE_CHECKING:
    from poisonsim.results.result import Result

_FEW_LOSE_MOST = 3.0
"""How many times the median a mean is from which on it is said how few VMs are above it."""


def rate_notes(scenario: Scenario) -> list[str]:
    """Where the fault rates are from, and what beside the number of trials leaves them open, a line each.

    Where the rates are those of the table's fleet that is how well its tickets pin them down (exact Poisson interval);
    where they are not, what sets them apart. Empty where no table is used.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> print(rate_notes(load_scenario("cloud-1t-ddr4"))[1])
        intervals are from the number of trials; the tickets alone leave the rate open by -8% to +9%,
        >>> print(rate_notes(load_scenario("bad-dimm"))[1])
        but not as they were there: all hosts are of a bad batch, 12.3 times as bad (faults.bad_batch = 1)
    """
    faults = scenario.faults
    if not isinstance(faults, FieldFaults):
        return []
    model = field_model(scenario)
    table, more = model.table, f"see poisonsim catalog show {faults.table}"
    seen = f", {table.n_ue_tickets} failure tickets for UEs in {table.n_server_months:,} server-months"
    from_table = f"rates: {table.title}{seen if table.has_outcomes and faults.ue == 'empirical' else ''}"
    if reasons := departures(model):
        return [
            from_table,
            f"but not as they were there: {'; '.join(reasons)}",
            f"intervals are from the number of trials alone, and not of these factors: run their ends too; {more}",
        ]
    n = table.n_ue_tickets
    low, high = gammaincinv(n, 0.025) / n - 1, gammaincinv(n + 1, 0.975) / n - 1
    return [
        from_table,
        f"intervals are from the number of trials; the tickets alone leave the rate open by {low:+.0%} to {high:+.0%},",
        f"and the size of the DIMMs (faults.dimm) and the choice of fleet by more; {more}",
    ]


def thought_experiment(scenario: Scenario) -> str:
    """That a fixed number of errors is none of a real fleet, and how many faults that one would have; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> thought_experiment(ps.load_scenario("seed-1t"))[:44]
        '100 UEs in 5 years is a thought experiment. '
        >>> thought_experiment(ps.load_scenario("cloud-1t-ddr4"))
        ''
    """
    arrivals, years = arrivals_of(scenario), scenario.horizon.years
    if not arrivals.fixed:
        return ""
    fleet = FieldFaults()
    rate = load_fault_table(fleet.table).ue_per_tib_year(fleet.dimm_bytes)
    expected = rate * scenario.vm.memory_bytes / TIB * years
    return (
        f"{arrivals.mean:g} UEs in {years:g} years is a thought experiment. At the rate of a real DDR4 fleet "
        f"({rate:.4f} faults with UEs per TiB-year) a VM of this size expects {expected:.3g} such faults; see it with: "
        "poisonsim run cloud-1t-ddr4"
    )


def too_few_seen(result: Result) -> str:
    """What to say where too few trials saw an error for policies to be compared.

    Examples:
        >>> import poisonsim as ps
        >>> faults = ["faults.ue=ecc", "faults.dimm=ddr5-64g-2rx4", "faults.map=spr-8ch", "faults.scale=0.01"]
        >>> res = ps.run(ps.load_scenario("cloud-1t-ddr4", overrides=faults), policies=["unmap1g"], trials=1000)
        >>> print(too_few_seen(res)[:58])
        none of 1,000 trials saw a UE: chipkill corrects all but a
    """
    errors = result.distribution(result.policies[0], "errors")
    n_hit = int(errors.counts[errors.values > 0].sum())
    faults = result.plan.scenario.faults
    if n_hit or not isinstance(faults, FieldFaults) or faults.ue != "ecc":
        return f"only {n_hit} of {result.n_trials:,} trials saw a UE: too few to compare policies; raise --trials"
    most = figure(100 * errors.share(errors.values > 0).high)
    return (
        f"none of {result.n_trials:,} trials saw a UE: {faults.ecc} corrects all but a few of these faults, and more "
        f'trials would hardly tell more. At most {most} % of VMs see one (95 %); faults.ue = "empirical" has what a '
        "fleet saw"
    )


def simulated_of(result: Result) -> str:
    """How many of a run's trials had to be simulated, in words; empty where all were."""
    return "" if result.plan.strata.plain else f"{result.n_simulated:,} of them with faults, weighted exactly"


def verdict(result: Result, policy: str, means: Mapping[str, Estimate], *, to: str) -> str:
    """What a policy does to guest and host by the end of the horizon, against the policy `to`.

    Args:
        means: Mean of each deciding metric under this policy.
    """
    guest, host = in_bytes(means["guest_lost_bytes"]), in_bytes(means["capacity_cost_bytes"])
    speed, lost = _speed(means["slowdown"]), as_probability(means["vm_lost"])
    if policy == to:
        return (
            f"The guest loses {guest} of memory, the policy costs the host {host}, the VM runs {speed}, "
            f"and {lost} of VMs are lost."
        )
    gaps = {name: Gap.of(result, policy, name, to=to) for name in means if name != "tlb_reach_loss"}
    loss = gaps["guest_lost_bytes"]
    faster, slower = (f"{word} than under {to}" for word in ("faster", "slower"))
    instead = in_bytes(result.distribution(to, "guest_lost_bytes").mean())
    clauses = [
        f"The guest loses {loss.sign}{guest} of memory"
        + (", the same" if loss.same else f" instead of {instead.value} {instead.unit}"),
        f"the policy costs the host {host}, {gaps['capacity_cost_bytes'].words('less', 'more')}",
        f"the VM runs {speed}, {gaps['slowdown'].words(faster, slower)}",
        f"and {lost} of VMs are lost, {gaps['vm_lost'].words('fewer', 'more')}",
    ]
    return "; ".join(clauses) + "."


_LACKS: tuple[tuple[frozenset[Act], str], ...] = (
    (frozenset({Act.MIGRATE, Act.RESTART}), "no spare was left"),
    (frozenset({Act.OFFLINE}), "the guest could not vacate the region"),
    (frozenset({Act.EVACUATE}), "there was no host to go to"),
    (frozenset({Act.REBOOT}), "too few huge pages would have been left"),
)
"""What an action lacks where it cannot be taken."""


def fallback_sentence(result: Result, policy: str) -> str:
    """How often a policy could not do what a rule asked for; empty if it never happened.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["migrate1g"], trials=100)
        >>> print(fallback_sentence(res, "migrate1g"))
        migrate1g cannot act as a rule asks 96 times per VM: no spare was left
    """
    fell = result.distribution(policy, "fallbacks").mean()
    if fell.best == 0:
        return ""
    (compiled,) = (p for p in result.plan.policies if p.label == policy)
    acts = {Act(act) for act in compiled.rows[:, -2].tolist()}
    if result.plan.scenario.vm.on_loss == "restart":
        acts.add(Act.RESTART)
    reasons = [reason for among, reason in _LACKS if among & acts]
    return f"{policy} cannot act as a rule asks {in_number(fell)} times per VM: {', or '.join(reasons)}"


def spread_sentence(result: Result, policy: str) -> str:
    """How the guest memory lost is spread over the VMs that are hit, where few of them lose most; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m"], trials=20_000)
        >>> spread_sentence(res, "hgm2m").partition(", since")[0]
        'Where a VM is hit, the median loses 4 KiB and the mean 67 (55–81) KiB'
        >>> spread_sentence(ps.run("seed-1t", policies=["hgm2m"], trials=100), "hgm2m")
        ''
    """
    errors = result.distribution(policy, "errors")
    if not errors.counts[errors.values > 0].any():
        return ""
    lost = result.when_hit(policy, "guest_lost_bytes")
    p50, mean = lost.quantile(0.5), lost.mean()
    if p50 is None or mean.best < _FEW_LOSE_MOST * p50.best or mean.best == 0:
        return ""
    above = as_probability(lost.share(lost.values > mean.best))
    return (
        f"Where a VM is hit, the median loses {in_bytes(p50)} and the mean {in_bytes(mean)}, since {above} of these "
        "VMs lose more than that"
    )


def _speed(slowdown: Estimate) -> str:
    low, best, high = slowdown.low - 1, slowdown.best - 1, slowdown.high - 1
    change = in_percent(Estimate(-high, -best, -low, "1") if best < 0 else Estimate(low, best, high, "1"))
    if change.none:
        return "as fast as without errors"
    return f"{change} {'faster' if best < 0 else 'slower'} than without errors"


@dataclass(frozen=True)
class Gap:
    """A paired difference of the means of two policies.

    Attributes:
        metric: Decides the unit: bytes, or points of per cent.
        estimate: Policy minus reference, with its interval.
    """

    metric: str
    estimate: Estimate

    @classmethod
    def of(cls, result: Result, policy: str, metric: str, *, to: str) -> Gap:
        """How `policy` differs from the policy `to` at the end of the horizon."""
        return cls(metric, result.compare(policy, to=to).differences(metric).mean())

    @property
    def same(self) -> bool:
        """Whether no trial differs."""
        return self.estimate.low == self.estimate.high == 0

    @property
    def sign(self) -> str:
        """`~` where the interval spans zero, so that the difference may be none."""
        return "~" if not self.same and self.estimate.low <= 0 <= self.estimate.high else ""

    def words(self, below: str, above: str) -> str:
        """The difference in words, such as `79.3 (79.2–79.4) GiB less`.

        Examples:
            >>> Gap("vm_lost", Estimate(-0.15, -0.13, -0.11, "1")).words("fewer", "more")
            '13 (11–15) points fewer'
            >>> Gap("vm_lost", Estimate(-0.011, 0.02, 0.051, "1")).words("fewer", "more")
            '~2.0 (−1.1 to 5.1) points more'
            >>> Gap("slowdown", Estimate(1e-6, 2e-6, 3e-6, "1")).words("faster", "slower")
            'the same to 0.01 points'
        """
        if self.same:
            return "the same"
        low, best, high = self.estimate.low, self.estimate.best, self.estimate.high
        size = Estimate(-high, -best, -low, self.estimate.unit) if best < 0 else self.estimate
        if self.metric.endswith("_bytes"):
            shown = in_bytes(size)
        elif self.metric == "vm_lost":
            shown = as_probability(size, unit="points")
        else:
            shown = in_percent(size, unit="points")
        return "the same to 0.01 points" if shown.none else f"{self.sign}{shown} {below if best < 0 else above}"


def paired_sentence(result: Result, policy: str, *, to: str) -> str:
    """How `policy` differs from `to` on the same errors, in one sentence; `~` marks a difference that may be none.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> paired_sentence(res, "hgm2m", to="unmap1g").split(",")[0:2]
        ['hgm2m loses 262', '144 times less guest memory than unmap1g on the same errors']
    """
    comparison = result.compare(policy, to=to)
    lost = result.distribution(policy, "guest_lost_bytes").mean()
    cost, speed = (Gap(metric, comparison.differences(metric).mean()) for metric in ("capacity_cost_bytes", "slowdown"))
    return (
        f"{policy} loses {_guest_memory(lost, comparison.ratio('guest_lost_bytes'), to)} on the same errors, "
        f"costs the host {cost.words('less', 'more')}, and its speed is {speed.words('higher', 'lower')}"
    )


def _guest_memory(lost: Estimate, ratio: Estimate | None, to: str) -> str:
    """The guest memory `lost`, as a multiple of what `to` loses; `~` where the interval spans one."""
    if ratio is None:
        return f"{'no guest memory, like' if lost.best == 0 else 'guest memory, unlike'} {to},"
    if ratio.best == 0:
        return f"no guest memory, which {to} does"
    if ratio.low <= 1 <= ratio.high:
        return f"{'' if ratio.low == ratio.high else '~'}as much guest memory as {to}"
    times = times_text(ratio, less="less guest memory", more="more guest memory")
    return f"{times.replace(' ± 0 times', ' times').replace(' ± 0.00 times', ' times')} than {to}"
