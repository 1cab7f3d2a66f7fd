"""The translation model beside exact simulation, published runs, and the kernel's own counters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from poisonsim.results.selfcheck.checks import FAILS, HOLDS, SHOWN, Check, Section
from poisonsim.translation.agreement import LEAST_WALKS, Agreement, agreement_grid, by_cpu, grid_rows, hardest_cells
from poisonsim.translation.calibrate.kernel import cases
from poisonsim.translation.cpus import tlb_designs
from poisonsim.translation.validation import Compared, compare

SHARE, ERRORS = 0.02, 3.0


def oracle(
    seed: int,
    *,
    full: bool = False,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Section:
    """The model of the TLB beside exact simulation, a row per design of TLB.

    Args:
        seed: Of places and accesses.
        full: The whole grid, a minute or two for each design, not its hardest cells.
        threads: Worker threads; default one per core. They never change a value.
        progress: Called with how many designs are done, after each.
    """
    designs, grids = tlb_designs(), []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for name, grid in zip(designs, pool.map(lambda name: _cells(name, seed, full=full), designs), strict=True):
            grids.append(grid)
            if progress:
                progress(f"  {len(grids)} of {len(designs)}: {name}")
    return Section(
        "oracle",
        "The TLB model against exact simulation",
        "A simulation of every access through set-associative true-LRU arrays, on the same layouts.",
        f"Walks per access, where there are at least {LEAST_WALKS:g}, with regions split to 4K, 2M and 2M + 4K, for "
        f"each pair of TLB levels in the catalogue. Each cell may be off by {100 * SHARE:g} % and {ERRORS:g} standard "
        "errors of the simulation. The dot is the cell that comes nearest to that, or passes it.",
        tuple(_row(cells, designs) for cells in grids),
        () if full else (
            "These are the hardest cells of the grid, from four layouts each, so that the worst error is that of the "
            "simulation as much as of the model; poisonsim verify --full takes the whole grid, to 0.4 %.",
        ),
    )  # fmt: skip


def _cells(cpu: str, seed: int, *, full: bool) -> list[Agreement]:
    return agreement_grid([cpu], seed=seed) if full else hardest_cells(cpu, seed=seed)


def _row(cells: Sequence[Agreement], designs: Mapping[str, Sequence[str]]) -> Check:
    counted = [cell for cell in cells if cell.counts]
    [summary], [words] = by_cpu(cells), grid_rows(cells)
    places = [
        (cell.modelled - cell.simulated) / (SHARE * cell.simulated + ERRORS * cell.standard_error) for cell in counted
    ]
    n_off = sum(abs(place) > 1 for place in places)
    at = max(places, key=abs)
    return Check(
        f"{', '.join(designs[summary.cpu])}: {summary.n_cells} cells",
        f"error: worst {words[2]}, median {words[3]}" + (f"; {n_off} cells beyond what is allowed" if n_off else ""),
        "exact simulation, walks per access",
        f"{100 * SHARE:g} % + {ERRORS:g} standard errors, each cell",
        FAILS if n_off else HOLDS,
        (at, at, at),
        note=f"worst: {words[4]}",
    )


def published_runs() -> Section:
    """Published ratios of run times beside the model's band: what is met, what is missed, what cannot be predicted."""
    rows = compare()
    words = [row.verdict for row in rows]
    known = len(words) - words.count("not predicted")
    return Section(
        "published",
        "Published runs beside the model's band",
        "Papers and posts, named in each row.",
        "A ratio of two run times as published, and as predicted with a low, mid and high cost of a page walk. Nothing "
        "is judged: some say too little of what was run. The dot is where the published ratio lies in our band.",
        tuple(_published(row) for row in rows),
        (
            f"{words.count('inside')} of the {known} that can be predicted lie inside the band, "
            f"{words.count('above')} above and {words.count('below')} below it; "
            f"{words.count('not predicted')} do not say enough to be predicted.",
        ),
    )


def _published(row: Compared) -> Check:
    one, band = row.published, row.predicted
    what, truth = f"{one.what}, {one.cpu}", f"{one.ratio:.2f}: {one.source}"
    if band is None:
        return Check(what, "–", truth, "–", SHOWN, word=row.verdict, note=one.note)
    low, mid, high = band
    place = (one.ratio - (low + high) / 2) / max((high - low) / 2, 1e-300)
    found = f"{mid:.2f} ({low:.2f}–{high:.2f})"
    return Check(what, found, truth, "the band", SHOWN, (place, place, place), word=row.verdict, note=one.note)


def kernel_counters() -> Section:
    """What `poisonsim verify --kernel` would compare on the machine it runs on; nothing is measured here."""
    rows = [case for case in cases() if case.policies]
    return Section(
        "kernel",
        "The running kernel's page tables",
        "VmPTE of a process that maps 1 GiB as each policy would leave it, and what a pool of huge pages saves.",
        "What a kernel counts depends on the machine, so it is not on this page. On Linux with huge pages to be had, "
        "poisonsim verify --kernel maps real memory so, compares byte for byte, and exits with 3 on a difference.",
        tuple(
            Check(case.what, f"{case.expected_bytes:,} B: {case.rule}", "the kernel's VmPTE", "equal", SHOWN,
                  word="not run", note=f"as left by {case.policies}")
            for case in rows
        ),
    )  # fmt: skip
