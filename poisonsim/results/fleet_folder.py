"""Fleet folders: a run folder for each component, what the fleet is, and one table of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonsim.results.claim import claimed
from poisonsim.results.listing_folder import ListingFolder

if TYPE_CHECKING:
    from poisonsim.results.fleets import FleetPlan

COMPONENTS = "components"


class FleetFolder(ListingFolder):
    """A folder with `fleet.json`, `components/<name>/` and, once all components are done, `fleet.csv`.

    Each component is a run folder like any other.
    """

    kind, schema, runs = "fleet", "poisonsim.fleet-folder/1", "components"

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

        return claimed(self.path, self.kind, self.schema, plan.fleet_id, mendable)

    def manifest_of(self, plan: FleetPlan, trials: Sequence[int], command: str) -> dict[str, Any]:
        """What `fleet.json` says.

        Args:
            trials: Of each component.
            command: How to make the fleet's run again.
        """
        return {
            "schema": self.schema,
            "fleet_id": plan.fleet_id,
            "command": command,
            "title": plan.title,
            "seed": plan.seed,
            "components": [
                {"name": part.name, "vms": part.vms, "trials": n}
                for (part, _), n in zip(plan.parts, trials, strict=True)
            ],
        }

    @staticmethod
    def complete(manifest: Mapping[str, Any]) -> bool:
        """Whether `fleet.json` says all else that it must, in the form that it must."""
        return (
            all(isinstance(manifest.get(key), str) for key in ("fleet_id", "title"))
            and isinstance(manifest.get("seed"), int)
            and all(
                isinstance(name := each.get("name"), str)
                and Path(name).name == name
                and isinstance(each.get("vms"), int)
                for each in manifest["components"]
            )
        )
