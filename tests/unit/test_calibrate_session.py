"""A whole calibration on made-up machines, timed by a calculation instead of a clock."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from poisonsim.errors import MachineError, ScenarioError
from poisonsim.translation import Uniform, load_cpu
from poisonsim.translation.calibrate import session
from poisonsim.translation.calibrate.areas import Area, Words, mapped, require_free
from poisonsim.translation.calibrate.counters import Processor
from poisonsim.translation.calibrate.mixes import Mix, with_reason
from poisonsim.translation.calibrate.pool import Pool
from poisonsim.translation.calibrate.profile_file import cpu_table, parsed, toml_text
from poisonsim.translation.calibrate.session import Calibration, calibrate
from poisonsim.translation.calibrate.spread import Spread
from poisonsim.translation.calibrate.sweeps import Effort, Sweep, walk_costs
from poisonsim.translation.calibrate.timing import Offsets
from poisonsim.translation.tlb import EXCLUSIVE
from poisonsim.translation.walk_cost import WalkCosts
from poisonsim.units import MIB, page_bytes

L1, L2 = 64, 512
HIT_NS, RING_NS, STLB_NS = 100.0, 1.2, 1.7
AREA = 128 * MIB
CPUINFO = "vendor_id : {}\ncpu family : 26\nmodel : 2\nmodel name : toy\nflags : fpu {}\n"


class Machine:
    """Two levels of true LRU, and walks of a fixed cost for each leaf size.

    Args:
        held_as: Size of the TLB entries by leaf size.
        walk_ns: Cost of a walk by leaf size.
        missing: Leaf sizes that cannot be mapped.
    """

    def __init__(self, held_as: dict[str, str], walk_ns: dict[str, float], missing: tuple[str, ...] = ()) -> None:
        self.held_as, self.walk_ns, self.missing = held_as, walk_ns, missing
        self._areas: list[tuple[int, int, str]] = []
        self._rng = np.random.default_rng(5)

    @contextmanager
    def mapped(self, leaf: str, size_bytes: int, **how: object) -> Iterator[Area]:
        if leaf in self.missing:
            raise MachineError(f"{leaf} huge pages: none free")
        words = np.zeros(size_bytes // 8, dtype=np.uint64)
        start = int(words.ctypes.data)
        self._areas.append((start, start + size_bytes, leaf))
        yield Area(leaf, "made up", words)

    def ring(self, words: Words, offsets: Offsets, n_loads: int) -> float:
        entries, walks = self._entries(words, offsets)
        n = np.unique(entries).size
        extra = STLB_NS * (n > L1) + (walks.mean() - STLB_NS) * (n > L2)
        return float(RING_NS + extra + self._rng.normal(0, 0.02))

    def loads(self, words: Words, offsets: Offsets, n_warm: int) -> float:
        entries, walks = self._entries(words, offsets)
        first: OrderedDict[int, None] = OrderedDict()
        second: OrderedDict[int, None] = OrderedDict()
        total = 0.0
        for i, (entry, walk) in enumerate(zip(entries.tolist(), walks.tolist(), strict=True)):
            cost = 0.0 if entry in first else STLB_NS if entry in second else walk
            for level, capacity in ((first, L1), (second, L2)):
                level[entry] = None
                level.move_to_end(entry)
                if len(level) > capacity:
                    level.popitem(last=False)
            total += cost if i >= n_warm else 0.0
        return float((HIT_NS + total / (offsets.size - n_warm)) * self._rng.normal(1, 0.003))

    def ghz(self) -> float:
        return 4.0

    def _entries(self, words: Words, offsets: Offsets) -> tuple[np.ndarray, np.ndarray]:
        """The TLB entry of each load, and what a walk for it costs."""
        addresses = int(words.ctypes.data) + offsets.astype(np.int64) * 8
        entries, walks = np.zeros_like(addresses), np.zeros(addresses.size)
        for start, end, leaf in self._areas:
            inside = (addresses >= start) & (addresses < end)
            entries[inside] = start + (addresses[inside] - start) // page_bytes(self.held_as[leaf])
            walks[inside] = self.walk_ns[leaf]
        return entries, walks


def calibrated(monkeypatch: pytest.MonkeyPatch, machine: Machine, **how: object) -> Calibration:
    """A calibration of a made-up machine that the catalogue does not know."""
    text = CPUINFO.format(how.pop("vendor", "Acme"), how.pop("flags", ""))
    monkeypatch.setattr(session, "mapped", machine.mapped)
    monkeypatch.setattr(session, "read_text", lambda _: text)
    monkeypatch.setattr(session, "_QUICK", Effort(rounds=5, n_warm=800, n_timed=1000))
    how.setdefault("area_bytes", AREA)
    return calibrate(quick=True, timer=machine, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole() -> Iterator[Calibration]:
    """A machine without a hypervisor whose huge pages are whole."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield calibrated(monkeypatch, Machine({"2M": "2M", "4K": "4K"}, {"2M": 40.0, "4K": 60.0}))


@pytest.fixture(scope="module")
def fractured() -> Iterator[Calibration]:
    """A virtual machine whose host backs huge pages with 4K pages; the catalogue knows its CPU."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine({"2M": "4K", "4K": "4K"}, {"2M": 30.0, "4K": 60.0})
        yield calibrated(monkeypatch, machine, vendor="AuthenticAMD", flags="hypervisor")


def test_whole_pages_are_told_and_swept(whole: Calibration) -> None:
    assert [(each.leaf, each.held_as, each.n_split) for each in whole.fractures] == [("2M", "2M", 0)]
    assert whole.reach_measured
    assert [(sweep.leaf, [knee.entries for knee in sweep.knees]) for sweep in whole.sweeps] == [
        ("2M", []),  # 64 pages do not fill the first level
        ("4K", [L1, L2]),
    ]


def test_walks_of_whole_pages_cost_nothing_where_the_tlb_holds_them(whole: Calibration) -> None:
    walks = {(walk.leaf, walk.area_bytes): walk for walk in whole.walks}
    assert sorted({size for _, size in walks}) == [64 * MIB, AREA]
    assert walks["4K", AREA].walk_ns.mid == pytest.approx(60, abs=1.5)
    assert walks["4K", AREA].hit_ns.mid == pytest.approx(HIT_NS, abs=1.5)
    assert abs(walks["2M", AREA].walk_ns.mid) < 1.5


@pytest.mark.parametrize("machine", ["whole", "fractured"])
def test_mixtures_are_predicted_within_tolerance(machine: str, request: pytest.FixtureRequest) -> None:
    found: Calibration = request.getfixturevalue(machine)
    assert len(found.mixes) == 3 * 6
    assert {(mix.base, mix.part) for mix in found.mixes} == {("2M", "4K")}
    for mix in found.mixes:
        assert abs(mix.difference) < 0.05 and not mix.reason
    uniform = [mix for mix in found.mixes if mix.pattern == "uniform"]
    assert [round(mix.fraction, 1) for mix in uniform] == [0.0, 0.1, 0.2, 0.5, 0.8, 1.0]
    assert uniform[0].measured.mid == pytest.approx(1, abs=0.01)
    assert uniform[-1].measured.mid > (1.4 if machine == "whole" else 1.2)
    assert found.resolution is not None and found.resolution < 0.03


def test_fracture_is_said_and_no_reach_is_claimed(fractured: Calibration) -> None:
    [found] = fractured.fractures
    assert (found.held_as, found.n_split, found.n_tested) == ("4K", 16, 16)
    assert not fractured.reach_measured
    assert [sweep.leaf for sweep in fractured.sweeps] == ["4K"]
    assert any("2M pages are held as 4K entries (16 of 16 tested" in note for note in fractured.cpu.notes)


def test_the_profile_is_a_cpu_file(whole: Calibration, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(whole.toml)
    cpu = load_cpu(tmp_path / "mine.toml")
    assert [(array.sizes_bytes, array.entries) for array in cpu.l1 if 4096 in array.sizes_bytes] == [((4096,), L1)]
    assert [array.entries for array in cpu.l2 if 4096 in array.sizes_bytes] == [L2]
    assert cpu.stlb_hit_cycles == pytest.approx(STLB_NS * 4, rel=0.05)
    # 60 ns a walk and 100 a load: 2.2 reads of a native 4K walk, for a load of 60 cycles.
    assert cpu.reference_cycles == pytest.approx(60 / 100 * 60 / 2.2, rel=0.05)
    assert {number.quality for number in cpu.numbers} == {"measured-field", "assumed"}
    assert all("(" in number.source for number in cpu.numbers if number.quality == "measured-field")


def test_the_catalogue_adds_what_was_not_measured(fractured: Calibration) -> None:
    zen5 = load_cpu("zen5")
    cpu = fractured.cpu
    assert [array.sizes_bytes for array in (*cpu.l1, *cpu.l2)] == [array.sizes_bytes for array in (*zen5.l1, *zen5.l2)]
    assert (cpu.l1[0].entries, cpu.l2[0].entries, cpu.l2[1].entries) == (L1, L2, 1024)
    sources = {number.key: number.source for number in cpu.numbers}
    assert f"4K measured here: {L1} (" in sources["l1[0].entries (4K, 2M, 1G)"]
    assert "against 96 in the catalogue; 2M not measured here" in sources["l1[0].entries (4K, 2M, 1G)"]
    assert "1G not measured here" in sources["l2[1].entries (1G)"]


def test_the_catalogue_says_where_tables_lie(fractured: Calibration) -> None:
    """One number for a walk would lose what splits are about: the tables of some leave the caches, of others not."""
    zen5, cpu = load_cpu("zen5"), fractured.cpu
    assert (cpu.caches, cpu.memory_cycles) == (zen5.caches, zen5.memory_cycles)
    assert cpu.walk_cache_entries == zen5.walk_cache_entries
    sources = {number.key: (number.source, number.quality) for number in cpu.numbers}
    assert sources["cache[1].cycles"][0].endswith("(catalogue, zen5)")
    assert {sources[key][1] for key in ("cache[0].bytes", "memory_cycles", "walk_cache[0].entries")} == {"assumed"}
    # The walk over the largest area comes out as measured: 60 ns beside loads of 100 ns, which the model counts as 60.
    costs = WalkCosts(cpu, Uniform(), AREA, {"4K": 1.0}, ["4K"], True, 1)
    walk = costs.cycles(np.ones((1, 1)), {("4K", 0): np.ones(1)})["4K", 0]
    assert walk == pytest.approx(60 / 100 * 60, rel=0.05)


def test_the_reading_of_the_catalogue_is_kept() -> None:
    sweep = Sweep("4K", np.array([64.0, 128]), np.zeros(2), [])
    walks = walk_costs([{("4K", AREA): (200.0, 155.0)}] * 5)
    base = load_cpu("zen5:l2_1g=exclusive")
    table = cpu_table(
        processor=Processor("toy", "zen5", virtual=False), ghz=4.0, sweeps=[sweep], fractures=[], walks=walks, base=base
    )
    assert [array.fill for array in parsed(toml_text(table), "mine").l2] == [array.fill for array in base.l2]
    assert base.l2[1].fill == EXCLUSIVE != base.l2[0].fill


def test_a_figure_of_the_catalogue_inside_the_interval_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    array = {"sizes": ["4K"], "source": "a vendor", "quality": "vendor"}
    cycles = {"value": 1, "source": "a vendor", "quality": "vendor"}
    table = {"title": "toy", "arch": "x86-64", "l1": [{**array, "entries": 65}], "l2": [{**array, "entries": 500}]}
    (tmp_path / "toy.toml").write_text(toml_text({**table, "stlb_hit_cycles": cycles, "reference_cycles": cycles}))
    machine = Machine({"4K": "4K"}, {"4K": 60.0}, missing=("1G", "2M"))
    found = calibrated(monkeypatch, machine, cpu=str(tmp_path / "toy.toml"))
    assert (found.cpu.l1[0].entries, found.cpu.l2[0].entries) == (65, L2)
    assert "which agrees" in found.toml and "against 500 in the catalogue" in found.toml


def test_json_has_everything_and_nothing_that_json_lacks(whole: Calibration, fractured: Calibration) -> None:
    for found in (whole, fractured):
        data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert data["schema"] == "poisonsim.calibration/1"
        assert len(data["mixes"]) == 18 and len(data["walks"]) == 4
        assert data["profile"] == found.toml


def test_without_huge_pages_only_4k_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    machine = Machine({"4K": "4K"}, {"4K": 60.0}, missing=("1G", "2M"))
    found = calibrated(monkeypatch, machine, notice=said.append)
    assert dict(found.leaves) == {"4K": "made up"}
    assert (found.mixes, found.fractures, found.resolution, found.reach_measured) == ([], [], None, False)
    assert [knee.entries for knee in found.sweeps[0].knees] == [L1, L2]
    assert "not measured: 2M huge pages: none free; and 2M huge pages: none free" in said
    assert any(line.startswith("not measured: 1G huge pages: the area is 128 MiB; give --area 1GiB") for line in said)


def test_1g_pages_that_the_host_backs_with_2m(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale of the fracture is found: loads 4K apart inside a 2M part cost nothing, loads 2M apart do."""
    from poisonsim.translation.calibrate.sweeps import find_fracture

    machine = Machine({"1G": "2M", "4K": "4K"}, {"1G": 50.0, "4K": 60.0})
    with machine.mapped("1G", 1 << 30) as huge, machine.mapped("4K", 64 * MIB) as base:
        found = find_fracture(huge, base, machine, Effort(rounds=5), np.random.default_rng(1))
    assert (found.held_as, found.n_split, found.n_tested) == ("2M", 1, 1)


def test_1g_pages_of_which_the_area_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"1G": "1G", "2M": "2M", "4K": "4K"}
    found = calibrated(monkeypatch, Machine(sizes, {"1G": 30.0, "2M": 40.0, "4K": 60.0}), area_bytes=1 << 30)
    assert [(each.leaf, each.held_as) for each in found.fractures] == [("1G", "1G"), ("2M", "2M")]
    swept = {sweep.leaf: [knee.entries for knee in sweep.knees] for sweep in found.sweeps}
    assert swept == {"1G": [], "2M": [L1], "4K": [L1, L2]}  # 512 pages of 2M do not fill the second level
    one = next(array for array in found.cpu.l1 if array.sizes_bytes == (1 << 30,))
    assert one.entries == 1 and "no such bend in a sweep of up to 1 1G pages" in found.toml
    pairs = [(mix.base, mix.part, mix.fraction) for mix in found.mixes if mix.pattern == "uniform"]
    assert pairs[:4] == [("1G", "2M", 0.0), ("1G", "2M", 1.0), ("1G", "4K", 0.0), ("1G", "4K", 1.0)]
    assert max(abs(mix.difference) for mix in found.mixes) < 0.05


@pytest.mark.parametrize(
    "slow, chosen, said",
    [
        ([1.0, 1.1, 1.05], [1.0, 1.05, 1.1], None),
        ([2.0, 1.0, 1.1, 3.0, 1.05, 9.0], [1.0, 1.05, 1.1], "2 of 5 rounds"),
        ([1.0, 3.0, 2.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0], "5 of 6 rounds"),
    ],
)
def test_disturbed_rounds_are_made_up_for(slow: list[float], chosen: list[float], said: str | None) -> None:
    rounds = iter(slow)
    told: list[str] = []

    def measure() -> session.Round:
        each = next(rounds)
        return {("4K", AREA): (200.0 * each, 150.0 * each)}, [np.array([100.0, 110.0]) * each]

    found = session._quiet_rounds(measure, 3, told.append)
    assert [mixes[0][0] / 100 for _, mixes in found] == pytest.approx(chosen)
    disturbed = [line for line in told if "slowed by something else" in line]
    assert [line[:13] for line in disturbed] == ([said] if said else [])


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.os, "getloadavg", lambda: (64.0, 0.0, 0.0))
    monkeypatch.setattr(session.os, "sched_getaffinity", lambda _: {0, 1})
    said: list[str] = []
    machine = Machine({"4K": "4K"}, {"4K": 60.0}, missing=("1G", "2M"))
    calibrated(monkeypatch, machine, notice=said.append)
    assert said[0].startswith("load average 64.0 on 2 cores: other work disturbs the measurement")


@pytest.mark.parametrize("area", [3 << 30, 32 << 20, 1])
def test_areas_that_cannot_be_used(area: int) -> None:
    with pytest.raises(MachineError, match="cannot be used; allowed: a power of two, 64 MiB or more, such as 4GiB"):
        calibrate(area_bytes=area)


def test_too_little_memory_is_said_before_anything_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MachineError, match=r"area: 3 × 1 PiB: too little memory, .* can be taken .*give a smaller `area`"
    ):
        calibrate(area_bytes=1 << 50)
    from poisonsim.translation.calibrate import areas

    monkeypatch.setattr(areas, "available_bytes", lambda: 1 << 28)
    monkeypatch.setattr(session, "available_bytes", lambda: 1 << 28)
    with pytest.raises(MachineError, match=r"area: 3 × 64 MiB: too little memory, 0 B can be taken"):
        calibrate()


def test_a_wrong_cpu_is_said_before_anything_is_mapped() -> None:
    with pytest.raises(ScenarioError, match="'zen9' is not a CPU of the catalogue"):
        calibrate(cpu="zen9")


def test_a_pool_that_did_not_grow_as_asked_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "hugepages-1048576kB"
    folder.mkdir()
    for name in ("nr_hugepages", "free_hugepages", "resv_hugepages"):
        (folder / name).write_text("0\n")
    with pytest.raises(
        MachineError, match="found no room for more; free memory, or boot with hugepagesz=1G hugepages=4"
    ):
        require_free("1G", 4 << 30, Pool(tmp_path), grown=True)


def test_a_pool_without_pages_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="1G huge pages: this kernel has none"):
        require_free("1G", 1 << 30, Pool(tmp_path))
    folder = tmp_path / "hugepages-2048kB"
    folder.mkdir()
    for name, value in (("nr_hugepages", 7), ("free_hugepages", 3), ("resv_hugepages", 1)):
        (folder / name).write_text(f"{value}\n")
    with (
        pytest.raises(MachineError, match=r"2M huge pages: 4 wanted, 2 free; add `reserve`, or .*: echo 9 \| sudo tee"),
        mapped("2M", 8 * MIB, pool=Pool(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    "measured, predicted, held_as, reason",
    [
        ((1.4, 1.5, 1.6), (1.3, 1.4, 1.5), "1G", ""),
        ((0.7, 0.8, 1.3), (1.0, 1.0, 1.0), "1G", "below the resolution, 25 %"),
        ((1.4, 2.0, 2.6), (1.2, 1.3, 1.4), "1G", "noise: the intervals, with 15 %, meet"),
        ((1.9, 2.0, 2.1), (1.2, 1.3, 1.4), "4K", "fracture: the hypervisor's tables are not seen from here"),
        ((1.9, 2.0, 2.1), (1.2, 1.3, 1.4), "1G", "the model"),
    ],
)
def test_rows_that_differ_have_a_reason(
    measured: tuple[float, float, float], predicted: tuple[float, float, float], held_as: str, reason: str
) -> None:
    row = Mix("1G", "4K", "uniform", 0.5, Spread(*measured), Spread(*predicted), "")
    assert with_reason(row, 0.25, {"1G": held_as, "4K": "4K"}).reason == reason
