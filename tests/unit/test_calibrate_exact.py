"""A calibration of a machine whose huge pages are whole: its loads go through the exact simulation of a TLB.

The machine that the tests run on may be virtual, where every huge page is split below; here nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from poisonsim.translation import Cpu, load_cpu
from poisonsim.translation.calibrate import session
from poisonsim.translation.calibrate.areas import Area, Words
from poisonsim.translation.calibrate.session import Calibration, calibrate
from poisonsim.translation.calibrate.sweeps import Effort
from poisonsim.translation.calibrate.timing import Offsets
from poisonsim.translation.cpus import PAGE_SIZES
from poisonsim.translation.lru import CHUNK_BYTES, ExactTlb
from poisonsim.units import GIB

AREA_BYTES = 2 * GIB
LOAD_NS, RING_NS, STLB_NS, GHZ = 100.0, 1.2, 1.8, 3.0
WALK_NS = {"1G": 25.0, "2M": 40.0, "4K": 60.0}
# Entries and ways by level and sizes: what the machine has, and what a catalogue that is wrong says of it.
ARRAYS = (
    ("l1", ("4K",), 64, 4, 96),
    ("l1", ("2M",), 32, 4, 48),
    ("l1", ("1G",), 4, 4, 4),
    ("l2", ("4K", "2M"), 512, 8, 1536),
    ("l2", ("1G",), 16, 4, 16),
)


def cpu_file(path: Path, *, right: bool) -> Path:
    lines = ['title = "toy"', 'arch = "x86-64"']
    for level, sizes, entries, ways, wrong in ARRAYS:
        numbers = f"entries = {entries if right else wrong}\nways = {ways}"
        lines += [f"[[{level}]]", f"sizes = {list(sizes)}", numbers, 'source = "made up"', 'quality = "assumed"']
    for key in ("stlb_hit_cycles", "reference_cycles"):
        lines += [f"[{key}]", "value = 9", 'source = "made up"', 'quality = "assumed"']
    path.write_text("\n".join(lines).replace("'", '"'))
    return path


class ExactMachine:
    """Times loads by what an exact TLB makes of their addresses: a fixed time for each hit and each walk."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu, self._rng = cpu, np.random.default_rng(5)
        self._areas: list[tuple[int, int, int]] = []
        self._chunks = np.zeros(0, dtype=np.int8)

    @contextmanager
    def mapped(self, leaf: str, size_bytes: int, **how: object) -> Iterator[Area]:
        words = np.zeros(size_bytes // 8, dtype=np.uint64)  # never touched, so never there
        self._areas.append((int(words.ctypes.data), size_bytes, self._chunks.size * CHUNK_BYTES))
        mine = np.full(size_bytes // CHUNK_BYTES, PAGE_SIZES.index(leaf), dtype=np.int8)
        self._chunks = np.concatenate((self._chunks, mine))
        yield Area(leaf, "made up", words)

    def ring(self, words: Words, offsets: Offsets, n_loads: int) -> float:
        return float(RING_NS + self._extra_ns(words, np.tile(offsets, 3), offsets.size) + self._rng.normal(0, 0.02))

    def loads(self, words: Words, offsets: Offsets, n_warm: int) -> float:
        return float((LOAD_NS + self._extra_ns(words, offsets, n_warm)) * self._rng.normal(1, 0.003))

    def ghz(self) -> float:
        return GHZ

    def _extra_ns(self, words: Words, offsets: Offsets, n_warm: int) -> float:
        pointers = int(words.ctypes.data) + offsets.astype(np.int64) * 8
        addresses = np.full(pointers.size, -1, dtype=np.int64)
        for start, size_bytes, at in self._areas:
            inside = (pointers >= start) & (pointers < start + size_bytes)
            addresses[inside] = pointers[inside] - start + at
        assert addresses.min() >= 0
        tlb = ExactTlb(self._cpu)
        tlb.follow(self._chunks, Given(addresses[:n_warm]), n_warm)  # type: ignore[arg-type]
        n = addresses.size - n_warm
        _, missed, walked = tlb.follow(self._chunks, Given(addresses[n_warm:]), n)  # type: ignore[arg-type]
        walk_ns = sum(walked[PAGE_SIZES.index(leaf)] * ns for leaf, ns in WALK_NS.items())
        return float(((missed.sum() - walked.sum()) * STLB_NS + walk_ns) / n)


class Given:
    """Addresses in place of an `AddressStream`."""

    def __init__(self, addresses: np.ndarray) -> None:
        self._addresses, self._at = addresses, 0

    def draw(self, n: int) -> np.ndarray:
        self._at += n
        return self._addresses[self._at - n : self._at]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calibration]:
    """The machine, calibrated by someone whose catalogue has the wrong entries."""
    folder = tmp_path_factory.mktemp("cpus")
    machine = ExactMachine(load_cpu(cpu_file(folder / "machine.toml", right=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "mapped", machine.mapped)
        patch.setattr(session, "require_memory", lambda *_: None)
        patch.setattr(session, "read_text", lambda _: "vendor_id : Acme\nmodel name : toy\nflags : fpu\n")
        patch.setattr(session, "_QUICK", Effort(rounds=3, n_warm=4_000, n_timed=6_000))
        wrong = cpu_file(folder / "wrong.toml", right=False)
        yield calibrate(area_bytes=AREA_BYTES, quick=True, cpu=str(wrong), timer=machine)


def test_whole_pages_of_both_sizes_are_told(found: Calibration) -> None:
    assert [(each.leaf, each.held_as, each.n_split) for each in found.fractures] == [("1G", "1G", 0), ("2M", "2M", 0)]
    assert found.reach_measured


def test_capacities_are_recovered(found: Calibration) -> None:
    """To 15 %, as sets overflow one by one; of 1G and 2M there are too few pages to see all bends end."""
    knees = {sweep.leaf: sweep.knees for sweep in found.sweeps}
    assert {leaf: len(each) for leaf, each in knees.items()} == {"1G": 0, "2M": 1, "4K": 2}
    for knee, entries in zip([*knees["2M"], *knees["4K"]], (32, 64, 512), strict=True):
        assert 0.9 * knee.low <= entries <= knee.high and knee.entries == pytest.approx(entries, rel=0.15)
    sizes = {level: [array.entries for array in getattr(found.cpu, level)] for level in ("l1", "l2")}
    for level, right in (("l1", [64, 32, 4]), ("l2", [512, 16])):
        assert sizes[level] == pytest.approx(right, rel=0.15), level
    assert found.cpu.stlb_hit_cycles == pytest.approx(STLB_NS * GHZ, rel=0.1)


def test_walks_cost_what_they_do(found: Calibration) -> None:
    costs = {walk.leaf: walk for walk in found.walks if walk.area_bytes == AREA_BYTES}
    assert costs["4K"].walk_ns.mid == pytest.approx(WALK_NS["4K"], rel=0.05)
    # Half of the 1024 2M pages and both 1G pages are held: what a visit costs is less than a walk.
    assert costs["2M"].walk_ns.mid == pytest.approx(0.5 * WALK_NS["2M"] + 0.5 * STLB_NS, rel=0.05)
    assert abs(costs["1G"].walk_ns.mid) < 2


def test_mixtures_are_predicted_within_tolerance(found: Calibration) -> None:
    assert {(mix.base, mix.part) for mix in found.mixes} == {("1G", "2M"), ("1G", "4K"), ("2M", "4K")}
    differences = {(mix.base, mix.part, mix.pattern, mix.fraction): mix.difference for mix in found.mixes}
    worst = max(differences, key=lambda key: abs(differences[key]))
    print(f"worst of {len(differences)} mixtures: {differences[worst]:+.1%} at {worst}")
    assert abs(differences[worst]) < 0.15 and not any(mix.reason for mix in found.mixes)
    # That is no small matter: walks are dear here.
    assert max(mix.measured.mid for mix in found.mixes) > 1.5
