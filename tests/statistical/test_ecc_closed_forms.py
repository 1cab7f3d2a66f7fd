"""Uncorrected errors by ECC scheme against closed forms from the fault table and the prose, not the library's code.

The model: a DIMM of chips, each struck by independent Poisson processes of seven modes, transient or permanent; a fault
reaches all or one of its DIMM's ranks, banks, rows and lines; a transient one lives to the next scrub pass. SEC-DED
fails on anything but one bit per word, chipkill on two chips that are bad in the same line at the same time.

Small chances are met by strata: only DIMMs with so many faults are drawn, and the chance of the stratum is exact. Each
comparison fails by chance once in a million times (ALPHA), by the exact binomial law. What is not enumerated (five
faults and more) widens the closed form to an interval, and all of it counts as right. The same comparisons must reject
what a plausible mistake would give.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy import stats

from poisonsim.faults.boxes import Shape
from poisonsim.faults.ecc import ChipRates, draw_failures, load_ecc

ALPHA = 1e-6
N_DIMMS = 2_000_000
YEARS, HOURS = 7, 7 * 8766

# Sridharan and Liberty, SC 2012: failures per 10⁹ chip-hours, transient and permanent.
JAGUAR = {
    "bit": (14.2, 18.6),
    "word": (1.4, 0.3),
    "column": (1.4, 5.6),
    "row": (0.2, 8.2),
    "bank": (0.8, 10.0),
    "multi-bank": (0.3, 1.4),
    "multi-rank": (0.9, 2.8),
}
# Which of rank, bank, row, line a mode reaches in full; of the others it reaches one.
REACH = {
    "bit": (0, 0, 0, 0),
    "word": (0, 0, 0, 0),
    "column": (0, 0, 1, 0),
    "row": (0, 0, 0, 1),
    "bank": (0, 0, 1, 1),
    "multi-bank": (0, 1, 1, 1),
    "multi-rank": (1, 1, 1, 1),
}
RATES = ChipRates(tuple(JAGUAR), tuple(t for t, _ in JAGUAR.values()), tuple(p for _, p in JAGUAR.values()))


@dataclass(frozen=True)
class Dimm:
    """18 x4 chips of 1 Gb: 8 banks x 2¹⁴ rows x 2¹¹ columns; 2048 columns of 8 bytes are 256 lines of 64 bytes."""

    n_ranks: int = 1
    n_chips_per_rank: int = 18
    n_banks: int = 8
    n_rows: int = 1 << 14
    n_lines_per_row: int = 256
    device_width_bits: int = 4
    on_die_ecc: bool = False

    @property
    def n_chips(self) -> int:
        return self.n_ranks * self.n_chips_per_rank


def allowed(n: int, p_low: float, p_high: float) -> tuple[float, float]:
    """Counts out of `n` that a chance between `p_low` and `p_high` leaves to one side with ALPHA / 2."""
    return float(stats.binom(n, p_low).ppf(ALPHA / 2)), float(stats.binom(n, p_high).isf(ALPHA / 2))


def agrees(count: int, n: int, p_low: float, p_high: float | None = None) -> bool:
    least, most = stats.binom(n, p_low), stats.binom(n, p_low if p_high is None else p_high)
    return bool(least.cdf(count) > ALPHA / 2 and most.sf(count - 1) > ALPHA / 2)


def mean_faults(dimm: Dimm, modes: tuple[str, ...] = tuple(JAGUAR)) -> float:
    return sum(sum(JAGUAR[mode]) for mode in modes) * 1e-9 * dimm.n_chips * HOURS


# ------------------------------------------------------------------------------- chipkill, by number of faults


@cache
def partitions(n: int) -> tuple[tuple[int, ...], ...]:
    """Every way in which n labels can be equal or not: (0, 0), (0, 1) for two."""
    if n == 0:
        return ((),)
    return tuple((*rest, new) for rest in partitions(n - 1) for new in range(max(rest, default=-1) + 2))


def all_pairs(n: int, n_values: int, whole: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> float:
    """Chance that all these pairs overlap in one coordinate that takes `n_values` values, each with equal chance."""
    return sum(
        math.prod(range(n_values - max(labels), n_values + 1)) / n_values**n
        for labels in partitions(n)
        if max(labels) < n_values and all(whole[i] or whole[j] or labels[i] == labels[j] for i, j in pairs)
    )


def all_differ(n: int, n_values: int, pairs: tuple[tuple[int, int], ...]) -> float:
    """Chance that all these pairs are on different chips."""
    return sum(
        math.prod(range(n_values - max(labels), n_values + 1)) / n_values**n
        for labels in partitions(n)
        if max(labels) < n_values and all(labels[i] != labels[j] for i, j in pairs)
    )


def all_alive(n: int, n_passes: int, permanent: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> float:
    """Chance that of each pair the first still lives when the second strikes, faults being numbered by time.

    The times are uniform, and `n_passes` scrub passes cut the life into equal parts: m of them hold the faults, in runs
    of b₁ … bₘ, with chance C(n_passes, m) · n! / (b₁! … bₘ!) / n_passesⁿ. A transient fault lives while its part lasts.
    """
    chance = 0.0
    for cuts in itertools.product((0, 1), repeat=n - 1):
        part = (0, *itertools.accumulate(cuts))
        runs = [part.count(m) for m in range(part[-1] + 1)]
        if all(permanent[i] or part[i] == part[j] for i, j in pairs):
            ways = math.comb(n_passes, len(runs)) * math.factorial(n) // math.prod(map(math.factorial, runs))
            chance += ways / n_passes**n
    return chance


@cache
def chipkill_fails(dimm: Dimm, n_passes: int, n: int, mistake: str = "") -> float:
    """Chance that among n faults any two defeat chipkill, by inclusion and exclusion over all sets of pairs.

    Given the modes and kinds, coordinates and times are independent, so the chance that all pairs of a set overlap is
    the product over coordinates.
    """
    classes = [(*REACH[mode], kind) for mode in JAGUAR for kind in (0, 1)]
    share = np.array([JAGUAR[mode][kind] for mode in JAGUAR for kind in (0, 1)])
    share = share / share.sum()
    pick = np.array(list(itertools.product(range(len(classes)), repeat=n)))  # int[14ⁿ, n]
    bits = np.array(classes)[pick] @ np.eye(5, dtype=int) if n else np.empty(0)
    if mistake == "transient faults stay":
        bits[:, :, 4] = 1
    code = np.einsum("cij,i->cj", bits, 2 ** np.arange(n))  # per case and coordinate, which faults are whole
    flags = [tuple(c >> i & 1 for i in range(n)) for c in range(2**n)]
    total = np.zeros(len(pick))
    every_pair = list(itertools.combinations(range(n), 2))
    for size in range(1, len(every_pair) + 1):
        for pairs in itertools.combinations(every_pair, size):
            term: NDArray[np.float64] = np.ones(len(pick))
            sizes = (dimm.n_ranks, dimm.n_banks, dimm.n_rows, dimm.n_lines_per_row)
            for axis, n_values in enumerate(sizes):
                term *= np.array([all_pairs(n, n_values, whole, pairs) for whole in flags])[code[:, axis]]
            if mistake == "transient faults leave at once":
                alive = [float(all(permanent[i] for i, _ in pairs)) for permanent in flags]
            else:
                alive = [all_alive(n, n_passes, permanent, pairs) for permanent in flags]
            term *= np.array(alive)[code[:, 4]]
            if mistake != "one chip counts as two":
                term *= all_differ(n, dimm.n_chips_per_rank, pairs)
            total += term if size % 2 else -term
    return float(share[pick].prod(axis=1) @ total)


def chipkill_given_two(dimm: Dimm, n_passes: int, mistake: str = "") -> tuple[float, float]:
    """Least and greatest chance that a DIMM with two faults or more fails; five or more fail no less than four do."""
    law = stats.poisson(mean_faults(dimm))
    by_count = [chipkill_fails(dimm, n_passes, n, mistake) for n in (2, 3, 4)]
    known = sum(law.pmf(n) * p for n, p in zip((2, 3, 4), by_count, strict=True))
    return (known + law.sf(4) * by_count[2]) / law.sf(1), (known + law.sf(4)) / law.sf(1)


def test_the_closed_form_for_two_faults_is_the_plain_sum_over_pairs_of_modes() -> None:
    total = sum(map(sum, JAGUAR.values()))
    plain = 0.0
    for first, second in itertools.product(JAGUAR, repeat=2):
        overlap = 1.0
        for axis, n_values in enumerate((1, 8, 1 << 14, 256)):
            overlap /= 1 if REACH[first][axis] or REACH[second][axis] else n_values
        transient, permanent = JAGUAR[first]
        alive = (permanent + transient * 3 / HOURS) / total  # both within one of HOURS / 3 equal parts, or permanent
        plain += sum(JAGUAR[second]) / total * alive * overlap * 17 / 18
    assert chipkill_fails(Dimm(), HOURS // 3, 2) == pytest.approx(plain, rel=1e-12)
    assert 0.13 < plain < 0.14


def test_the_closed_form_agrees_with_counting_every_case_of_a_small_dimm() -> None:
    for n, values in ((2, 3), (3, 2)):
        pairs = tuple(itertools.combinations(range(n), 2))
        for whole in itertools.product((0, 1), repeat=n):
            cases = [
                all(whole[i] or whole[j] or case[i] == case[j] for i, j in pairs)
                for case in itertools.product(range(values), repeat=n)
            ]
            assert all_pairs(n, values, whole, pairs) == pytest.approx(sum(cases) / len(cases))
        parts = [tuple(sorted(case)) for case in itertools.product(range(values), repeat=n)]
        for permanent in itertools.product((0, 1), repeat=n):
            cases = [all(permanent[i] or case[i] == case[j] for i, j in pairs) for case in parts]
            assert all_alive(n, values, permanent, pairs) == pytest.approx(sum(cases) / len(cases))


@pytest.mark.parametrize(
    ("dimm", "scrub_hours", "mistakes"),
    [
        (Dimm(), 3, ("transient faults stay", "one chip counts as two")),
        (Dimm(), 8766, ("transient faults stay", "one chip counts as two", "transient faults leave at once")),
        (Dimm(n_ranks=2), 3, ("transient faults stay", "one chip counts as two")),
    ],
)
def test_chipkill_fails_where_two_chips_overlap(
    dimm: Dimm, scrub_hours: int, mistakes: tuple[str, ...], statistical_seed: int
) -> None:
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, rates=RATES, dimm=dimm, ecc=load_ecc("chipkill"), years=YEARS,
        scrub_hours=scrub_hours, at_least=2,
    )  # fmt: skip
    p_low, p_high = chipkill_given_two(dimm, HOURS // scrub_hours)
    low, high = allowed(N_DIMMS, p_low, p_high)
    assert high - low < 0.025 * p_low * N_DIMMS  # about 1 % to each side
    assert agrees(len(found.failed), N_DIMMS, p_low, p_high)
    assert found.weight == pytest.approx(stats.poisson(mean_faults(dimm)).sf(1), rel=1e-9)
    for mistake in mistakes:
        assert not agrees(len(found.failed), N_DIMMS, *chipkill_given_two(dimm, HOURS // scrub_hours, mistake))


# --------------------------------------------------------------------------------------------- any fault, SEC-DED


def test_any_fault(statistical_seed: int) -> None:
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, rates=RATES, dimm=Dimm(), ecc=load_ecc("none"), years=YEARS,
        scrub_hours=3,
    )  # fmt: skip
    expected = -math.expm1(-18 * 66.1e-9 * HOURS)
    assert expected == pytest.approx(0.0704, abs=5e-5)
    assert agrees(len(found.failed), N_DIMMS, expected)
    assert found.p_at_least(1) == pytest.approx(expected, rel=1e-9)
    assert np.array_equal(found.failed, np.flatnonzero(found.n_faults))
    assert not agrees(len(found.failed), N_DIMMS, -math.expm1(-17 * 66.1e-9 * HOURS))


def bit_pair(dimm: Dimm, n_passes: int, mistake: str = "") -> float:
    """Chance that two bit faults of one DIMM defeat SEC-DED: different bits of one word, the first alive."""
    n_words = dimm.n_ranks * dimm.n_banks * dimm.n_rows * dimm.n_lines_per_row * 8
    if mistake == "any two bits of a line":
        n_words //= 8
    different = 1.0 if mistake == "one bit twice" else 1 - 1 / (dimm.n_chips_per_rank * dimm.device_width_bits)
    transient, permanent = JAGUAR["bit"]
    kept = transient if mistake == "transient faults stay" else transient / n_passes
    return different / n_words * (permanent + kept) / (transient + permanent)


def test_sec_ded_fails_on_single_faults_and_on_bit_pairs(statistical_seed: int) -> None:
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, rates=RATES, dimm=Dimm(), ecc=load_ecc("sec-ded"), years=YEARS,
        scrub_hours=3, at_least=1,
    )  # fmt: skip
    no_larger = math.exp(-mean_faults(Dimm(), tuple(JAGUAR)[1:]))
    bits = mean_faults(Dimm(), ("bit",))
    least, most = stats.poisson(bits).pmf(2) * bit_pair(Dimm(), HOURS // 3), bits**2 / 2 * bit_pair(Dimm(), HOURS // 3)
    p_any = -math.expm1(-mean_faults(Dimm()))
    p_low, p_high = ((1 - no_larger * (1 - pairs)) / p_any for pairs in (least, most))
    assert 0 < most < 1e-11  # the pair term: too rare to see here, so the next test makes it common
    assert agrees(len(found.failed), N_DIMMS, p_low, p_high)
    assert found.weight == pytest.approx(p_any, rel=1e-9)
    for wrongly_corrected in ("word", "column", "row", "multi-bank"):
        rest = tuple(mode for mode in JAGUAR if mode not in ("bit", wrongly_corrected))
        assert not agrees(len(found.failed), N_DIMMS, -math.expm1(-mean_faults(Dimm(), rest)) / p_any)


def rare(*modes: str) -> ChipRates:
    """Rates so low that of a billion DIMMs with two faults fewer than one has a third."""
    return ChipRates(modes, tuple(1e-7 * JAGUAR[m][0] for m in modes), tuple(1e-7 * JAGUAR[m][1] for m in modes))


def test_sec_ded_fails_on_two_bits_of_one_word(statistical_seed: int) -> None:
    dimm = Dimm(n_chips_per_rank=2, n_banks=1, n_rows=2, n_lines_per_row=2)
    for scrub_hours in (3, 8766):
        found = draw_failures(
            default_rng(statistical_seed), N_DIMMS, rates=rare("bit"), dimm=dimm, ecc=load_ecc("sec-ded"), years=YEARS,
            scrub_hours=scrub_hours, at_least=2,
        )  # fmt: skip
        failed, n_passes = len(found.failed), HOURS // scrub_hours
        assert agrees(failed, N_DIMMS, bit_pair(dimm, n_passes))
        for mistake in ("any two bits of a line", "one bit twice", "transient faults stay"):
            assert not agrees(failed, N_DIMMS, bit_pair(dimm, n_passes, mistake))


# ------------------------------------------------------------------------------ windows, on-die words, ageing


def test_windows_overlap_by_the_larger_of_the_two(statistical_seed: int) -> None:
    """Aligned windows of a and b out of N overlap with chance max(a, b) / N."""
    dimm = Dimm(n_ranks=4, n_banks=8, n_rows=64, n_lines_per_row=16)
    forms = [(0.25, 4, 2, 1, 1), (0.5, 64, 8, 2, 1), (0.25, 16, 1, 8, 2)]  # share; rows, lines, banks, ranks
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, rates=ChipRates(("bank",), (0,), (1e-7,)), dimm=dimm,
        ecc=load_ecc("chipkill"), shapes={"bank": [Shape(*form) for form in forms]}, years=YEARS, scrub_hours=3,
        at_least=2,
    )  # fmt: skip
    overlap, nested = (
        sum(a[0] * b[0] * math.prod(map(pick, a[1:], b[1:], (64, 16, 8, 4))) for a in forms for b in forms)
        for pick in (lambda x, y, n: max(x, y) / n, lambda x, y, n: min(x, y) / n)
    )
    assert agrees(len(found.failed), N_DIMMS, 17 / 18 * overlap)
    assert not agrees(len(found.failed), N_DIMMS, 17 / 18 * nested)


def test_windows_start_anywhere_with_equal_chance(statistical_seed: int) -> None:
    dimm = Dimm(n_rows=64, n_lines_per_row=16)
    found = draw_failures(
        default_rng(statistical_seed), 100_000, rates=ChipRates(("column",), (0,), (1e-7,)), dimm=dimm,
        ecc=load_ecc("none"), shapes={"column": [Shape(1, n_rows=4)]}, years=YEARS, scrub_hours=3, at_least=1,
    )  # fmt: skip
    place = (found.box[:, 0] * 16 + found.box[:, 2] // 4) * 16 + found.box[:, 4]
    counts = np.bincount(place, minlength=8 * 16 * 16)
    assert (found.box[:, 2] % 4 == 0).all() and len(counts) == 8 * 16 * 16
    assert stats.chisquare(counts).pvalue > ALPHA


def test_two_bits_of_an_on_die_word_come_out(statistical_seed: int) -> None:
    dimm = Dimm(n_chips_per_rank=2, n_banks=1, n_rows=2, n_lines_per_row=4, on_die_ecc=True)
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, rates=rare("bit"), dimm=dimm, ecc=load_ecc("sec-ded"), years=YEARS,
        scrub_hours=8766, at_least=2,
    )  # fmt: skip
    n_words = 2 * 2 * 4 * 64 // 128  # chips x rows x lines x bits of a line that an x4 chip holds, in words of 128
    transient, permanent = JAGUAR["bit"]
    alive = (permanent + transient / YEARS) / (transient + permanent)
    assert agrees(len(found.failed), N_DIMMS, alive / n_words * 127 / 128)
    assert not agrees(len(found.failed), N_DIMMS, alive / (2 * n_words) * 127 / 128)  # words within one line


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.7])
def test_ageing_moves_faults_but_makes_no_more_of_them(shape: float, statistical_seed: int) -> None:
    """F(t) = (t / T)^shape, by the Dvoretzky-Kiefer-Wolfowitz bound; parts between scrubs then weigh differently."""
    rates = ChipRates(("multi-bank",), (20.0,), (0,))
    one_rank = {"rates": rates, "dimm": Dimm(), "years": YEARS, "weibull_shape": shape}
    found = draw_failures(default_rng(statistical_seed), N_DIMMS, ecc=load_ecc("none"), scrub_hours=3, **one_rank)
    assert stats.poisson(N_DIMMS * 18 * 20e-9 * HOURS).cdf(len(found.years)) > ALPHA / 2
    assert stats.poisson(N_DIMMS * 18 * 20e-9 * HOURS).sf(len(found.years)) > ALPHA / 2
    u = np.sort((found.years / YEARS) ** shape)
    distance = np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max() + 0.5 / len(u)
    assert distance < math.sqrt(math.log(2 / ALPHA) / (2 * len(u)))

    one_rank["rates"] = ChipRates(("multi-bank",), (1e-7,), (0,))
    found = draw_failures(
        default_rng(statistical_seed), N_DIMMS, ecc=load_ecc("chipkill"), scrub_hours=8766, at_least=2, **one_rank
    )
    same = float((np.diff((np.arange(YEARS + 1) / YEARS) ** shape) ** 2).sum())
    assert agrees(len(found.failed), N_DIMMS, 17 / 18 * same)
    if shape != 1:
        assert not agrees(len(found.failed), N_DIMMS, 17 / 18 / YEARS)


def test_strata_add_up_and_counts_follow_the_truncated_law(statistical_seed: int) -> None:
    rates = ChipRates(("bit",), (0,), (1000.0,))
    law = stats.poisson(18 * 1000e-9 * HOURS)  # about 1.1
    for at_least in (0, 1, 2, 5):
        found = draw_failures(
            default_rng(statistical_seed), 200_000, rates=rates, dimm=Dimm(), ecc=load_ecc("chipkill"), years=YEARS,
            scrub_hours=3, at_least=at_least,
        )  # fmt: skip
        beyond = law.sf(at_least - 1)
        assert found.weight == pytest.approx(beyond, rel=1e-9)
        counts = np.bincount(found.n_faults, minlength=20)
        assert counts[:at_least].sum() == 0
        for n in range(at_least, 12):
            chance = stats.binom(200_000, law.pmf(n) / beyond)
            tail = ALPHA / 48 / 2
            assert chance.ppf(tail) <= counts[n] <= chance.isf(tail)
