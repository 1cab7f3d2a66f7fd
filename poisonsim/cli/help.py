"""`poisonsim help`: the manual, in the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import WIDTH, user_errors

EXAMPLES = (
    "poisonsim help tutorial",
    "poisonsim help size-spares",
    "poisonsim help policies show",
)
_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)?(?:\w+/)?([\w-]+)\.md(?:#[\w-]+)?\)")


@user_errors
def help_command(
    words: list[str] = typer.Argument(
        None, metavar="[TOPIC|COMMAND]", autocompletion=complete.topics, show_default=False,
        help="A topic of the manual, a command such as `policies show`, or a policy, scenario key or metric. Default: "
        "all topics, one on a line.",
    ),
) -> None:  # fmt: skip
    """A page of the manual, or every option of a command; without a name the list of topics.

    On a terminal pages are laid out for reading; into a pipe goes the Markdown itself, as in
    poisonsim help metrics > metrics.md
    """
    if not words:
        _list_topics()
        return
    _show(_page(" ".join(words)))


def _page(name: str) -> str:
    """What the manual says of a topic or a command, as Markdown."""
    from poisonsim.manual import part_of, topic, topic_names, unknown_topic

    if part_of(name):
        return topic(name).text
    sections = re.split(r"^(?=## `)", topic("commands").text, flags=re.MULTILINE)[1:]
    by_command = {section.split("`")[1].removeprefix("poisonsim "): section for section in sections}
    name = name.removeprefix("poisonsim ")
    found = [section for command, section in by_command.items() if f"{command} ".startswith(f"{name} ")]
    found = found or _entry(name)
    if not found:
        raise unknown_topic(name, (*topic_names(), *by_command))
    return "".join(found)


def _entry(name: str) -> list[str]:
    """What the reference says of a policy, a scenario key, a metric or a statistic; nothing where it is none."""
    from poisonsim.manual import topic
    from poisonsim.results.conditions import PROBABILITY, STATISTICS, quantile_of

    for section in re.split(r"^(?=## )", topic("shipped-policies").text, flags=re.MULTILINE)[1:]:
        if section.partition("\n")[0] == f"## {name}":
            return [section.rstrip() + f"\n\nIts rules, numbers and digest: `poisonsim policies show {name}`.\n"]
    for where in ("scenario-keys", "metrics"):
        heads: list[str] = []
        for line in topic(where).text.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            if not line.startswith("|"):
                heads = []
            elif not heads:
                heads = cells
            elif cells[0] == f"`{name}`":
                rows = [f"- {head}: {cell}" for head, cell in zip(heads[1:], cells[1:], strict=False)]
                return ["\n".join([f"## {cells[0]}", "", *rows, "", f"All of them: `poisonsim help {where}`.", ""])]
    if name in (*STATISTICS, "quantile", "percentile", "probability") or quantile_of(name) is not None:
        what = "A probability" if name in (PROBABILITY, "probability") else "A statistic of a metric over all VMs"
        return [
            f"## {name}\n\n{what} at the end of the horizon, as conditions name them: {', '.join(STATISTICS)}, or "
            "another percentile. A percentile p99 is what 99 VMs of 100 do not exceed; it is told where at least 10 "
            "trials lie beyond it.\n\nConditions: `poisonsim help pipelines`; metrics: `poisonsim help metrics`; "
            "how sure they are: `poisonsim help precision`.\n"
        ]
    return []


def _list_topics() -> None:
    """Every topic with what it gives, by part."""
    from poisonsim.manual import PARTS, topic, topic_names

    width = max(map(len, topic_names()))
    for title, names in PARTS.values():
        typer.echo(f"{title}:")
        for name in names:
            typer.echo(f"  {name:<{width}}  {topic(name).summary}")
        typer.echo()
    typer.echo("read one with `poisonsim help TOPIC`; of a command: `poisonsim help COMMAND`")


def _show(markdown: str) -> None:
    """Laid out on a terminal, as it is elsewhere; where NO_COLOR is set without any escape codes."""
    if not sys.stdout.isatty():
        typer.echo(markdown, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    looks = Theme({"markdown.code": "bold cyan", "markdown.h1": "bold underline", "markdown.h2": "bold"})
    columns = min(shutil.get_terminal_size().columns, WIDTH)
    pages = _LINK.sub(r"\1 (`poisonsim help \2`)", markdown)
    Console(
        width=columns, color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False, theme=looks
    ).print(Markdown(pages, code_theme="ansi_dark", hyperlinks=False))
