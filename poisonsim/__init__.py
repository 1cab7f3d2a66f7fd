"""poisonsim: what each way of handling memory errors costs a large VM.

    import poisonsim as ps
    res = ps.run(ps.load_scenario("seed-1t"), policies=["unmap1g", "hgm2m"], trials=20_000, seed=7)
    print(res.summary())

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poisonsim.errors import FitError as FitError
    from poisonsim.errors import LogError as LogError
    from poisonsim.errors import MetricError as MetricError
    from poisonsim.errors import PoisonsimError as PoisonsimError
    from poisonsim.errors import PolicyError as PolicyError
    from poisonsim.errors import RunFolderError as RunFolderError
    from poisonsim.errors import ScenarioError as ScenarioError
    from poisonsim.fitting.fit import Fit as Fit
    from poisonsim.fitting.fit import fit as fit
    from poisonsim.memory import split_cost as split_cost
    from poisonsim.policy import Policy as Policy
    from poisonsim.replaying.replay import Replay as Replay
    from poisonsim.replaying.replay import replay as replay
    from poisonsim.results.compare_runs import compare as compare
    from poisonsim.results.fleet_file import FleetPart as FleetPart
    from poisonsim.results.fleet_run import FleetRun as FleetRun
    from poisonsim.results.fleets import open_fleet as open_fleet
    from poisonsim.results.fleets import run_fleet as run_fleet
    from poisonsim.results.plan import CapacityPlan as CapacityPlan
    from poisonsim.results.plan import plan as plan
    from poisonsim.results.result import Result as Result
    from poisonsim.results.runs import open_run as open_run
    from poisonsim.results.runs import run as run
    from poisonsim.results.splits import splits as splits
    from poisonsim.results.statistics import Estimate as Estimate
    from poisonsim.results.sweep import Sweep as Sweep
    from poisonsim.results.sweep import open_sweep as open_sweep
    from poisonsim.results.sweep import sweep as sweep
    from poisonsim.scenario import CountFaults as CountFaults
    from poisonsim.scenario import FieldFaults as FieldFaults
    from poisonsim.scenario import Horizon as Horizon
    from poisonsim.scenario import Host as Host
    from poisonsim.scenario import RateFaults as RateFaults
    from poisonsim.scenario import Scenario as Scenario
    from poisonsim.scenario import Vm as Vm
    from poisonsim.scenario import Workload as Workload
    from poisonsim.scenario import load_scenario as load_scenario
    from poisonsim.translation import HotCold as HotCold
    from poisonsim.translation import Sequential as Sequential
    from poisonsim.translation import Uniform as Uniform
    from poisonsim.translation import Zipf as Zipf
    from poisonsim.translation import translate as translate

_HOME = {
    "poisonsim.errors": (
        "FitError", "LogError", "MetricError", "PoisonsimError", "PolicyError", "RunFolderError", "ScenarioError",
    ),
    "poisonsim.fitting.fit": ("Fit", "fit"),
    "poisonsim.memory": ("split_cost",),
    "poisonsim.policy": ("Policy",),
    "poisonsim.results.compare_runs": ("compare",),
    "poisonsim.results.fleet_file": ("FleetPart",),
    "poisonsim.results.fleet_run": ("FleetRun",),
    "poisonsim.results.fleets": ("open_fleet", "run_fleet"),
    "poisonsim.results.plan": ("CapacityPlan", "plan"),
    "poisonsim.results.result": ("Result",),
    "poisonsim.replaying.replay": ("Replay", "replay"),
    "poisonsim.results.runs": ("open_run", "run"),
    "poisonsim.results.splits": ("splits",),
    "poisonsim.results.statistics": ("Estimate",),
    "poisonsim.results.sweep": ("Sweep", "open_sweep", "sweep"),
    "poisonsim.scenario": (
        "CountFaults", "FieldFaults", "Horizon", "Host", "RateFaults", "Scenario", "Vm", "Workload", "load_scenario",
    ),
    "poisonsim.translation": ("HotCold", "Sequential", "Uniform", "Zipf", "translate"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - built from the table above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("poisonsim")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'poisonsim' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
