"""How faults become poisoned pages: inside their reach, in order, by the laws; against plain code and closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

import poisonsim as ps
from poisonsim.faults.address_map import Coordinates, load_address_map
from poisonsim.faults.field import FieldModel, Incidents, detection_of
from poisonsim.faults.geometry import load_dimm
from poisonsim.faults.growth import Events, draw_strikes, merge, room_for
from poisonsim.faults.host import HostMemory
from poisonsim.faults.laws import LinesLaw
from poisonsim.faults.reach import F_MANY, N_FAULT_COLUMNS
from poisonsim.faults.tables import MODES

I64 = NDArray[np.int64]

MAPS = [
    ("skx-closed-6ch", "ddr4-32g-2rx4"),
    ("skx-open-fbg-6ch", "ddr4-32g-2rx4"),
    ("skx-open-6ch", "ddr4-16g-1rx4"),
    ("linear", "ddr4-32g-2rx8"),
    ("spr-8ch", "ddr5-64g-2rx4"),
]


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64DXSM(seed))


def model_of(amap: str, dimm: str, *overrides: str, vm: str = "1TiB") -> FieldModel:
    settings = [f"faults.map={amap}", f"faults.dimm={dimm}", f"vm.memory={vm}", *overrides]
    return FieldModel.of(ps.load_scenario("cloud-1t-ddr4", overrides=settings))


def one_fault(memory: HostMemory, place: int, windows: tuple[int, int, int, int], mode: str) -> I64:
    mine, many = np.zeros(1, np.int64), np.zeros(1, np.bool_)
    return memory.place(np.array([place]), np.array([MODES.index(mode)]), np.array([windows]), mine, many)


def reach_of(memory: HostMemory, fault: I64) -> set[int]:
    """Base pages of every line of a fault's reach, one by one, by the plain encoder."""
    amap = memory.address_map
    set_index, controller, channel, rank, ranks, bank, banks, row, rows, line, lines = (int(x) for x in fault[:11])
    cells = np.array(
        [
            (controller, channel, r, b // amap.dimm.n_banks_per_group, b % amap.dimm.n_banks_per_group, w, 8 * c, 0)
            for r in range(rank, rank + ranks)
            for b in range(bank, bank + banks)
            for w in range(row, row + rows)
            for c in range(line, line + lines)
        ]
    )
    return set(((amap.encode(Coordinates(*cells.T)) + set_index * amap.n_bytes) // 4096).tolist())


@pytest.mark.parametrize(("amap", "dimm"), MAPS)
@pytest.mark.parametrize(
    ("mode", "windows"),
    [("bit", (1, 1, 1, 1)), ("row", (1, 1, 1, 128)), ("column", (1, 1, 512, 1)), ("bank", (1, 1, 8, 128))],
)
def test_every_page_lies_in_the_reach_and_every_page_of_it_is_hit(
    amap: str, dimm: str, mode: str, windows: tuple[int, int, int, int]
) -> None:
    model = model_of(amap, dimm, "faults.service=left-in", vm="2TiB")
    model.growth.log_low[:], model.growth.log_ratio[:] = np.log(4000), 0.0
    for seed in range(3):
        place = int(rng(seed).integers(model.memory.n_lines // 2))
        fault = one_fault(model.memory, place, windows, mode)
        fault[:, F_MANY] = 1  # many lines, so that the whole reach is met
        n = 20
        incidents = Incidents(np.arange(n + 1), np.zeros(n), np.repeat(fault, n, axis=0), np.zeros(n, np.int64))
        events = model.draw_events(rng(seed), incidents)
        reach = reach_of(model.memory, fault[0])
        assert set(events.page.tolist()) <= reach
        if len(reach) < 100:
            assert set(events.page.tolist()) == reach


def test_the_place_of_a_fault_is_inside_its_windows_and_uniform() -> None:
    memory = HostMemory(load_address_map("skx-closed-6ch", load_dimm("ddr4-32g-2rx4")), 1 << 40)
    n = 120_000
    windows = np.array([[1, 1, 512, 128]])
    faults = memory.place(
        rng(1).integers(memory.n_lines, size=n), np.array([MODES.index("bank")]), windows, np.zeros(n, np.int64),
        np.zeros(n, np.bool_),
    )  # fmt: skip
    assert faults.shape == (n, N_FAULT_COLUMNS)
    assert (faults[:, 7] % 512 == 0).all() and (faults[:, 9] == 0).all()
    for column, ways in ((0, 6), (1, 2), (2, 3), (3, 2), (5, 16)):
        counts = np.bincount(faults[:, column], minlength=ways)
        assert len(counts) == ways
        assert np.abs(counts - n / ways).max() < 6 * (n / ways) ** 0.5


@pytest.mark.parametrize("overrides", [(), ("faults.service=left-in",), ("faults.repair=1h",), ("faults.ue=ecc",)])
def test_events_are_in_order_inside_the_vm_the_horizon_and_the_service_life(overrides: tuple[str, ...]) -> None:
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4", *overrides, vm="200GiB")
    incidents = model.draw_incidents(rng(1), rng(2), rng(3).integers(1, 4, size=5000))
    events = model.draw_events(rng(4), incidents)
    assert (events.page >= 0).all() and (events.page < 200 << 18).all()
    assert events.start[0] == 0 and events.start[-1] == len(events.page)
    for t in range(0, 5000, 7):
        years = events.years[events.start[t] : events.start[t + 1]]
        assert (np.diff(years) >= 0).all()
        if len(years):
            first = incidents.years[incidents.start[t] : incidents.start[t + 1]]
            assert years[0] >= first.min() and years[-1] <= 5.0
            if model.faults.service == "replace":
                assert years[-1] <= first.max() + model.scenario.host.patrol + model.faults.repair + 1e-12


def test_the_same_streams_give_the_same_events() -> None:
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4")

    def drawn() -> Events:
        return model.draw_events(rng(3), model.draw_incidents(rng(1), rng(2), np.full(300, 2)))

    for a, b in zip(drawn(), drawn(), strict=True):
        assert np.array_equal(a, b)


# ----------------------------------------------------------------------------------------------------------- the laws


def strikes_of(
    model: FieldModel, mode: str, windows: tuple[int, int, int, int], n: int
) -> tuple[I64, NDArray[np.float64], I64]:
    faults = np.repeat(one_fault(model.memory, 12345, windows, mode), n, axis=0)
    faults[:, F_MANY] = rng(8).random(n) < model.laws.lines[mode].large_share
    first, when, n_lines, _, until = draw_strikes(rng(9), np.zeros(n), faults, model.growth, np.inf, 5.0)
    assert np.isinf(until).all()
    return first, when, n_lines


@pytest.mark.parametrize("mode", ["bit", "row", "bank"])
def test_lines_of_a_first_strike_follow_their_law(mode: str) -> None:
    """False alarms: six standard errors at each of five points, below 1e-6 in all."""
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4")
    n = 40_000
    first, _, n_lines = strikes_of(model, mode, (1, 1, 1 << 17, 128), n)
    lines = n_lines[first[:-1]]
    law = model.laws.lines[mode]
    for m in (1, 4, 20, 300, 1563):
        p = law.p_more_than(m)
        assert (lines > m).mean() == pytest.approx(p, abs=6 * (p * (1 - p) / n) ** 0.5 + 1e-4), m


def test_no_strike_spoils_more_lines_than_the_fault_reaches() -> None:
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4")
    _, _, n_lines = strikes_of(model, "column", (1, 1, 64, 1), 20_000)
    assert n_lines.max() == 64


def test_repeats_are_a_weibull_renewal_process_of_small_strikes() -> None:
    """The first wait against its law at three ages: six standard errors."""
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4", "faults.service=left-in")
    n = 40_000
    first, when, n_lines = strikes_of(model, "bank", (1, 1, 1 << 17, 128), n)
    struck_again = np.diff(first) > 1
    wait = when[np.minimum(first[:-1] + 1, len(when) - 1)]
    for years in (0.01, 0.25, 4.0):
        p = model.laws.p_repeat_within(years)
        assert (struck_again & (wait <= years)).mean() == pytest.approx(p, abs=6 * (p * (1 - p) / n) ** 0.5)
    again = np.ones(len(when), bool)
    again[first[:-1]] = False
    assert n_lines[again].max() == 1


def test_a_part_leaves_service_a_while_after_its_first_line_is_found() -> None:
    """Whoever's memory that line is: also beyond the VM. Until then it strikes again, after that never."""
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4", "faults.repair=7d", vm="1GiB")
    n = 20_000
    faults = np.repeat(one_fault(model.memory, 12345, (1, 1, 1 << 17, 128), "bank"), n, axis=0)
    incidents = Incidents(np.arange(n + 1), np.zeros(n), faults, np.zeros(n, np.int64))
    strikes = model.strike(rng(2), incidents)
    found = strikes.until - model.faults.repair
    p = detection_of(model.scenario).p_unfound(np.array([6 / 8766]))[0]
    once = np.diff(strikes.first) == 1
    assert (found > 0).all() and found.max() <= model.scenario.host.patrol + 1e-12
    assert (found[once] > 6 / 8766).mean() == pytest.approx(p, abs=6 * (p * (1 - p) / once.sum()) ** 0.5 + 0.01)
    assert (strikes.years <= np.repeat(strikes.until, np.diff(strikes.first))).all()


def test_what_banks_show_after_months_is_like_what_was_seen() -> None:
    """Calchas, watched for months: four fifths of the banks with two rows at most, some with hundreds.

    The published small counts are subsampled, and the law of repeats is that of GPUs: the model shows more rows.
    """
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4", "faults.service=left-in")
    n = 20_000
    first, when, n_lines = strikes_of(model, "bank", (1, 1, 1 << 17, 128), n)
    fault = np.repeat(np.arange(n), np.diff(first))
    within = {days: np.bincount(fault[when < days / 365.25], n_lines[when < days / 365.25], n) for days in (60, 365)}
    for days, lines in within.items():
        print(
            f"{days} days: at most two lines {(lines <= 2).mean():.0%}, 90th percentile {np.quantile(lines, 0.9):.0f}"
        )
        assert 0.03 < (lines >= 100).mean() < 0.07
    assert 0.5 < (within[60] <= 2).mean() < 0.85 and np.quantile(within[60], 0.9) < 10


def test_who_finds_a_line_and_when_is_as_detection_says() -> None:
    model = model_of("linear", "ddr4-32g-2rx4", "faults.service=left-in", vm="32GiB")
    model = dataclasses.replace(model, laws=dataclasses.replace(model.laws, repeat_scale_years=1e9))
    n = 100_000
    fault = one_fault(model.memory, 777, (1, 1, 1, 1), "bit")
    model.growth.log_few[:] = -np.inf
    events = model.draw_events(
        rng(2), Incidents(np.arange(n + 1), np.zeros(n), np.repeat(fault, n, axis=0), np.zeros(n, np.int64))
    )
    detection = detection_of(model.scenario)
    first = events.start[:-1]
    p = detection.p_ar
    assert events.ar[first].mean() == pytest.approx(p, abs=6 * (p * (1 - p) / n) ** 0.5 + 0.002)
    for hours in (1.0, 6.0, 20.0):
        unfound = float(detection.p_unfound(np.array([hours / 8766]))[0])
        late = (events.years[first] > hours / 8766).mean()
        assert late == pytest.approx(unfound, abs=6 * (unfound * (1 - unfound) / n) ** 0.5 + 0.003), hours


def test_a_reach_of_hundreds_of_thousands_of_lines_is_never_listed() -> None:
    """A whole bank has 16 million lines; memory follows the lines that go bad."""
    model = model_of("skx-closed-6ch", "ddr4-32g-2rx4")
    incidents = model.draw_incidents(rng(1), rng(2), np.ones(2000, np.int64))
    events = model.draw_events(rng(3), incidents)
    assert len(events.page) < 200_000


def test_all_lines_may_go_bad_where_a_law_says_so() -> None:
    model = model_of("linear", "ddr4-32g-2rx4", vm="32GiB")
    every = LinesLaw(small_mean=1.0, large_share=1.0, large_low=200_000, large_high=200_000)
    laws = dataclasses.replace(model.laws, lines=dict.fromkeys(MODES, every))
    model = dataclasses.replace(model, laws=laws)
    fault = one_fault(model.memory, 0, (1, 1, 1 << 17, 128), "bank")
    fault[:, F_MANY] = 1
    events = model.draw_events(rng(1), Incidents(np.array([0, 1]), np.zeros(1), fault, np.zeros(1, np.int64)))
    assert 150_000 < len(events.page) <= 210_000
    assert (np.diff(events.years) >= 0).all()


@pytest.mark.parametrize("n_late", [1, 4, 30])
def test_strikes_that_overlap_are_merged_as_a_stable_sort_does(n_late: int) -> None:
    """What lies before the merged part stays; of the same time, the earlier strike comes first."""
    begin, run, end = 3, 23, 23 + n_late
    draw = rng(n_late)
    when = draw.integers(12, size=end).astype(float)  # with many ties
    when[begin:run].sort()
    when[run:].sort()
    columns = (
        when, np.arange(end), draw.random(end), draw.random(end), draw.integers(2, size=end).astype(np.uint8),
        np.arange(end).astype(np.uint8),
    )  # fmt: skip
    order = np.concatenate((np.arange(begin), begin + np.argsort(when[begin:], kind="stable")))
    expected = [column[order] for column in columns]
    merge(begin, run, end, columns, room_for(n_late))
    for column, right in zip(columns, expected, strict=True):
        np.testing.assert_array_equal(column, right)
