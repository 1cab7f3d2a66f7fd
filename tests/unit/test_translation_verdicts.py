"""Published runs beside the model, where tables live, and when the way to split matters."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from poisonsim.errors import ScenarioError
from poisonsim.translation import Cpu, Sequential, Translator, Uniform, Zipf, load_cpu, translate
from poisonsim.translation.cpus import Cache
from poisonsim.translation.sensitivity import ALIKE, COSTS, FREE, HIGH, LOW, NEITHER, WORSE, Case, cases
from poisonsim.translation.validation import compare, comparison_rows, published
from poisonsim.translation.walk_cost import WalkCosts
from poisonsim.units import page_bytes

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


SMALL_CACHES = replace(
    load_cpu("cascade-lake"),
    caches=(Cache(16 << 10, 14), Cache(256 << 10, 46)),
    walk_cache_entries=((2 << 20, 8), (GIB, 4)),
)


def read_cycles(cpu: Cpu, memory_bytes: int, guest: str, leaf: str, walked: float, n: int) -> float:
    """Mean cycles of walks at random places: every line in plain LRU caches, every entry in plain LRU walk caches.

    Regions of 1 GiB are mapped with the leaves in turn, which plus signs part; a share of the accesses walks.
    """
    leaves = leaf.split("+")
    caches: list[tuple[OrderedDict[Any, None], int]] = [(OrderedDict(), cache.bytes // 64) for cache in cpu.caches]
    walk_caches: dict[Any, tuple[OrderedDict[Any, None], int]] = {
        (table, covers): (OrderedDict(), entries) for table in "gh" for covers, entries in cpu.walk_cache_entries
    }
    cycles = [*(cache.cycles for cache in cpu.caches), cpu.memory_cycles]

    def held(cache: tuple[OrderedDict[Any, None], int], key: Any) -> bool:
        entries, capacity = cache
        hit = key in entries
        entries[key] = None
        entries.move_to_end(key)
        if len(entries) > capacity:
            entries.popitem(last=False)
        return hit

    def read(*line: Any) -> float:
        found = [held(cache, line) for cache in caches]
        return cycles[found.index(True) if any(found) else len(caches)]

    costs = []
    rng = np.random.default_rng(1)
    for place, walks in zip(rng.integers(memory_bytes, size=n).tolist(), rng.random(n) < walked, strict=True):
        read("data", place // 64)
        if not walks:
            continue
        cost = 0.0
        here = leaves[(place >> 30) % len(leaves)]
        for table, size in (("g", guest), ("h", here)) if guest else (("h", here),):
            cost += read(table, place // (8 * page_bytes(size)))
            for below, covers in (("4K", 2 << 20), ("2M", GIB)):
                if page_bytes(size) <= page_bytes(below) and not held(walk_caches[table, covers], place // covers):
                    cost += read(table, covers, place // (8 * covers))
                elif page_bytes(size) <= page_bytes(below):
                    break
        costs.append(cost)
    return float(np.mean(costs[len(costs) // 2 :])) * cpu.reference_cycles / cpu.caches[-1].cycles


@pytest.mark.parametrize(
    ("guest", "leaf", "walked"), [("", "4K", 1.0), ("", "2M", 0.5), ("4K", "2M", 0.25), ("", "1G+4K", 1.0)]
)
def test_walks_cost_what_plain_caches_say(guest: str, leaf: str, walked: float) -> None:
    memory_bytes, leaves = 16 * GIB, leaf.split("+")
    costs = WalkCosts(SMALL_CACHES, Uniform(), memory_bytes, {guest or "4K": 1.0}, leaves, bool(guest), 1)
    shares = np.full((1, len(leaves)), 1 / len(leaves))
    cycles = costs.cycles(shares, {(guest or "4K", column): np.full(1, walked) for column in range(len(leaves))})
    modelled = float(np.mean(list(cycles.values())))
    simulated = read_cycles(SMALL_CACHES, memory_bytes, guest, leaf, walked, 40_000)
    assert modelled == pytest.approx(simulated, rel=0.015)


def test_busy_threads_share_the_second_level_and_the_walk_caches() -> None:
    """As if each had half: every one of the two halves shows."""
    shares, walks = np.ones((1, 1)), {("4K", 0): np.ones(1)}

    def cost(cpu: Cpu, threads: int = 1) -> float:
        costs = WalkCosts(cpu, Uniform(), 4 * GIB, {"4K": 1.0}, ["4K"], True, threads)
        return float(costs.cycles(shares, walks)["4K", 0][0])

    cpu = SMALL_CACHES
    second, last = cpu.caches
    half_cache = (second._replace(bytes=second.bytes // 2), last)
    half_walk_caches = tuple((covers, entries // 2) for covers, entries in cpu.walk_cache_entries)
    only_cache, only_walks = replace(cpu, caches=half_cache), replace(cpu, walk_cache_entries=half_walk_caches)
    assert cost(cpu, 2) == pytest.approx(cost(replace(only_cache, walk_cache_entries=half_walk_caches)), rel=1e-9)
    assert cost(cpu) < min(cost(only_cache), cost(only_walks)) and max(cost(only_cache), cost(only_walks)) < cost(
        cpu, 2
    )


def test_without_caches_a_read_costs_the_same_everywhere() -> None:
    cpu = replace(load_cpu("zen4"), caches=(), memory_cycles=0.0)
    native, nested = (
        WalkCosts(cpu, Uniform(), TIB, {"2M": 1.0}, ["4K"], virtualised, 1).cycles(
            np.ones((1, 1)), {("2M", 0): np.ones(1)}
        )["2M", 0]
        for virtualised in (False, True)
    )
    assert (native / cpu.reference_cycles, nested / cpu.reference_cycles) == (pytest.approx(2.2), pytest.approx(3.4))


def test_a_scan_finds_its_tables_in_the_second_level_cache() -> None:
    cpu = load_cpu("zen4")
    costs = WalkCosts(cpu, Sequential(), TIB, {"4K": 1.0}, ["4K"], True, 1)
    cycles = costs.cycles(np.ones((1, 1)), {("4K", 0): np.full(1, 64 / 4096)})["4K", 0]
    # the leaf entries of both tables and the page of the guest's table, one read each
    assert cycles == pytest.approx(3 * cpu.caches[0].cycles * cpu.reference_cycles / cpu.caches[-1].cycles, rel=0.01)


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


def test_a_band_below_one_is_in_order_too() -> None:
    """Memory given up is not walked for: the dearer a walk, the faster what is left."""
    band = translate(cpu="zen4", leaves={"1G": 512}, memory_bytes=TIB, access=Uniform(), guest_page="1G").slowdown
    assert band.low < band.mid < band.high < 1


def test_numbers_of_regions_are_those_of_the_model_itself() -> None:
    """Where a straight line between computed counts says that a loss begins to matter, it does in the model."""
    for case in cases(["sapphire-rapids", "zen5"], ["1G", "2M"], {"uniform": Uniform()}):
        translator = Translator(cpu=case.cpu, memory_bytes=TIB, access=Uniform(), guest_page=case.guest_page)
        for way, leaves in (("all_4k", (0, 262_143)), ("mixed", (511, 511))):
            n = case.matters_from(way)
            assert n is not None and case.matters_from(way, HIGH) <= n <= case.matters_from(way, LOW)  # type: ignore[operator]
            states = translator.evaluate(np.array([[1024 - k, leaves[0] * k, leaves[1] * k] for k in (n - 1, n)]))
            losses = states.cycles[:, 1] / translator.baseline.cycles[0, 1] - 1
            assert losses[0] < 0.0102 and losses[1] > 0.0098


def test_every_verdict_begins_where_the_losses_say() -> None:
    n = np.array([1, 100])

    def case(all_4k: float, mixed: float) -> Case:
        rows = (np.outer(n, [0.5 * each, each, 2 * each]) for each in (all_4k, mixed))
        return Case("zen5", "2M", "uniform", 100, n, *rows)

    def zones(found: Case) -> list[tuple[str, int, int]]:
        return [(zone.verdict, zone.first, zone.last) for zone in found.zones]

    assert zones(case(1e-3, 1e-4)) == [(NEITHER, 1, 9), (FREE, 10, 99), (COSTS, 100, 100)]
    assert zones(case(1e-3, 0.95e-3)) == [(NEITHER, 1, 9), (FREE, 10, 10), (ALIKE, 11, 100)]
    assert zones(case(1e-4, 1e-3)) == [(NEITHER, 1, 9), (WORSE, 10, 100)]
    assert zones(case(1e-5, -1e-5)) == [(NEITHER, 1, 100)]
    assert [case(1e-3, 1e-4).matters_from("all_4k", e) for e in (LOW, HIGH)] == [20, 5]
    assert case(1e-5, 1e-5).matters_from("all_4k") is None
