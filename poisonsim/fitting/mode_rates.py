"""How often each fault mode strikes, and how often an uncorrected error follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poisonsim.faults.geometry import Dimm
from poisonsim.faults.tables import MODES
from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.fitting.findings import F64, poisson
from poisonsim.fitting.modes import Fault
from poisonsim.fitting.observed import Observed
from poisonsim.results.statistics import Estimate, binomial
from poisonsim.units import HOURS_PER_YEAR

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class ModeRate:
    """Faults of one mode.

    Attributes:
        mode: One of `MODES`.
        n_permanent, n_transient: Faults seen.
        n_ue_permanent, n_ue_transient: Those with an uncorrected error, or on a host that had one later.
        share: Of all faults.
        fit_per_chip: Per 10⁹ chip-hours.
        p_ue: Share of the mode's faults that count as led to an uncorrected error.
    """

    mode: str
    n_permanent: int
    n_transient: int
    n_ue_permanent: int
    n_ue_transient: int
    share: Estimate
    fit_per_chip: Estimate
    p_ue: Estimate

    @property
    def n(self) -> int:
        """Faults seen."""
        return self.n_permanent + self.n_transient

    @property
    def n_ue(self) -> int:
        """Those that count as led to an uncorrected error."""
        return self.n_ue_permanent + self.n_ue_transient

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain: dict[str, Any] = {"mode": self.mode, "quality": "measured-field"}
        for name in ("n_permanent", "n_transient", "n_ue_permanent", "n_ue_transient"):
            plain[name] = getattr(self, name)
        for name in ("share", "fit_per_chip", "p_ue"):
            e: Estimate = getattr(self, name)
            plain[name] = {"value": e.best, "low": e.low, "high": e.high, "unit": e.unit}
        return plain


def n_dimms_of(exposure: Exposure, dimm: Dimm) -> int:
    """DIMMs of all hosts.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> n_dimms_of(Exposure(10, 1 << 40, 0, 1), load_dimm("ddr4-32g-2rx4"))
        320
    """
    return int(np.broadcast_to(_dimms_each(exposure, dimm), exposure.n_hosts).sum())


def dimm_years_of(exposure: Exposure, dimm: Dimm) -> float:
    """DIMM-years of all hosts.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> dimm_years_of(Exposure(10, 1 << 40, 0, round(US_PER_YEAR / 2)), load_dimm("ddr4-32g-2rx4"))
        160.0
    """
    years = (exposure.end - exposure.begin) / US_PER_YEAR
    return float(np.broadcast_to(_dimms_each(exposure, dimm) * years, exposure.n_hosts).sum())


def _dimms_each(exposure: Exposure, dimm: Dimm) -> F64:
    return np.maximum(np.round(np.asarray(exposure.memory_bytes) / dimm.bytes), 1)


def mode_rates(faults: Sequence[Fault], observed: Observed, dimm: Dimm) -> list[ModeRate]:
    """Faults by mode, in the order of `MODES`; those that were not seen are left out."""
    last_ue = np.full(observed.exposure.n_hosts, np.iinfo(np.int64).min)
    np.maximum.at(last_ue, observed.errors.host, observed.errors.end)
    chip_hours = dimm_years_of(observed.exposure, dimm) * dimm.n_chips * HOURS_PER_YEAR
    found = []
    for mode in MODES:
        of_mode = [fault for fault in faults if fault.mode == mode]
        if not of_mode:
            continue
        led = [fault.uncorrected or last_ue[fault.host] >= fault.first * _SECOND_US for fault in of_mode]
        lasting = [fault.permanent for fault in of_mode]
        pairs = list(zip(lasting, led, strict=True))
        n, n_ue = len(of_mode), sum(map(bool, led))
        n_lasting, n_ue_lasting = sum(lasting), sum(bool(a and b) for a, b in pairs)
        found.append(ModeRate(
            mode, n_lasting, n - n_lasting, n_ue_lasting, n_ue - n_ue_lasting, binomial(n, len(faults)),
            poisson(n, chip_hours / 1e9, "FIT per chip"), binomial(n_ue, n),
        ))  # fmt: skip
    return found
