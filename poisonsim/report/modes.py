"""The figure of what did it: guest memory lost by the mode of the fault."""

from __future__ import annotations

from collections.abc import Sequence

from poisonsim.faults.tables import MODES
from poisonsim.report.charts import Marks, rows, rows_height
from poisonsim.report.picture import Pen, Picture, listed
from poisonsim.report.style import Style
from poisonsim.results.by_mode import loss_by_mode
from poisonsim.results.result import Result


def by_mode(result: Result, looks: Sequence[Style], pen: Pen) -> Picture | None:
    """Share of the loss from each mode, under each policy; None where no field model says which fault did it."""
    shares = loss_by_mode(result)
    if not shares:
        return None
    modes = [mode for mode in MODES if any(mode in own for own in shares.values())]
    series = [
        Marks(
            label,
            style,
            tuple(100 * shares[label].get(mode, 0.0) if label in shares else float("nan") for mode in modes),
        )
        for label, style in zip(result.policies, looks, strict=True)
    ]
    told: dict[str, list[str]] = {}
    for label, own in shares.items():
        most = max(own, key=lambda mode: own[mode])
        told.setdefault(f"{100 * own[most]:.0f} % from {most} faults under", []).append(label)
    words = [f"{share} {listed(labels)}" for share, labels in told.items()]
    caption = (
        "Guest memory, when it is lost, by the mode of the DRAM fault behind the error, over the first block of the "
        "run's trials, without an interval: a few VMs that lose much can move a share. Faults that corrected errors "
        "only follow lose nothing and do not count."
    )
    alternative = "Share of the guest memory lost by fault mode: " + "; ".join(
        f"{label} " + ", ".join(f"{mode} {100 * share:.2g} per cent" for mode, share in own.items())
        for label, own in shares.items()
    )
    height = max(rows_height(len(modes)), 86 + len(modes) * (12 + 12.0 * len(looks)))
    return pen.picture(
        "modes", "What did it: loss by fault mode", f"Most of the loss: {'; '.join(words)}.", caption, alternative,
        lambda frame: rows(series, modes, frame, "Share of the loss under that policy, %"),
        height=height, narrow_height=height,
    )  # fmt: skip
