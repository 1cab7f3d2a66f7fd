"""Figures of how trials are spread: the tail of the loss, paired differences, and estimates as trials add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poisonsim.report.charts import Axis, Line, lines
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.scales import Decades, Linear, LogBytes, Ticks
from poisonsim.report.style import Style
from poisonsim.results.numbers import as_probability, listed
from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate, without_empty
from poisonsim.units import GIB, KIB, MIB, TIB, format_bytes

F64 = NDArray[np.float64]

_MOST_STEPS = 60
_LEAST_SHARE = 1e-6
_MOST_OFF = 50.0
_BEYOND = 0.002
_PARTS = tuple(2.0**-k for k in range(8, -1, -1))
_FEWEST = 20  # trials that an estimate is drawn for
_MOST_DRAWN = 1_000_000_000  # trials that numpy can draw from
_NOTHING = np.empty(0)


def tail(result: Result, looks: Sequence[Style], pen: Pen, vms: int) -> Picture:
    """Share of VMs that lose more guest memory than x, and how many those are of a fleet of `vms`."""
    found = [result.distribution(policy, "guest_lost_bytes") for policy in result.policies]
    losing = [(d, d.share(d.values > 0)) for d in found]
    x = LogBytes([v for d in found for v in (d.values.max(), d.values[d.values > 0].min(initial=d.values.max())) if v])
    shares = [v for d, any_loss in losing if any_loss.best > 0 for v in (any_loss.best, _last_share(d))]
    y = Decades(max(min(shares, default=0.1), _LEAST_SHARE), 1.0)
    series = [_tail_line(label, style, d, x, y) for label, style, d in zip(result.policies, looks, found, strict=True)]
    worst = max(range(len(found)), key=lambda p: found[p].values.max())
    most = float(found[worst].values.max())
    p, limit = result.policies[worst], result.plan.scenario.vm.memory_bytes / 100
    above = found[worst].share(found[worst].values > limit)
    finding = (
        f"No VM of this run loses memory under {listed(result.policies)}."
        if most == 0
        else f"The worst VM of this run loses {format_bytes(most)} of guest memory, under {p}; "
        f"{as_probability(above)} of VMs lose more than 1 % of theirs there."
    )
    caption = (
        f"Share of VMs that have lost more guest memory than x after {result.years[-1]:g} years; on the right the same "
        f"for a fleet of {vms:,} VMs. Band: 95 % interval from the number of trials. A line that falls straight "
        "down: no VM loses more."
    )
    alternative = "Share of VMs that lose any guest memory, and the most that one loses: " + "; ".join(
        f"{label} {100 * any_loss.best:.3g} per cent, {format_bytes(float(d.values.max()))}"
        for label, (d, any_loss) in zip(result.policies, losing, strict=True)
    )
    ticks = y.ticks(lambda share: f"{100 * share:.10g} %")
    fleet = y.ticks(lambda share: f"{vms * share:,.10g}").texts

    return pen.picture(
        "tail", "The tail: who loses how much", finding, caption, alternative,
        lambda frame: lines(
            series, frame, Axis("Guest memory lost, at least (log)", x, x.ticks(4 if frame.narrow else 8)),
            Axis("Share of VMs (log)", y, ticks), (f"VMs of {vms:,}", *fleet),
        ),
    )  # fmt: skip


def _last_share(distribution: Distribution) -> float:
    return distribution.share(distribution.values >= distribution.values[-1]).best


def _tail_line(label: str, style: Style, found: Distribution, x: LogBytes, y: Decades) -> Line:
    """The share of VMs above each value, as steps that end at the floor."""
    values = found.values[found.values > 0]
    if not len(values):
        return Line(label, style, _NOTHING, _NOTHING, _NOTHING, _NOTHING, (), 0)
    thresholds = np.append(0.0, values)
    if len(values) > _MOST_STEPS:
        above = np.array([found.counts[found.values > v].sum() for v in thresholds])
        wanted = np.geomspace(max(above[0], 1), 1, _MOST_STEPS)
        thresholds = thresholds[np.unique([int(np.argmin(abs(above - w))) for w in wanted] + [0, len(values)])]
    estimates = [found.share(found.values > v) for v in thresholds]
    edges = np.append(x.limits[0] if x.zero is None else x.first, x.place(thresholds[1:]))
    corners = np.repeat(edges, 2)[1:]  # each share holds from its threshold to the next
    best, low, high = (y.place([getattr(e, end) for e in estimates]) for end in ("best", "low", "high"))
    best, low, high = (np.repeat(side, 2)[:-1] for side in (best, low, high))
    knots = tuple(int(i) for i in np.unique(np.linspace(0, len(corners) - 1, 5).round()))
    return Line(label, style, corners, best, low, high, knots, len(corners) // 2)


def differences(result: Result, looks: Sequence[Style], pen: Pen) -> Picture:
    """How the host memory that each policy costs differs from that of the first one, trial by trial."""
    reference = result.policies[0]
    found: list[Distribution | None] = [None]
    found += [result.compare(policy, to=reference).differences("capacity_cost_bytes") for policy in result.policies[1:]]
    own = [d for d in found if d is not None]
    most = max((float(abs(d.values).max()) for d in own), default=0.0)
    name, unit = next(
        ((n, u) for n, u in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)) if most >= u), ("B", 1)
    )
    x = Linear.holding([v / unit for d in own for v in _middle(d)])
    y = Linear((0.0, 100.0))
    series = [
        Line(label, style, _NOTHING, _NOTHING, _NOTHING, _NOTHING, (), 0)
        if d is None
        else _steps(label, style, d, unit, x)
        for label, style, d in zip(result.policies, looks, found, strict=True)
    ]
    words = []
    for policy, d in zip(result.policies[1:], own, strict=True):
        words.append(f"{policy} in {as_probability(d.share(d.values < 0))}")
    finding = f"Share of VMs whose host pays less than under {reference}: {listed(words)}."
    caption = (
        f"Host memory that a policy costs after {result.years[-1]:g} years, minus what {reference} costs on the very "
        "same errors: the share of VMs with at most that difference. Left of 0 the policy costs less. "
        f"{100 * _BEYOND:g} % of VMs at either end may be beyond the edges."
    )
    x_title = f"Host memory, minus that of {reference}, {name}"
    return pen.picture(
        "differences", "Paired differences", finding, caption, finding,
        lambda frame: lines(
            series, frame, Axis(x_title, x, x.ticks(5 if frame.narrow else 9)),
            Axis("Share of VMs with at most that, %", y, y.ticks(6)),
        ),
    )  # fmt: skip


def _cumulative(found: Distribution) -> F64:
    """Share of VMs at or below each value."""
    n = found.counts.sum(axis=0)
    each = without_empty(found.weights, n) / np.maximum(n, 1)
    return np.asarray(np.cumsum(found.counts @ each))


def _middle(found: Distribution) -> tuple[float, float]:
    """The least and the greatest value, but for `_BEYOND` of VMs on each side."""
    ends = np.searchsorted(_cumulative(found), (_BEYOND, 1 - _BEYOND)).clip(0, len(found.values) - 1)
    return float(found.values[ends[0]]), float(found.values[ends[1]])


def _steps(label: str, style: Style, found: Distribution, unit: float, x: Linear) -> Line:
    """The distribution function of a difference, in per cent, within the limits of the axis."""
    values, shares = found.values, 100 * _cumulative(found)
    if len(values) > _MOST_STEPS:
        wanted = np.linspace(0, 100, _MOST_STEPS)
        keep = np.unique(np.searchsorted(shares, wanted).clip(0, len(values) - 1))
        values, shares = values[keep], shares[keep]
    xs = np.concatenate(([x.limits[0]], np.repeat(values / unit, 2), [x.limits[1]])).clip(*x.limits)
    ys = np.repeat(np.concatenate(([0.0], shares)), 2)
    middle = int(np.argmin(abs(ys - 50)))
    return Line(label, style, xs, ys, ys, ys, (middle,), middle)


def convergence(result: Result, looks: Sequence[Style], pen: Pen) -> Picture:
    """How the estimate of each policy's loss settles as trials add up."""
    settling, told = [], []
    for label in result.policies:
        found = result.distribution(label, "guest_lost_bytes")
        estimates = _as_trials_add_up(found) if found.n_simulated < _MOST_DRAWN else [None] * len(_PARTS)
        last = estimates[-1]
        if last is None or last.best == 0 or estimates[-2] is None:
            settling.append(np.empty((0, 4)))
            continue
        off = [(k, *(100 * (v / last.best - 1) for v in (e.low, e.best, e.high))) for k, e in enumerate(estimates) if e]
        settling.append(np.clip(off, (0, *[-_MOST_OFF] * 3), (len(_PARTS), *[_MOST_OFF] * 3)))
        half = 50 * (last.high - last.low) / last.best
        told.append(f"{label} {half:.2g} %" if half >= 0.01 or half == 0 else f"{label} less than 0.01 %")
    every = np.concatenate(settling)
    most = max(float(abs(every[:, 1:]).max(initial=0.0)), 1.0)
    y, x = Linear((-1.06 * most, 1.06 * most)), Linear((every[:, 0].min(initial=len(_PARTS) - 2), len(_PARTS) - 1.0))
    series = [
        Line(label, style, off[:, 0], off[:, 2], off[:, 1], off[:, 3], tuple(range(len(off))), 0)
        for label, style, off in zip(result.policies, looks, settling, strict=True)
    ]
    shown = range(len(_PARTS) - 1, int(x.limits[0]) - 1, -2)
    trials = Ticks(tuple(map(float, shown)), tuple(f"{result.n_trials * _PARTS[k]:,.0f}" for k in shown))
    finding = (
        f"Half the 95 % interval at the end: {listed(told)}."
        if told
        else "There is nothing to settle: no policy of this run loses memory, or there are too few trials to tell."
    )
    caption = (
        "Mean of the guest memory lost, and its 95 % interval, against what all trials of the run say. Each part of "
        "the run is drawn at random from the next larger one, which is as good as the first trials. "
        f"Cut off at ±{_MOST_OFF:g} %."
    )
    return pen.picture(
        "convergence", "Enough trials?", finding, caption, finding,
        lambda frame: lines(
            series, frame, Axis("Trials (log)", x, trials),
            Axis("Off the estimate of the whole run, %", y, y.ticks(6)),
        ),
        height=340.0,
    )  # fmt: skip


def _as_trials_add_up(found: Distribution) -> list[Estimate | None]:
    """The mean of random parts of the trials, `_PARTS` of them, each within the next; None where there are too few."""
    rng = np.random.default_rng(0)  # alike for all policies, so that those which are the same settle alike
    whole = found.counts.sum(axis=0)
    estimates: list[Estimate | None] = []
    for part in reversed(_PARTS):
        counts = found.counts.copy()
        for h in range(found.stratified, len(whole)):  # VMs without incidents are all alike, and stay as many
            if part < 1:
                counts[:, h] = rng.multivariate_hypergeometric(counts[:, h], round(whole[h] * part))
        kept = counts.sum(axis=1) > 0
        found = Distribution(found.values[kept], counts[kept], found.weights)
        estimates.append(found.mean() if found.n_simulated >= _FEWEST else None)
    return estimates[::-1]
