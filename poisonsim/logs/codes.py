"""What the coded columns of events mean: kinds, severities, outcomes, formats."""

from __future__ import annotations

from enum import IntEnum

UNKNOWN = -1

FORMATS = (
    "rasdaemon", "kernel", "mcelog", "trace", "edac-sysfs", "counters", "ipmi-sel", "redfish", "csv", "parquet",
    "smartmem", "journal",
)  # fmt: skip
"""Formats by the name that `--format` takes; an event's `source` is the place of its format here."""


class Kind(IntEnum):
    """What an event says.

    `CE` and `UE` are errors of the memory. `POISON` and `SOFT_OFFLINE` are what the kernel did to a page because of
    one: each follows an error that the same log may or may not hold as well (`EventBatch.new_poison` tells).
    `NOTICE` is everything else about memory that is no error by itself, such as "logging limit reached".

    Examples:
        >>> Kind.UE.label, [kind.name for kind in Kind]
        ('UE', ['CE', 'UE', 'POISON', 'SOFT_OFFLINE', 'NOTICE'])
    """

    CE = 0
    UE = 1
    POISON = 2
    SOFT_OFFLINE = 3
    NOTICE = 4

    @property
    def label(self) -> str:
        """The word for it in files and tables."""
        return self.name if self.value < 2 else self.name.lower().replace("_", "-")


class Severity(IntEnum):
    """How a UE met the host: `AO` action optional (found by scrubbing), `AR` action required (consumed), `FATAL`."""

    UNKNOWN = -1
    AO = 0
    AR = 1
    FATAL = 2

    @property
    def label(self) -> str:
        """The word for it in files and tables; empty where unknown."""
        return "" if self < 0 else self.name if self.value < 2 else self.name.lower()


class FoundBy(IntEnum):
    """Which access met the error."""

    UNKNOWN = -1
    READ = 0
    SCRUB = 1
    WRITE = 2

    @property
    def label(self) -> str:
        """The word for it in files and tables; empty where unknown."""
        return "" if self < 0 else self.name.lower()


class Outcome(IntEnum):
    """How the kernel's work on a page ended, of `Kind.POISON` and `Kind.SOFT_OFFLINE`."""

    UNKNOWN = -1
    IGNORED = 0
    FAILED = 1
    DELAYED = 2
    RECOVERED = 3

    @property
    def label(self) -> str:
        """The word for it in files and tables; empty where unknown."""
        return "" if self < 0 else self.name.lower()


class PageType(IntEnum):
    """What the kernel used a poisoned page for, as far as it matters here."""

    UNKNOWN = -1
    BASE = 0
    HUGE = 1
    FREE = 2
    KERNEL = 3
    ALREADY_POISONED = 4

    @property
    def label(self) -> str:
        """The word for it in files and tables; empty where unknown."""
        return "" if self < 0 else self.name.lower().replace("_", "-")


CODES: dict[str, type[IntEnum]] = {
    "kind": Kind, "severity": Severity, "found_by": FoundBy, "outcome": Outcome, "page_type": PageType,
}  # fmt: skip
"""The columns whose numbers stand for words."""
