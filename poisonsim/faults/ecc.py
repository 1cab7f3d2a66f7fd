"""Uncorrected errors by what the ECC scheme cannot correct: chip faults that it cannot correct alone, or that overlap.

Faults strike each chip of a DIMM as independent Poisson processes, one per mode and per kind. A transient fault is
cleared by the first patrol scrub pass after it, at the multiples of the scrub interval; a permanent one stays. A fault
that starts while others live is uncorrected where the scheme, given all of them, cannot correct: at once if its mode is
more than the scheme corrects, and otherwise in every line where it overlaps another one so that the two defeat it.

A bit fault spoils one bit, on one pin at one place of the line. Every larger one spoils two bits or more of a codeword
in each line that it reaches. The codewords of one line stand or fall together. Multi-rank faults have a rate per chip
as all others do, and each reaches the same chip position in all ranks; so the DIMM is the independent unit, or each
subchannel of a DIMM that has two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.faults.boxes import (
    DEFAULT_SHAPES,
    DimmShape,
    Shapes,
    dimm_problems,
    dimm_sizes,
    shape_problems,
    shape_windows,
)
from poisonsim.faults.overlap import find_uncorrected
from poisonsim.faults.tables import MODES
from poisonsim.units import HOURS_PER_YEAR

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_MOST_FIT = 1e9  # one failure per chip-hour
_MOST_FAULTS = 10_000.0  # per DIMM; each is compared with all that live
_NEVER, _SAME_WORD, _TWO_CHIPS = range(3)  # which pairs of faults defeat a scheme; `overlap` tells them apart


@dataclass(frozen=True)
class Ecc:
    """An ECC scheme: the modes it corrects alone, and the pairs of them that it cannot correct.

    Args:
        name: As scenarios spell it.
        corrects: Modes that are corrected where no other fault overlaps.
        pairs: `_NEVER` no pair of corrected faults is uncorrected, `_SAME_WORD` two bits of one 8-byte word are,
            `_TWO_CHIPS` faults of two chips of one rank in the same line are.
        title: What it is, in one sentence.
        source: Where that is from.
        quality: One of `catalog.QUALITIES`.
    """

    name: str
    corrects: tuple[str, ...]
    pairs: int
    title: str
    source: str
    quality: str


ECCS: Mapping[str, Ecc] = MappingProxyType(
    {
        ecc.name: ecc
        for ecc in (
            Ecc("none", (), _NEVER, "No ECC: every fault is uncorrected.", "definition", "published"),
            Ecc(
                "sec-ded",
                ("bit",),
                _SAME_WORD,
                "SEC-DED (72,64): corrects one bit per 8-byte word, so not two bits of one word, nor anything larger.",
                "the code's definition; a word holds one place in eight of the line, the same for all chips",
                "published",
            ),
            Ecc(
                "chipkill",
                MODES,
                _TWO_CHIPS,
                "Chipkill (SDDC): corrects any one chip of a rank, not two chips bad in the same line.",
                "the code's definition; some processors correct only most patterns of one chip",
                "published",
            ),
            Ecc(
                "bounded",
                ("bit", "column"),
                _TWO_CHIPS,
                "Bounded fault (DDR5, 9 chips): corrects two pins (DQ) of one chip, not larger faults, nor two chips.",
                "github.com/TanjIsGray/RS_boundedFaultReliability, README: bounded faults are 'limited to the bits "
                "passing over 2 DQs'; that bit and column faults stay within these, alone or two in one chip, and "
                "that all others do not, is an assumption",
                "assumed",
            ),
        )
    }
)
"""The schemes by name."""


def load_ecc(name: str) -> Ecc:
    """The scheme of that name.

    Raises:
        ScenarioError: There is none.

    Examples:
        >>> load_ecc("chipkill").title
        'Chipkill (SDDC): corrects any one chip of a rank, not two chips bad in the same line.'
        >>> load_ecc("chipkil")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: 'chipkil' is not an ECC scheme; known: none, sec-ded, ... did you mean chipkill?
    """
    if name in ECCS:
        return ECCS[name]
    raise ScenarioError(f"{name!r} is not an ECC scheme; known: {', '.join(ECCS)}{did_you_mean(name, ECCS)}")


@dataclass(frozen=True)
class ChipRates:
    """Faults per 10⁹ chip-hours (FIT), by mode and kind.

    Args:
        modes: Some of `MODES`, each once.
        fit_transient: Rate of each that the next scrub pass clears.
        fit_permanent: Rate of each that stays.

    Raises:
        ScenarioError: Unknown or repeated modes, lists of different lengths, or rates outside 0 to 10⁹.

    Examples:
        >>> ChipRates(("bit", "row"), (14.2, 0.2), (18.6, 8.2)).fit
        41.2
        >>> ChipRates(("bit", "rows"), (-1, 0.2), (18.6, 8.2))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: modes: 'rows' is unknown; known: bit, word, row, ... did you mean row?
        fit_transient of bit: -1 is not a rate between 0 and 1e9 per 1e9 chip-hours
    """

    modes: tuple[str, ...]
    fit_transient: tuple[float, ...]
    fit_permanent: tuple[float, ...]

    def __post_init__(self) -> None:
        known = ", ".join(MODES)
        problems = [
            f"modes: {mode!r} is unknown; known: {known}{did_you_mean(mode, MODES)}"
            for mode in self.modes
            if mode not in MODES
        ]
        problems += [f"modes: {mode!r} is there twice" for mode in MODES if self.modes.count(mode) > 1]
        for name in ("fit_transient", "fit_permanent"):
            rates = getattr(self, name)
            if len(rates) != len(self.modes):
                problems.append(f"{name}: {len(rates)} rates for {len(self.modes)} modes; write one for each")
            for mode, rate in zip(self.modes, rates, strict=False):
                if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= _MOST_FIT:
                    problems.append(f"{name} of {mode}: {rate!r} is not a rate between 0 and 1e9 per 1e9 chip-hours")
        if problems:
            raise ScenarioError(problems)

    @property
    def fit(self) -> float:
        """All faults per 10⁹ chip-hours."""
        return math.fsum((*self.fit_transient, *self.fit_permanent))


def expected_faults(rates: ChipRates, dimm: DimmShape, years: float) -> float:
    """Expected faults of one DIMM in so many years, corrected ones included.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=1, n_chips_per_rank=18)
        >>> round(expected_faults(ChipRates(("bit",), (14.2,), (18.6,)), dimm, years=7), 6)
        0.036228
    """
    return rates.fit * 1e-9 * dimm.n_ranks * dimm.n_chips_per_rank * years * HOURS_PER_YEAR


def p_at_least(n: int, *, rates: ChipRates, dimm: DimmShape, years: float) -> float:
    """Probability that a DIMM has at least `n` faults in so many years, exact.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=1, n_chips_per_rank=18)
        >>> round(p_at_least(1, rates=ChipRates(("bit",), (14.2,), (18.6,)), dimm=dimm, years=7), 6)
        0.03558
    """
    return _p_at_least(n, expected_faults(rates, dimm, years))


def _p_at_least(n: int, mean: float) -> float:
    return 1.0 if n <= 0 else float(gammainc(n, mean))


def expected_alone(rates: ChipRates, dimm: DimmShape, ecc: Ecc) -> float:
    """Faults per DIMM-year that are uncorrected with no other fault around.

    With on-die ECC, a bit fault alone stays inside its chip whatever the scheme.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=1, n_chips_per_rank=18, on_die_ecc=False)
        >>> rates = ChipRates(("bit", "row"), (14.2, 0.2), (18.6, 8.2))
        >>> [round(expected_alone(rates, dimm, load_ecc(name)) * 1e6) for name in ("none", "sec-ded", "chipkill")]
        [6501, 1325, 0]
    """
    hidden = ("bit",) if dimm.on_die_ecc else ()
    fit = math.fsum(
        transient + permanent
        for mode, transient, permanent in zip(rates.modes, rates.fit_transient, rates.fit_permanent, strict=True)
        if mode not in ecc.corrects and mode not in hidden
    )
    return fit * 1e-9 * dimm.n_ranks * dimm.n_chips_per_rank * HOURS_PER_YEAR


@dataclass(frozen=True)
class DimmFailures:
    """Uncorrected errors of many DIMMs, ordered by DIMM and time.

    One row per pair of faults that becomes uncorrectable (or per fault, where it is so alone) and per rank in which it
    does. Rows of one DIMM may overlap, where three faults do.

    Attributes:
        n_dimms: DIMMs simulated.
        at_least: Faults that each of them was made to have.
        mean_faults: Expected faults of a DIMM without that condition.
        n_faults: int64[n_dimms], faults of each DIMM, corrected ones included.
        dimm: int64[n], which DIMM.
        years: float64[n], when the fault struck that made it uncorrectable.
        rank: int64[n], where: the rank.
        box: int64[n, 6], where in that rank; columns as in `BOX_COLUMNS`.
        mode: int64[n], mode of the fault that made it uncorrectable, by its place in `MODES`.
        other: int64[n], mode of the earlier fault it overlaps, -1 if it is uncorrectable alone.
        event: int64[n], the same number for rows that differ by rank only.
    """

    n_dimms: int
    at_least: int
    mean_faults: float
    n_faults: I64
    dimm: I64
    years: F64
    rank: I64
    box: I64
    mode: I64
    other: I64
    event: I64

    def p_at_least(self, n: int) -> float:
        """Probability that a DIMM, without the condition, has at least `n` faults."""
        return _p_at_least(n, self.mean_faults)

    @property
    def weight(self) -> float:
        """Probability of the condition: chances among these DIMMs times this hold for all DIMMs."""
        return self.p_at_least(self.at_least)

    @property
    def failed(self) -> I64:
        """The DIMMs with an uncorrected error, ascending."""
        return self.dimm[np.diff(self.dimm, prepend=-1) > 0]


def draw_failures(
    rng: np.random.Generator,
    n_dimms: int,
    *,
    rates: ChipRates,
    dimm: DimmShape,
    ecc: Ecc,
    shapes: Shapes = DEFAULT_SHAPES,
    years: float,
    scrub_hours: float,
    weibull_shape: float = 1.0,
    at_least: int = 0,
) -> DimmFailures:
    """Uncorrected errors of `n_dimms` DIMMs of one kind.

    With on-die ECC bit faults stay inside their chip, until two different bits of one on-die word of 128 bits are bad
    at the same time; from then on, and while both live, they are a word fault in every line that holds part of it.

    Args:
        rng: Source of all randomness.
        n_dimms: How many.
        rates: Faults per chip-hour.
        dimm: Sizes of the DIMM.
        ecc: What the memory controller corrects.
        shapes: What a fault of each mode reaches.
        years: How long each DIMM is in service.
        scrub_hours: Hours between the scrub passes, `math.inf` for none.
        weibull_shape: Above 1 faults come late, below 1 early; how many there are stays as it is.
        at_least: Draw only DIMMs with so many faults; `weight` of the result says how rare these are.

    Raises:
        ScenarioError: Arguments that cannot be used; all problems are listed.

    Examples:
        >>> from types import SimpleNamespace
        >>> dimm = SimpleNamespace(n_ranks=1, n_chips_per_rank=18, n_banks=8, n_rows=1 << 14, n_lines_per_row=256,
        ...                        device_width_bits=4, on_die_ecc=False)
        >>> rates = ChipRates(("bit", "bank"), (14.2, 0.8), (18.6, 10.0))
        >>> found = draw_failures(np.random.Generator(np.random.PCG64DXSM(7)), 100_000, rates=rates, dimm=dimm,
        ...                       ecc=load_ecc("chipkill"), years=7, scrub_hours=24, at_least=2)
        >>> f"{found.weight * len(found.failed) / found.n_dimms:.1e} of DIMMs fail"
        '4.7e-05 of DIMMs fail'
    """
    _check(n_dimms, rates, dimm, shapes, years, scrub_hours, weibull_shape, at_least)
    mean = expected_faults(rates, dimm, years)
    n_faults = _draw_counts(rng, n_dimms, mean, at_least)
    hit = np.flatnonzero(n_faults)
    start = np.concatenate(([0], np.cumsum(n_faults[hit]))).astype(np.int64)
    total = int(start[-1])
    gaps = rng.standard_exponential(total + len(hit))
    classes, cumulative = _classes(rates, dimm, shapes)
    klass = np.searchsorted(cumulative, rng.random(total), side="right")
    sizes = dimm_sizes(dimm)
    place = rng.integers(math.prod(map(int, sizes)), size=total)
    alone = np.array([mode not in ecc.corrects for mode in MODES])
    whole, when = find_uncorrected(
        start, gaps, klass, place, classes, sizes, alone, ecc.pairs == _SAME_WORD, ecc.pairs == _TWO_CHIPS,
        dimm.on_die_ecc, years * HOURS_PER_YEAR, 1.0 / weibull_shape, float(scrub_hours),
    )  # fmt: skip
    owner, rank, mode, other, event = whole[:, :5].T
    return DimmFailures(
        n_dimms, at_least, mean, n_faults, hit[owner], when / HOURS_PER_YEAR, rank, whole[:, 5:], mode, other, event
    )


def _draw_counts(rng: np.random.Generator, n_dimms: int, mean: float, at_least: int) -> I64:
    """Faults of each DIMM: a Poisson total dealt out to all alike; or by inversion of the truncated law."""
    if at_least == 0:
        return np.bincount(rng.integers(n_dimms, size=rng.poisson(mean * n_dimms)), minlength=n_dimms)
    most = max(at_least, mean)
    above = np.arange(at_least + 1, int(most + 40 * most**0.5) + 40)
    log_p = np.concatenate(([0.0], np.cumsum(math.log(mean) - np.log(above))))
    p = np.exp(log_p - log_p.max())
    return at_least + np.searchsorted(np.cumsum(p) / p.sum(), rng.random(n_dimms), side="right")


def _classes(rates: ChipRates, dimm: DimmShape, shapes: Shapes) -> tuple[I64, F64]:
    """What a fault may be: mode, permanence and windows, int64[n, 6], and the cumulative chances of each."""
    rows, fits = [], []
    for i, mode in enumerate(rates.modes):
        for fit, permanent in ((rates.fit_transient[i], 0), (rates.fit_permanent[i], 1)):
            for shape in shapes[mode]:
                if fit * shape.share > 0:
                    rows.append((MODES.index(mode), permanent, *shape_windows(shape, dimm)))
                    fits.append(fit * shape.share)
    cumulative = np.cumsum(fits)
    return np.array(rows, np.int64).reshape(-1, 6), cumulative / cumulative[-1:]


def _check(
    n_dimms: int,
    rates: ChipRates,
    dimm: DimmShape,
    shapes: Shapes,
    years: float,
    scrub_hours: float,
    weibull_shape: float,
    at_least: int,
) -> None:
    problems = dimm_problems(dimm)
    if not problems:
        problems = shape_problems(shapes, rates.modes, dimm)
    if not 0 < years < 1000:
        problems.append(f"years: {years!r} is not a time above 0 and below 1000 years")
    elif not problems and (mean := expected_faults(rates, dimm, years)) > _MOST_FAULTS:
        problems.append(
            f"rates: {mean:,.0f} faults expected per DIMM; more than {_MOST_FAULTS:,.0f} means no memory at all"
        )
    if not scrub_hours > 0:
        problems.append(f"scrub_hours: {scrub_hours!r} is not positive; write inf for no scrubbing")
    if not 0.1 <= weibull_shape <= 10:
        problems.append(f"weibull_shape: {weibull_shape!r} is not between 0.1 and 10")
    if n_dimms < 0:
        problems.append(f"n_dimms: {n_dimms!r} is negative")
    if not 0 <= at_least <= 1000:
        problems.append(f"at_least: {at_least!r} is not a number of faults between 0 and 1000")
    elif at_least > 0 and rates.fit == 0:
        problems.append(f"at_least: no DIMM has {at_least} faults where all rates are 0")
    if problems:
        raise ScenarioError(problems)
