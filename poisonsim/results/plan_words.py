"""A plan in words: the answer first, then what comes next, what is not known, and what would flip the choice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from poisonsim.results.cost_words import hvo_sentence
from poisonsim.results.levels import FAILED, MET, OPEN, Level, Standing
from poisonsim.results.numbers import in_bytes, in_percent
from poisonsim.results.plan import CapacityPlan
from poisonsim.results.plan_candidates import HVO_CHOICES
from poisonsim.results.plan_flips import MOST_CONTENDERS, Flip, changes_of_hvo
from poisonsim.results.plan_rows import PREFERENCES, Row, cheapest_first, host_value, tie_bytes
from poisonsim.results.statistics import Estimate

MARKS: dict[Standing, str] = {MET: "✓", FAILED: "✗", OPEN: "?"}
_HVO = {"off-everywhere": "HVO off everywhere", "off-where-split": "HVO off where split", "kept": "HVO kept"}


def choice_words(row: Row) -> str:
    """A choice as one says it.

    Examples:
        >>> import poisonsim as ps
        >>> levels = ["capacity_cost_bytes <= 1% of memory"]
        >>> found = ps.plan("seed-1t", levels=levels, policies=["hgm2m"], trials=500, flips=False)
        >>> choice_words(found.rows[0])
        'hgm2m (HVO kept)'
    """
    words = []
    if row.spares is not None:
        words.append(spares_words(row.spares))
    words += [f"{name} = {value}" for name, value in row.params.items()]
    if row.hvo is not None:
        words.append(_HVO[row.hvo])
    return f"{row.policy} ({', '.join(words)})" if words else row.policy


def spares_words(spares: int) -> str:
    """A number of spares as one says it.

    Examples:
        >>> spares_words(0), spares_words(1), spares_words(2)
        ('no spares', '1 spare', '2 spares')
    """
    return f"{spares or 'no'} spare{'' if spares == 1 else 's'}"


def answer(found: CapacityPlan) -> str:
    """Which choice is the cheapest, with its cost and what it is ahead by; or that none will do, and which is nearest.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.plan("seed-1t-distinct", levels=["errors <= 1"], policies=["unmap1g"], trials=500, flips=False)
        >>> answer(found)
        'the one policy does not meet the level: unmap1g: mean(errors) is 100, not <= 1'
    """
    n = len(found.levels)
    all_levels = "the level" if n == 1 else f"all {n} levels"
    best = found.best
    if best is None:
        return _none(found, all_levels)
    cost = best.measured.cost
    share: object = in_percent(_over(cost, found.scenario.vm.memory_bytes))
    if not str(share).strip("0 %") and cost.best > 0:
        share = "under 0.01 %"
    status = best.status.partition(",")[0]
    text = (
        f"cheapest that meets {all_levels}: {choice_words(best)}{'' if status == 'mainline' else f', {status}'}, at "
        f"{in_bytes(cost)} of host memory ({share})"
    )
    n_open = sum(_cheaper_and_open(found, row) for row in found.rows)
    if n_open:
        text += f"; {n_open} cheaper {'one is' if n_open == 1 else 'ones are'} undecided"
    same = [row for row in found.alike if row.same_as(best)]
    if same:
        text += f"; the same in all figures: {', '.join(row.policy for row in same)}"
    if alike := [row for row in found.alike if row not in same]:
        tie = in_bytes(_exactly(tie_bytes(found.scenario)))
        text += f"; as cheap to within {tie}: {', '.join(choice_words(row) for row in alike)}"
        text += "".join(f", of which {row.policy} is cheaper but {why}" for row, why in _passed_over(best, alike))
    if found.runner_up is None or found.gap is None:
        text += f"; no other policy is known to meet {'it' if n == 1 else 'them'}"
    else:
        text += f"; runner-up: {choice_words(found.runner_up)}, {_dearer(found.gap)}"
    return text + _with_other_hvo(found, best)


def same_lines(found: CapacityPlan) -> list[str]:
    """Which rows are the same as one above them in every figure, a line for each that others are the same as."""
    first: list[list[Row]] = []
    for row in found.rows:
        group = next((rows for rows in first if row.same_as(rows[0])), None)
        first.append([row]) if group is None else group.append(row)
    return [
        f"same as {rows[0].policy} in all figures: {', '.join(row.policy for row in rows[1:])}"
        for rows in first
        if len(rows) > 1
    ]


def _passed_over(best: Row, alike: Sequence[Row]) -> list[tuple[Row, str]]:
    """Choices that tie with the best and cost less all the same, and what puts each behind it."""
    found = []
    for row in alike:
        if row.measured.cost.best < best.measured.cost.best:
            found.append((row, next(each.worse for each in PREFERENCES if each.key(row) > each.key(best))))
    return found


def _with_other_hvo(found: CapacityPlan, best: Row) -> str:
    """The choice where HVO becomes what the scenario says, or else is turned off, if the best asks for more."""
    off = HVO_CHOICES[0]
    if best.hvo is None:
        return ""
    changes = changes_of_hvo(found.every)
    if not best.suits(found.scenario) and any(row.hvo and row.suits(found.scenario) for row in found.every):
        rows = cheapest_first([row for row in found.every if row.suits(found.scenario)], found.scenario)
        own = [f"{key}={host_value(found.scenario, key)}" for key in changes]
        where = f"With {' and '.join(own)}, as the scenario has it,"
    elif best.hvo != off and any(row.hvo == off for row in found.every):
        rows = cheapest_first([row for row in found.every if row.suits_hvo(off)], found.scenario)
        where = f"If {' and '.join(changes.values())} turn{'s' if len(changes) == 1 else ''} HVO off everywhere,"
    else:
        return ""
    if rows[0].standing != MET:
        return f". {where} nothing is known to meet the levels"
    return f". {where} it is {choice_words(rows[0])}, at {in_bytes(rows[0].measured.cost)}"


def not_in_cost(found: CapacityPlan) -> str | None:
    """That the cost leaves out the hosts that policies evacuate to; None where no policy does.

    Examples:
        >>> import poisonsim as ps
        >>> host = ps.load_scenario("seed-1t", overrides=["host.spare_hosts=1", "host.moves_poison=true"])
        >>> found = ps.plan(host, levels=["vm_lost <= 50%"], policies=["evacuate-after:n=5"], trials=100, flips=False)
        >>> not_in_cost(found)
        'host cost leaves out the 1 host kept to evacuate to (host.spare_hosts): evacuate-after:n=5'
    """
    if not found.evacuate:
        return None
    n = found.scenario.host.spare_hosts
    hosts = f"{n} host{'' if n == 1 else 's'} kept to evacuate to (host.spare_hosts)"
    return f"host cost leaves out the {hosts}: {', '.join(found.evacuate)}"


def not_known(found: CapacityPlan) -> list[str]:
    """What the trials leave open, and how many more would tell."""
    lines = [note] if (note := hvo_sentence(found.scenario)) else []
    for row in found.rows:
        if row.found.fewer_open and row.spares:
            lines.append(f"{choice_words(row)}: whether {row.spares - 1} would do is not decided; raise --trials")
        if row.found.scanned:
            lines.append(f"{row.policy}: more spares do not help throughout, so they were tried one by one")
        if row.standing != OPEN:
            continue
        cheaper = "cheaper than the choice, but " if _cheaper_and_open(found, row) else ""
        for level, standing, value in zip(found.levels, row.found.standings, row.measured.values, strict=True):
            if standing == OPEN:
                wanted = level.trials_to_decide(value, row.measured.trials)
                more = (
                    f"about {float(f'{wanted:.2g}'):,.0f} trials would decide it"
                    if wanted < 1e15
                    else "no number of trials would decide it"
                )
                lines.append(f"{choice_words(row)} is {cheaper}undecided on {level.text}; {more}")
    return lines


def flip_lines(flips: Sequence[Flip]) -> list[str]:
    """What would flip the choice, a line for each kind of change."""
    groups: dict[str, list[Flip]] = {}
    for flip in flips:
        groups.setdefault(flip.group, []).append(flip)
    lines = []
    for group, each in groups.items():
        if each[0].note:
            lines.append(f"{group}: cannot flip it, for {each[0].note}")
            continue
        outcomes: dict[str, list[str]] = {}
        for flip in each:
            outcomes.setdefault(_outcome(flip), []).append(flip.value)
        lines.append(f"{group}: " + "; ".join(f"{', '.join(values)}: {text}" for text, values in outcomes.items()))
    return lines


def order_words(found: CapacityPlan) -> str:
    """What comes before what in the table."""
    tie = tie_bytes(found.scenario)
    words = "those that meet all levels, then undecided ones, then others; each cheapest first"
    costs = {standing: [row.measured.cost.best for row in found.rows if row.standing == standing] for standing in MARKS}
    if any(dear - cheap <= tie for each in costs.values() for cheap, dear in pairwise(sorted(each))):
        first, *others = (preference.better for preference in PREFERENCES)
        words += (
            f"; costs within {in_bytes(_exactly(tie))} of each other are equal, and of those comes first {first}, then "
            f"{', '.join(others)}"
        )
    just = any(row.just for row in found.rows)
    return words + ("; just: by little more than its interval, so another seed may undecide it" if just else "")


def bounds_of_flips(found: CapacityPlan) -> str:
    """How far one has looked for what would flip the choice."""
    return (
        f"looked at: at most {MOST_CONTENDERS} contenders (the best, its runners-up, and cheaper ones that fail here), "
        "at each error rate with spares searched anew, from fewer trials than above"
    )


def cell(level: Level, standing: Standing, value: Estimate | None) -> str:
    """What a row says of a level."""
    just = " just" if level.just_met(value) else ""
    return f"{'-' if value is None else level.quantity.number(value)} {MARKS[standing]}{just}"


def _cheaper_and_open(found: CapacityPlan, row: Row) -> bool:
    """Whether a row is undecided, and would be the choice for its cost."""
    if found.best is None or row.standing != OPEN:
        return False
    return row.measured.cost.best < found.best.measured.cost.best


def _none(found: CapacityPlan, all_levels: str) -> str:
    nearest = min(found.rows, key=lambda row: (row.found.standings.count(FAILED), _miss(found, row)))
    n = len(found.rows)
    misses = [
        f"{level.quantity.text} is {'not known' if value is None else level.quantity.shown(value)}, "
        f"{'not' if standing == FAILED else 'perhaps'} {level.condition.bound_text}"
        for level, standing, value in zip(found.levels, nearest.found.standings, nearest.measured.values, strict=True)
        if standing != MET
    ]
    which = f"{choice_words(nearest)}: {' and '.join(misses)}"
    if n == 1:
        return (
            f"the one policy {'does not meet' if nearest.standing == FAILED else 'may not meet'} {all_levels}: {which}"
        )
    return f"none of {n} policies is known to meet {all_levels}; the nearest is {which}"


def _miss(found: CapacityPlan, row: Row) -> float:
    """How far off a row is from the level that it is furthest off from."""
    return max(level.miss(value) for level, value in zip(found.levels, row.measured.values, strict=True))


def _outcome(flip: Flip) -> str:
    if not flip.decided and flip.cheaper_open is not None:
        other = "none is known to" if flip.best is None else choice_words(flip.best)
        return f"too close to tell: {choice_words(flip.cheaper_open)} if it meets the levels there, otherwise {other}"
    if flip.best is None and flip.cheaper_open is not None:
        return f"too close to tell: none, or {choice_words(flip.cheaper_open)} if it meets the levels there"
    may = (
        f" (unless {choice_words(flip.cheaper_open)}, which is cheaper, meets them too: too close to tell)"
        if flip.cheaper_open is not None
        else ""
    )
    if flip.best is None:
        return "none is known to meet the levels"
    fewer = ", perhaps fewer" if flip.best.found.fewer_open else ""
    if not flip.stays:
        return f"{choice_words(flip.best)}{fewer and f'{fewer} spares'}{may}"
    spares = flip.best.spares
    return f"stays{'' if spares is None else f', with {spares_words(spares)}{fewer}'}{may}"


def _dearer(gap: Estimate) -> str:
    """By how much the runner-up costs more."""
    return f"{'~' if gap.low <= 0 <= gap.high else ''}{in_bytes(gap)} more on the same errors"


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, "bytes")


def _over(value: Estimate, whole: float) -> Estimate:
    return Estimate(value.low / whole, value.best / whole, value.high / whole, "1")
