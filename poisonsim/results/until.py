"""When a run that is to reach a given precision has: a rule that looks only at its first blocks, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.run import Stop
from poisonsim.results.conditions import Width, parse_width
from poisonsim.results.metrics import metrics_for
from poisonsim.results.result import Result

LEAST_BLOCKS = 8
"""Blocks before which a run does not stop: an interval that is narrow by chance is likeliest early on."""

MOST_TIMES = 50
"""How many times the default number of trials a run goes on at most, where no number is given."""


def width_of(plan: Plan, text: str, asked: Sequence[str] | None = None) -> Width:
    """The precision written in `text`, for a plan.

    Args:
        asked: Labels of the policies that it is asked of where the text names none; default all.

    Raises:
        MetricError: It means nothing.

    Examples:
        >>> from poisonsim.results.runs import plan_run
        >>> from poisonsim.scenario import Scenario
        >>> width_of(plan_run(Scenario(), policies=["hgm2m"]), "mean(table_bytes) within 1%").bound
        0.01
    """
    return parse_width(text, metrics_for(plan.ladder.sizes), plan.labels, asked)


def stop_rule(plan: Plan, width: Width) -> Stop:
    """Whether to stop after a number of blocks; depends on those blocks only, not on who computed them.

    It looks after 8 blocks and then each time there are an eighth more, so that looking costs little, and does not go
    on until chance makes an interval narrow.
    """
    due = LEAST_BLOCKS

    def stop(n_blocks: int, tally: Callable[[], Tally]) -> bool:
        nonlocal due
        if n_blocks < due:
            return False
        due = max(n_blocks + 1, n_blocks * 9 // 8)
        return width.reached(Result(plan, tally()))

    return stop
