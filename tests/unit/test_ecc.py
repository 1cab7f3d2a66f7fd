"""The ECC fault source: checks, schemes, single cases by hand, and a slow twin that keeps sets of bad lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng

from poisonsim.catalog import QUALITIES
from poisonsim.errors import ScenarioError
from poisonsim.faults.boxes import BOX_COLUMNS, DEFAULT_SHAPES, Shape, dimm_sizes, shape_windows
from poisonsim.faults.ecc import ECCS, ChipRates, draw_failures, expected_alone, expected_faults, load_ecc, p_at_least
from poisonsim.faults.overlap import find_uncorrected
from poisonsim.faults.tables import MODES


@dataclass(frozen=True)
class Dimm:
    """A DIMM of any size."""

    n_ranks: int = 1
    n_chips_per_rank: int = 18
    n_banks: int = 8
    n_rows: int = 16384
    n_lines_per_row: int = 256
    device_width_bits: int = 4
    on_die_ecc: bool = False


TINY = Dimm(n_ranks=2, n_chips_per_rank=3, n_banks=2, n_rows=4, n_lines_per_row=2)
JAGUAR = ChipRates(MODES, (14.2, 1.4, 0.2, 1.4, 0.8, 0.3, 0.9), (18.6, 0.3, 8.2, 5.6, 10.0, 1.4, 2.8))
USUAL: dict[str, Any] = {
    "rates": JAGUAR,
    "dimm": Dimm(),
    "ecc": load_ecc("chipkill"),
    "years": 7.0,
    "scrub_hours": 3.0,
}
SCRUB, HORIZON = 10.0, 100.0


@dataclass(frozen=True)
class Fault:
    """One chip fault, by hand."""

    hours: float
    mode: str
    permanent: bool = True
    rank: int = 0
    chip: int = 0
    bank: int = 0
    row: int = 0
    line: int = 0
    bit: int = 0

    @property
    def end(self) -> float:
        return math.inf if self.permanent else (math.floor(self.hours / SCRUB) + 1) * SCRUB


def bits_per_line(dimm: Dimm) -> int:
    return dimm.device_width_bits * (16 if dimm.on_die_ecc else 8)


def walk(faults: Sequence[Fault], scheme: str, dimm: Dimm) -> list[tuple[float, int, tuple[int, ...], str, str | None]]:
    """What the library makes of these faults of one DIMM: hours, rank, box, mode, other mode."""
    ecc = load_ecc(scheme)
    classes = [(MODES.index(f.mode), int(f.permanent), *shape_windows(DEFAULT_SHAPES[f.mode][0], dimm)) for f in faults]
    shape = (dimm.n_ranks, dimm.n_chips_per_rank, dimm.n_banks, dimm.n_rows, dimm.n_lines_per_row, bits_per_line(dimm))
    place = [int(np.ravel_multi_index((f.rank, f.chip, f.bank, f.row, f.line, f.bit), shape)) for f in faults]
    rows, when = find_uncorrected(
        np.array([0, len(faults)]),
        np.diff([0.0, *(f.hours for f in faults), HORIZON]),
        np.arange(len(faults)),
        np.array(place, np.int64),
        np.array(classes, np.int64),
        dimm_sizes(dimm),
        np.array([mode not in ecc.corrects for mode in MODES]),
        scheme == "sec-ded",
        scheme in ("chipkill", "bounded"),
        dimm.on_die_ecc,
        HORIZON,
        1.0,
        SCRUB,
    )
    return [
        (
            round(float(t), 6),
            int(row[1]),
            tuple(map(int, row[5:])),
            MODES[row[2]],
            MODES[row[3]] if row[3] >= 0 else None,
        )
        for row, t in zip(rows, when, strict=True)
    ]


# ----------------------------------------------------------------------------------------------- cases by hand


def test_a_row_and_a_column_of_two_chips_share_one_line() -> None:
    found = walk([Fault(5, "row", row=9, chip=1), Fault(50, "column", line=7, chip=2)], "chipkill", Dimm())
    assert found == [(50, 0, (0, 1, 9, 1, 7, 1), "column", "row")]


@pytest.mark.parametrize(
    "second",
    [
        Fault(50, "column", line=7, chip=1),  # the same chip
        Fault(50, "column", line=7, chip=2, bank=1),  # another bank
        Fault(50, "column", line=7, chip=2, rank=1),  # another rank
        Fault(50, "row", row=8, chip=2),  # another row
    ],
)
def test_what_does_not_overlap_stays_corrected(second: Fault) -> None:
    assert walk([Fault(5, "row", row=9, chip=1), second], "chipkill", Dimm(n_ranks=2)) == []


@pytest.mark.parametrize(("hours", "caught"), [(39.9, True), (40.1, False)])
def test_a_transient_fault_lives_to_the_next_scrub_pass(hours: float, caught: bool) -> None:
    faults = [Fault(31, "bank", permanent=False, chip=1), Fault(hours, "bank", chip=2)]
    assert bool(walk(faults, "chipkill", Dimm())) is caught


def test_a_transient_fault_that_comes_second_is_uncorrected_too() -> None:
    assert len(walk([Fault(31, "bank", chip=1), Fault(95, "bank", permanent=False, chip=2)], "chipkill", Dimm())) == 1


def test_multi_rank_faults_are_at_the_same_chip_in_every_rank() -> None:
    dimm = Dimm(n_ranks=2)
    whole = (0, 8, 0, 16384, 0, 256)
    assert (
        walk([Fault(1, "multi-rank", rank=0, chip=1), Fault(2, "multi-bank", rank=1, chip=1)], "chipkill", dimm) == []
    )
    found = walk([Fault(1, "multi-rank", rank=0, chip=1), Fault(2, "multi-bank", rank=1, chip=2)], "chipkill", dimm)
    assert found == [(2, 1, whole, "multi-bank", "multi-rank")]
    found = walk([Fault(1, "multi-rank", rank=1, chip=1)], "sec-ded", dimm)
    assert found == [(1, 0, whole, "multi-rank", None), (1, 1, whole, "multi-rank", None)]


@pytest.mark.parametrize(
    ("chip", "bit", "caught"),
    [(1, 7, True), (0, 7, True), (0, 5, False), (1, 5, True), (1, 8, False), (0, 8, False)],
)
def test_sec_ded_fails_on_two_bits_of_one_word(chip: int, bit: int, caught: bool) -> None:
    found = walk([Fault(1, "bit", bit=5), Fault(2, "bit", chip=chip, bit=bit)], "sec-ded", Dimm())
    assert found == ([(2, 0, (0, 1, 0, 1, 0, 1), "bit", "bit")] if caught else [])


@pytest.mark.parametrize(
    ("scheme", "modes"),
    [
        ("none", MODES),
        ("sec-ded", MODES[1:]),
        ("chipkill", ()),
        ("bounded", ("word", "row", "bank", "multi-bank", "multi-rank")),
    ],
)
def test_which_modes_are_uncorrected_alone(scheme: str, modes: tuple[str, ...]) -> None:
    assert tuple(mode for mode in MODES if walk([Fault(1, mode)], scheme, Dimm())) == modes
    rates = ChipRates(MODES, (1.0,) * 7, (2.0,) * 7)
    per_mode = 18 * 3e-9 * 8766
    assert expected_alone(rates, Dimm(), load_ecc(scheme)) == pytest.approx(len(modes) * per_mode)
    hidden = Dimm(on_die_ecc=True)
    assert expected_alone(rates, hidden, load_ecc(scheme)) == pytest.approx(len(set(modes) - {"bit"}) * per_mode)


def test_on_die_ecc_hides_bits_until_two_meet_in_one_word() -> None:
    ddr5 = Dimm(n_chips_per_rank=10, on_die_ecc=True)  # a chip holds 64 bits of a line: a word of 128 bits spans two
    one = Fault(1, "bit", line=6, bit=3)
    assert walk([one], "none", ddr5) == []
    assert walk([one, Fault(2, "bit", line=8, bit=3)], "none", ddr5) == []
    assert walk([one, Fault(2, "bit", line=6, bit=3)], "none", ddr5) == []  # the same bit again
    assert walk([one, Fault(2, "bit", line=7, bit=3)], "none", ddr5) == [(2, 0, (0, 1, 0, 1, 6, 2), "word", None)]
    pair = [Fault(1, "bit", line=6, bit=3, permanent=False), Fault(2, "bit", line=7)]
    assert len(walk([*pair, Fault(9, "row", chip=1)], "chipkill", ddr5)) == 1
    assert walk([*pair, Fault(11, "row", chip=1)], "chipkill", ddr5) == []  # scrubbed: one bit is left, and hidden
    x8 = replace(ddr5, device_width_bits=8)
    assert walk([one, Fault(2, "bit", line=7, bit=3)], "none", x8) == []
    assert walk([one, Fault(2, "bit", line=6, bit=9)], "none", x8) == [(2, 0, (0, 1, 0, 1, 6, 1), "word", None)]


# ------------------------------------------------------------------------------------------------ the slow twin


def lines_of(fault: Fault, dimm: Dimm) -> set[tuple[int, ...]]:
    """The lines a fault spoils in its chip: (rank, bank, row, line)."""
    several = ("multi-bank", "multi-rank")
    ranks = range(dimm.n_ranks) if fault.mode == "multi-rank" else [fault.rank]
    banks = range(dimm.n_banks) if fault.mode in several else [fault.bank]
    rows = range(dimm.n_rows) if fault.mode in ("column", "bank", *several) else [fault.row]
    lines = range(dimm.n_lines_per_row) if fault.mode in ("row", "bank", *several) else [fault.line]
    return {(k, b, r, n) for k in ranks for b in banks for r in rows for n in lines}


def on_die_word(fault: Fault, dimm: Dimm) -> tuple[int, ...]:
    return (fault.rank, fault.chip, fault.bank, fault.row, (fault.line * bits_per_line(dimm) + fault.bit) // 128)


def on_die_lines(word: tuple[int, ...], dimm: Dimm) -> set[tuple[int, ...]]:
    held = {bit // bits_per_line(dimm) for bit in range(128 * word[4], 128 * word[4] + 128)}
    return {(word[0], word[2], word[3], line) for line in held}


def slow_twin(faults: Sequence[Fault], scheme: str, dimm: Dimm) -> Iterator[tuple[float, set[tuple[int, ...]]]]:
    """The same from the state of memory at each fault: the lines that it takes part in making uncorrectable."""
    corrects = {"none": "", "sec-ded": "bit", "bounded": "bit column", "chipkill": " ".join(MODES)}[scheme].split()
    for i, new in enumerate(faults):
        live = [f for f in faults[:i] if f.end > new.hours]
        bits = [f for f in live if f.mode == "bit"]
        spoilt = [(f.mode, f.chip, lines_of(f, dimm)) for f in live]
        mode, mine = new.mode, lines_of(new, dimm)
        if dimm.on_die_ecc:
            spoilt = [entry for entry in spoilt if entry[0] != "bit"]
            for word in {on_die_word(f, dimm) for f in bits}:
                if len({(f.line, f.bit) for f in bits if on_die_word(f, dimm) == word}) > 1:
                    spoilt.append(("word", word[1], on_die_lines(word, dimm)))
            if mode == "bit":
                word = on_die_word(new, dimm)
                mates = {(f.line, f.bit) for f in bits if on_die_word(f, dimm) == word} - {(new.line, new.bit)}
                if not mates:
                    continue
                mode, mine = "word", on_die_lines(word, dimm)
        if mode not in corrects:
            yield new.hours, mine
            continue
        lost: set[tuple[int, ...]] = set()
        if scheme == "sec-ded":
            per_word = bits_per_line(dimm) // 8
            for f in bits:
                if f.bit // per_word == new.bit // per_word and (f.chip, f.bit) != (new.chip, new.bit):
                    lost |= mine & lines_of(f, dimm)
        else:
            others = [lines for m, chip, lines in spoilt if chip != new.chip and m in corrects]
            lost = mine & set().union(*others)
        if lost:
            yield new.hours, lost


@pytest.mark.parametrize("scheme", ECCS)
@pytest.mark.parametrize(
    "dimm", [TINY, replace(TINY, on_die_ecc=True), replace(TINY, on_die_ecc=True, device_width_bits=16)]
)
def test_the_slow_twin_finds_the_same_lines(scheme: str, dimm: Dimm) -> None:
    rng = default_rng(5)
    n_lost = 0
    for _ in range(250):
        few_places = rng.random() < 0.5  # bits that meet are rare otherwise
        faults = [
            Fault(
                float(hours),
                str(rng.choice(MODES, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])),
                bool(rng.random() < 0.3),
                *(int(rng.integers(1 if few_places else n)) for n in (dimm.n_ranks, dimm.n_chips_per_rank)),
                *(int(rng.integers(1 if few_places else n)) for n in (dimm.n_banks, dimm.n_rows)),
                int(rng.integers(dimm.n_lines_per_row)),
                int(rng.integers(bits_per_line(dimm))),
            )
            for hours in np.sort(rng.uniform(0, HORIZON, 12))
        ]
        found: dict[float, set[tuple[int, ...]]] = {}
        for hours, rank, (bank, n_banks, row, n_rows, line, n_lines), _, _ in walk(faults, scheme, dimm):
            found.setdefault(hours, set()).update(
                (rank, b, r, n)
                for b in range(bank, bank + n_banks)
                for r in range(row, row + n_rows)
                for n in range(line, line + n_lines)
            )
        expected = {round(hours, 6): lines for hours, lines in slow_twin(faults, scheme, dimm)}
        assert found == expected
        n_lost += len(expected)
    assert n_lost > 100


# --------------------------------------------------------------------------------------------- drawing and checks


def test_results_are_a_function_of_the_generator_and_ordered() -> None:
    one, two = (draw_failures(default_rng(3), 20_000, **USUAL, at_least=2) for _ in range(2))
    assert np.array_equal(one.box, two.box) and np.array_equal(one.years, two.years)
    assert (np.diff(one.dimm * 8 + one.years) >= 0).all()
    assert one.n_faults.min() == 2 and one.box.shape == (len(one.dimm), len(BOX_COLUMNS))
    assert one.years.min() >= 0 and one.years.max() <= 7 and one.other.min() >= 0


def test_boxes_lie_in_the_rank_and_rows_of_one_event_differ_by_rank() -> None:
    dimm = Dimm(n_ranks=4)
    found = draw_failures(default_rng(3), 50_000, **USUAL | {"dimm": dimm, "ecc": load_ecc("none")})
    low, n = found.box[:, ::2], found.box[:, 1::2]
    assert (low % n == 0).all() and (low + n <= (8, 16384, 256)).all()
    _, rows = np.unique(found.event, return_counts=True)
    everywhere = MODES.index("multi-rank")
    assert set(rows.tolist()) == {1, 4}
    assert ((rows == 4) == (found.mode[np.cumsum(rows) - 1] == everywhere)).all()


def test_the_weight_of_a_stratum_is_exact() -> None:
    mean = 18 * 66.1e-9 * 7 * 8766
    found = draw_failures(default_rng(3), 10, **USUAL, at_least=2)
    assert expected_faults(JAGUAR, Dimm(), 7) == pytest.approx(mean, rel=1e-12)
    assert found.weight == pytest.approx(1 - math.exp(-mean) * (1 + mean), rel=1e-12)
    assert found.p_at_least(0) == 1
    assert p_at_least(1, rates=JAGUAR, dimm=Dimm(), years=7) == pytest.approx(-math.expm1(-mean), rel=1e-12)
    assert p_at_least(2, rates=ChipRates(("bit",), (1e-6,), (0,)), dimm=Dimm(), years=1) == pytest.approx(
        (18 * 1e-15 * 8766) ** 2 / 2, rel=1e-9
    )


def test_nothing_happens_without_rates_or_dimms() -> None:
    found = draw_failures(default_rng(1), 100, **USUAL | {"rates": ChipRates(("bit",), (0,), (0,))})
    assert found.n_faults.sum() == len(found.dimm) == 0 and found.weight == 1 and found.p_at_least(1) == 0
    assert len(draw_failures(default_rng(1), 0, **USUAL, at_least=2).dimm) == 0
    assert len(draw_failures(default_rng(1), 50, **USUAL | {"rates": ChipRates((), (), ())}).failed) == 0


def test_many_faults_and_a_condition_far_from_the_mean() -> None:
    heavy = USUAL | {"rates": ChipRates(("bit",), (0,), (1e6,)), "years": 1.0}
    assert draw_failures(default_rng(1), 20, **heavy, at_least=1).n_faults.mean() == pytest.approx(157.8, abs=15)
    rare = USUAL | {"rates": ChipRates(("bit",), (0,), (1e-5,))}
    assert draw_failures(default_rng(1), 20, **rare, at_least=7).n_faults.tolist() == [7] * 20


def test_no_scrub_pass_at_all() -> None:
    never = USUAL | {"rates": ChipRates(("multi-bank",), (1.0,), (0,)), "scrub_hours": math.inf}
    found = draw_failures(default_rng(1), 2000, **never, at_least=2)
    assert len(found.failed) > 1800


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"scrub_hours": 0}, ["scrub_hours: 0 is not positive; write inf for no scrubbing"]),
        ({"scrub_hours": math.nan, "years": -1}, ["years: -1 is not a time", "scrub_hours: nan is not positive"]),
        ({"weibull_shape": 0, "at_least": -1}, ["weibull_shape: 0 is not between", "at_least: -1 is not a number"]),
        ({"n_dimms": -1}, ["n_dimms: -1 is negative"]),
        ({"dimm": Dimm(n_rows=0, device_width_bits=5)}, ["dimm.n_rows: 0 is not", "dimm.device_width_bits: 5 is not"]),
        ({"dimm": Dimm(n_rows=1 << 50)}, ["dimm: more than 2^62 bits"]),
        ({"dimm": Dimm(n_lines_per_row=1, on_die_ecc=True)}, ["dimm.n_lines_per_row: 1 lines of a chip are no whole"]),
        ({"rates": ChipRates(("bit",), (1e9,), (0,))}, ["rates: 1,104,516 faults expected per DIMM"]),
        ({"rates": ChipRates(("bit",), (0,), (0,)), "at_least": 1}, ["at_least: no DIMM has 1 faults"]),
        ({"shapes": {**DEFAULT_SHAPES, "rwo": ()}}, ["shapes.rwo: unknown mode; known: bit, word"]),
        ({"shapes": {**DEFAULT_SHAPES, "row": (Shape(0.5),)}}, ["shapes.row: the shares sum to 0.5, not 1"]),
        ({"shapes": {**DEFAULT_SHAPES, "word": (Shape(n_lines=0),)}}, ["shapes.word: a word fault reaches one line"]),
        ({"shapes": {**DEFAULT_SHAPES, "row": (Shape(n_lines=512),)}}, ["shapes.row: 512 lines do not divide the 256"]),
        ({"shapes": {"bit": (Shape(),)}, "rates": ChipRates(("bit", "row"), (1, 1), (1, 1))}, ["shapes.row: missing"]),
    ],
)
def test_every_problem_is_named(change: dict[str, Any], problems: list[str]) -> None:
    arguments = {"n_dimms": 10} | USUAL | change
    with pytest.raises(ScenarioError) as caught:
        draw_failures(default_rng(1), **arguments)
    assert len(caught.value.problems) == len(problems)
    assert all(said.startswith(expected) for said, expected in zip(caught.value.problems, problems, strict=True))


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ((("bit", "bit"), (1, 1), (1, 1)), ["modes: 'bit' is there twice"]),
        ((("bits",), (1,), (1,)), ["modes: 'bits' is unknown"]),
        ((("bit",), (1, 2), ()), ["fit_transient: 2 rates for 1 modes", "fit_permanent: 0 rates for 1 modes"]),
        ((("bit",), (-1,), (2e9,)), ["fit_transient of bit: -1 is not", "fit_permanent of bit: 2000000000.0 is not"]),
        ((("bit",), (math.nan,), ("1",)), ["fit_transient of bit: nan is not", "fit_permanent of bit: '1' is not"]),
    ],
)
def test_rates_are_checked(arguments: tuple[Any, Any, Any], problems: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        ChipRates(*arguments)
    assert len(caught.value.problems) == len(problems)
    assert all(said.startswith(expected) for said, expected in zip(caught.value.problems, problems, strict=True))


def test_shapes_and_schemes_are_checked() -> None:
    with pytest.raises(ScenarioError, match=r"share: -1 is not a share.*\nn_rows: 0\.5 is not a whole number"):
        Shape(-1, n_rows=0.5)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="'secded' is not an ECC scheme; .* did you mean sec-ded"):
        load_ecc("secded")


def test_every_scheme_corrects_known_modes_and_says_where_that_is_from() -> None:
    for name, ecc in ECCS.items():
        assert name == ecc.name and set(ecc.corrects) <= set(MODES) and ecc.title and ecc.source
        assert ecc.quality in QUALITIES
    assert ECCS["bounded"].quality == "assumed"
