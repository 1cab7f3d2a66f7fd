"""Run folders: the same bytes from any number of threads, resumed without a change, and never trusted blindly."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import poisonsim as ps
from poisonsim import catalog
from poisonsim.engine import run as engine_run
from poisonsim.engine.store import block_path, read_block, write_whole
from poisonsim.errors import DamagedBlock, RunFolderError, RunFolderNotice
from poisonsim.results.result import Result
from poisonsim.results.runs import plan_run
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, Scenario

# Many errors per trial make small blocks; a region of its own for each, and a coarse grid, make few different states.
SCENARIO = Scenario(
    faults=CountFaults(errors=1000, placement="distinct-regions"), horizon=Horizon(years=2, grid="6months")
)
POLICIES = ["unmap1g", "hgm2m", "migrate1g:spares=2"]
BLOCK = plan_run(SCENARIO, policies=POLICIES, seed=3).block_trials
TRIALS = 2 * BLOCK + BLOCK // 3

# Quantiles are not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")

Hashes = Callable[[Path], dict[str, str]]


def run(out: Path, trials: int = TRIALS, **changes: Any) -> Result:
    """The run of this file in folder `out`."""
    arguments: dict[str, Any] = {"policies": POLICIES, "trials": trials, "seed": 3, "out": out, **changes}
    return ps.run(SCENARIO, **arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder that no test changes."""
    folder = tmp_path_factory.mktemp("store") / "run"
    run(folder, threads=1)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a block was computed")

    monkeypatch.setattr(engine_run, "run_block", refuse)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the blocks that are computed from now on."""
    seen: list[int] = []
    real = getattr(engine_run, "run_block")  # noqa: B009 - imported there, not exported

    def note(plan: Any, index: int, n_trials: int) -> Any:
        seen.append(index)
        return real(plan, index, n_trials)

    monkeypatch.setattr(engine_run, "run_block", note)
    return seen


# ------------------------------------------------------------------------------------------------- bytes


def test_a_folder_holds_data_files_only(made: Path) -> None:
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    assert names == ["blocks/000000.npz", "blocks/000001.npz", "blocks/000002.npz", "run.json", "summary.csv"]
    for path in made.glob("blocks/*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind in "iUu" for name in arrays.files)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_write_the_same_bytes(made: Path, tmp_path: Path, hashes: Hashes, threads: int) -> None:
    run(tmp_path / "again", threads=threads)
    assert hashes(tmp_path / "again") == hashes(made)


def test_the_summary_file_is_the_summary(made: Path) -> None:
    expected = ps.open_run(made).summary()
    assert (made / "summary.csv").read_text() == expected.to_csv(index=False)
    read = pd.read_csv(made / "summary.csv")
    assert list(read.columns) == list(expected.columns) and len(read) == len(expected)


def test_a_manifest_says_all_that_is_needed_and_nothing_of_the_machine(made: Path) -> None:
    text = (made / "run.json").read_text()
    manifest = json.loads(text)
    assert manifest["schema"] == "poisonsim.run/1"
    assert (manifest["seed"], manifest["trials"], manifest["block_trials"]) == (3, TRIALS, BLOCK)
    assert {"poisonsim", "numpy", "numba", "python"} <= set(manifest["software"])
    assert set(manifest) == {
        "schema", "trials", "command", "run_id", "seed", "stream_version", "block_trials",
        "scenario", "policies", "software",
    }  # fmt: skip
    assert not [place for place in (made, Path.home(), Path.cwd()) if str(place) in text]


def test_a_manifest_computes_the_run_again(made: Path, tmp_path: Path, hashes: Hashes) -> None:
    manifest = json.loads((made / "run.json").read_text())
    ps.run(
        Scenario.from_dict(manifest["scenario"]),
        policies=[policy["spec"] for policy in manifest["policies"]],
        trials=manifest["trials"],
        seed=manifest["seed"],
        out=tmp_path / "again",
        command=manifest["command"],
    )
    assert hashes(tmp_path / "again") == hashes(made)


# ------------------------------------------------------------------------------------------------- resuming


def test_the_same_run_again_computes_nothing(folder: Path, hashes: Hashes, no_work: None) -> None:
    before = hashes(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("blocks/*")}
    run(folder)
    assert hashes(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.glob("blocks/*")} == times


def test_more_trials_leave_full_blocks_untouched(
    folder: Path, tmp_path: Path, hashes: Hashes, computed: list[int]
) -> None:
    full = [block_path(folder, index) for index in (0, 1)]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in full]
    run(folder, trials=4 * BLOCK + 7)
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in full] == before
    assert sorted(computed) == [2, 3, 4]
    computed.clear()
    run(tmp_path / "fresh", trials=4 * BLOCK + 7)
    assert sorted(computed) == [0, 1, 2, 3, 4]
    assert hashes(folder) == hashes(tmp_path / "fresh")


@pytest.mark.parametrize("trials", [BLOCK // 2, BLOCK, 2 * BLOCK, 2 * BLOCK + 5])
def test_fewer_trials_leave_the_folder_of_more_as_it_is(
    folder: Path, tmp_path: Path, hashes: Hashes, trials: int
) -> None:
    before = hashes(folder)
    with pytest.warns(RunFolderNotice, match=f"holds {TRIALS:,} trials of this run and keeps them.*first {trials:,}"):
        few = run(folder, trials=trials)
    assert hashes(folder) == before and ps.open_run(folder).n_trials == TRIALS
    assert few.n_trials == trials
    assert few.summary().equals(run(tmp_path / "fresh", trials=trials).summary())


def test_fewer_trials_than_were_wanted_but_not_finished_are_written(folder: Path, hashes: Hashes) -> None:
    """What was interrupted has no summary, or not all of its blocks, and so nothing to keep."""
    (folder / "summary.csv").unlink()
    run(folder, trials=100)
    assert ps.open_run(folder).n_trials == 100
    run(folder)
    assert ps.open_run(folder).n_trials == TRIALS
    block_path(folder, 1).unlink()
    run(folder, trials=200)
    assert ps.open_run(folder).n_trials == 200


def test_a_finished_run_can_be_opened_until_one_of_more_trials_is(folder: Path) -> None:
    def interrupt(done: int, wanted: int, tally: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, trials=9 * BLOCK, threads=1, progress=interrupt)
    assert ps.open_run(folder).n_trials == TRIALS
    run(folder, trials=9 * BLOCK)
    assert ps.open_run(folder).n_trials == 9 * BLOCK


def test_an_interrupted_run_goes_on_where_it_was(
    made: Path, tmp_path: Path, hashes: Hashes, computed: list[int]
) -> None:
    def interrupt(done: int, wanted: int, tally: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", threads=1, progress=interrupt)
    kept = {int(path.stem) for path in (tmp_path / "run" / "blocks").glob("*.npz")}
    assert 0 in kept
    assert kept <= set(computed)
    computed.clear()
    run(tmp_path / "run")
    assert set(computed) == {0, 1, 2} - kept
    assert hashes(tmp_path / "run") == hashes(made)


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunFolderError, match="No space left on device.*what was written before is intact"):
        write_whole(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "fsync", lambda _: steps.append("fsync"))

    def replace(source: str, target: Path) -> None:
        steps.append("replace")
        assert Path(source).read_bytes() == b"whole" and not Path(target).exists()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_whole(tmp_path / "file", b"whole")
    assert steps[:2] == ["fsync", "replace"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_disk_that_fills_up_loses_no_block(folder: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(folder)
    real = os.replace

    def fail(source: str, target: Path) -> None:
        if "000004" in str(target):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunFolderError, match="No space left"):
        run(folder, trials=5 * BLOCK, threads=1)
    after = hashes(folder)
    assert {name: after[name] for name in ("blocks/000000.npz", "blocks/000001.npz")} == {
        name: before[name] for name in ("blocks/000000.npz", "blocks/000001.npz")
    }
    assert not [name for name in after if "000004" in name]
    monkeypatch.undo()
    run(folder, trials=5 * BLOCK)
    assert ps.open_run(folder).n_trials == 5 * BLOCK


# ------------------------------------------------------------------------------------------------- damage


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(b"\x00" * len(data))
        case "no archive":
            path.write_bytes(b"hello")
        case "removed":
            path.unlink()
        case "an array":
            with path.open("wb") as file:
                np.save(file, np.arange(5))
        case "no arrays":
            with path.open("wb") as file:
                np.savez(file, nothing=np.arange(5))
        case "middle overwritten":
            path.write_bytes(data[:200] + bytes(64) + data[264:])
        case "another block":
            shutil.copy(path.with_name("000000.npz"), path)
        case _:
            raise AssertionError(how)


CUT = "is cut short, damaged or no block"
WAYS = {"truncated": CUT, "empty": CUT, "garbage": CUT, "no archive": CUT, "removed": None, "an array": CUT,
        "no arrays": CUT, "middle overwritten": CUT, "another block": "is block 0 under another name"}  # fmt: skip
"""What is said of a block that was damaged so."""


@pytest.mark.parametrize(("how", "said"), WAYS.items())
def test_a_damaged_block_is_named_and_computed_again(
    folder: Path, made: Path, hashes: Hashes, computed: list[int], how: str, said: str | None
) -> None:
    damage(block_path(folder, 1), how)
    with pytest.raises(RunFolderError, match="blocks 1 are missing or damaged; run the same command again"):
        ps.open_run(folder)
    assert notices(folder) == ([f"{block_path(folder, 1)}: {said}; it is computed again"] if said else [])
    assert computed == [1]
    assert hashes(folder) == hashes(made)


def notices(folder: Path) -> list[str]:
    """What a run says of blocks that it does not take."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedBlock)
        run(folder)
    return [str(each.message) for each in caught if issubclass(each.category, DamagedBlock)]


def test_a_flipped_byte_is_noticed_or_harmless(folder: Path) -> None:
    """Every 97th byte of a block: what is read is either refused or what was written."""
    run_id = json.loads((folder / "run.json").read_text())["run_id"]
    path = block_path(folder, 0)
    data = path.read_bytes()
    good = read_block(folder, run_id, 0)
    assert good is not None
    refused = 0
    for place in range(0, len(data), max(len(data) // 150, 1)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        found = read_block(folder, run_id, 0)
        if found is None:
            refused += 1
            continue
        assert (found.index, found.n_trials) == (good.index, good.n_trials)
        for part in ("states", "counts", "joint", "joint_counts"):
            pairs = zip(getattr(found, part), getattr(good, part), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), f"byte {place}: {part}"
    assert refused > 100


def test_counts_edited_by_hand_are_noticed(folder: Path, made: Path, hashes: Hashes, computed: list[int]) -> None:
    """A whole file that says it is this block, with one trial moved to another state."""
    path = block_path(folder, 1)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    column = arrays["counts_0"][:, -1]
    full = int(column.argmax())
    column[full] -= 1
    column[full - 1] += 1
    np.savez_compressed(path, **arrays)
    with pytest.raises(RunFolderError, match="blocks 1 are missing or damaged"):
        ps.open_run(folder)
    assert notices(folder) == [
        f"{block_path(folder, 1)}: its checksum is not that of what it holds; it is computed again"
    ]
    assert computed == [1] and hashes(folder) == hashes(made)


def test_an_edited_summary_is_not_read_and_written_again(folder: Path, hashes: Hashes) -> None:
    before = hashes(folder)
    text = (folder / "summary.csv").read_text()
    (folder / "summary.csv").write_text(text.replace("bytes", "bits"))
    assert ps.open_run(folder).summary().to_csv(index=False) == text
    with pytest.warns(RunFolderNotice, match="summary.csv: was not what the blocks say"):
        run(folder)
    assert hashes(folder) == before


def test_a_block_of_another_run_is_not_taken(folder: Path, tmp_path: Path, made: Path, hashes: Hashes) -> None:
    run(tmp_path / "other", seed=4)
    shutil.copy(block_path(tmp_path / "other", 1), block_path(folder, 1))
    with pytest.raises(RunFolderError, match="blocks 1 are missing or damaged"):
        ps.open_run(folder)
    [notice] = notices(folder)
    assert notice.startswith(f"{block_path(folder, 1)}: is of another run (") and "it is computed again" in notice
    assert hashes(folder) == hashes(made)


def test_every_missing_block_is_named(folder: Path) -> None:
    for index in (0, 2):
        block_path(folder, index).unlink()
    with pytest.raises(RunFolderError, match="blocks 0, 2 are missing or damaged"):
        ps.open_run(folder)


# ------------------------------------------------------------------------------------------------- opening


def test_opening_gives_the_same_result(made: Path, no_work: None) -> None:
    opened = ps.open_run(made)
    assert (opened.policies, opened.n_trials, opened.plan.seed) == (tuple(POLICIES), TRIALS, 3)
    assert opened.plan.scenario == SCENARIO
    assert (made / "summary.csv").read_text() == opened.summary().to_csv(index=False)
    assert ps.open_run(str(made)).plan.run_id == opened.plan.run_id


def test_opening_knows_guards_parameters_and_mappings(policy_file: Callable[..., str], tmp_path: Path) -> None:
    guarded = policy_file(
        "class Guarded(Policy):\n"
        '    """Waits, moves, then maps around."""\n'
        "    wait: Annotated[int, Range(1, 99)] = 3\n"
        "    mapping = 'private'\n"
        "    rules = [\n"
        "        on(BACKING, when='hits_in_vm < wait and age_days < 400').do(KEEP),\n"
        "        on(BACKING, when='spares_left > 1').do(MIGRATE),\n"
        "        on('>BASE', when='regions_split < 5').do(SPLIT),\n"
        "        on(BACKING).do(UNMAP), on('2M').do(SPLIT), on(BASE).do(UNMAP),\n"
        "    ]\n",
        name="guarded",
    )
    specs = [f"{guarded}:wait=2,spares=3", "hgm4k-vma", "unmap1g-private", "migrate-then-hgm2m"]
    made = run(tmp_path / "run", policies=specs, trials=100)
    opened = ps.open_run(tmp_path / "run")
    Path(guarded).unlink()  # rules are data: the file is not needed any more
    assert ps.open_run(tmp_path / "run").policies == ("guarded:spares=3,wait=2", *specs[1:])
    pd.testing.assert_frame_equal(opened.summary(), made.summary(), check_exact=True)
    pd.testing.assert_frame_equal(opened.samples(), made.samples(), check_exact=True)


DECIDE = 'class Mine(Policy):\n    """In code."""\n\n    @staticmethod\n    def decide(c, p):\n        return UNMAP\n'


def test_a_decide_is_loaded_again_and_must_be_the_same(policy_file: Callable[..., str], tmp_path: Path) -> None:
    path = policy_file(DECIDE)
    made = run(tmp_path / "run", policies=[path, "hgm2m"], trials=100)
    pd.testing.assert_frame_equal(ps.open_run(tmp_path / "run").summary(), made.summary(), check_exact=True)
    policy_file(DECIDE.replace("UNMAP", "KEEP"))
    os.utime(path, (1, 1))
    with pytest.raises(RunFolderError, match="policy mine has changed since the run was made"):
        ps.open_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds another run"):
        run(tmp_path / "run", policies=[path, "hgm2m"], trials=100)


def test_an_edited_decide_in_the_same_process_runs_as_edited(policy_file: Callable[..., str], tmp_path: Path) -> None:
    path = policy_file(DECIDE)
    before = run(tmp_path / "a", policies=[path], trials=100)
    policy_file(DECIDE.replace("UNMAP", "KEEP").replace("    @static", "    keeps = True\n\n    @static"))
    os.utime(path, (1, 1))
    after = run(tmp_path / "b", policies=[path], trials=100)
    assert before.plan.policies[0].digest != after.plan.policies[0].digest
    lost = [res.samples()["guest_lost_bytes"].max() for res in (before, after)]
    assert lost[0] > 1 << 30 > lost[1]


def test_a_decide_that_is_gone_is_missed(policy_file: Callable[..., str], tmp_path: Path) -> None:
    path = policy_file(DECIDE, name="sub/gone")
    run(tmp_path / "run", policies=[path], trials=100)
    Path(path).unlink()
    with pytest.raises(RunFolderError, match="policy gone"):
        ps.open_run(tmp_path / "run")


def test_a_decide_is_looked_for_where_the_user_said(
    policy_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path stays relative: a run folder holds no paths of the machine that made it."""
    policy_file(DECIDE, name="here/elsewhere")
    monkeypatch.chdir(tmp_path / "here")
    made = run(tmp_path / "run", policies=["./elsewhere.py"], trials=100)
    pd.testing.assert_frame_equal(ps.open_run(tmp_path / "run").summary(), made.summary(), check_exact=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match=r"policy elsewhere answers in code that cannot be loaded: .*elsewhere"):
        ps.open_run(tmp_path / "run")


def test_no_run_folder_is_said_so_and_a_near_name_offered(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"does not exist; did you mean run\?"):
        ps.open_run(made.with_name("runn"))
    with pytest.raises(RunFolderError, match="does not exist; give a folder"):
        ps.open_run(tmp_path / "a" / "b")


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "seed": lambda m: m.update(seed=4),
    "seed is text": lambda m: m.update(seed="three"),
    "run id": lambda m: m.update(run_id="0" * 64),
    "no run id": lambda m: m.pop("run_id"),
    "scenario": lambda m: m["scenario"]["host"].update(spares=9),
    "scenario is wrong": lambda m: m["scenario"]["host"].update(spares=-9),
    "no scenario": lambda m: m.pop("scenario"),
    "rule": lambda m: m["policies"][1]["rows"][-1].__setitem__(-2, 3),
    "rule is short": lambda m: m["policies"][1]["rows"][-1].pop(),
    "label": lambda m: m["policies"][1].update(label="hgm3m"),
    "parameter": lambda m: m["policies"][2]["params"].update(spares=3),
    "mapping": lambda m: m["policies"][0].update(shared=False),
    "spares": lambda m: m["policies"][2]["params"].update(spares=9),
    "order": lambda m: m["policies"].reverse(),
    "a policy less": lambda m: m["policies"].pop(),
    "no policies": lambda m: m.update(policies=[]),
    "policies is text": lambda m: m.update(policies="hgm2m"),
    "trials": lambda m: m.update(trials=TRIALS + 5),
    "trials is a fraction": lambda m: m.update(trials=20.5),
    "trials is a word of json": lambda m: m.update(trials=True),
    "trials is endless": lambda m: m.update(trials=float("inf")),
    "trials is more than can be": lambda m: m.update(trials=10**30),
    "trials is very many": lambda m: m.update(trials=10**9),
    "keeps": lambda m: m["policies"][0].update(keeps=True),
    "contiguous": lambda m: m["policies"][1].update(contiguous=True),
    "stage2 only": lambda m: m["policies"][1].update(stage2_only=True),
    "rows start elsewhere": lambda m: m["policies"][1].update(row_start=[0]),
    "no rows": lambda m: m["policies"][1].update(rows=[]),
    "rows are text": lambda m: m["policies"][1].update(rows="none"),
    "policy is none": lambda m: m["policies"].__setitem__(0, None),
    "a number too large": lambda m: m["policies"][1]["rows"][-1].__setitem__(-2, 2**70),
    "seed is a fraction": lambda m: m.update(seed=3.5),
    "trials is text": lambda m: m.update(trials="many"),
    "trials is zero": lambda m: m.update(trials=0),
    "trials is negative": lambda m: m.update(trials=-5),
    "schema": lambda m: m.update(schema="poisonsim.run/0"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_not_trusted(folder: Path, edit: str) -> None:
    path = folder / "run.json"
    manifest = json.loads(path.read_text())
    EDITS[edit](manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match="run"):
        ps.open_run(folder)


NO_MANIFESTS = ["", "{", "[]", "3", "\x00\x01", "null", "[" * 100_000]


@pytest.mark.parametrize("text", NO_MANIFESTS)
def test_a_damaged_manifest_is_refused_and_written_again_by_the_run(
    folder: Path, hashes: Hashes, no_work: None, text: str
) -> None:
    before = hashes(folder)
    (folder / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        ps.open_run(folder)
    with pytest.warns(RunFolderNotice, match=r"run\.json was missing or damaged and is written again"):
        run(folder)
    assert hashes(folder) == before


@pytest.mark.parametrize("edit", ['"seed": ', '"spares": '])
def test_a_manifest_that_tells_of_another_run_is_written_again_and_it_is_said(
    folder: Path, hashes: Hashes, no_work: None, edit: str
) -> None:
    before, path = hashes(folder), folder / "run.json"
    assert edit in path.read_text()
    path.write_text(path.read_text().replace(edit, edit + "7"))
    with pytest.raises(RunFolderError, match="does not match its run id"):
        ps.open_run(folder)
    with pytest.warns(RunFolderNotice, match=r"run\.json: does not describe the run that it names \(edited\)"):
        run(folder)
    assert hashes(folder) == before


def test_a_manifest_that_is_gone_is_written_again_by_the_run(folder: Path, hashes: Hashes, no_work: None) -> None:
    before = hashes(folder)
    (folder / "run.json").unlink()
    with pytest.raises(RunFolderError, match="no run folder"):
        ps.open_run(folder)
    with pytest.warns(RunFolderNotice, match="what was simulated is kept"):
        run(folder)
    assert hashes(folder) == before


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_folder_without_a_manifest_is_left_alone_by_another_run(
    folder: Path, hashes: Hashes, text: str | None
) -> None:
    (folder / "run.json").unlink()
    if text is not None:
        (folder / "run.json").write_text(text)
    before = hashes(folder)
    with pytest.raises(RunFolderError, match=r"run\.json|no run folder"):
        run(folder, seed=4)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"run\.json|no run folder"):
        run(folder)
    (folder / "notes.txt").unlink()
    assert hashes(folder) == before


@pytest.mark.parametrize("text", ['{"schema": "poisonsim.run/1"}', '{"schema": "poisonsim.run/2"}'])
def test_a_manifest_of_another_version_is_left_alone(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        ps.open_run(folder)
    with pytest.raises(RunFolderError):
        run(folder)
    assert (folder / "run.json").read_text() == text


def test_what_a_killed_process_left_is_no_obstacle_and_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    for name in (".run.json.x1y2.part", ".lock", "blocks/.000001.npz.a_b.part"):
        (tmp_path / name).write_text("{")
    with pytest.raises(RunFolderError, match="exists and is no run folder"):
        run(tmp_path, trials=50)
    (tmp_path / "blocks" / ".000001.npz.a_b.part").rename(tmp_path / ".summary.csv.c3d4.part")
    (tmp_path / "blocks").rmdir()
    assert run(tmp_path, trials=50).n_trials == 50
    (tmp_path / "blocks" / ".000001.npz.a_b.part").touch()
    run(tmp_path, trials=50)
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_a_sweep_folder_is_called_one(tmp_path: Path) -> None:
    ps.sweep(SCENARIO, over={"host.spares": [0, 1]}, policies=["unmap1g"], trials=20, out=tmp_path / "sweep")
    with pytest.raises(RunFolderError, match=r"is a sweep folder; its page is sweep\.html, and each folder in its"):
        ps.open_run(tmp_path / "sweep")


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "run.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RunFolderError, match=r"run\.json"):
        ps.open_run(folder)


# ------------------------------------------------------------------------------------------------- where to


@pytest.mark.parametrize("changes", [{"seed": 4}, {"policies": ["hgm2m"]}])
def test_a_folder_of_another_run_is_left_alone(folder: Path, hashes: Hashes, changes: dict[str, Any]) -> None:
    before = hashes(folder)
    with pytest.raises(RunFolderError, match="holds another run .*; choose another folder"):
        run(folder, **changes)
    assert hashes(folder) == before


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, hashes: Hashes) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="exists and is no run folder; choose another with `out`"):
        run(tmp_path)
    assert list(hashes(tmp_path)) == ["notes.txt"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    run(tmp_path, trials=100)
    assert ps.open_run(tmp_path).n_trials == 100


@pytest.mark.parametrize("place", ["file", "file/run", "file/a/b", "x" * 300, "a\0b"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, no_work: None, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError):
        run(tmp_path / place)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


def test_the_place_does_not_matter(made: Path, tmp_path: Path, hashes: Hashes) -> None:
    moved = shutil.copytree(made, tmp_path / "moved to" / "é")
    assert ps.open_run(moved).summary().equals(ps.open_run(made).summary())
    run(moved)
    assert hashes(moved) == hashes(made)


# ------------------------------------------------------------------------------------------------- other inputs


def test_an_edited_fault_table_is_another_run(tmp_path: Path) -> None:
    """The scenario names the file only, but what it says changes every history."""
    source = Path(catalog.__file__).parent / "faults" / "ddr4-alibaba.toml"
    table = tmp_path / "fleet.toml"
    ids = []
    for tickets in (567, 1134):
        table.write_text(source.read_text().replace("value = 567\n", f"value = {tickets}\n"))
        scenario = Scenario(faults=FieldFaults(table=str(table)))
        ids.append(plan_run(scenario, policies=["hgm2m"]).run_id)
    assert ids[0] != ids[1]


def test_the_title_is_not_what_a_run_is() -> None:
    """Kept: two scenarios that differ in their title only share histories."""
    titled = dataclasses.replace(SCENARIO, title="another")
    a, b = (ps.run(s, policies=["hgm2m"], trials=100, seed=3).samples() for s in (SCENARIO, titled))
    assert a.equals(b)
