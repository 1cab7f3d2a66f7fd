"""What a replay says beside its numbers: what each host's log holds, what was assumed, and names that tell nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.plan import Plan
from poisonsim.logs.codes import Kind
from poisonsim.logs.gather import Gathered
from poisonsim.logs.placing import Placed
from poisonsim.logs.reading import Reading
from poisonsim.logs.report import Damage, ReadReport
from poisonsim.units import format_bytes, format_years

I64 = NDArray[np.int64]

HOST_COLUMNS = {
    "host": "name, or a number where names are left out",
    "corrected": "corrected errors in the log",
    "uncorrected": "uncorrected errors in the log, each page once",
    "again": "more errors of pages that were bad already, and errors told twice",
    "fatal": "uncorrected errors that took the host down",
    "without_address": "uncorrected errors of which the page is not known",
    "placed": "uncorrected errors in the VM's memory, mean over imputations",
    "placed_low": "the fewest of all imputations",
    "placed_high": "the most",
    "outside": "uncorrected errors in memory of the host that does not back the VM, mean over imputations",
    "beyond": "uncorrected errors at addresses beyond the host's memory, left out",
    "passed": "base pages of the VM whose corrected errors passed the threshold",
}
"""Columns of `Replay.hosts`."""


@dataclass(frozen=True)
class Setting:
    """Where memory and time begin, and how what the log does not say was drawn.

    Attributes:
        start: When time begins, UTC; where `anonymised`, shifted as all times are (`shift_of`).
        years: Horizon of the VMs: as long as was asked for, or the months that the log runs through.
        log_years: From that start to the last event of the log; None where a horizon was asked for.
        base_bytes: First address that backs the VM; base page p of the VM is at `base_bytes` + p × its size.
        vm_bytes: Memory of the VM.
        host_memory_bytes: Memory of each host as its addresses run; None where the largest address seen decides.
        ce_threshold: Whose threshold of corrected errors.
        ces: Corrected errors of a page that set it off.
        impute: Where errors without an address went.
        imputations: How often they were drawn.
        anonymised: Whether names and digests are left out, and all times are shifted by one unknown span.
    """

    start: str
    years: float
    log_years: float | None
    base_bytes: int
    vm_bytes: int
    host_memory_bytes: int | None
    ce_threshold: str
    ces: int
    impute: str
    imputations: int
    anonymised: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @property
    def watched(self) -> str:
        """How long the log runs, and the horizon where that is longer, as it is by less than a month."""
        if self.log_years is None or abs(self.log_years - self.years) < 1e-9:
            return format_years(self.years)
        return f"{format_years(self.log_years)} (figures as of {format_years(self.years)}, the end of a month)"


def host_table(gathered: Gathered, placed: Placed, drawn: dict[str, Any], names: list[str]) -> pd.DataFrame:
    """`HOST_COLUMNS` of every host; `drawn` by name float64[n_hosts, imputations]."""
    hosts, n = gathered.hosts, gathered.by_kind.shape[1]
    told = np.bincount(placed.host, minlength=n)[hosts]
    nowhere = np.bincount(placed.host[placed.span == 0], minlength=n)[hosts]
    return pd.DataFrame({
        "host": names, "corrected": gathered.by_kind[Kind.CE][hosts], "uncorrected": told,
        "again": placed.n_again[hosts], "fatal": placed.n_fatal[hosts], "without_address": nowhere,
        "placed": drawn["placed"].mean(axis=1), "placed_low": drawn["placed"].min(axis=1),
        "placed_high": drawn["placed"].max(axis=1), "outside": drawn["outside"].mean(axis=1),
        "beyond": drawn["beyond"].max(axis=1).astype(np.int64), "passed": drawn["passed"].max(axis=1).astype(np.int64),
    })  # fmt: skip


_FAR = 8
"""Times the VM's end from which on an address, and so the memory of a host that is taken from it, is doubted."""

_WENT = {
    "uniform": "placed anywhere in the host's memory, all pages alike",
    "known": "placed in backing pages of the host known to be bad, or anywhere where none is known",
    "none": "left out",
}


def notices_of(table: pd.DataFrame, setting: Setting, plan: Plan, gathered: Gathered) -> tuple[str, ...]:
    """What one should know of the result, a sentence each."""
    total = table.drop(columns="host").sum()
    said, vm_end = [], setting.base_bytes + setting.vm_bytes
    if setting.anonymised:
        said.append(
            "anonymised: all times are shifted by one random span, so that the days are not those of the log, but the "
            "time between them is; hosts and logs are numbers; digests, serials and text of the log are left out"
        )
    where = (
        "the largest address seen, or with the VM"
        if setting.host_memory_bytes is None
        else format_bytes(setting.host_memory_bytes)
    )
    said.append(
        f"addresses {setting.base_bytes:#x} to {vm_end - 1:#x} of each host back its VM of "
        f"{format_bytes(setting.vm_bytes)}; its memory is taken to end at {where}"
    )
    far = gathered.largest[gathered.hosts] > _FAR * vm_end
    if setting.host_memory_bytes is None and far.any():
        said.append(
            f"{_n(far.sum(), 'host')} with an address more than {_FAR} times as high as the VM's end, up to "
            f"{format_bytes(int(gathered.largest.max()))}: is it right? Errors without an address are spread up to the "
            "highest of their host; give --host-memory"
        )
    n_ces = int(gathered.by_kind[Kind.CE].sum())
    if not total["uncorrected"]:
        acting = [policy.label for policy in plan.policies if policy.acts_on_ces]
        said.append(
            f"the log holds no uncorrected error, but {n_ces:,} corrected: what replay can tell is what policies that "
            f"act on corrected errors do ({', '.join(acting) or 'none here; add --policy soft-offline'})"
        )
    if total["without_address"]:
        spread = "" if setting.impute == "none" else (
            f", {setting.imputations} times; low and high are the lowest and highest of these"
        )  # fmt: skip
        said.append(
            f"{_n(total['without_address'], 'uncorrected error')} of {int(total['uncorrected']):,} without an address "
            f"{_WENT[setting.impute]}{spread}"
        )
    if total["beyond"]:
        said.append(f"{_n(total['beyond'], 'uncorrected error')} beyond the end of the host's memory left out")
    if total["uncorrected"] and not total["placed"]:
        said.append("no uncorrected error lies in the VM's memory; look at --base and vm.memory")
    if total["again"]:
        said.append(f"{_n(total['again'], 'error')} of pages that were bad already, or told twice: nothing new")
    if total["fatal"]:
        said.append(f"{_n(total['fatal'], 'error')} that took a host down: taken as action required here")
    if n_ces:
        said.append(
            f"corrected errors act on a page after {setting.ces} ({setting.ce_threshold}): "
            f"{_n(total['passed'], 'page')} of VMs passed that"
        )
    if gathered.n_early:
        said.append(f"{_n(gathered.n_early, 'event')} before the start left out, pages bad by then among them")
    said.append(
        f"hosts without an event are not in a log: the fleet is the {len(table):,} with one, over {setting.watched}"
    )
    return tuple(said)


def _n(number: float, what: str) -> str:
    return f"{int(number):,} {what}{'' if number == 1 else 's'}"


def shuffled(reading: Reading, hosts: I64, seed: int) -> I64:
    """The hosts in the order of a keyed hash of their names, which tells nothing without the logs themselves."""
    digests = "".join(file.sha256 for file in reading.report.files)
    key = hashlib.blake2b(f"{seed} {digests}".encode()).digest()
    by_hash = sorted(
        hosts.tolist(), key=lambda n: hashlib.blake2b(reading.hosts[n].encode("utf-8", "replace"), key=key).digest()
    )
    return np.array(by_hash, np.int64)


def shift_of(reading: Reading, start: int, seed: int) -> int:
    """Microseconds to add to the times of an anonymised replay: whole seconds that put `start` between 1970 and 1999.

    Where it then lies follows from a keyed hash of the logs, and tells nothing without them.

    Args:
        start: When time begins, microseconds since 1970.
    """
    digests = "".join(file.sha256 for file in reading.report.files)
    drawn = hashlib.blake2b(f"{seed} times {digests}".encode(), digest_size=8).digest()
    second = int.from_bytes(drawn, "big") % _SHIFTED_SECONDS
    return (second - start // 1_000_000) * 1_000_000


def iso_time(micros: int) -> str:
    """A time in microseconds since 1970 as ISO 8601, to the second.

    Examples:
        >>> iso_time(1_700_000_000_999_999)
        '2023-11-14T22:13:20Z'
    """
    return f"{np.datetime64(micros, 'us').astype('M8[s]')}Z"


def nameless(report: ReadReport, shift_us: int | None = None) -> ReadReport:
    """The report without paths, digests, sizes and text of the logs.

    Args:
        shift_us: What to add to its times; if not given, they are left out as well.

    Examples:
        >>> from poisonsim.logs.report import FileReport
        >>> one = FileReport("/secret/host17.log", "kernel", sha256="ab")
        >>> one.damaged("EDAC line cut short", 3, b"serial 123")
        >>> nameless(ReadReport([one])).warnings()
        ['log-1: 1 record damaged: EDAC line cut short (line 3)']
    """
    files = []
    for k, file in enumerate(report.files, 1):
        damage = {what: Damage(of.n, list(of.lines)) for what, of in file.damage.items()}
        n_remarks = len(file.remarks)
        first, last = (
            _NO_TIME if shift_us is None else end + np.timedelta64(shift_us, "us") for end in (file.first, file.last)
        )
        files.append(dataclasses.replace(
            file, path=f"log-{k}", sha256="", n_bytes=0, damage=damage, first=first, last=last,
            remarks=[f"{n_remarks} more remarks of the reading, left out"] if n_remarks else [],
        ))  # fmt: skip
    return ReadReport(files)


_SHIFTED_SECONDS = 30 * 365 * 86_400
_NO_TIME = np.datetime64("NaT", "us")
