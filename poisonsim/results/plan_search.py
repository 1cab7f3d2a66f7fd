"""The search of a plan: the least spares with which each policy meets the service levels, tested no more than needed.

Nothing here simulates: a `Measure` is asked for what it needs, a round at a time, so that all that a round asks for can
be simulated side by side, on the same errors.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple, TypeAlias

from poisonsim.results.levels import FAILED, MET, OPEN, Level, Standing
from poisonsim.results.statistics import Estimate

MORE_SPARES = 3
"""Spares that are added, one by one, where the most trials show that what fewer found enough is not."""

RAISE = 4
"""Times more trials at each step, so that what was simulated before is at most a third of what is."""

MOST_SCANNED = 64
"""Numbers of spares that are tried one by one where more of them do not help throughout."""


@dataclass(frozen=True)
class Family:
    """A policy with its parameters and what becomes of HVO: all of a choice but the number of spares.

    Attributes:
        params: Values of its parameters, spares apart, in name order; those at their default are left out.
        hvo: What becomes of HVO, a value of `hvo_key`; None where the policy leaves it alone.
        takes_spares: Whether the number of spares is searched.
        hvo_key: `host.hvo_with_keep` where the policy keeps poison mapped and does nothing else to HVO.
    """

    policy: str
    params: tuple[tuple[str, int], ...] = ()
    hvo: str | None = None
    takes_spares: bool = False
    hvo_key: str = "host.hvo_with_hgm"


class Choice(NamedTuple):
    """A family with a number of spares; None where it is not searched."""

    family: Family
    spares: int | None


@dataclass(frozen=True)
class Measured:
    """What a choice was found to do.

    Attributes:
        values: Of the quantity of each level; None where too few trials tell.
        cost: Mean host memory cost, bytes.
        slowdown: Its mean.
        trials: VM lifetimes that it is from.
    """

    values: tuple[Estimate | None, ...]
    cost: Estimate
    slowdown: Estimate
    trials: int


Request: TypeAlias = tuple[Choice, int]
"""A choice, and the trials that it is wanted from."""

Measure: TypeAlias = Callable[[Sequence[Request]], Sequence[Measured]]


@dataclass(frozen=True)
class Found:
    """What became of one family.

    Attributes:
        choice: With the least spares that clearly meet all levels; else with the least that may; else with those that
            were found to come nearest.
        measured: What it does.
        standings: Of each level, in their order.
        fewer_open: Whether one spare less may do as well, which the most trials do not tell.
        scanned: Whether more spares did not help throughout, so that they were tried one by one.
    """

    choice: Choice
    measured: Measured
    standings: tuple[Standing, ...]
    fewer_open: bool = False
    scanned: bool = False

    @property
    def standing(self) -> Standing:
        """Of all levels together."""
        return together(self.standings)


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        trials: Trials at first, and each time that more are wanted, ascending.
        most_spares: Spares beyond which nothing is tried.
        tie_bytes: Costs that differ by less count as equal.
    """

    trials: tuple[int, ...]
    most_spares: int
    tie_bytes: float = 0.0


@dataclass
class Search:
    """Families searched so far.

    Attributes:
        found: By family, in the order of their search.
        points: Choices that were measured, with the trials of the last time.

    Examples:
        >>> from poisonsim.results.levels import parse_levels
        >>> from poisonsim.results.metrics import metrics_for
        >>> levels = parse_levels(["spares_exhausted <= 1%"], metrics_for(("1G", "4K")))
        >>> def measure(requests):
        ...     exact = lambda value: Estimate(value, value, value, "1")
        ...     return [Measured((exact(float(s < 5)),), exact(s), exact(1.0), n) for (_, s), n in requests]
        >>> search = Search(levels, measure, Effort((1000,), most_spares=128))
        >>> search.run([Family("migrate1g", takes_spares=True)])
        >>> [(found.choice.spares, found.standing) for found in search.found.values()], len(search.points)
        ([(5, 'met')], 9)
    """

    levels: tuple[Level, ...]
    measure: Measure
    effort: Effort
    progress: Callable[[int, str], None] = lambda points, what: None
    found: dict[Family, Found] = field(default_factory=dict)
    points: dict[Choice, Measured] = field(default_factory=dict)

    def run(self, families: Iterable[Family], guesses: Mapping[str, int] | None = None) -> None:
        """Searches families side by side, those that want fewest trials first.

        Args:
            guesses: Spares that are tried first, by policy.
        """
        guesses = guesses or {}
        steps = {family: _steps(self, family, guesses.get(family.policy)) for family in families}
        wanted: dict[Family, list[Request]] = {}
        for family in list(steps):
            self._advance(family, steps, wanted, None)
        while wanted:
            fewest = min(max(n for _, n in requests) for requests in wanted.values())
            due = [family for family in wanted if max(n for _, n in wanted[family]) == fewest]
            if fewest > self.effort.trials[0]:
                bar = self._bar()
                for family in [family for family in due if self._too_dear(family, bar)]:
                    due.remove(family)
                    self._advance(family, steps, wanted, ())
            requests = [request for family in due for request in wanted[family]]
            if not requests:
                continue
            self.progress(len(self.points), ", ".join(dict.fromkeys(family.policy for family in due)))
            answers = iter(self.measure(requests))
            for family in due:
                got = tuple(next(answers) for _ in wanted[family])
                self.points |= {choice: one for (choice, _), one in zip(wanted[family], got, strict=True)}
                self._advance(family, steps, wanted, got)

    def confirm(self, family: Family) -> None:
        """Measures what was found of a family by the most trials, as fewer may have met the levels by chance."""
        found, spares = self.found[family], self.found[family].choice.spares
        self.progress(len(self.points), f"{family.policy} by all trials")
        for more in range(1 if spares is None else MORE_SPARES + 1):
            choice = Choice(family, None if spares is None else spares + more)
            [measured] = self.measure([(choice, self.effort.trials[-1])])
            self.points[choice] = measured
            standings = tuple(level.standing(value) for level, value in zip(self.levels, measured.values, strict=True))
            found = replace(found, choice=choice, measured=measured, standings=standings)
            if found.standing == MET:
                break
        self.found[family] = found

    def _advance(
        self, family: Family, steps: Mapping[Family, Steps], wanted: dict[Family, list[Request]],
        got: tuple[Measured, ...] | None,
    ) -> None:  # fmt: skip
        """One family one step on; what it wants next, or what was found of it."""
        try:
            wanted[family] = next(steps[family]) if got is None else steps[family].send(got)
        except StopIteration as end:
            wanted.pop(family, None)
            self.found[family] = end.value

    def _bar(self) -> float:
        """Upper end of the cost of the second-cheapest policy that is known to meet the levels, ties apart; or inf."""
        cheapest: dict[str, float] = {}
        for found in self.found.values():
            if found.standing == MET:
                policy = found.choice.family.policy
                cheapest[policy] = min(cheapest.get(policy, inf), found.measured.cost.high)
        lowest = min(cheapest.values(), default=inf)
        return min((cost for cost in cheapest.values() if cost > lowest + self.effort.tie_bytes), default=inf)

    def _too_dear(self, family: Family, bar: float) -> bool:
        """Whether a family costs more than two other policies that meet the levels, with any number of spares tried."""
        known = [measured.cost.low for choice, measured in self.points.items() if choice.family == family]
        return bool(known) and min(known) > bar


Steps: TypeAlias = Generator[list[Request], tuple[Measured, ...], Found]


def together(standings: Iterable[Standing]) -> Standing:
    """Of several levels: failed if any is, else open if any is.

    Examples:
        >>> together(["met", "open"]), together(["failed", "open"]), together([])
        ('open', 'failed', 'met')
    """
    each = set(standings)
    return FAILED if FAILED in each else OPEN if OPEN in each else MET


def _steps(search: Search, family: Family, guess: int | None) -> Steps:
    """The search of one family, as a generator of what it wants measured."""
    one = _OneFamily(search, family)
    every = range(len(search.levels))
    none = 0 if family.takes_spares else None
    measured = yield from one.settled(none, every)
    if one.standing(none, every) == MET or none is None or measured is None:
        return one.result(none)
    # Levels that hold without spares are looked at again at the end; more spares can only help the others.
    wanting = [i for i, standing in enumerate(one.standings(none)) if standing != MET]
    low, high = 0, search.effort.most_spares
    if guess is not None and 0 < guess < high:
        yield from one.settled(guess, wanting)
        if one.standing(guess, wanting) == MET:
            high = guess
            yield from one.settled(guess - 1, wanting)
            if guess - 1 > low and one.standing(guess - 1, wanting) != MET:
                low = guess - 1
        else:
            low = guess
    if high not in one.known:
        yield from one.settled(high, wanting)
    if one.standing(high, wanting) == OPEN:
        enough = yield from one.fewest_as_good(high, wanting)
        yield from one.settled(enough, every)
        return one.result(enough)
    if one.standing(high, wanting) == FAILED:
        # Without end, more spares would not do; at the end that is nearer, it shows what is wanting.
        return one.result(high if one.improves(wanting) else 0)
    while high - low > 1:
        middle = (low + high) // 2
        yield from one.settled(middle, wanting)
        low, high = (low, middle) if one.standing(middle, wanting) == MET else (middle, high)
    if one.breaks(wanting):
        grid = range(1, high, max((high - 1) // MOST_SCANNED, 1))
        yield from one.all_at_once([spares for spares in grid if spares not in one.known])
        high = next((s for s in one.tried() if one.standing(s, every) == MET), high)
        one.scanned = True
        low = max((s for s in one.tried() if s < high), default=0)
    yield from one.settled(high, every)
    affordable = yield from one.most_affordable(high, [i for i in every if i not in wanting])
    if affordable is not None:
        return one.result(affordable)
    fewer_open = one.standing(low, wanting) == OPEN
    return replace(one.result(high), fewer_open=fewer_open and one.standing(high, every) == MET)


class _OneFamily:
    """What is known of one family by its number of spares."""

    def __init__(self, search: Search, family: Family) -> None:
        self.search, self.family = search, family
        self.known: dict[int | None, Measured] = {}
        self.scanned = False

    def settled(self, spares: int | None, which: Sequence[int]) -> Generator[
        list[Request], tuple[Measured, ...], Measured | None
    ]:  # fmt: skip
        """Measures until the levels are decided, trials run out, or it is too dear to matter."""
        for trials in self.search.effort.trials:
            if spares not in self.known or self.known[spares].trials < trials:
                if spares in self.known and self.standing(spares, which) != OPEN:
                    break
                got = yield [(Choice(self.family, spares), trials)]
                if not got:  # it would not matter
                    break
                self.known[spares] = got[0]
        return self.known.get(spares)

    def all_at_once(self, every: Sequence[int]) -> Generator[list[Request], tuple[Measured, ...], None]:
        """Measures several numbers of spares, once each."""
        trials = max(measured.trials for measured in self.known.values())
        if every:
            got = yield [(Choice(self.family, spares), trials) for spares in every]
            self.known |= dict(zip(every, got, strict=False))

    def fewest_as_good(self, high: int, which: Sequence[int]) -> Generator[
        list[Request], tuple[Measured, ...], int
    ]:  # fmt: skip
        """The fewest spares with which no level does worse than with `high`, as far as the trials tell."""
        met = [i for i in which if self.standings(high)[i] == MET]

        def as_good(spares: int) -> bool:
            return self.standing(spares, met) == MET and self.standing(spares, which) != FAILED

        low = 0
        if as_good(low):
            return low
        while high - low > 1:
            middle = (low + high) // 2
            yield from self.settled(middle, met)
            low, high = (low, middle) if as_good(middle) else (middle, high)
        return high

    def most_affordable(self, high: int, others: Sequence[int]) -> Generator[
        list[Request], tuple[Measured, ...], int | None
    ]:  # fmt: skip
        """The most spares with which no level clearly fails, where as many as are clearly enough fail another level.

        Args:
            high: Spares that are clearly enough for the levels that spares help.
            others: Levels that hold without spares; more spares can only make them fail.
        """
        standings = self.standings(high)
        failing = [i for i in others if standings[i] == FAILED]
        if not failing:
            return None
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            if (yield from self.settled(middle, failing)) is None:
                return None
            low, high = (low, middle) if self.standing(middle, failing) == FAILED else (middle, high)
        every = range(len(self.search.levels))
        yield from self.settled(low, every)
        return low if self.standing(low, every) != FAILED else None

    def tried(self) -> list[int]:
        """Numbers of spares that are known, ascending."""
        return sorted(spares for spares in self.known if spares is not None)

    def standings(self, spares: int | None) -> tuple[Standing, ...]:
        """Of each level at a number of spares that is known."""
        values = self.known[spares].values
        return tuple(level.standing(value) for level, value in zip(self.search.levels, values, strict=True))

    def standing(self, spares: int | None, which: Sequence[int]) -> Standing:
        """Of some levels together."""
        standings = self.standings(spares)
        return together(standings[i] for i in which)

    def improves(self, which: Sequence[int]) -> bool:
        """Whether the most spares tried do clearly better than none, by a level that fails with none."""
        first, last = self.known[0], self.known[self.tried()[-1]]
        return any(self._better(i, last.values[i], first.values[i]) for i in which)

    def breaks(self, which: Sequence[int]) -> bool:
        """Whether somewhere more spares do clearly worse, by a level that they are meant to help."""
        order = self.tried()
        return any(
            self._better(i, self.known[few].values[i], self.known[many].values[i])
            for few, many in zip(order, order[1:], strict=False)
            for i in which
        )

    def result(self, spares: int | None) -> Found:
        """What was found, shown at a number of spares that is known."""
        choice = Choice(self.family, spares)
        return Found(choice, self.known[spares], self.standings(spares), scanned=self.scanned)

    def _better(self, which: int, a: Estimate | None, b: Estimate | None) -> bool:
        """Whether `a` is clearly better than `b` by a level."""
        if a is None or b is None:
            return False
        return a.high < b.low if self.search.levels[which].lower_is_better else a.low > b.high
