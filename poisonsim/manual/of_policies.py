"""The pages on the words policies are written in, and on the policies that ship."""

from __future__ import annotations

from poisonsim.manual.markdown import code, page, table
from poisonsim.policy import COUNTERS, TRIGGERS, PolicySource, all_policies, load_policy
from poisonsim.policy.rules import ACTS, ACTS_BY_TRIGGER, DECIDE_FIELDS, HOST_SPARES, MAX_CONDITIONS, OPERATORS

_CALLS = {"on": "on(SIZE, when=GUARD)", "on_ce": "on_ce(SIZE, when=GUARD)", "every": "every(days=N, when=GUARD)"}


def language_page() -> str:
    """Triggers, sizes, guards, counters, actions and attributes."""
    triggers = [
        [code(_CALLS[name]), what, ", ".join(code(act.name) for act in ACTS_BY_TRIGGER[name])]
        for name, what in TRIGGERS.items()
    ]
    acts = [[code(act.name), what] for act, what in ACTS.items()]
    counters = [[code(name), what] for name, what in COUNTERS.items()]
    more = [code(f"c.{name}") for name in DECIDE_FIELDS if name not in COUNTERS]
    operators = ", ".join(map(code, OPERATORS))
    return page(
        "The words of policies",
        "Triggers, guards, counters and actions that rules can use.",
        "A policy is a class with `rules`, a list of `TRIGGER.do(ACTION)`. Rules are tried in order, and the first "
        "whose guard holds acts. Where a rule cannot act, for want of a spare or of a host, the next one is tried, and "
        "the metric `fallbacks` counts it.",
        "## Triggers",
        table(["written", "is tried when", "actions"], triggers),
        '`SIZE` is `BACKING` (the huge page that backs the VM), `BASE` (the base page), a page size such as `"2M"`, '
        'or one of these behind `>` or `<`, as in `">BASE"`.',
        "## Guards",
        f"`when` is text: comparisons joined by `and`, {MAX_CONDITIONS} at most, each of a counter with a whole number "
        f"or a parameter of the policy, by one of {operators}. The counters:",
        table(["counter", "what it counts"], counters),
        "## Actions",
        table(["action", "what it does"], acts),
        "## Attributes of the class",
        table(
            ["written", "means"],
            [
                [
                    code("limit: Annotated[int, Range(1, 64)] = 3"),
                    "a parameter, for guards, `days` and the command line",
                ],
                [code("name"), "what the policy is called; the name of its file with hyphens, if it is not given"],
                [code("mapping"), '`"shared"` or `"private"`, where the mechanism exists for one kind of mapping only'],
                [code("needs_contiguous"), "`True` where `SPLIT` goes down by contiguous entries too (arm64, riscv64)"],
                [code("keeps"), "`True` where a `decide` may answer `KEEP`, for memory whose poison stays mapped"],
                [code("splits"), "`False` where a `decide` never answers `SPLIT`, so that it needs no HGM"],
                [code("moves"), "`False` where a `decide` never answers `MIGRATE`, so that it needs no spares"],
            ],
        ),
        "The docstring's first line is the summary; lines that begin with `Status:`, `Needs:` and `Source:` are shown "
        "by `policies list` and `policies show`.",
        "## Answers in code",
        f"In place of rules, `decide(c, p)`, a static method, answers an action. It sees every counter as `c.NAME`, "
        f"{' and '.join(more)} (0 is the backing page), and the parameters as `p.NAME`; it is compiled, and takes "
        "whole numbers only.",
    )


def policies_page() -> str:
    """What each shipped policy does, needs and rests on."""
    sources = [source for source in all_policies()[0] if source.origin == "poisonsim"]
    rows = [[f"[`{s.name}`](#{s.name})", s.note("Status"), s.summary] for s in sources]
    return page(
        "Shipped policies",
        "What each policy does, needs and rests on, and its rules.",
        table(["policy", "status", "summary"], rows),
        "Status: `mainline` is in Linux today; `patches, not merged` were posted; `proposed` was said on a list, or "
        "can be built from what there is; `hypothetical` is neither.",
        *map(_policy, sources),
    )


def _policy(source: PolicySource) -> str:
    rules = [str(rule) for rule in load_policy(source.name).rules]
    parts = [f"## {source.name}", source.summary, "\n".join(f"    {rule}" for rule in rules)]
    for parameter in source.cls.parameters().values():
        default = "`host.spares`" if parameter.default == HOST_SPARES else f"`{parameter.default}`"
        low, high = parameter.allowed.low, parameter.allowed.high
        parts.append(
            f"Parameter `{parameter.name}`: {low:,} to {high:,}, default {default}, "
            f"as in `--policy {source.name}:{parameter.name}={max(1, parameter.default)}`."
        )
    parts += [f"{heading}: {source.note(heading)}." for heading in ("Status", "Needs", "Source")]
    return "\n\n".join(parts)
