"""The figure of what did it: guest memory lost by the mode of the fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from poisonsim.faults.tables import MODES
from poisonsim.report.charts import Marks, rows, rows_height
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.style import Style
from poisonsim.results.by_mode import loss_by_mode
from poisonsim.results.numbers import in_percent, listed
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate

_ZERO = Estimate(0.0, 0.0, 0.0, "1")


def by_mode(result: Result, looks: Sequence[Style], pen: Pen) -> Picture | None:
    """Share of the loss from each mode, with intervals, under each policy; None where no model says which fault."""
    caption = (
        "Guest memory, when it is lost, by the mode of the DRAM fault behind the error, over the first block of the "
        "run's trials, with 95 % intervals (delta method). Faults that corrected errors only follow lose nothing and "
        "do not count."
    )
    return modes_picture(loss_by_mode(result), dict(zip(result.policies, looks, strict=True)), caption, pen)


def modes_picture(
    shares: Mapping[str, Mapping[str, Estimate]], looks: Mapping[str, Style], caption: str, pen: Pen
) -> Picture | None:
    """Shares of the loss by policy and mode as a picture; None where there are none.

    Args:
        looks: Styles of the policies, in the order drawn.
    """
    if not shares:
        return None
    named = {mode for own in shares.values() for mode in own}
    modes = [mode for mode in MODES if mode in named] + sorted(named.difference(MODES))
    none = Estimate(float("nan"), float("nan"), float("nan"), "1")
    series = []
    for label, style in looks.items():
        own = [shares.get(label, {}).get(mode, none if label not in shares else _ZERO) for mode in modes]
        ends = (tuple(100 * getattr(share, end) for share in own) for end in ("best", "low", "high"))
        series.append(Marks(label, style, *ends))
    told: dict[str, list[str]] = {}
    for label, found in shares.items():
        most = max(found, key=lambda mode: found[mode].best)
        told.setdefault(f"{in_percent(found[most])} from {most} faults under", []).append(label)
    words = [f"{share} {listed(labels)}" for share, labels in told.items()]
    alternative = "Share of the guest memory lost by fault mode: " + "; ".join(
        f"{label} " + ", ".join(f"{mode} {in_percent(share, unit='per cent')}" for mode, share in found.items())
        for label, found in shares.items()
    )
    height = max(rows_height(len(modes)), 86 + len(modes) * (12 + 12.0 * len(looks)))
    return pen.picture(
        "modes", "What did it: loss by fault mode", f"The largest part of the loss: {'; '.join(words)}.", caption,
        alternative,
        lambda frame: rows(series, modes, frame, "Share of the loss under that policy, %"),
        height=height, narrow_height=height,
    )  # fmt: skip
