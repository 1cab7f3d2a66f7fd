"""Writes the pages of the reference from what the code says itself: commands, keys, metrics, rules, files."""

from __future__ import annotations

from collections.abc import Callable

from poisonsim.manual import PARTS
from poisonsim.manual.of_commands import commands_page, exit_codes_page
from poisonsim.manual.of_files import json_page, run_folder_page
from poisonsim.manual.of_logs import logs_page
from poisonsim.manual.of_policies import language_page, policies_page
from poisonsim.manual.of_scenarios import catalogue_page, keys_page, metrics_page

WRITERS: dict[str, Callable[[], str]] = {
    "commands": commands_page,
    "scenario-keys": keys_page,
    "metrics": metrics_page,
    "policy-language": language_page,
    "shipped-policies": policies_page,
    "catalogue": catalogue_page,
    "logs": logs_page,
    "exit-codes": exit_codes_page,
    "json": json_page,
    "run-folder": run_folder_page,
}


def reference_pages() -> dict[str, str]:
    """Every page of the reference by the name of its topic, as Markdown.

    Examples:
        >>> WRITERS["exit-codes"]().splitlines()[0]  # each page by itself
        '# Exit codes'
    """
    return {name: WRITERS[name]() for name in PARTS["reference"][1]}
