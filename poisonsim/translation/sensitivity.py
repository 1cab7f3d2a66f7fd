"""When a region mapped with 2M beats one mapped with 4K, and when neither matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poisonsim.units import page_bytes

from .access import AccessPattern, HotCold, Uniform, Zipf
from .cpus import load_cpu
from .model import SlowdownBand, TranslationStates, Translator

CPUS = ("cascade-lake", "sapphire-rapids", "zen4", "zen5")
GUEST_PAGES = ("1G", "2M", "4K")
PATTERNS: dict[str, AccessPattern] = {
    "uniform": Uniform(),
    "zipf 0.99 over 4K": Zipf(0.99),
    "zipf 0.99 over 1G": Zipf(0.99, over="1G"),
    "hot-cold over 1G": HotCold(over="1G"),
}
REGIONS = (1, 10, 100, 1000)
"""Regions split, of 1024."""

MATTERS = 0.01
"""Share of run time below which a difference does not matter."""


@dataclass(frozen=True)
class Choice:
    """Run time with some regions mapped with 4K or with 2M, relative to all memory in 1G.

    Args:
        cpu: CPU.
        guest_page: Guest page.
        pattern: Name of the access pattern.
        n_split: Regions split, one page of each lost.
        all_4k: Slowdown if they are mapped with 4K.
        mixed: Slowdown if they are mapped with 2M, and 4K around the page lost.

    Examples:
        >>> same = SlowdownBand(1.0, 1.0, 1.001)
        >>> Choice("zen5", "1G", "uniform", 1, same, same).verdict
        'neither matters'
    """

    cpu: str
    guest_page: str
    pattern: str
    n_split: int
    all_4k: SlowdownBand
    mixed: SlowdownBand

    @property
    def verdict(self) -> str:
        """`neither matters`, `2M is better` (and costs nothing, or costs too), or `both cost`; by the mid estimates."""
        costs_4k, costs_2m = self.all_4k.mid - 1, self.mixed.mid - 1
        if max(costs_4k, costs_2m) < MATTERS:
            return "neither matters"
        if costs_2m < MATTERS:
            return "2M is better"
        return "2M is better, and costs" if costs_4k - costs_2m >= MATTERS else "both cost"


def choices(
    cpus: Sequence[str] = CPUS,
    guest_pages: Sequence[str] = GUEST_PAGES,
    patterns: Mapping[str, AccessPattern] | None = None,
    regions: Sequence[int] = REGIONS,
    n_regions: int = 1024,
    accesses_per_page_visit: float = 1.0,
) -> list[Choice]:
    """Slowdowns of both ways to split, for every CPU, guest page, pattern and number of regions.

    Args:
        cpus: Names or files of CPUs.
        guest_pages: Sizes of guest pages.
        patterns: Access patterns by name; `PATTERNS` if left out.
        regions: How many regions are split.
        n_regions: Regions of 1 GiB in the VM.
        accesses_per_page_visit: Accesses in a row to the same page.

    Raises:
        ScenarioError: An unknown CPU or size, or more regions split than there are.

    Examples:
        >>> [row.verdict for row in choices(["zen5"], ["1G"], {"uniform": Uniform()}, (1, 100))]
        ['neither matters', '2M is better, and costs']
    """
    found = []
    for cpu in map(load_cpu, cpus):
        for guest in guest_pages:
            for pattern, access in (PATTERNS if patterns is None else patterns).items():
                translator = Translator(
                    cpu=cpu,
                    memory_bytes=n_regions * page_bytes("1G"),
                    access=access,
                    guest_page=guest,
                    accesses_per_page_visit=accesses_per_page_visit,
                )
                n = np.array(regions)
                all_4k = translator.evaluate(np.stack([n_regions - n, 0 * n, 262_143 * n], axis=1))
                mixed = translator.evaluate(np.stack([n_regions - n, 511 * n, 511 * n], axis=1))
                for i, n_split in enumerate(regions):
                    bands = (_band(translator, states, i) for states in (all_4k, mixed))
                    found.append(Choice(cpu.name, guest, pattern, n_split, *bands))
    return found


def _band(translator: Translator, states: TranslationStates, i: int) -> SlowdownBand:
    low, mid, high = np.sort(states.cycles[i] / translator.baseline.cycles[0])
    return SlowdownBand(float(low), float(mid), float(high))


def choice_rows(rows: Sequence[Choice]) -> list[tuple[str, ...]]:
    """As text: CPU, guest page, pattern, regions, slowdown with 4K, with 2M (low, mid, high in %), verdict.

    Examples:
        >>> band = SlowdownBand(1.0, 1.01, 1.02)
        >>> choice_rows([Choice("zen5", "1G", "uniform", 1, band, band)])
        [('zen5', '1G', 'uniform', '1', '0.00 1.00 2.00', '0.00 1.00 2.00', 'both cost')]
    """
    return [
        (row.cpu, row.guest_page, row.pattern, str(row.n_split), _percent(row.all_4k), _percent(row.mixed), row.verdict)
        for row in rows
    ]


def _percent(band: SlowdownBand) -> str:
    return " ".join(f"{100 * (value - 1):.2f}" for value in band)
