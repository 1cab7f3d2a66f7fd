"""The table of both ways to split, as text, and what has to be said of it."""

from __future__ import annotations

from poisonsim.results.splits import FACTORS, Splits, better_from, loss_text
from poisonsim.units import format_bytes, page_bytes

WORDS = {"cpu": "CPU", "guest_page": "guest", "access": "access"}


def heading_of(found: Splits, name: str) -> str:
    """What was compared, in one line."""
    n, memory = found.n_regions, format_bytes(found.n_regions * page_bytes("1G"))
    return f"{name}: {memory} VM on 1G pages, {n:,} regions, {len(found.cases)} cases, one page lost per split region"


def header_of(found: Splits) -> list[str]:
    """Names of the columns of `rows_of`."""
    n = f"{found.n_hit:,} split"
    return [*(WORDS[name] for name in ("cpu", "guest_page", "access")), "2M better from", "2M costs from",
            f"{n}: 4K", f"{n}: 2M + 4K"]  # fmt: skip


def rows_of(found: Splits) -> list[list[str]]:
    """One row per case: its name, the fewest split regions for either verdict, and what both ways cost.

    Examples:
        >>> import poisonsim as ps
        >>> rows_of(ps.splits("seed-1t", cpus=["zen5"], guest_pages=["4K"]))[-1]
        ['zen5', '4K', 'sequential', 'never', 'never', '0.00 (0.00–0.00) %', '0.00 (0.00–0.00) %']
    """
    return [
        [
            *(getattr(case, name) for name in ("cpu", "guest_page", "access")),
            *("never" if n is None else f"{n:,}" for n in (better_from(case), case.matters_from("mixed"))),
            *(loss_text(case, way, found.n_hit) for way in ("all_4k", "mixed")),
        ]
        for case in found.cases
    ]


def grid_header_of(found: Splits) -> list[str]:
    """Names of the columns of `grid_of`."""
    return [WORDS["cpu"], WORDS["guest_page"], *dict.fromkeys(case.access for case in found.cases)]


def grid_of(found: Splits) -> list[list[str]]:
    """One row per CPU and guest page: by access pattern, from how many split regions 2M is better, and from how many
    it costs run time itself; the same where neither ever does.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.splits("seed-1t", cpus=["zen5"], guest_pages=["4K"])
        >>> grid_header_of(found)[2:4], grid_of(found)[0][2:4], grid_of(found)[0][-1]
        (['uniform', 'hot-cold over 1G'], ['32 / 125', '47 / 370'], 'never')
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in found.cases:
        ends = ["never" if n is None else f"{n:,}" for n in (better_from(case), case.matters_from("mixed"))]
        cell = "never" if set(ends) == {"never"} else " / ".join(ends)
        rows.setdefault((case.cpu, case.guest_page), {})[case.access] = cell
    accesses = grid_header_of(found)[2:]
    return [[*key, *(cells.get(access, "-") for access in accesses)] for key, cells in rows.items()]


def notes_of(found: Splits) -> list[str]:
    """What has to be known to read the table, a sentence each."""
    assert set(FACTORS) == set(WORDS)
    threshold = f"{100 * found.threshold:g} %"
    reason = (
        "; the smallest loss by splitting that a published run has resolved is 1.2 % (MemCycler)"
        if found.threshold == 0.01
        else ""
    )
    notes = [
        f"Neither matters where both ways cost less than {threshold} of run time (--threshold){reason}.",
        "Losses are of run time, by the median published share of a page walk that shows in it, with the lowest and "
        "the highest; numbers of regions are by the median.",
    ]
    return [text for text in (found.sensitivity, found.scenario_sentence, found.visits_sentence, *notes) if text]
