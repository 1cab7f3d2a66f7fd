"""Folders of several runs: each a run folder of its own, a JSON file that lists them, and one table of them all."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from poisonsim.engine.store import write_json
from poisonsim.errors import RunFolderError, RunFolderNotice, warn
from poisonsim.results.claim import TABLES, write_finished


class ListingFolder(ABC):
    """A folder with `KIND.json` that lists runs, their run folders and, once all are done, `KIND.csv`.

    Every file is written whole or not at all, and blocks that are there are read, not computed, so that what was
    stopped goes on where it was.

    Args:
        path: The folder.
    """

    kind: ClassVar[str]
    """What the folder is of, such as `sweep`."""
    schema: ClassVar[str]
    """What `KIND.json` says of its form."""
    runs: ClassVar[str]
    """Key of the list of runs in `KIND.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    @abstractmethod
    def complete(manifest: Mapping[str, Any]) -> bool:
        """Whether `KIND.json` says all that it must beside the trials of each run, in the form that it must."""

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Says what the folder will hold, unless that is finished there: then it goes on to speak of that."""
        if not (self.path / TABLES[self.kind]).exists():
            write_json(self.path / f"{self.kind}.json", manifest)

    def finish(self, manifest: Mapping[str, Any], summary: pd.DataFrame) -> None:
        """Writes the summary of all runs, unless the folder keeps one of more trials."""
        if self.keeps_more([run["trials"] for run in manifest[self.runs]]):
            warn(
                f"{self.path} holds this {self.kind} with more trials and keeps it: its {TABLES[self.kind]} and page "
                "are of those",
                RunFolderNotice,
            )
        else:
            write_finished(self.path, self.kind, manifest, summary.to_csv(index=False).encode())

    def keeps_more(self, trials: Sequence[int]) -> bool:
        """Whether a finished one with more trials of some run is there."""
        if not (self.path / TABLES[self.kind]).exists():
            return False
        try:
            held = [run["trials"] for run in self.read()[self.runs]]
        except RunFolderError:
            return False
        return any(n > wanted for n, wanted in zip(held, trials, strict=False))

    def read(self) -> dict[str, Any]:
        """The contents of `KIND.json`.

        Raises:
            RunFolderError: No such folder, not JSON, of another version, or without what it must say.
        """
        file = self.path / f"{self.kind}.json"
        try:
            manifest = json.loads(file.read_text())
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path}: no {self.kind} folder (it has no {file.name}); give the folder that "
                f"`poisonsim {self.kind}` named"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunFolderError(f"{file}: cannot be read as JSON ({error}); run the command again") from None
        known = manifest.get("schema") if isinstance(manifest, dict) else None
        if known != self.schema:
            raise RunFolderError(
                f"{file}: schema {known!r} is not {self.schema!r}; another version wrote it, run it again"
            )
        listed = manifest.get(self.runs)
        if not (
            isinstance(listed, list)
            and listed
            and all(isinstance(run, dict) and isinstance(run.get("trials"), int) for run in listed)
            and self.complete(manifest)
        ):
            raise RunFolderError(f"{file}: is not as it was written; run the command again")
        return manifest  # type: ignore[no-any-return]
