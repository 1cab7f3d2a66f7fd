"""From the time stamps of a log to UTC: years not said, zones not named, clocks that start at boot."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.errors import LogError, shown
from poisonsim.logs.events import I8, I64, Times
from poisonsim.logs.report import FileReport
from poisonsim.logs.stamps import LOCAL, NO_STAMP, NO_YEAR, SINCE_BOOT

_DAY = 86_400_000_000
_HALF_YEAR = 183 * _DAY


def zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        LogError: No such zone.

    Examples:
        >>> zone("Europe/Paris").key
        'Europe/Paris'
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise LogError(f'time zone: {shown(name)} is not known; write one such as "UTC" or "Europe/Paris"') from None


class Clock:
    """Makes UTC of the stamps of one file, block by block.

    Args:
        report: Where assumptions are noted.
        tz: Zone of times that name none.
        year: Year of the first stamp without one; if not given, the latest in which it is not after the file's own
            time. Years then follow the months: from December to January one on, from January to December one back.
        boot: When the host was booted, UTC; seconds since then count from it.
        path: The log, for its own time.

    Examples:
        >>> clock = Clock(FileReport("kern.log", "kernel"), tz=zone("UTC"), year=2024)
        >>> stamps = np.array(["2000-12-31T23:59", "2000-01-01T00:01"], "M8[us]").astype(np.int64)
        >>> clock.times(np.full(2, NO_YEAR, np.int8), stamps).astype("M8[m]").tolist()[1].isoformat()
        '2025-01-01T00:01:00'
    """

    def __init__(
        self,
        report: FileReport,
        *,
        tz: ZoneInfo,
        year: int | None = None,
        boot: np.datetime64 | None = None,
        path: Path | None = None,
    ) -> None:
        self.report, self.tz, self.year, self.path = report, tz, year, path
        self.boot = None if boot is None else int(boot.astype("M8[us]").astype(np.int64))
        self._last = -1

    def anchor(self, since_boot_us: int, epoch_us: int) -> None:
        """Takes the boot from a record that holds both clocks, unless it is known."""
        if self.boot is None:
            self.boot = epoch_us - since_boot_us
            self.report.remark("seconds since boot: took the boot from a machine check that logged both clocks")

    def anchor_year(self, micros: I64, at: int, epoch_us: int) -> None:
        """Takes the year of the first of some stamps without one from the one at a place, which names its moment."""
        if self.year is None:
            step = np.diff(micros[: at + 1])
            n_new_years = int((step < -_HALF_YEAR).sum() - (step > _HALF_YEAR).sum())
            year = int(np.datetime64(epoch_us, "us").astype("M8[Y]").astype(np.int64)) + 1970
            self.year = year - n_new_years
            self.report.remark(f"times name no year: took {self.year} for the first, as a machine check says")

    def times(self, kinds: I8, micros: I64) -> Times:
        """UTC, datetime64[us][n]; `NaT` where there is no stamp."""
        micros = micros.copy()
        no_year = kinds == NO_YEAR
        if no_year.any():
            micros[no_year] = self._with_years(micros[no_year])
        since_boot = kinds == SINCE_BOOT
        if since_boot.any():
            if self.boot is None:
                self.boot = 0
                self.report.remark(
                    "seconds since a boot of unknown time: counted from 1970; give the time of the boot (--boot)"
                )
            micros[since_boot] += self.boot
        times: Times = micros.view("M8[us]")
        if self.tz.key != "UTC":
            local = no_year | (kinds == LOCAL)
            times[local] = to_utc(times[local], self.tz)
        times[kinds == NO_STAMP] = np.datetime64("NaT")
        return times

    def _with_years(self, micros: I64) -> I64:
        if self.year is None:
            self.year = self._likely_year(int(micros[0]))
            self.report.remark(
                f"times name no year: took {self.year} for the first, the latest that fits the file's own time; "
                "give the year (--year) to say otherwise"
            )
        before = np.concatenate([[self._last if self._last >= 0 else micros[0]], micros[:-1]])
        step = micros - before
        years = self.year + np.cumsum((step < -_HALF_YEAR).astype(np.int64) - (step > _HALF_YEAR))
        self.year, self._last = int(years[-1]), int(micros[-1])
        stamp = micros.view("M8[us]")
        months = stamp.astype("M8[M]")
        moved = (months.astype(np.int64) - 360 + (years - 1970) * 12).astype("M8[M]").astype("M8[us]")
        utc: I64 = (moved + (stamp - months.astype("M8[us]"))).astype(np.int64)
        return utc

    def _likely_year(self, micros: int) -> int:
        try:
            written = np.datetime64(int(self.path.stat().st_mtime) if self.path else 0, "s")
        except (OSError, ValueError):
            written = np.datetime64("1971-01-01", "s")
        year = int(written.astype("M8[Y]").astype(np.int64)) + 1970
        since_january = micros - int(np.datetime64("2000-01-01", "us").astype(np.int64))
        first = np.datetime64(f"{year}-01-01", "us") + np.timedelta64(since_january - _DAY, "us")
        return year - 1 if first > written else year


def to_utc(times: Times, tz: ZoneInfo) -> Times:
    """Local times as UTC, datetime64[us][n]; of an hour that comes twice the second, one left out moved forward."""
    local = pd.DatetimeIndex(times).tz_localize(
        tz, ambiguous=np.zeros(len(times), np.bool_), nonexistent="shift_forward"
    )
    utc: NDArray[np.datetime64] = local.tz_convert("UTC").tz_localize(None).to_numpy().astype("M8[us]")
    return utc
