"""CPUs of a few TLB arrays, written as the tests need them."""

from __future__ import annotations

from poisonsim.translation import Cpu, TlbArray
from poisonsim.units import page_bytes


def toy(l1: list[TlbArray], l2: list[TlbArray]) -> Cpu:
    """A CPU of these two levels."""
    return Cpu("toy", "Toy", "x86-64", tuple(l1), tuple(l2), stlb_hit_cycles=7.0, reference_cycles=30.0)


def array(sizes: str, entries: int, ways: int | None = None, fill: str = "inclusive-fill") -> TlbArray:
    """An array that holds pages of these sizes, such as "4K 2M"."""
    return TlbArray(tuple(page_bytes(size) for size in sizes.split()), entries, ways, fill)
