"""Sweep folders: a run folder for each point that is simulated, what the points are, and one table of them all."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.engine.store import write_json
from poisonsim.errors import RunFolderError, RunFolderNotice
from poisonsim.results.claim import TABLES, claimed, read_listing, write_finished

if TYPE_CHECKING:
    from poisonsim.results.sweep import Sweep, SweepPlan

SCHEMA = "poisonsim.sweep-folder/1"


class SweepFolder:
    """A folder with `sweep.json`, `points/<run id>/` and, once all points are done, `sweep.csv`.

    Every file is written whole or not at all, and blocks that are there are read, not computed, so that a sweep that
    was stopped goes on where it was. Each point is a run folder like any other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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

        return claimed(self.path, "sweep", SCHEMA, plan.sweep_id, mendable)

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Says what the sweep will be, unless the folder holds a finished one, which it goes on to speak of."""
        if not (self.path / TABLES["sweep"]).exists():
            write_json(self.path / "sweep.json", manifest)

    def finish(self, manifest: Mapping[str, Any], found: Sweep) -> None:
        """Writes the summary of all points, unless the folder keeps one of more trials."""
        if self.keeps_more([result.n_trials for _, result in found.points]):
            warnings.warn(
                f"{self.path} holds this sweep with more trials and keeps it: its sweep.csv and page are of those",
                RunFolderNotice,
                stacklevel=3,
            )
        else:
            write_finished(self.path, "sweep", manifest, found.summary().to_csv(index=False).encode())

    def manifest_of(self, plan: SweepPlan, runs: Sequence[tuple[str, int]], command: str) -> dict[str, Any]:
        """What `sweep.json` says.

        Args:
            runs: Id and trials of the run that simulates each point.
            command: How to make the sweep again.
        """
        return {
            "schema": SCHEMA,
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

    def keeps_more(self, trials: Sequence[int]) -> bool:
        """Whether a finished sweep with more trials at some point is there."""
        if not (self.path / "sweep.csv").exists():
            return False
        try:
            held = [point.get("trials") for point in self.read()["points"]]
        except RunFolderError:
            return False
        return any(isinstance(n, int) and n > wanted for n, wanted in zip(held, trials, strict=False))

    def read(self) -> dict[str, Any]:
        """The contents of `sweep.json`.

        Raises:
            RunFolderError: No sweep folder, not JSON, of another version, or without what it must say.
        """
        return read_listing(self.path, "sweep", SCHEMA, _complete)


def _complete(manifest: dict[str, Any]) -> bool:
    """Whether a manifest says all that it must, in the form that it must."""
    points = manifest.get("points")
    return (
        isinstance(points, list)
        and bool(points)
        and all(isinstance(manifest.get(key), dict) for key in ("scenario", "over"))
        and isinstance(manifest.get("policies"), list)
        and all(
            isinstance(point, dict)
            and isinstance(point.get("settings"), dict)
            and re.fullmatch(r"points/[0-9a-f]{12}", str(point.get("run"))) is not None
            for point in points
        )
    )
