"""Which address map a host uses, told from cells of one DIMM logged with their physical addresses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim import catalog
from poisonsim.errors import FitError, ScenarioError
from poisonsim.faults.address_map import AddressMap, Coordinates, load_address_map, parse_address_map
from poisonsim.faults.geometry import Dimm
from poisonsim.units import MIB

__all__ = [
    "AddressMapFit", "FitError", "LoggedCells", "TriedMap", "candidate_maps", "fit_address_map",
]  # fmt: skip

I64 = NDArray[np.int64]

MIN_CELLS = 5
"""Fewer distinct cells can be met by chance."""
MIN_SPAN_BYTES = MIB
"""Cells nearer together than this see none of the bits that rows are made of."""
INSIDE = 0.95
"""Share of the distinct cells that the residual covers; logs hold a few wrong pairs of cell and address."""

ALIGNMENT_BYTES = 64 * MIB
"""What the address of an interleave set is taken to be a multiple of; only used to choose among maps that fit alike."""

_PAGES = ("closed", "open", "open-fbg")
_WAYS = ((1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4), (4, 3))
_SHIFTS = (8, 6, 12)
_SOURCE = {"source": "a map that is tried, not a claim about a host", "quality": "assumed"}


class LoggedCells(NamedTuple):
    """Cells of one DIMM as a log has them, each an array of whole numbers and all of one length; all count from 0.

    Args:
        rank: Rank of the DIMM. Logs that number ranks over the channel want this one's place among the DIMM's own.
        bank_group: Bank group of the rank.
        bank: Bank within its bank group, not within the rank: a DDR4 bank of 0 to 15 is 4 x bank group + this one.
        row: Row of the bank.
        column: Word of 8 bytes in the row, 0 to 1023 as a rule, not a byte nor a cache line.
        address: Physical address, in bytes.

    Examples:
        >>> LoggedCells(*(np.array([value]) for value in (0, 1, 0, 53266, 24, 85650768512))).row.tolist()
        [53266]
    """

    rank: I64
    bank_group: I64
    bank: I64
    row: I64
    column: I64
    address: I64


class TriedMap(NamedTuple):
    """One candidate and how well it fits.

    Args:
        address_map: The candidate.
        residual_bytes: Smallest window that holds `INSIDE` of the differences between logged and computed address.
        base: Where that window begins: address of the interleave set plus what the DIMM's channel adds, if the channel
            is not hashed.
        n_outside: Distinct cells outside the window.
        aligned: Whether `base` less the turn of some channel and rank is a multiple of `ALIGNMENT_BYTES`.

    Examples:
        >>> TriedMap._fields
        ('address_map', 'residual_bytes', 'base', 'n_outside', 'aligned')
    """

    address_map: AddressMap
    residual_bytes: int
    base: int
    n_outside: int
    aligned: bool


@dataclass(frozen=True, kw_only=True)
class AddressMapFit:
    """The candidates, best first, and what the cells say of the best.

    Args:
        tried: Every candidate by residual; of those alike aligned ones first, then those of fewer ways, then as given.
        n_cells: Distinct pairs of cell and address.
        n_contradictory: Those of a cell that was logged with more than one address; at most one of each can be right.

    Examples:
        >>> from poisonsim.faults.address_map import load_address_map
        >>> from poisonsim.faults.geometry import load_dimm
        >>> dimm = load_dimm("ddr4-32g-2rx4")
        >>> c = load_address_map("skx-closed-6ch", dimm).decode(np.arange(20) * 5_000_000_000 // 1536 * 1536)
        >>> address = np.arange(20) * 5_000_000_000 // 1536 * 1536 + (1 << 32)
        >>> fit = fit_address_map(LoggedCells(c.rank, c.bank_group, c.bank, c.row, c.column, address), dimm=dimm)
        >>> fit.best.name, fit.residual_bytes, fit.explains
        ('skx-closed: 2x3 channels at 256 B, 2 ranks', 0, True)
    """

    tried: tuple[TriedMap, ...]
    n_cells: int
    n_contradictory: int

    @property
    def best(self) -> AddressMap:
        """The candidate that fits best."""
        return self.tried[0].address_map

    @property
    def residual_bytes(self) -> int:
        """Smallest window that holds `INSIDE` of the differences between logged and computed address."""
        return self.tried[0].residual_bytes

    @property
    def stripe_bytes(self) -> int:
        """Bytes in which every channel of the best map has its turn."""
        return self.best.stripe_bytes

    @property
    def explains(self) -> bool:
        """Whether what is left is no more than the unknown turn of the DIMM's channel: one stripe."""
        return self.residual_bytes <= self.stripe_bytes

    @property
    def n_tied(self) -> int:
        """Candidates that these cells cannot tell from the best, itself included."""
        best = self.tried[0]
        return sum((t.residual_bytes, t.aligned) == (best.residual_bytes, best.aligned) for t in self.tried)

    @property
    def share_outside(self) -> float:
        """Share of the distinct cells whose address the best map does not explain."""
        return self.tried[0].n_outside / self.n_cells


def fit_address_map(cells: LoggedCells, candidates: Sequence[AddressMap] | None = None, *, dimm: Dimm) -> AddressMapFit:
    """The map under which the cells' addresses differ from the computed ones by the same number.

    The address of the interleave set and the DIMM's channel are not known, so every candidate is used with channel 0
    and base 0 (with each channel, where it is hashed): what it leaves over is the same for all cells if it is right,
    and scattered over their span if not.

    Args:
        cells: Cells of one DIMM; see `LoggedCells` for what each column counts.
        candidates: Maps to try; where none are given those of `candidate_maps`: Intel's of Skylake-SP in many
            variants, and AMD's of the catalogue. A map of another family is found only if it is given here.
        dimm: The DIMM.

    Raises:
        FitError: Columns that are no lists of whole numbers of one length, cells that the DIMM does not have, too few
            of them or too near together to tell one map from another, or candidates of another DIMM.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> fit_address_map(LoggedCells(*np.zeros((6, 3), dtype=np.int64)), dimm=load_dimm("ddr4-32g-2rx4"))
        Traceback (most recent call last):
        ...
        poisonsim.errors.FitError: 1 distinct cell cannot tell one address map from another; give 5 or more
    """
    pairs = np.unique(_columns(cells, dimm), axis=0)
    n = len(pairs)
    if n < MIN_CELLS:
        raise FitError(
            f"{n} distinct cell{'s' * (n != 1)} cannot tell one address map from another; give {MIN_CELLS} or more"
        )
    rank, bank_group, bank, row, column, address = pairs.T
    if (span := int(np.ptp(address))) < MIN_SPAN_BYTES:
        raise FitError(
            f"{n} distinct cells within {span} bytes cannot tell one address map from another; "
            f"give cells of more rows or columns, {MIN_SPAN_BYTES} bytes apart or more"
        )
    zero = np.zeros(n, dtype=np.int64)
    where = Coordinates(zero, zero, rank, bank_group, bank, row, column, zero)
    tried = []
    for candidate in candidate_maps(dimm) if candidates is None else candidates:
        if candidate.dimm != dimm:
            raise FitError(
                f"candidate {candidate.name} is a map of {candidate.dimm.name}, not of {dimm.name}; "
                "load it with the DIMM that the cells are of"
            )
        tried.append(min((_try(candidate, at, address) for at in _channels(candidate, where)), key=lambda t: t[1]))
    if not tried:
        raise FitError(f"there is no candidate map to try; give candidates that fit {dimm.name}")
    tried.sort(key=lambda t: (t.residual_bytes, not t.aligned, prod(level.ways for level in t.address_map.levels)))
    _, which, times = np.unique(pairs[:, :-1], axis=0, return_inverse=True, return_counts=True)
    return AddressMapFit(tried=tuple(tried), n_cells=n, n_contradictory=int((times[which.reshape(-1)] > 1).sum()))


def _columns(cells: LoggedCells, dimm: Dimm) -> I64:
    """The columns side by side, int64[n, 6], once they are found to be what they should."""
    limits = (dimm.n_ranks, dimm.n_bank_groups, dimm.n_banks_per_group, dimm.n_rows, dimm.n_columns, 1 << 60)
    problems, columns = [], []
    for name, given, limit in zip(LoggedCells._fields, cells, limits, strict=True):
        column = np.asarray(given)
        columns.append(column)
        if column.ndim != 1:
            problems.append(f"{name}: an array of shape {column.shape} is no list; give one number for each cell")
        elif column.size and column.dtype.kind not in "iu":
            problems.append(f"{name}: {column.dtype} is no type of whole numbers; give int64, as from .astype('int64')")
        elif column.size and not 0 <= (bad := max(column.min(), column.max(), key=lambda x: abs(int(x)))) < limit:
            of_dimm = "" if name == "address" else f" of {dimm.name}"
            at = int(np.flatnonzero(column == bad)[0])
            problems.append(f"{name}: {bad} of cell {at} is not one of the {limit}{of_dimm}, 0 to {limit - 1}")
    if not problems and len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(LoggedCells._fields, columns, strict=True))
        problems.append(f"the columns are of unequal lengths ({lengths}); give one number of each for every cell")
    if problems:
        raise FitError(problems)
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _channels(candidate: AddressMap, where: Coordinates) -> Iterator[Coordinates]:
    """The cells in the first channel; or in each one, where what it adds to the address depends on the rest of it."""
    mixed = candidate.hash_rows or any(level.add >= 0 for level in candidate.levels)
    n_controllers, n_channels = (candidate.n_controllers, candidate.n_channels) if mixed else (1, 1)
    for controller, channel in product(range(n_controllers), range(n_channels)):
        yield where._replace(controller=np.full_like(where.row, controller), channel=np.full_like(where.row, channel))


def _try(candidate: AddressMap, where: Coordinates, address: I64) -> TriedMap:
    n = len(address)
    n_inside = ceil(INSIDE * n)
    left = np.sort(address - candidate.encode(where))
    windows = left[n_inside - 1 :] - left[: n - n_inside + 1]
    first = int(windows.argmin())
    residual, base = int(windows[first]), int(left[first])
    n_outside = int(((left < base) | (left > base + residual)).sum())
    return TriedMap(candidate, residual, base, n_outside, _is_aligned(candidate, base))


def _is_aligned(candidate: AddressMap, base: int) -> bool:
    controller, channel, rank = np.indices((candidate.n_controllers, candidate.n_channels, candidate.n_ranks))
    turns = candidate.encode(Coordinates(controller, channel, rank, *np.zeros((5, 1), dtype=np.int64)))
    return bool(((base - turns) % ALIGNMENT_BYTES == 0).any())


def candidate_maps(dimm: Dimm) -> Iterator[AddressMap]:
    """The maps to try on a host with `dimm`, plain ones before involved ones; those that do not fit it are left out.

    Intel: page policy and fine-grained bank groups, bank XOR, channels, their granularity, ranks and where they take
    turns, all of the kind that Linux decodes for Skylake-SP. Which of controller and channel comes first makes no
    difference to cells of one channel, so each number of channels appears once.

    AMD: the catalogue's maps of Zen data fabrics as they are, with the DIMM's ranks and with twice as many. What lies
    below the fabric is assumed there, so that a host may have its channels and yet not be found.

    Examples:
        >>> from poisonsim.faults.geometry import load_dimm
        >>> maps = list(candidate_maps(load_dimm("ddr4-32g-2rx4")))
        >>> len(maps), maps[0].name
        (688, 'skx-closed: 1x1 channels at 256 B, 2 ranks')
    """
    yield from _skylake_maps(dimm)
    for name in (name for name in catalog.names("maps") if name.startswith("zen")):
        for ranks in (dimm.n_ranks, 2 * dimm.n_ranks):
            try:
                yield load_address_map(f"{name}:ranks={ranks}", dimm)
            except ScenarioError:
                break


def _skylake_maps(dimm: Dimm) -> Iterator[AddressMap]:
    for page in _PAGES:
        shipped = catalog.load("maps", f"skx-{page}-6ch")
        rank_shift = next(entry["shift"] for entry in shipped["interleave"] if entry["what"] == "rank")
        for xor in (True, False):
            tables = {**shipped, "bits": shipped["bits"] if xor else _without_xor(shipped["bits"])}
            for levels, said in _interleaves(dimm, rank_shift):
                name = f"skx-{page}: {said}{'' if xor else ', no bank XOR'}"
                try:
                    yield parse_address_map({**tables, "interleave": levels}, dimm, name=name, where=name)
                except ScenarioError:
                    continue


def _interleaves(dimm: Dimm, rank_shift: int) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Interleaves to try, and how to call them."""
    for n_ranks in (dimm.n_ranks, 2 * dimm.n_ranks):
        for n_controllers, n_channels in _WAYS:
            for shift in _SHIFTS[: 1 if n_controllers * n_channels == 1 else None]:
                turns = [
                    {"what": "controller", "shift": shift, "ways": n_controllers, **_SOURCE},
                    {"what": "channel", "shift": shift, "ways": n_channels, **_SOURCE},
                ]
                rank = {"what": "rank", "ways": n_ranks, **_SOURCE}
                said = f"{n_controllers}x{n_channels} channels at {1 << shift} B, {n_ranks} rank{'s' * (n_ranks > 1)}"
                yield [*turns, rank | {"shift": rank_shift}], said
                if n_ranks > 1:
                    yield [rank | {"shift": rank_shift}, *turns], f"{said} before channels"
                    yield [*turns, rank], f"{said} one after the other"


def _without_xor(bits: dict[str, Any]) -> dict[str, Any]:
    """The same bits with only the first of each XOR."""
    return {
        name: table | {"value": " ".join(term.split("^")[0] for term in table["value"].split())}
        for name, table in bits.items()
    }
