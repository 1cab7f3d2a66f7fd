"""Which address maps the hosts of a log use, DIMM by DIMM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from poisonsim import catalog
from poisonsim.errors import FitError, ScenarioError
from poisonsim.faults.address_map import AddressMap, load_address_map
from poisonsim.faults.geometry import Dimm
from poisonsim.faults.map_fit import MIN_CELLS, AddressMapFit, LoggedCells, candidate_maps, fit_address_map
from poisonsim.fitting.cells import Cells
from poisonsim.fitting.findings import I64

MOST_DIMMS = 20
MOST_CELLS = 400
"""More cells of a DIMM tell no more; these many are taken, evenly over the rest."""
_RANKS_PER_SLOT = 4


@dataclass(frozen=True)
class DimmMap:
    """What the cells of one DIMM say of its host's address map.

    Attributes:
        host: Number of the host.
        dimm: What the log calls the DIMM: its label, or the host's name.
        fit: The candidates, best first; `None` where nothing can be said.
        known: The catalogue's map that fits as well as the best; empty for none.
        why: What keeps it from being said.
    """

    host: int
    dimm: str
    fit: AddressMapFit | None
    known: str = ""
    why: str = ""

    @property
    def explained(self) -> bool:
        """Whether a map explains all but a few of the cells."""
        return self.fit is not None and self.fit.explains

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        fit = self.fit
        return {
            "dimm": self.dimm, "explained": self.explained, "why": self.why, "catalogue": self.known,
            "map": None if fit is None else fit.best.name, "n_cells": None if fit is None else fit.n_cells,
            "n_tied": None if fit is None else fit.n_tied,
            "residual_bytes": None if fit is None else fit.residual_bytes,
            "share_outside": None if fit is None else fit.share_outside,
        }  # fmt: skip


def maps_of(cells: Cells, names: tuple[str, ...], dimm: Dimm) -> list[DimmMap]:
    """The maps of the DIMMs with most cells, `MOST_DIMMS` at most; those with fewer than `MIN_CELLS` are passed over.

    Args:
        names: Of the hosts.
        dimm: What all DIMMs are taken to be.
    """
    located = cells.column("address") >= 0
    several = [which[located[which]] for which in cells.by_dimm]
    several = sorted((which for which in several if len(which) >= MIN_CELLS), key=len, reverse=True)[:MOST_DIMMS]
    if not several:
        return []
    tried, known = list(candidate_maps(dimm)), list(_shipped(dimm))
    return [_map_of(cells, which, names, dimm, tried, known) for which in several]


def _shipped(dimm: Dimm) -> Iterator[AddressMap]:
    for name in catalog.names("maps"):
        try:
            yield load_address_map(name, dimm)
        except ScenarioError:  # of another number of ranks or banks
            continue


def _map_of(
    cells: Cells, which: I64, names: tuple[str, ...], dimm: Dimm, tried: list[AddressMap], known: list[AddressMap]
) -> DimmMap:
    host = int(cells.keys[which[0], 0])
    rank, group, bank, row, column, address = (
        cells.column(name)[which] for name in ("rank", "bank_group", "bank", "row", "column", "address")
    )
    # Ranks may be numbered over the channel, four to a slot, and banks over the rank.
    rank = np.where(rank < 0, 0, rank % _RANKS_PER_SLOT)
    if (group < 0).all():
        group, bank = bank // dimm.n_banks_per_group, bank % dimm.n_banks_per_group
    pairs = np.unique(np.stack([rank, group, bank, row, column, address], axis=1), axis=0)
    pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, MOST_CELLS).astype(np.int64))]
    logged = LoggedCells(*pairs.T)
    called = names[host] if host < len(names) else ""
    try:
        fit = fit_address_map(logged, tried, dimm=dimm)
        of_catalogue = fit_address_map(logged, known, dimm=dimm) if known else None
    except FitError as error:
        return DimmMap(host, called, None, why=error.problems[0])
    best = ""
    if fit.explains and of_catalogue is not None and of_catalogue.residual_bytes <= fit.residual_bytes:
        best = of_catalogue.best.name
    why = "" if fit.explains else "no map of those tried puts these cells where their addresses are"
    return DimmMap(host, called, fit, best, why)
