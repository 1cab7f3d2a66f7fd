"""Folders of plans: what the plan is, a run folder for each simulation, and one table of every choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonsim.engine.store import write_json
from poisonsim.results.sweep_folder import claim

SCHEMA = "poisonsim.plan-folder/1"


def claim_plan(folder: Path, plan_id: str, levels: Sequence[str], command: str) -> None:
    """Takes a folder for a plan; one that holds a part of it is gone on from.

    Raises:
        RunFolderError: It cannot be written, or holds something else.
    """
    claim(folder, "plan", plan_id)
    write_json(folder / "plan.json", {"schema": SCHEMA, "plan_id": plan_id, "levels": list(levels), "command": command})
