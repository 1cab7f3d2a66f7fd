"""Published slowdowns beside the model's band: which fall inside, which do not, and which cannot be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poisonsim.units import page_bytes

from .access import Uniform
from .model import SlowdownBand, Translator
from .touch import F64
from .walks import CYCLES_PER_ACCESS

_MITOSIS = "Mitosis (ASPLOS 2020) artifact, evaluation/reference; footprint of 64 GB from memory"
_VMITOSIS = "vMitosis (ASPLOS 2021) artifact, 267 runs; footprint of 64 GB from memory"
_MEMCYCLER = "lore.kernel.org 20250118231549.1652825-1, MemCycler: 640 GB, 2M guest on 2M host"
_CHASE = "course text on a Zen 5: random pointer chase over 512 MB, 89.56 ns with 4K beside 78.55 ns with 2M"

_GIB = 1 << 30


@dataclass(frozen=True)
class Setup:
    """One side of a published ratio.

    Args:
        leaves: Leaves by size.
        guest_page: Guest page; unused without virtualisation.
        virtualised: Whether it ran in a VM.
    """

    leaves: dict[str, int]
    guest_page: str
    virtualised: bool


@dataclass(frozen=True)
class Published:
    """A published ratio of run times.

    Args:
        what: What was measured.
        cpu: Machine, as the catalogue names it.
        ratio: What was published.
        source: Where.
        slow: Side in the numerator; None where the source does not give enough to predict.
        fast: Side in the denominator.
        cycles_per_access: Cycles of an access without translation.
        accesses_per_page_visit: Accesses in a row to a page.
        note: What the prediction takes on trust, or why there is none.

    Examples:
        >>> published()[0].ratio
        2.57
    """

    what: str
    cpu: str
    ratio: float
    source: str
    slow: Setup | None = None
    fast: Setup | None = None
    cycles_per_access: float = CYCLES_PER_ACCESS
    accesses_per_page_visit: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """A published ratio and what the model says."""

    published: Published
    predicted: SlowdownBand | None

    @property
    def verdict(self) -> str:
        """`inside` the band, `above` or `below` it (the published ratio), or `not predicted`."""
        if self.predicted is None:
            return "not predicted"
        if self.published.ratio > self.predicted.high:
            return "above"
        return "below" if self.published.ratio < self.predicted.low else "inside"


def published() -> tuple[Published, ...]:
    """Every published ratio that the model is held to.

    Examples:
        >>> sum(one.slow is None for one in published()) > 5
        True
    """
    gups = "random access, uniform; reference_cycles was set with GUPS runs in sight"
    native4, native2 = (Setup({size: 64 * _GIB // page_bytes(size)}, size, False) for size in ("4K", "2M"))
    vm4, vm2 = (Setup({size: 64 * _GIB // page_bytes(size)}, size, True) for size in ("4K", "2M"))
    rows = [
        Published("GUPS, native, 4K / 2M", "haswell-ex", 2.57, _MITOSIS, slow=native4, fast=native2, note=gups),
        Published("GUPS, native, 4K / 2M", "cascade-lake", 2.03, _VMITOSIS, slow=native4, fast=native2, note=gups),
        Published("GUPS, VM, 4K on 4K / 2M on 2M", "cascade-lake", 3.29, _VMITOSIS, slow=vm4, fast=vm2, note=gups),
        Published("GUPS, 4K, VM / native", "cascade-lake", 1.94, _VMITOSIS, slow=vm4, fast=native4, note=gups),
        Published("GUPS, 2M, VM / native", "cascade-lake", 1.20, _VMITOSIS, slow=vm2, fast=native2, note=gups),
    ]
    n = 640 * 512
    for share, loss in ((0.05, 0.0120), (0.25, 0.0494)):
        n_split = round(share * n)
        split = Setup({"2M": n - n_split, "4K": 512 * n_split}, "2M", True)
        whole = Setup({"2M": n}, "2M", True)
        for visits in (1.0, 8.0):
            rows.append(
                Published(
                    f"MemCycler, {share:.0%} split to 4K",
                    "emerald-rapids",
                    1 / (1 - loss),
                    _MEMCYCLER,
                    slow=split,
                    fast=whole,
                    accesses_per_page_visit=visits,
                    note=f"access pattern not published; uniform, {visits:g} accesses per page visit"
                    + (", set to meet these" if visits > 1 else ""),
                )  # fmt: skip
            )
    chase4, chase2 = (Setup({size: _GIB // 2 // page_bytes(size)}, size, False) for size in ("4K", "2M"))
    rows.append(
        Published(
            "pointer chase, native, 4K / 2M",
            "zen5",
            89.56 / 78.55,
            _CHASE,
            slow=chase4,
            fast=chase2,
            cycles_per_access=4 * 78.55,
            note="4 GHz assumed; no access of a chase overlaps another",
        )  # fmt: skip
    )
    unknown = "access pattern and cycles per access not published"
    for name, ratio in (
        ("HashJoin", 1.55), ("PageRank", 1.31), ("XSBench", 1.26), ("LibLinear", 1.20), ("Canneal", 1.18),
        ("BTree", 1.17), ("Redis", 1.09),
    ):  # fmt: skip
        rows.append(Published(f"{name}, native, 4K / 2M", "haswell-ex", ratio, _MITOSIS, note=unknown))
    for name, ratio in (("XSBench", 1.65), ("Canneal", 1.68), ("Redis", 1.39)):
        what = f"{name}, VM, 4K on 4K / 2M on 2M"
        rows.append(Published(what, "cascade-lake", ratio, _VMITOSIS, note=unknown))
    return tuple(rows)


def compare(rows: Sequence[Published] | None = None) -> list[Compared]:
    """The model's band for each published ratio, misses and what cannot be predicted included.

    Examples:
        >>> [row.verdict for row in compare(published()[1:3])]
        ['inside', 'inside']
    """
    return [Compared(row, _predicted(row)) for row in (published() if rows is None else rows)]


def comparison_rows(rows: Sequence[Compared]) -> list[tuple[str, ...]]:
    """As text: what, machine, published, predicted low to high, verdict, note.

    Examples:
        >>> comparison_rows(compare(published()[1:2]))[0][:3]
        ('GUPS, native, 4K / 2M', 'cascade-lake', '2.03')
    """
    return [
        (
            row.published.what,
            row.published.cpu,
            f"{row.published.ratio:.2f}",
            "" if row.predicted is None else "{:.2f} {:.2f} {:.2f}".format(*row.predicted),
            row.verdict,
            row.published.note,
        )
        for row in rows
    ]


def _predicted(row: Published) -> SlowdownBand | None:
    if row.slow is None or row.fast is None:
        return None
    low, mid, high = np.sort(_cycles(row, row.slow) / _cycles(row, row.fast))
    return SlowdownBand(float(low), float(mid), float(high))


def _cycles(row: Published, setup: Setup) -> F64:
    sizes = sorted(setup.leaves, key=page_bytes, reverse=True)
    translator = Translator(
        cpu=row.cpu,
        memory_bytes=sum(n * page_bytes(size) for size, n in setup.leaves.items()),
        access=Uniform(),
        leaf_sizes=sizes,
        guest_page=setup.guest_page,
        virtualised=setup.virtualised,
        cycles_per_access=row.cycles_per_access,
        accesses_per_page_visit=row.accesses_per_page_visit,
    )
    return np.asarray(translator.evaluate(np.array([[setup.leaves[size] for size in sizes]])).cycles[0])
