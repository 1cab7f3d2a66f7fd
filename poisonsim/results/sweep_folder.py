"""Sweep folders: a run folder for each point that is simulated, what the points are, and one table of them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.results.claim import claimed
from poisonsim.results.listing_folder import ListingFolder

if TYPE_CHECKING:
    from poisonsim.results.sweep import SweepPlan


class SweepFolder(ListingFolder):
    """A folder with `sweep.json`, `points/<run id>/` and, once all points are done, `sweep.csv`.

    Each point is a run folder like any other.
    """

    kind, schema, runs = "sweep", "poisonsim.sweep-folder/1", "points"

    def point(self, run_id: str) -> Path:
        """Run folder of a point."""
        return self.path / "points" / run_id[:12]

    def claimed(self, plan: SweepPlan) -> AbstractContextManager[None]:
        """Keeps the folder for a sweep; one with points of this very sweep is taken even without its sweep.json.

        Raises:
            RunFolderError: It holds something else, another process writes there, or it cannot be written.
        """
        own = {point.plan.run_id[:12] for point in plan.points}

        def mendable(names: set[str]) -> bool:
            points = {path.name for path in self.path.glob("points/*")}
            return bool(points) and points <= own

        return claimed(self.path, self.kind, self.schema, plan.sweep_id, mendable)

    def manifest_of(self, plan: SweepPlan, runs: Sequence[tuple[str, int]], command: str) -> dict[str, Any]:
        """What `sweep.json` says.

        Args:
            runs: Id and trials of the run that simulates each point.
            command: How to make the sweep again.
        """
        return {
            "schema": self.schema,
            "sweep_id": plan.sweep_id,
            "command": command,
            "seed": plan.points[0].plan.seed,
            "scenario": plan.scenario.to_dict(),
            "over": {key: list(values) for key, values in plan.over.items()},
            "policies": list(plan.policies),
            "points": [
                {
                    "settings": dict(settings),
                    "trials": trials,
                    "run": str(self.point(run_id).relative_to(self.path)),
                }
                for (settings, _), (run_id, trials) in zip(plan.points, runs, strict=True)
            ],
        }

    @staticmethod
    def complete(manifest: Mapping[str, Any]) -> bool:
        """Whether `sweep.json` says all else that it must, in the form that it must."""
        return (
            all(isinstance(manifest.get(key), dict) for key in ("scenario", "over"))
            and isinstance(manifest.get("policies"), list)
            and all(
                isinstance(point.get("settings"), dict)
                and re.fullmatch(r"points/[0-9a-f]{12}", str(point.get("run"))) is not None
                for point in manifest["points"]
            )
        )
