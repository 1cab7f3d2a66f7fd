"""Takes a folder for one run, sweep, plan or fleet: it holds nothing else, and no other process writes there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poisonsim.engine.lock import LOCK_FILE, hold
from poisonsim.engine.store import PART, as_json, remove_parts, write_whole
from poisonsim.errors import RunFolderError, RunFolderNotice, warn


@contextmanager
def claimed(
    folder: Path, kind: str, schema: str, own_id: str, mendable: Callable[[set[str]], bool] = lambda names: False
) -> Iterator[None]:
    """Keeps a folder for the run, sweep, plan or fleet of this id, and clears away what killed processes left there.

    Args:
        kind: `run`, `sweep`, `plan` or `fleet`: `KIND.json` in the folder has its id as `KIND_id`.
        schema: What `KIND.json` must say of its form.
        mendable: Whether a folder whose `KIND.json` is gone or damaged is taken all the same, from the names there.

    Raises:
        RunFolderError: It holds something else, another process writes there, or it cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, claimed(Path(place) / "new", "plan", "plan/1", "0123"):
        ...     print((Path(place) / "new").is_dir())
        True
    """
    _is_whole(folder, kind, schema, own_id, mendable)  # before anything is written there
    with hold(folder):
        remove_parts(folder)
        if not _is_whole(folder, kind, schema, own_id, mendable):
            warn(
                f"{folder}: {kind}.json was missing or damaged and is written again; what was simulated is kept",
                RunFolderNotice,
            )
            (folder / TABLES[kind]).unlink(missing_ok=True)  # it may be of any number of trials
        yield


TABLES = {"run": "summary.csv", "sweep": "sweep.csv", "plan": "plan.csv", "fleet": "fleet.csv"}
"""File that a finished folder has beside its `KIND.json`."""


def write_finished(folder: Path, kind: str, manifest: Mapping[str, Any], table: bytes) -> None:
    """Writes `KIND.json` and the table, so that neither is ever seen beside the other of another number of trials.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    path, data = folder / f"{kind}.json", as_json(manifest)
    try:
        if path.read_bytes() != data:
            (folder / TABLES[kind]).unlink(missing_ok=True)
    except OSError:  # it is written again, or the error comes then
        pass
    write_whole(path, data)
    write_whole(folder / TABLES[kind], table)


def _is_whole(folder: Path, kind: str, schema: str, own_id: str, mendable: Callable[[set[str]], bool]) -> bool:
    """Whether a folder is free or its manifest in order; false where that can be mended.

    Raises:
        RunFolderError: The folder holds something else, or cannot be read.
    """
    try:
        is_file = folder.exists() and not folder.is_dir()
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{str(folder)[:80]!r}: cannot be used as a {kind} folder ({error}); choose another with --out"
        ) from None
    names = {name for name in names if name != LOCK_FILE and not (name.startswith(".") and name.endswith(PART))}
    if not names and not is_file:
        return True
    path = folder / f"{kind}.json"
    known = _read(path)
    if isinstance(known, dict) and "schema" in known:
        if known["schema"] != schema:
            raise RunFolderError(
                f"{path}: schema {known['schema']!r} is not {schema!r}; it was written by another version; choose "
                "another folder with --out"
            )
        other = known.get(f"{kind}_id")
        if other != own_id:
            raise RunFolderError(
                f"{folder}: holds another {kind} ({str(other)[:12]}, this one is {own_id[:12]}); choose another folder "
                "with --out"
            )
        return True
    if mendable(names):
        return False
    if path.name in names:
        raise RunFolderError(
            f"{path}: cannot be read as JSON, and nothing else says that the folder is of this {kind}; choose another "
            "with --out"
        )
    raise RunFolderError(f"{folder}: exists and is no {kind} folder; choose another with --out")


def _read(path: Path) -> Any:
    """What a file holds as JSON; None where it cannot be read as such."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
