"""Sweep folders: a run folder for each point that is simulated, what the points are, and one table of them all."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.engine.store import write_json, write_whole
from poisonsim.errors import RunFolderError, RunFolderNotice
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
        claim(self.path, "sweep", plan.sweep_id, {run_id for _, run_id, _ in points})
        trials = [trials for _, _, trials in points]
        if self.keeps_more(trials):
            warnings.warn(
                f"{self.path} holds this sweep with more trials and keeps it: its sweep.csv and page are of those",
                RunFolderNotice,
                stacklevel=4,
            )
            return
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
        """Writes the summary of all points, unless the folder keeps one of more trials."""
        if not self.keeps_more([result.n_trials for _, result in found.points]):
            write_whole(self.path / "sweep.csv", found.summary().to_csv(index=False).encode())

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
        file = self.path / "sweep.json"
        try:
            manifest = json.loads(file.read_text())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path}: no sweep folder (it has no sweep.json); give the folder that `poisonsim sweep` named"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunFolderError(f"{file}: cannot be read as JSON ({error}); run the command again") from None
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise RunFolderError(f"{file}: schema {schema!r} is not {SCHEMA!r}; another version wrote it, run it again")
        if not _complete(manifest):
            raise RunFolderError(f"{file}: is not as it was written; run the command again")
        return manifest  # type: ignore[no-any-return]


def claim(path: Path, kind: str, own_id: str, run_ids: Collection[str] = ()) -> None:
    """Refuses a folder that holds anything but the sweep or plan of this id, so that nothing is overwritten.

    One that holds points of these very runs and nothing else is taken even if its manifest is gone or damaged.

    Args:
        kind: `sweep` or `plan`: `KIND.json` in the folder has its id as `KIND_id`.
        run_ids: Runs whose folders may lie in `points` without a manifest.

    Raises:
        RunFolderError: It holds something else, or cannot be read.
    """
    manifest = f"{kind}.json"
    try:
        is_file = path.exists() and not path.is_dir()
        there = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        points = {entry.name for entry in path.glob("points/*")}
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{str(path)[:80]!r}: cannot be used as a {kind} folder ({error}); choose another with --out"
        ) from None
    there = {name for name in there if not name.startswith(f".{manifest}.")}  # left by a process that was killed
    if not there and not is_file:
        return
    known = None
    if manifest in there:
        with suppress(OSError, ValueError, RecursionError):
            known = json.loads((path / manifest).read_text())
    if isinstance(known, dict):
        other = known.get(f"{kind}_id")
        if other != own_id:
            raise RunFolderError(
                f"{path}: holds another {kind} ({str(other)[:12]}, this one is {own_id[:12]}); "
                "choose another folder with --out"
            )
        return
    if not points or not points <= {run_id[:12] for run_id in run_ids}:
        raise RunFolderError(f"{path}: exists and is no {kind} folder; choose another with --out")
    warnings.warn(
        f"{path}: {manifest} was missing or damaged and is written again; its points are kept",
        RunFolderNotice,
        stacklevel=5,
    )


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
