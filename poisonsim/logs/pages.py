"""What the kernel says of a page it poisoned, in its log, in its trace and in rasdaemon's database alike."""

from __future__ import annotations

import numpy as np

from poisonsim.logs.codes import Kind, Outcome, PageType
from poisonsim.logs.context import Context
from poisonsim.logs.events import I64, PAGE_BITS, EventBatch
from poisonsim.logs.fields import Found
from poisonsim.logs.scan import NO_NUMBER

OUTCOME_WORDS = {
    b"Recovered": Outcome.RECOVERED, b"Failed": Outcome.FAILED, b"Delayed": Outcome.DELAYED,
    b"Ignored": Outcome.IGNORED,
}  # fmt: skip
_OUTCOMES = {b": " + word: code for word, code in OUTCOME_WORDS.items()}
_PAGES = {
    b"already poisoned": PageType.ALREADY_POISONED, b"already hardware poisoned": PageType.ALREADY_POISONED,
    b" free huge page": PageType.FREE, b" free buddy page": PageType.FREE, b" huge page": PageType.HUGE,
    b" kernel ": PageType.KERNEL, b"kernel page": PageType.KERNEL,
}  # fmt: skip
_ACTION, SIGBUS = b"recovery action for", b"Sending SIGBUS"
PAGE_FIELDS = tuple((text, NO_NUMBER) for text in (_ACTION, SIGBUS, *_OUTCOMES, *_PAGES))


def page_type_of(words: bytes) -> int:
    """The type of a page from the kernel's words for it.

    Examples:
        >>> PageType(page_type_of(b"huge page")).label, PageType(page_type_of(b"dirty LRU page")).label
        ('huge', 'base')
    """
    for text, code in _PAGES.items():
        if text in b" " + words:
            return code
    return PageType.BASE if words and words != b"unknown page" else PageType.UNKNOWN


def page_address(pfn: I64) -> I64:
    """The address of a page by its number, int64[n]; -1 where it can be none."""
    return np.where((pfn >= 0) & (pfn < 1 << 40), pfn << PAGE_BITS, -1)


def failures(found: Found, head: bytes, context: Context) -> tuple[EventBatch, I64]:
    """The kernel's work on poisoned pages, and the places of their lines.

    One line says how it ended; others of the same page count only where that one is missing.
    """
    ends = found.has(_ACTION, b"already hardware poisoned")
    page_type = np.where(found.has(_ACTION), PageType.BASE, PageType.UNKNOWN)
    for text, code in reversed(_PAGES.items()):
        page_type[found.has(text)] = code
    outcome = np.select([found.has(text) for text in _OUTCOMES], list(_OUTCOMES.values()), Outcome.UNKNOWN)
    events = context.batch(
        time=found.time, host=found.host, kind=Kind.POISON, outcome=outcome, page_type=page_type,
        address=page_address(found.value(head)), grain_bytes=1 << PAGE_BITS,
    )  # fmt: skip
    key = (events.address >> PAGE_BITS) ^ (events.host.astype(np.int64) + 1 << 44)
    told = ~ends & np.isin(key, key[ends])
    alone = np.flatnonzero(~ends & ~told & found.has(SIGBUS))
    keep = ends.copy()
    keep[alone[np.unique(key[alone], return_index=True)[1]]] = True
    used = keep | told | found.has(SIGBUS)
    found.used(used)
    context.report.n_merged += int((used & ~keep).sum())
    return events[keep], found.rows[keep]
