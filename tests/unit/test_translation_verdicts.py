"""Published runs beside the model, where tables live, and when the way to split matters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from poisonsim.errors import ScenarioError
from poisonsim.report.splits import splits_figure, splits_svg
from poisonsim.translation import Translator, Uniform, Zipf, load_cpu, translate
from poisonsim.translation.sensitivity import choice_rows, choices
from poisonsim.translation.validation import compare, comparison_rows, published
from poisonsim.translation.walk_cost import WalkCosts

GIB, TIB = 1 << 30, 1 << 40


def test_published_ratios_fall_where_they_fall() -> None:
    """Hits and misses alike: a change of the model that moves one must say so here."""
    verdicts = {(row.published.what, row.published.cpu, row.published.note[-26:]): row.verdict for row in compare()}
    known = {what: verdict for what, verdict in verdicts.items() if verdict != "not predicted"}
    assert sorted(known.values()) == ["above"] * 3 + ["below"] * 2 + ["inside"] * 5
    gups = [(row.published.what, row.verdict) for row in compare(published()[:5])]
    assert [verdict for what, verdict in gups if "4K / 2M" in what or "2M on 2M" in what] == ["inside"] * 3
    assert [verdict for what, verdict in gups if "VM / native" in what] == ["above"] * 2
    by_visits = {row.published.accesses_per_page_visit: row.verdict for row in compare(published()[5:9])}
    assert by_visits == {1.0: "below", 8.0: "inside"}
    assert len(comparison_rows(compare())) == len(published())


def test_misses_are_near_misses_where_the_pattern_is_known() -> None:
    for row in compare(published()[:5]):
        assert row.predicted is not None
        assert 0.9 * row.predicted.low < row.published.ratio < 1.1 * row.predicted.high


def test_leaf_tables_of_4k_leave_the_caches_and_those_of_2m_stay() -> None:
    one, cpu = np.ones(1), load_cpu("zen4")
    costs = {}
    for gib in (1, 16, 256):
        table = WalkCosts(cpu, Uniform(), gib * GIB, {"1G": 1.0}, ["2M", "4K"], False, 1)
        shares = {0: np.array([[1.0, 0.0]]), 1: np.array([[0.0, 1.0]])}
        costs[gib] = [
            float(table.cycles(shares[c], {("1G", 0): one * (c == 0), ("1G", 1): one * (c == 1)})["1G", c][0])
            for c in (0, 1)
        ]
    by_2m, by_4k = np.array([costs[gib] for gib in (1, 16, 256)]).T
    assert (np.diff(by_4k) > 0).all() and (by_4k > by_2m).all()
    # a read from the second-level cache at the least, one from memory and the entries above at the most
    least, most = (cpu.reference_cycles * x / cpu.caches[-1].cycles for x in (cpu.caches[0].cycles, cpu.memory_cycles))
    assert by_2m[0] == pytest.approx(least, rel=0.5)
    assert 0.5 * most < by_4k[2] < 1.5 * most
    assert by_4k[2] / by_4k[0] > 2
    assert by_2m[2] < 0.3 * by_4k[2]


def test_without_virtualisation_the_guest_page_does_not_matter_and_walks_cost_less() -> None:
    leaves = {"2M": 32 * 512, "4K": 32 * 262_144}
    results = [
        translate(cpu="cascade-lake", leaves=leaves, access=Zipf(0.6), guest_page=guest, virtualised=False)
        for guest in ("4K", "2M", "1G")
    ]
    assert results[0] == results[1] == results[2]
    shared = {"cpu": "cascade-lake", "memory_bytes": 64 * GIB, "access": Uniform(), "leaf_sizes": ("2M", "4K")}
    states = np.array([[0, 64 * 262_144]])
    native, nested = (
        Translator(**shared, guest_page="4K", virtualised=v).evaluate(states)
        for v in (False, True)  # type: ignore[arg-type]
    )
    assert_allclose(native.walks_per_access, nested.walks_per_access, rtol=1e-9)
    assert (native.cycles < nested.cycles).all()


def test_busy_threads_share_what_there_is() -> None:
    one, two = (
        translate(cpu="zen5", leaves={"2M": 2048 * 4}, access=Uniform(), smt_threads=n).walks_per_access for n in (1, 2)
    )
    assert (one, two) == pytest.approx((0.5, 0.75), abs=0.01)
    with pytest.raises(ScenarioError, match="smt_threads: 9 is out of range; allowed: a whole number from 1 to 8"):
        translate(cpu="zen5", leaves={"2M": 8}, access=Uniform(), smt_threads=9)


def test_when_2m_beats_4k_and_when_neither_matters() -> None:
    rows = choices(["sapphire-rapids", "zen5"], ["1G", "2M"], {"uniform": Uniform()}, (1, 10, 100))
    assert [row.verdict for row in rows if row.n_split == 1] == ["neither matters"] * 4
    assert [row.verdict for row in rows if row.n_split == 10] == ["2M is better"] * 4
    assert all(row.verdict.startswith("2M is better") for row in rows if row.n_split == 100)
    assert all(row.mixed.mid <= row.all_4k.mid for row in rows)
    assert len(choice_rows(rows)) == 12
    assert len(splits_figure(rows).axes) == 4
    assert splits_svg(rows) == splits_svg(rows)
