"""The manual: one Markdown page per topic, in four parts.

A page begins with its title, and then says in one line what the reader gets. Pages of the part `reference` are written
by `poisonsim.cli.reference` from the code's own registries.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache

from poisonsim.errors import TopicError

PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tutorial": ("Tutorial, in twenty minutes", ("tutorial",)),
    "howto": (
        "How to",
        (
            "choose-a-policy", "service-levels", "size-spares", "split-sizes", "write-a-policy", "hgm-and-hvo",
            "sweep-a-key", "mixed-fleet", "compare-runs", "own-faults", "own-cpu", "architectures", "precision",
            "pipelines", "python", "cluster", "one-life", "own-logs", "fleet-logs",
            "public-sample", "checking",
        ),
    ),
    "reference": (
        "Reference, written from the code",
        (
            "commands", "scenario-keys", "metrics", "policy-language", "shipped-policies", "catalogue", "logs",
            "exit-codes", "json", "run-folder",
        ),
    ),
    "background": (
        "Background, with formulas and their sources",
        ("faults", "page-tables", "hvo", "tlb", "slowdown", "consequences", "statistics"),
    ),
}  # fmt: skip
"""Title and topics of each part, in reading order."""


@dataclass(frozen=True)
class Topic:
    """A page of the manual.

    Attributes:
        name: What `poisonsim help` calls it, and its file without `.md`.
        part: One of `PARTS`.
        text: The page as Markdown.
    """

    name: str
    part: str
    text: str

    @property
    def title(self) -> str:
        """What stands at its top."""
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def summary(self) -> str:
        """What the reader gets, in one line."""
        return self.text.split("\n\n")[1].replace("\n", " ")


def topic_names() -> tuple[str, ...]:
    """Names of all topics, in reading order.

    Examples:
        >>> topic_names()[0], "size-spares" in topic_names()
        ('tutorial', True)
    """
    return tuple(name for _, names in PARTS.values() for name in names)


def part_of(name: str) -> str:
    """The part that a topic belongs to; empty for what is no topic.

    Examples:
        >>> part_of("metrics"), part_of("zebra")
        ('reference', '')
    """
    return next((part for part, (_, names) in PARTS.items() if name in names), "")


@cache
def topic(name: str) -> Topic:
    """The page of that name.

    Raises:
        TopicError: There is none; the nearest names are said.

    Examples:
        >>> topic("size-spares").title
        'Size spares'
    """
    from importlib import resources

    if not (part := part_of(name)):
        raise unknown_topic(name, topic_names())
    return Topic(name, part, (resources.files(__name__) / part / f"{name}.md").read_text(encoding="utf-8"))


def unknown_topic(name: str, known: tuple[str, ...]) -> TopicError:
    """The error for a name that is none of `known`.

    Examples:
        >>> print(unknown_topic("spares", ("size-spares", "metrics")))
        no help on 'spares'; did you mean size-spares? `poisonsim help` lists all topics
    """
    near = [each for each in known if name and name in each.split("-")]
    near = near or difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return TopicError(f"no help on {name[:60]!r}; {hint}`poisonsim help` lists all topics")


def index() -> str:
    """The page that lists all topics, as Markdown."""
    lines = [
        "# The manual of poisonsim", "",
        "Every page is also printed by `poisonsim help TOPIC`; every block of code in it is run by a test.", "",
    ]  # fmt: skip
    for part, (title, names) in PARTS.items():
        lines += [f"## {title}", ""]
        lines += [f"- [{topic(name).title}]({part}/{name}.md): {_lower(topic(name).summary)}" for name in names]
        lines.append("")
    return "\n".join(lines)


def _lower(sentence: str) -> str:
    """A sentence as it goes on after a colon."""
    first = sentence.split()[0]
    plain = first[1:].islower() or len(first) == 1
    return (sentence[0].lower() + sentence[1:] if plain else sentence).rstrip(".")
