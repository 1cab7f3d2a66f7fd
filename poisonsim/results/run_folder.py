"""What a run folder holds: whether a run may take it, how many trials are finished there, and whether it was edited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from poisonsim.engine.plan import Plan
from poisonsim.engine.run import block_sizes
from poisonsim.engine.store import (
    REPORT_FILES,
    SCHEMA,
    block_path,
    read_block,
    read_manifest,
    trials_of_block,
    write_whole,
)
from poisonsim.errors import RunFolderError, RunFolderNotice, warn
from poisonsim.results.claim import claimed
from poisonsim.results.result import Result


def trials_kept(folder: Path, plan: Plan, wanted: int) -> int:
    """Trials of `wanted` whose blocks a folder of `plan` has whole, so that going on does not simulate them again."""
    sizes = enumerate(block_sizes(plan, wanted))
    return sum(size for i, size in sizes if trials_of_block(folder, plan.run_id, i) == size)


def trials_held(folder: Path, plan: Plan) -> int:
    """Trials of the finished run of `plan` in a folder; 0 where there is none, or not all of it is there.

    Examples:
        >>> import tempfile
        >>> import poisonsim as ps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = ps.run("seed-1t", policies=["hgm2m"], trials=1000, out=folder)
        ...     trials_held(Path(folder), result.plan)
        1000
    """
    if not (folder / "summary.csv").exists():
        return 0
    try:
        manifest = read_manifest(folder)
        trials = whole_number(manifest, "trials", 1, plan.most_trials)
    except (RunFolderError, ValueError):
        return 0
    sizes = block_sizes(plan, trials)
    if manifest.get("run_id") != plan.run_id or not all(block_path(folder, i).exists() for i in range(len(sizes))):
        return 0
    last = read_block(folder, plan.run_id, len(sizes) - 1)
    return trials if last is not None and last.n_trials >= sizes[-1] else 0


def require_folder(folder: Path) -> None:
    """Refuses what is no folder, or one that only lost its manifest, with what to do.

    Raises:
        RunFolderError: It is a file, or has blocks and no run.json.

    Examples:
        >>> require_folder(Path(__file__))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.RunFolderError: ...run_folder.py: is a file; give the run folder
    """
    if folder.is_file():
        raise RunFolderError(f"{folder}: is a file; give the run folder")
    if (folder / "blocks").is_dir() and not (folder / "run.json").exists():
        raise RunFolderError(
            f"{folder}: its run.json is gone, but blocks are here; run the same command again with --out {folder}, and "
            "those that are of that run are kept"
        )


def mend_summary(result: Result, folder: Path, wanted: bytes | None = None) -> None:
    """Writes `summary.csv` again where it is not what the blocks of the run say, and warns that it was not.

    Args:
        wanted: What it must hold, where that is known.

    Raises:
        RunFolderError: It cannot be written.
    """
    path = folder / "summary.csv"
    wanted = result.summary().to_csv(index=False).encode() if wanted is None else wanted
    try:
        if path.read_bytes() == wanted:
            return
        how = "was not what the blocks say (edited, or written by another version)"
    except OSError:
        how = "could not be read"
    write_whole(path, wanted)
    warn(f"{path}: {how}; it is written again", RunFolderNotice)


def tell_edited(folder: Path, plan: Plan) -> None:
    """Says so where run.json names this run and describes another one; it is then written again with the result."""
    path = folder / "run.json"
    try:
        known = json.loads(path.read_text())
        there = known["seed"], {**known["scenario"], "title": ""}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return  # it is not there, or damaged, which is told elsewhere
    wanted = json.loads(json.dumps(plan.describe()))
    if there != (wanted["seed"], {**wanted["scenario"], "title": ""}):
        warn(f"{path}: does not describe the run that it names (edited); it is written again", RunFolderNotice)


def claimed_run(folder: Path, plan: Plan) -> AbstractContextManager[None]:
    """Keeps a folder for a run; one with blocks of this very run is taken even if its run.json is gone or damaged.

    Raises:
        RunFolderError: It holds something else, another process writes there, or it cannot be written.
    """
    known = {"run.json", "summary.csv", "blocks", *REPORT_FILES}
    return claimed(
        folder, "run", SCHEMA, plan.run_id, mendable=lambda names: names <= known and _has_block(folder, plan)
    )


def _has_block(folder: Path, plan: Plan) -> bool:
    """Whether a folder holds a whole block of a run."""
    names = sorted(path.stem for path in (folder / "blocks").glob("[0-9]*.npz"))
    return any(name.isdigit() and read_block(folder, plan.run_id, int(name)) is not None for name in names)


def whole_number(manifest: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """A whole number of a manifest."""
    value = manifest[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} = {str(value)[:40]} is not a whole number from {least} to {most:,}")
    return value
