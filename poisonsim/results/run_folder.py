"""What a run folder holds: whether a run may take it, how many trials are finished there, and whether it was edited."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poisonsim.engine.plan import Plan
from poisonsim.engine.run import block_sizes
from poisonsim.engine.store import REPORT_FILES, block_path, read_block, read_manifest, write_whole
from poisonsim.errors import RunFolderError, RunFolderNotice
from poisonsim.results.result import Result


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


def mend_summary(result: Result, folder: Path) -> None:
    """Writes `summary.csv` again where it is not what the blocks of the run say, and warns that it was not.

    Raises:
        RunFolderError: It cannot be written.
    """
    path, wanted = folder / "summary.csv", result.summary().to_csv(index=False).encode()
    try:
        if path.read_bytes() == wanted:
            return
        how = "was not what the blocks say (edited, or written by another version)"
    except OSError:
        how = "could not be read"
    write_whole(path, wanted)
    warnings.warn(f"{path}: {how}; it is written again", RunFolderNotice, stacklevel=2)


def claim_folder(folder: Path, plan: Plan) -> None:
    """Refuses a folder that holds another run, so that nothing is overwritten.

    One with blocks of this very run is taken even if its run.json is gone or damaged.
    """
    try:
        is_file = folder.exists() and not folder.is_dir()
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{str(folder)[:80]!r}: no folder can be called so ({error}); choose another with --out"
        ) from None
    there = {name for name in there if not name.startswith(".run.json.")}  # left by a process that was killed
    if not there and not is_file:
        return
    try:
        other = read_manifest(folder).get("run_id")
    except RunFolderError as error:
        known = {"run.json", "summary.csv", "blocks", *REPORT_FILES}
        if there <= known and _has_block(folder, plan) and not _of_another_version(folder):
            warnings.warn(
                f"{folder}: run.json was missing or damaged and is written again; the blocks of this run are kept",
                RunFolderNotice,
                stacklevel=3,
            )
            (folder / "summary.csv").unlink(missing_ok=True)  # it may be of any number of trials
            return
        if "run.json" in there:
            raise error
        raise RunFolderError(f"{folder}: exists and is no run folder; choose another with --out") from None
    if other != plan.run_id:
        raise RunFolderError(
            f"{folder}: holds another run ({str(other)[:12]}, this one is {plan.run_id[:12]}); choose another folder"
        )


def _has_block(folder: Path, plan: Plan) -> bool:
    """Whether a folder holds a whole block of a run."""
    names = sorted(path.stem for path in (folder / "blocks").glob("[0-9]*.npz"))
    return any(name.isdigit() and read_block(folder, plan.run_id, int(name)) is not None for name in names)


def _of_another_version(folder: Path) -> bool:
    """Whether run.json is whole and names a schema that this version does not read."""
    try:
        manifest = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and "schema" in manifest


def whole_number(manifest: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """A whole number of a manifest."""
    value = manifest[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} = {str(value)[:40]} is not a whole number from {least} to {most:,}")
    return value
