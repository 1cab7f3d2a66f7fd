"""Sweep folders: a run folder for each point that is simulated, what the points are, and one table of them all."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.engine.store import write_json, write_whole
from poisonsim.errors import RunFolderError
from poisonsim.results.sweep_grid import Settings

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

    def begin(self, plan: SweepPlan, points: Sequence[tuple[Settings, str, int]], command: str) -> None:
        """Takes the folder for a sweep.

        Args:
            plan: The sweep.
            points: Settings, id of the run that simulates it, and trials of every point.
            command: How to make it again.

        Raises:
            RunFolderError: It cannot be written, or holds something else.
        """
        self._claim(plan.sweep_id)
        described = [
            {"settings": dict(settings), "trials": trials, "run": str(self.point(run_id).relative_to(self.path))}
            for settings, run_id, trials in points
        ]
        write_json(
            self.path / "sweep.json",
            {
                "schema": SCHEMA,
                "sweep_id": plan.sweep_id,
                "command": command,
                "seed": plan.points[0].plan.seed,
                "scenario": plan.scenario.to_dict(),
                "over": {key: list(values) for key, values in plan.over.items()},
                "policies": list(plan.policies),
                "points": described,
            },
        )

    def finish(self, found: Sweep) -> None:
        """Writes the summary of all points."""
        write_whole(self.path / "sweep.csv", found.summary().to_csv(index=False).encode())

    def read(self) -> dict[str, Any]:
        """The contents of `sweep.json`.

        Raises:
            RunFolderError: No sweep folder, not JSON, of another version, or without what it must say.
        """
        file = self.path / "sweep.json"
        try:
            manifest = json.loads(file.read_text())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path}: no sweep folder (it has no sweep.json); give the folder that `poisonsim sweep` named"
            ) from None
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{file}: cannot be read as JSON ({error}); run the command again") from None
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise RunFolderError(f"{file}: schema {schema!r} is not {SCHEMA!r}; another version wrote it, run it again")
        if not _complete(manifest):
            raise RunFolderError(f"{file}: is not as it was written; run the command again")
        return manifest  # type: ignore[no-any-return]

    def _claim(self, sweep_id: str) -> None:
        """Refuses a folder that holds anything else, so that nothing is overwritten."""
        try:
            there, empty = self.path.exists(), not self.path.is_dir() or not any(self.path.iterdir())
            manifest = self.path / "sweep.json"
            known = json.loads(manifest.read_text()) if manifest.exists() else None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{str(self.path)[:80]!r}: cannot be used as a sweep folder ({error}); choose another with --out"
            ) from None
        if known is not None:
            other = known.get("sweep_id") if isinstance(known, dict) else None
            if other != sweep_id:
                raise RunFolderError(
                    f"{self.path}: holds another sweep ({str(other)[:12]}, this one is {sweep_id[:12]}); "
                    "choose another folder with --out"
                )
        elif there and (not self.path.is_dir() or not empty):
            raise RunFolderError(f"{self.path}: exists and is no sweep folder; choose another with --out")


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
