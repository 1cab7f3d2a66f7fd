"""The search of a plan, by measures whose answer is known: no more tests than needed, and nothing taken for granted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from poisonsim.results.levels import parse_levels
from poisonsim.results.metrics import metrics_for
from poisonsim.results.plan_search import Effort, Family, Found, Measured, Request, Search
from poisonsim.results.statistics import Estimate

LEVELS = parse_levels(["vm_lost <= 10%", "capacity_cost_bytes <= 20"], metrics_for(("1G", "4K")))
A, B = (Family(name, takes_spares=True) for name in ("a", "b"))
Law = Callable[[Family, int], tuple[float, float]]


class Fake:
    """Measures by a law of family and spares: share of VMs lost, and cost; the interval of the share is known."""

    def __init__(self, law: Law, half: Callable[[int], float] = lambda trials: 0.0) -> None:
        self.law, self.half = law, half
        self.rounds: list[list[Request]] = []

    def __call__(self, requests: Sequence[Request]) -> list[Measured]:
        self.rounds.append(list(requests))
        return [self.one(*request) for request in requests]

    def one(self, choice: tuple[Family, int | None], trials: int) -> Measured:
        lost, cost = self.law(choice[0], choice[1] or 0)
        half = self.half(trials)
        exact = Estimate(cost, cost, cost, "bytes")
        return Measured((Estimate(lost - half, lost, lost + half, "1"), exact), exact, Estimate(1, 1, 1, "1"), trials)

    @property
    def asked(self) -> list[tuple[str, int | None, int]]:
        return [(choice.family.policy, choice.spares, n) for lot in self.rounds for choice, n in lot]


def searched(fake: Fake, families: Sequence[Family] = (A,), trials: tuple[int, ...] = (100,), most: int = 64) -> Search:
    search = Search(LEVELS, fake, Effort(trials, most))
    search.run(families)
    return search


def only(search: Search) -> Found:
    [found] = search.found.values()
    return found


def test_what_few_trials_leave_open_is_not_called_failed_for_the_cost_of_being_sure() -> None:
    """Four spares are enough and cheap, but to be sure of it takes 40, which are too dear."""
    fake = Fake(lambda family, spares: (0.3 if spares < 4 else 0.099 - spares * 1e-3, spares), half=lambda trials: 0.04)
    found = only(searched(fake))
    assert (found.choice.spares, found.standing, found.standings) == (20, "open", ("open", "met"))


def test_what_fails_for_its_cost_is_called_failed() -> None:
    found = only(searched(Fake(lambda family, spares: (0.0 if spares >= 30 else 0.5, spares))))
    assert (found.choice.spares, found.standings) == (30, ("met", "failed"))


@pytest.mark.parametrize(("least", "spares"), [(0, 0), (1, 1), (3, 3), (13, 13)])
def test_what_stays_open_is_shown_with_the_fewest_spares_that_may_do(least: int, spares: int) -> None:
    """Spares help up to `least`, and then the level is too close to tell with any number of them."""
    fake = Fake(lambda family, n: (0.5 if n < least else 0.1, n), half=lambda trials: 0.02)
    found = only(searched(fake, most=20))
    assert (found.choice.spares, found.standings) == (spares, ("open", "met"))
    assert len(fake.asked) <= 2 + 5


@pytest.mark.parametrize("least", [0, 1, 2, 5, 17, 20])
def test_the_least_number_of_spares_is_found_in_few_tests(least: int) -> None:
    fake = Fake(lambda family, spares: (0.0 if spares >= least else 0.5, spares))
    found = only(searched(fake))
    assert (found.choice.spares, found.standing, found.fewer_open) == (least, "met", False)
    assert len(fake.asked) <= (1 if least == 0 else 8)
    assert len(set(fake.asked)) == len(fake.asked)


def test_a_level_that_no_spares_mend_ends_the_search_after_both_ends() -> None:
    fake = Fake(lambda family, spares: (0.5, spares))
    found = only(searched(fake))
    assert (found.standing, found.choice.spares, found.standings) == ("failed", 0, ("failed", "met"))
    assert fake.asked == [("a", 0, 100), ("a", 64, 100)]


def test_spares_that_help_too_little_are_shown_at_their_most() -> None:
    found = only(searched(Fake(lambda family, spares: (0.9 - spares / 128, spares))))
    assert (found.standing, found.choice.spares) == ("failed", 64)


def test_spares_that_cost_too_much_fail_where_the_other_level_is_met() -> None:
    found = only(searched(Fake(lambda family, spares: (0.0 if spares >= 30 else 0.5, spares))))
    assert (found.choice.spares, found.standings) == (30, ("met", "failed"))


def test_where_more_spares_do_worse_every_number_is_tried() -> None:
    def law(family: Family, spares: int) -> tuple[float, float]:
        lost = {0: 0.5, 3: 0.05, 16: 0.3, 32: 0.09}.get(spares, 0.2 if spares < 24 else 0.05)
        return lost, spares / 10

    found = only(searched(Fake(law)))
    assert (found.scanned, found.choice.spares, found.standing) == (True, 3, "met")
    assert not only(searched(Fake(lambda family, spares: (0.5 / (1 + spares), spares)))).scanned


def test_trials_are_raised_only_where_the_interval_spans_the_level() -> None:
    fake = Fake(lambda family, spares: (max(0.3 - spares * 0.05, 0), spares), half=lambda n: 0.6 / n**0.5)
    found = only(searched(fake, trials=(100, 400, 1600)))
    raised = {spares for _, spares, n in fake.asked if n > 100}
    assert raised == {4, 5}  # 0.1 and 0.05 are within 0.06 of the level; 3 need not be looked at
    assert (found.choice.spares, found.fewer_open) == (5, True)  # at 4 it is the level itself
    assert {n for _, spares, n in fake.asked if spares == 4} == {100, 400, 1600}
    assert {n for _, spares, n in fake.asked if spares == 5} == {100, 400}


def test_what_stays_open_is_said_to_be() -> None:
    fake = Fake(lambda family, spares: (0.1, 0), half=lambda n: 0.01)
    found = only(searched(fake, [Family("c")], trials=(100, 400)))
    assert (found.standing, found.choice.spares, fake.asked) == ("open", None, [("c", None, 100), ("c", None, 400)])


def test_a_policy_that_costs_more_than_two_that_do_is_not_pursued() -> None:
    costs = {"a": 1.0, "b": 2.0, "dear": 3.0, "cheap": 1.5}

    def law(family: Family, spares: int) -> tuple[float, float]:
        return (0.1 if family.policy in ("dear", "cheap") else 0.01), costs[family.policy]

    fake = Fake(law, half=lambda n: 0.02)
    search = searched(fake, [Family(name) for name in costs], trials=(100, 400))
    assert [policy for policy, _, n in fake.asked if n == 400] == ["cheap"]
    assert [found.standing for found in search.found.values()].count("met") == 2
    assert len(fake.rounds) == 2, "what can be measured side by side is"


def test_policies_that_tie_leave_the_runner_up_to_be_found() -> None:
    costs = {"a": 1.0, "b": 1.5, "next": 3.0}

    def law(family: Family, spares: int) -> tuple[float, float]:
        return (0.09 if family.policy == "next" else 0.01), costs[family.policy]

    for tie, trials in ((0.0, 100), (1.0, 400)):
        search = Search(LEVELS, Fake(law, half=lambda n: 0.2 / n**0.5), Effort((100, 400), 64, tie))
        search.run([Family(name) for name in costs])
        assert search.found[Family("next")].measured.trials == trials


def test_a_good_guess_saves_tests_and_a_bad_one_costs_few() -> None:
    for guess, most_tests in ((17, 3), (16, 9), (5, 9), (40, 9), (63, 9)):
        fake = Fake(lambda family, spares: (0.0 if spares >= 17 else 0.5, spares))
        search = Search(LEVELS, fake, Effort((100,), 64))
        search.run([A], {"a": guess})
        assert only(search).choice.spares == 17
        assert len(fake.asked) <= most_tests, guess


def test_families_side_by_side_find_what_each_finds_alone() -> None:
    def law(family: Family, spares: int) -> tuple[float, float]:
        return (0.0 if spares >= (3 if family == A else 9) else 0.5), spares

    together = searched(Fake(law), (A, B))
    assert {family.policy: found.choice.spares for family, found in together.found.items()} == {"a": 3, "b": 9}
    assert only(searched(Fake(law), (B,))).choice.spares == 9
