"""Trials of very many errors: what they cost grows with their number, not with its square."""

from __future__ import annotations

import time

from poisonsim.engine.block import follow
from poisonsim.engine.plan import make_plan
from poisonsim.faults.history import draw_history
from poisonsim.scenario import load_scenario

HOST = ["vm.memory=16GiB", "host.spares=65536", "host.spare_hosts=1000", "host.moves_poison=true"]


def seconds(policy: str, errors: int) -> float:
    """CPU time of one trial, the least of three."""
    times = []
    for n in (10, *3 * [errors]):  # the first compiles
        plan = make_plan(load_scenario("seed-1t", overrides=[*HOST, f"faults.errors={n}"]), [policy], 1)
        history = draw_history(plan.scenario, 1, 0, 1)
        begin = time.process_time()
        follow(plan, history, 0)
        times.append(time.process_time() - begin)
    return min(times[1:])


def test_what_is_kept_of_each_error_is_found_at_once() -> None:
    """In 16 regions, where each error is to be told from all before it; by looking through them it took 30 times."""
    errors = 300_000
    counted = seconds("hgm2m", errors)  # where nothing is to be looked up
    for policy in ("migrate1g", "evacuate-after:n=100", "reboot-after", "restart-after:n=5"):
        assert seconds(policy, errors) < 10 * counted, policy


def test_a_night_looks_at_each_error_once() -> None:
    """Each of 1,826 nights finds some 1,000 errors; by pairs of them that took 500 times as long."""
    assert seconds("collapse-nightly", 2000) < 100 * seconds("hgm2m", 2000)
