"""Fleet folders: a run folder for each component, what the fleet is, and one table of it all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.engine.store import write_json
from poisonsim.errors import RunFolderError, RunFolderNotice
from poisonsim.results.claim import TABLES, claimed, read_listing, write_finished

if TYPE_CHECKING:
    from poisonsim.results.fleet_run import FleetRun
    from poisonsim.results.fleets import FleetPlan

SCHEMA = "poisonsim.fleet-folder/1"
COMPONENTS = "components"


class FleetFolder:
    """A folder with `fleet.json`, `components/<name>/` and, once all components are done, `fleet.csv`.

    Every file is written whole or not at all, and blocks that are there are read, not computed, so that a fleet that
    was stopped goes on where it was. Each component is a run folder like any other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def component(self, name: str) -> Path:
        """Run folder of a component."""
        return self.path / COMPONENTS / name

    def claimed(self, plan: FleetPlan) -> AbstractContextManager[None]:
        """Keeps the folder for a fleet.

        Raises:
            RunFolderError: It holds something else, another process writes there, or it cannot be written.
        """
        own = {part.name for part, _ in plan.parts}

        def mendable(names: set[str]) -> bool:
            held = {path.name for path in self.path.glob(f"{COMPONENTS}/*")}
            return bool(held) and held <= own  # each is looked at when its run takes it

        return claimed(self.path, "fleet", SCHEMA, plan.fleet_id, mendable)

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Says what the fleet will be, unless the folder holds a finished one, which it goes on to speak of."""
        if not (self.path / TABLES["fleet"]).exists():
            write_json(self.path / "fleet.json", manifest)

    def finish(self, manifest: Mapping[str, Any], found: FleetRun) -> None:
        """Writes the summary of all components, unless the folder keeps one of more trials."""
        if self.keeps_more([result.n_trials for result in found.results]):
            warnings.warn(
                f"{self.path} holds this fleet with more trials and keeps it: its fleet.csv and page are of those",
                RunFolderNotice,
                stacklevel=3,
            )
        else:
            write_finished(self.path, "fleet", manifest, found.summary().to_csv(index=False).encode())

    def manifest_of(self, plan: FleetPlan, trials: Sequence[int], command: str) -> dict[str, Any]:
        """What `fleet.json` says.

        Args:
            trials: Of each component.
            command: How to make the fleet's run again.
        """
        return {
            "schema": SCHEMA,
            "fleet_id": plan.fleet_id,
            "command": command,
            "title": plan.title,
            "seed": plan.seed,
            "components": [
                {"name": part.name, "vms": part.vms, "trials": n}
                for (part, _), n in zip(plan.parts, trials, strict=True)
            ],
        }

    def keeps_more(self, trials: Sequence[int]) -> bool:
        """Whether a finished fleet with more trials of some component is there."""
        if not (self.path / TABLES["fleet"]).exists():
            return False
        try:
            held = [component["trials"] for component in self.read()["components"]]
        except RunFolderError:
            return False
        return any(n > wanted for n, wanted in zip(held, trials, strict=False))

    def read(self) -> dict[str, Any]:
        """The contents of `fleet.json`.

        Raises:
            RunFolderError: No fleet folder, not JSON, of another version, or without what it must say.
        """
        return read_listing(self.path, "fleet", SCHEMA, _complete)


def _complete(manifest: dict[str, Any]) -> bool:
    """Whether a manifest says all that it must, in the form that it must."""
    components = manifest.get("components")
    return (
        isinstance(components, list)
        and bool(components)
        and all(isinstance(manifest.get(key), str) for key in ("fleet_id", "title"))
        and isinstance(manifest.get("seed"), int)
        and all(
            isinstance(each, dict)
            and isinstance(name := each.get("name"), str)
            and Path(name).name == name
            and all(isinstance(each.get(key), int) for key in ("vms", "trials"))
            for each in components
        )
    )
