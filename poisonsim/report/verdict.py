"""The verdict: what each policy does in one sentence, and the five metrics that decide, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from poisonsim.results.cost_words import cost_sentence, largest_part
from poisonsim.results.metric_words import SAME_SLOWDOWN, faster
from poisonsim.results.numbers import Shown, as_probability, in_bytes, in_percent, listed
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import fallback_sentence, spread_sentence, verdict

HEADINGS = {
    "vm_lost": "VMs lost",
    "guest_lost_bytes": "Guest memory lost",
    "capacity_cost_bytes": "Host memory it costs",
    "slowdown": "Slowdown",
    "tlb_reach_loss": "TLB reach lost",
}
"""Metrics of the verdict, in table order, and what their columns are called."""

DECIDING = tuple(HEADINGS)

_OTHER_HEADINGS = {
    "table_bytes": "Page tables", "vmemmap_bytes": "Given-up HVO", "direct_map_bytes": "Page tables of the direct map",
    "host_lost_bytes": "Host memory lost", "stranded_bytes": "Host memory stranded",
    "reserved_bytes": "Spares still held", "tlb_reach_bytes": "TLB reach", "walks_per_access": "Page walks per access",
    "stall_seconds": "Stalls", "worst_stall_seconds": "Longest stall", "slowdown_low": "Slowdown, low end",
    "slowdown_high": "Slowdown, high end",
}  # fmt: skip

_AT_A_GLANCE = {
    "vm_lost": "Fewest VMs lost",
    "guest_lost_bytes": "Least guest memory lost",
    "capacity_cost_bytes": "Least host memory",
}


@dataclass(frozen=True)
class Cell:
    """One metric of one policy in the verdict's table.

    Attributes:
        raw: The mean exactly as in `summary.csv`.
        p99, raw_p99: The value that 1 % of VMs exceed; empty and None where too few trials lie beyond it.
        band: What the mean becomes with the lowest and the highest published walk cost; slowdown only.
        least: Whether no policy of the run does better, as far as the paired differences tell; of slowdowns those
            below 0 do not count, since they are of VMs that have less memory left to touch.
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
    """One policy in the verdict.

    Attributes:
        sentences: What it does, against each policy of the run as reference.
        remarks: What its cost is most of, what stands behind its mean loss, and what it could not do, and why; may
            be none.
    """

    sentences: tuple[str, ...]
    remarks: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def led_by_few(self) -> bool:
        """Whether some mean is more than what all but 1 % of VMs have."""
        return any(
            cell.raw_p99 is not None and cell.metric.endswith("_bytes") and cell.raw > cell.raw_p99
            for cell in self.cells
        )


def rows_of(result: Result, at_horizon: pd.DataFrame) -> list[Row]:
    """The verdict on each policy.

    Args:
        at_horizon: The summary at the end of the horizon, by policy and metric.
    """
    estimates = {
        policy: {name: _mean(at_horizon.loc[(policy, name)]) for name in DECIDING} for policy in result.policies
    }
    least = {}
    for name in DECIDING:
        means = {p: own[name] for p, own in estimates.items()}
        if name == "slowdown":
            means = {p: mean for p, mean in means.items() if not faster(mean)}
        least[name] = _least(result, name, means) if means else set()
    rows = []
    for policy in result.policies:
        cells = tuple(_cell(policy, name, at_horizon, policy in least[name]) for name in DECIDING)
        sentences = tuple(verdict(result, policy, estimates[policy], to=to) for to in result.policies)
        said = (cost_sentence, spread_sentence, fallback_sentence)
        remarks = filter(None, (sentence(result, policy) for sentence in said))
        rows.append(Row(sentences, tuple(f"{remark}." for remark in remarks), cells))
    return rows


def glance(result: Result, at_horizon: pd.DataFrame) -> str:
    """Which policies are best at what decides, and what most of the cost is of; empty for one policy.

    Args:
        at_horizon: The summary at the end of the horizon, by policy and metric.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> summary = res.summary()
        >>> for sentence in glance(res, summary[summary["year"] == 5].set_index(["policy", "metric"])).split(". ")[1:]:
        ...     print(sentence)
        Least guest memory lost: hgm2m, 400 KiB
        Least host memory: hgm2m, 15.97 GiB
        Of what hgm2m costs the host, 15.96 of 15.97 GiB is given-up HVO (vmemmap).
    """
    if len(result.policies) < 2:
        return ""
    clauses, costly = [], ""
    for metric, what in _AT_A_GLANCE.items():
        means = {policy: _mean(at_horizon.loc[(policy, metric)]) for policy in result.policies}
        least = _least(result, metric, means)
        best = min(means, key=lambda policy: means[policy].best)
        if not least:
            clauses.append(f"{what}: no policy is told apart from another, {shown(metric, means[best])}")
            continue
        named = [policy for policy in result.policies if policy in least]
        tie = " (not told apart)" if len(named) > 1 else ""
        clauses.append(f"{what}: {listed(named)}{tie}, {shown(metric, means[best])}")
        costly = max([costly, *named] if costly else named, key=lambda policy: _cost(at_horizon, policy))
    if costly and (part := largest_part(result, costly))[0]:
        clauses.append(f"Of what {costly} costs the host, {part[1]} is {part[0]}")
    return f"{'. '.join(clauses)}."


def _cost(at_horizon: pd.DataFrame, policy: str) -> float:
    return float(at_horizon.loc[(policy, "capacity_cost_bytes"), "mean"])


def choice(best: Sequence[str], n: int) -> str:
    """Between which of `n` policies the choice is, where no other beats `best` in both host memory and slowdown.

    Examples:
        >>> choice(["unmap1g"], 3)
        'unmap1g costs the hosts least, and none slows VMs less by more than 0.05 points.'
        >>> choice(["unmap1g", "hgm2m"], 3), choice(["hgm2m"], 1)
        ('The choice is between unmap1g and hgm2m.', 'One policy only: name a second one to see a trade.')
    """
    if n == 1:
        return "One policy only: name a second one to see a trade."
    if len(best) > 1:
        return f"The choice is between {listed(best)}."
    return f"{best[0]} costs the hosts least, and none slows VMs less by more than {SAME_SLOWDOWN:g} points."


def lost_vms(lost: Mapping[str, tuple[float, str]], whose: str = "") -> str:
    """That VMs lost are not in a picture, and how many each policy loses that loses any; empty where none does.

    Args:
        lost: Of each policy how much, and the same in words.
        whose: What the words are of, where the picture is of something else.

    Examples:
        >>> lost_vms({"hgm2m": (0.5, "50 %"), "unmap1g": (1.0, "100 %"), "hgm4k": (0.5, "50 %"), "mine": (0.0, "0 %")})
        ' VMs lost are not in this picture: unmap1g 100 %; hgm2m and hgm4k 50 %.'
    """
    told: dict[str, list[str]] = {}
    for policy, (size, words) in sorted(lost.items(), key=lambda item: -item[1][0]):
        if size > 0:
            told.setdefault(words, []).append(policy)
    if not told:
        return ""
    of = f" ({whose})" if whose else ""
    return f" VMs lost are not in this picture{of}: {'; '.join(f'{listed(p)} {words}' for words, p in told.items())}."


def shown(metric: str, estimate: Estimate) -> Shown:
    """An estimate of one of the deciding metrics as text; a slowdown as what it adds to the run time."""
    if metric == "slowdown":
        return in_percent(Estimate(estimate.low - 1, estimate.best - 1, estimate.high - 1, "1"))
    if metric == "vm_lost":
        return as_probability(estimate)
    return in_bytes(estimate) if metric.endswith("_bytes") else in_percent(estimate)


def heading(metric: str) -> str:
    """What a column or a figure of a metric is called.

    Examples:
        >>> heading("vm_lost"), heading("stall_seconds"), heading("leaves_2m"), heading("spares_used")
        ('VMs lost', 'Stalls', 'Leaves of 2M', 'Spares used')
    """
    kind, _, size = metric.partition("_")
    if kind in ("leaves", "share"):
        return f"{'Leaves' if kind == 'leaves' else 'Share of memory in leaves'} of {size.upper()}"
    known = HEADINGS | _OTHER_HEADINGS
    return known[metric] if metric in known else metric.replace("_", " ").capitalize()


def _cell(policy: str, metric: str, at_horizon: pd.DataFrame, least: bool) -> Cell:
    row = at_horizon.loc[(policy, metric)]
    p99, raw_p99, band = "", None, ""
    if metric != "vm_lost" and pd.notna(row["p99"]):
        raw_p99 = float(row["p99"])
        value = shown(metric, Estimate(raw_p99, raw_p99, raw_p99, row["unit"]))
        p99 = f"{value.value} {value.unit}"
    if metric == "slowdown":
        ends = [float(at_horizon.loc[(policy, name), "mean"]) for name in ("slowdown_low", "slowdown_high")]
        low, high = (shown(metric, Estimate(end, end, end, "1")).value for end in ends)
        band = "" if low == high else f"{low} to {high}"
    return Cell(metric, shown(metric, _mean(row)), float(row["mean"]), p99, raw_p99, band, least)


def _mean(row: pd.Series) -> Estimate:
    return Estimate(float(row["mean_low"]), float(row["mean"]), float(row["mean_high"]), str(row["unit"]))


def _least(result: Result, metric: str, means: Mapping[str, Estimate]) -> set[str]:
    """Policies with the lowest mean, as far as digits shown and paired differences tell; none where that is all."""
    best = min(means, key=lambda policy: means[policy].best)
    least = str(shown(metric, means[best]))
    found = {policy for policy, mean in means.items() if str(shown(metric, mean)) == least}
    for policy in means.keys() - found:
        difference = result.compare(policy, to=best).differences(metric).mean()
        if difference.low <= 0 <= difference.high:
            found.add(policy)
    return found if len(found) < len(means) else set()
