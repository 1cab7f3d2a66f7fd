"""Single VMs' lives for the page: what happened, step by step, and what it made of each huge page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.collections import PolyCollection

from poisonsim.engine.plan import Plan
from poisonsim.report.canvas import Canvas, text_width
from poisonsim.report.labels import Frame, write_titles
from poisonsim.report.scales import Linear, Ticks
from poisonsim.report.style import TONES
from poisonsim.report.verdict import HEADINGS
from poisonsim.results.life import Life, Step, life_of
from poisonsim.results.numbers import minus
from poisonsim.results.result import Result
from poisonsim.results.typical import Typical, typical_trials
from poisonsim.units import DAYS_PER_YEAR, format_bytes

MOST_CELLS = 1024
"""Huge pages are drawn together where a VM has more of them."""

MOST_STEPS = 1000
"""Steps on the page, over all lives."""

_TONES = 4
_COLUMNS = 32
_TOLD = {"guest_lost_bytes": "guest loses", "capacity_cost_bytes": "host pays", "spares_used": "spares used"}
_WHERE_UNKNOWN = ("RESTART", "COLLAPSE", "REBOOT")


@dataclass(frozen=True)
class Happening:
    """One step of a life on the page.

    Attributes:
        day: When, in words.
        what: What happened, and where.
        did: What the policy did.
        changes: What came of it.
        cells: What it makes of the cells: `17:3` gives cell 17 the kind 3, `*:3` gives all that; may be empty.
    """

    day: str
    what: str
    did: str
    changes: str
    cells: str


@dataclass(frozen=True)
class LifeView:
    """One VM's life under one policy.

    Attributes:
        policy: Place of the policy in the run.
        name: Such as `"median VM under hgm2m"`.
        about: In what it is typical, and how it ends.
        command: Prints the whole life; may be empty.
        left_out: Steps beyond those on the page.
        end: Kind of each cell after the last step on the page.
    """

    policy: int
    name: str
    about: str
    command: str
    steps: tuple[Happening, ...]
    left_out: int
    end: tuple[int, ...]


def kinds_of(sizes: Sequence[str]) -> tuple[str, ...]:
    """What can become of a huge page, from nothing to the worst; the place of each is its kind.

    Examples:
        >>> kinds_of(("1G", "2M", "4K"))
        ('1G', '1G, moved', '2M', '4K', 'poison kept', 'lost', 'not known')
    """
    return (sizes[0], f"{sizes[0]}, moved", *sizes[1:], "poison kept", "lost", "not known")


def tones_of(sizes: Sequence[str]) -> tuple[str, ...]:
    """Name of the colour of each kind; the smaller the leaves, the stronger.

    Examples:
        >>> tones_of(("1G", "2M", "4K"))
        ('whole', 'moved', 'leaf2', 'leaf4', 'kept', 'lost', 'unknown')
    """
    n = len(sizes) - 1
    return ("whole", "moved", *(f"leaf{-(-_TONES * (i + 1) // n)}" for i in range(n)), "kept", "lost", "unknown")


class Cells:
    """Huge pages of a VM, each with its kind, in cells of one or more.

    Args:
        n_regions: Huge pages of the VM.
        sizes: Leaf sizes, largest first.
    """

    def __init__(self, n_regions: int, sizes: Sequence[str]) -> None:
        self.kinds = kinds_of(sizes)
        self.per_cell = -(-n_regions // MOST_CELLS)
        self.n_cells = -(-n_regions // self.per_cell)
        self.n_regions, self._whole = n_regions, sizes[0]
        self._all, self._own = 0, dict[int, int]()
        self._n_whole = n_regions

    def of(self, region: int) -> int:
        """Kind of a huge page."""
        return self._own.get(region, self._all)

    def shown(self) -> tuple[int, ...]:
        """Kind of each cell: the worst of its huge pages."""
        worst = [self._all] * self.n_cells
        for region, kind in self._own.items():
            cell = region // self.per_cell
            worst[cell] = max(worst[cell], kind) if self.per_cell > 1 else kind
        return tuple(worst)

    def take(self, step: Step) -> str:
        """What a step makes of the cells, in the form of `Happening.cells`."""
        before = self.shown()
        self._n_whole += int(step.changes.get(f"leaves_{self._whole.lower()}", 0))
        leaf = step.leaf
        for act in step.acts:
            name, _, size = act.partition(" ")
            if name == "EVACUATE":
                self._become(0)
            elif name in _WHERE_UNKNOWN:
                self._become(0 if self._n_whole == self.n_regions else None)
            elif name == "SPLIT_VM_TO":
                self._split_all(self.kinds.index(size))
                leaf = size
            elif step.region is not None:
                leaf = self._at(step.region, name, size, leaf, step)
        if step.what == "restarted":
            self._become(0 if self._n_whole == self.n_regions else None)
        after = self.shown()
        changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        if len(changed) > MOST_CELLS // 8:
            usual = max(set(after), key=after.count)
            return " ".join([f"*:{usual}", *(f"{i}:{kind}" for i, kind in enumerate(after) if kind != usual)])
        return " ".join(f"{i}:{after[i]}" for i in changed)

    def _at(self, region: int, name: str, size: str, leaf: str, step: Step) -> str:
        """What one act makes of one huge page; the leaf that the poison is in after it."""
        if name.startswith("SPLIT"):
            self._own[region] = max(self.kinds.index(size), self.of(region) if self.of(region) != 1 else 0)
            return size
        lost = self.kinds.index("lost")
        if name in ("MIGRATE", "OFFLINE"):
            gone = name == "OFFLINE" and step.changes.get(f"leaves_{self._whole.lower()}", 0) < 0
            self._own[region] = lost if gone else 1
        elif name.startswith("UNMAP") and leaf == self._whole:
            self._own[region] = lost
        elif name == "KEEP":
            self._own[region] = max(self.of(region), self.kinds.index("poison kept"))
        return leaf

    def _become(self, kind: int | None) -> None:
        """All huge pages are alike from now on; or, with None, it is not known which of those not whole became so."""
        if kind is None:
            self._own = {region: len(self.kinds) - 1 for region, own in self._own.items() if own > 1}
        else:
            self._all, self._own = kind, {}

    def _split_all(self, kind: int) -> None:
        self._all = max(self._all, kind)
        self._own = {region: max(own, kind) for region, own in self._own.items() if own != 1}


def lives(result: Result) -> list[LifeView]:
    """The median VM and a bad one under each policy, of those that are hit.

    Examples:
        >>> import poisonsim as ps
        >>> view = lives(ps.run("seed-1t", policies=["hgm2m"], trials=100, seed=7))[0]
        >>> view.name, view.steps[0].did, view.end.count(3) > 80
        ('median VM under hgm2m', 'SPLIT_TO 2M, SPLIT_TO 4K, UNMAP', True)
    """
    found = typical_trials(result)
    return [_view(result, typical, MOST_STEPS // len(found)) for typical in found]


def _view(result: Result, typical: Typical, most: int) -> LifeView:
    life = life_of(result, typical.trial, typical.policy, most=most)
    middle = "median VM" if typical.quantile == 0.5 else "p99 VM"
    return view_of(
        life, result.plan, result.policies.index(typical.policy),
        name=f"{middle} under {typical.policy}",
        about=f"Trial {typical.trial:,}: {life.n_steps:,} steps; chosen among VMs that are hit by "
        f"{HEADINGS[typical.metric].lower()}.",
        command=shlex.join(["poisonsim", "life", ".", "--trial", str(typical.trial), "--policy", typical.policy]),
    )  # fmt: skip


def view_of(life: Life, plan: Plan, policy: int, *, name: str, about: str, command: str = "") -> LifeView:
    """A life as the page shows it; its end is told after what it is `about`.

    Args:
        policy: Place of its policy in the run.
    """
    cells = Cells(plan.scenario.vm.n_regions, plan.ladder.sizes)
    steps = tuple(_happenings(life, cells))
    ends = ", ".join(
        f"{words} {format_bytes(life.end[name])}" for name, words in _TOLD.items() if name.endswith("bytes")
    )
    lost = "; the VM is lost" if life.end["vm_lost"] else ""
    left_out = life.n_steps - len(life.steps)
    return LifeView(policy, name, f"{about} At the end: {ends}{lost}.", command, steps, left_out, cells.shown())


def _happenings(life: Life, cells: Cells) -> Iterator[Happening]:
    for step in life.steps:
        where = f" in region {step.region:,}" if step.region is not None else ""
        leaf = f" ({step.leaf} leaf)" if step.leaf else " (not mapped)" if step.region is not None else ""
        how = [step.found_by and f"found by {step.found_by}", step.mode and f"{step.mode} fault"]
        what = ", ".join(filter(None, (f"{step.what}{where}{leaf}", *how)))
        changes = [
            f"{words} {_signed(name, step.changes[name])}" for name, words in _TOLD.items() if name in step.changes
        ]
        changes += ["VM lost"] if step.changes.get("vm_lost", 0) > 0 else []
        yield Happening(
            f"{step.years * DAYS_PER_YEAR:,.1f}", what, ", ".join(step.acts), "; ".join(changes), cells.take(step)
        )


def _signed(name: str, value: float) -> str:
    size = format_bytes(abs(value)) if name.endswith("_bytes") else f"{abs(value):,.0f}"
    return minus(f"{'+' if value > 0 else '-'}{size}")


def grid_png(view: LifeView, sizes: Sequence[str], subtitle: str, provenance: Mapping[str, str]) -> bytes:
    """The huge pages of a VM after the last step on the page, as a PNG file."""
    heading = f"Huge pages of the {view.name}"
    kinds, tones = kinds_of(sizes), tones_of(sizes)
    rows = [view.end[first : first + _COLUMNS] for first in range(0, len(view.end), _COLUMNS)]
    frame = Frame(860, 150 + 13.0 * len(rows), heading=(heading, subtitle))
    canvas = Canvas((frame.width, frame.height), (4, 4, frame.top + 14, 8))
    canvas.set_axes(Linear((0.0, _COLUMNS)), Linear((0.0, len(rows))), Ticks((), ()), Ticks((), ()))
    places = [(i % _COLUMNS + 0.05, len(rows) - i // _COLUMNS - 0.92) for i in range(len(view.end))]
    for kind, tone in enumerate(tones):
        boxes = [
            [(x, y), (x + 0.9, y), (x + 0.9, y + 0.84), (x, y + 0.84)]
            for (x, y), own in zip(places, view.end, strict=True)
            if own == kind
        ]
        canvas.axes.add_collection(PolyCollection(boxes, facecolor=TONES[tone][0], linewidth=0))
    write_titles(canvas, frame, "", "")
    at_x = 8.0
    for kind, tone in enumerate(tones):
        words = f"{kinds[kind]} {view.end.count(kind):,}"
        canvas.line([at_x, at_x + 14], [frame.height - frame.top + 8] * 2, color=TONES[tone][0], linewidth=9)
        canvas.text(at_x + 20, frame.height - frame.top + 8, words, ha="left")
        at_x += 40 + text_width(words)
    return canvas.png({"Title": heading, **provenance})
