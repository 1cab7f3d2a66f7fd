"""Folders of plans: what the plan is, a run folder for each simulation, and one table of every choice."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poisonsim.engine.store import write_json
from poisonsim.errors import RunFolderNotice, warn
from poisonsim.results.claim import TABLES, claimed, write_finished

if TYPE_CHECKING:
    from poisonsim.results.plan import CapacityPlan

SCHEMA = "poisonsim.plan-folder/1"


@dataclass(frozen=True)
class PlanFolder:
    """A folder with `plan.json`, `points/<run id>-<trials>/` and, once the plan is done, `plan.csv`.

    Attributes:
        trials: Most trials of a choice.
        command: How to make the plan again.
    """

    path: Path
    plan_id: str
    levels: tuple[str, ...]
    trials: int
    command: str

    def claimed(self) -> AbstractContextManager[None]:
        """Keeps the folder for the plan; one that holds a part of it is gone on from.

        Raises:
            RunFolderError: It holds something else, another process writes there, or it cannot be written.
        """
        return claimed(self.path, "plan", SCHEMA, self.plan_id)

    def begin(self) -> None:
        """Says what the plan will be, unless the folder holds a finished one, which it goes on to speak of."""
        if not (self.path / TABLES["plan"]).exists():
            write_json(self.path / "plan.json", self._manifest())

    def finish(self, found: CapacityPlan) -> None:
        """Writes the table of every choice, unless the folder keeps one from more trials."""
        held = self._trials_held()
        if held > self.trials:
            warn(
                f"{self.path} holds this plan from up to {held:,} trials and keeps it: its plan.csv is of those, what "
                f"is printed here of at most {self.trials:,}",
                RunFolderNotice,
            )
        else:
            write_finished(self.path, "plan", self._manifest(), found.choices().to_csv(index=False).encode())

    def _trials_held(self) -> int:
        """Most trials of a choice of the finished plan that is there; 0 where there is none."""
        if not (self.path / TABLES["plan"]).exists():
            return 0
        try:
            trials = json.loads((self.path / "plan.json").read_text())["trials"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0
        return trials if isinstance(trials, int) else 0

    def _manifest(self) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "plan_id": self.plan_id,
            "levels": list(self.levels),
            "trials": self.trials,
            "command": self.command,
        }
