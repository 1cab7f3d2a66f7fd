"""Run folders: data files only, each written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import Block
from poisonsim.errors import DamagedBlock, RunFolderError, did_you_mean, warn

SCHEMA = "poisonsim.run/1"
DATA_FILES = {
    "run.json": "the resolved scenario, the rules of every policy, seed, trials, command and versions: all it takes to "
    "compute the run again",
    "blocks/000000.npz": "counts of what became of the VMs of one block; a run that is continued computes only those "
    "that are missing",
    "summary.csv": "every metric of every policy at every year of the summary, with its interval",
}
REPORT_FILES = {
    "report.html": "the report, one file that needs nothing else",
    "trade.png": "host memory that each policy costs, against the slowdown of the VM",
    "reach.png": "TLB reach over the years",
    "tables.png": "page tables of the process over the years",
    "stage2.png": "page tables of stage 2 over the years",
    "tail.png": "share of VMs that lose more than so much",
    "modes.png": "what is lost by fault mode; with the fault model `field` only",
    "differences.png": "differences between policies on the same errors",
    "convergence.png": "how the interval of the mean guest memory lost narrows with the trials",
    "life.png": "the memory of one VM at the end of its life; only where a trial saw an error",
}
"""Files of a run folder and of its report, and what each holds."""


PART = ".part"
"""End of the name of a file that is not yet whole; the name begins with a dot."""


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees all of it or the file as it was, even after a power cut.

    A file that holds just that is left alone.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    try:
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        make_folder(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PART, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:
        raise cannot_be_written(path, error) from error


def cannot_be_written(path: Path, error: Exception) -> RunFolderError:
    """The error that says why a file or folder cannot be written, and what to do."""
    reason = getattr(error, "strerror", None) or error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    todo = "make room and run the same command again, or " if full else ""
    return RunFolderError(
        f"{path}: cannot be written ({reason}); what was written before is intact; {todo}choose another folder with "
        "--out"
    )


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder and those above it where they are not there; they survive a power cut. Gives those it made."""
    if folder.is_dir():
        return []
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        _sync_folder(place.parent)
    return new


def _sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on disk, where its file system can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):  # it cannot, or not for us
            raise


def remove_parts(folder: Path) -> None:
    """Removes what killed processes left half written in a folder of a run, sweep, plan or fleet, and in its parts."""
    for below in ("", "blocks/", "points/*/", "points/*/blocks/", "components/*/", "components/*/blocks/"):
        for path in folder.glob(f"{below}.*{PART}"):
            path.unlink(missing_ok=True)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes `data` as indented JSON."""
    write_whole(path, as_json(data))


def as_json(data: Mapping[str, Any]) -> bytes:
    """`data` as `write_json` writes it."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def remove_report(folder: Path) -> None:
    """Removes the report and its pictures from a run folder, where it has them."""
    for name in REPORT_FILES:
        (folder / name).unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The contents of `run.json`.

    Raises:
        RunFolderError: No run folder, not JSON, or of a schema this version does not read.
    """
    path = folder / "run.json"
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        if (folder / "sweep.json").exists():
            raise RunFolderError(
                f"{folder}: is a sweep folder; its page is sweep.html, and each folder in its points/ is a run folder"
            ) from None
        if (folder / "plan.json").exists():
            raise RunFolderError(
                f"{folder}: is a plan folder; its table is plan.csv, and each folder in its points/ is a run folder"
            ) from None
        if not folder.exists():
            close = did_you_mean(folder.name, _runs_beside(folder))
            raise RunFolderError(f"{folder}: does not exist{close}; give a folder that `poisonsim run` named") from None
        if (folder / "fleet.json").exists():
            raise RunFolderError(
                f"{folder}: is a fleet folder; its page is fleet.html, and each folder in its components/ a run folder"
            ) from None
        raise RunFolderError(
            f"{folder}: no run folder (it has no run.json){did_you_mean(folder.name, _runs_beside(folder))}; "
            "give the folder that `poisonsim run` named"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: cannot be read as JSON ({error}); run the command again") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise RunFolderError(
            f"{path}: schema {schema!r} is not {SCHEMA!r}; it was written by another version, run again"
        )
    return manifest  # type: ignore[no-any-return]


def _runs_beside(folder: Path) -> list[str]:
    """Names of the run folders beside a folder."""
    try:
        return [place.name for place in folder.parent.iterdir() if (place / "run.json").exists()]
    except OSError:  # no such place, or one that may not be looked into
        return []


def block_path(folder: Path, index: int) -> Path:
    """File of one block."""
    return folder / "blocks" / f"{index:06d}.npz"


def write_block(folder: Path, run_id: str, block: Block) -> None:
    """Writes one block; what it says of itself lets `read_block` refuse a foreign or an edited one."""
    write_whole(block_path(folder, block.index), packed(run_id, block))


def packed(run_id: str, block: Block) -> bytes:
    """The file of a block, which `read_block` reads."""
    arrays: dict[str, Any] = {}
    for p, (states, counts) in enumerate(zip(block.states, block.counts, strict=True)):
        order = np.lexsort(states.T[::-1])  # neighbours hardly differ, and their differences hardly take room
        arrays[f"states_{p}"], arrays[f"order_{p}"] = np.diff(states[order], axis=0, prepend=0), _small(order)
        arrays[f"counts_{p}"] = _small(counts)
    for y, (joint, times) in enumerate(zip(block.joint, block.joint_counts, strict=True)):
        arrays[f"joint_{y}"], arrays[f"joint_counts_{y}"] = _small(joint), _small(times)
    whose = [run_id, block.index, block.n_trials]
    about = json.dumps([*whose, _digest(arrays, whose)])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(about), **arrays)
    return buffer.getvalue()


_DAMAGE = (
    ValueError, KeyError, IndexError, EOFError, TypeError, zipfile.BadZipFile, zlib.error,
    MemoryError, OverflowError,  # an array's header that asks for more than there is
    RuntimeError,  # a flag that says encrypted, or compressed in a way that zipfile does not know
    SyntaxError, tokenize.TokenError,  # an array's header that is no header is read as Python
)  # fmt: skip
"""What reading a file that is no block raises."""


_UNPACKED_BYTES, _MOST_RATIO = 32 << 20, 200  # what a block may take in memory, or times its file if that is more


class _Unusable(Exception):
    """What is wrong with a block's file."""


def read_block(folder: Path, run_id: str, index: int, *, tell: bool = False) -> Block | None:
    """Block `index` if its file is whole and belongs to this run, else None: it will be computed again.

    Args:
        tell: Warn of a file that is there but of no use, and say what is wrong with it.
    """
    path = block_path(folder, index)
    try:
        return _parsed(path, run_id, index)
    except FileNotFoundError:
        return None
    except _Unusable as problem:
        if tell:
            warn(f"{path}: {problem}; it is computed again", DamagedBlock)
        return None


def trials_of_block(folder: Path, run_id: str, index: int) -> int:
    """Trials that the file of a block says it counts; 0 where it is not there, damaged or of another run."""
    try:
        with np.load(block_path(folder, index), allow_pickle=False) as file:
            owner, number, n_trials, _ = json.loads(str(file["about"]))
    except (OSError, *_DAMAGE):
        return 0
    return int(n_trials) if (owner, number) == (run_id, index) else 0


def unpacked(data: bytes, run_id: str, index: int) -> Block | None:
    """Block `index` from what `packed` made of it, or None where that is damaged or of another run."""
    try:
        return _parsed(io.BytesIO(data), run_id, index)
    except _Unusable:
        return None


def _parsed(source: Path | IO[bytes], run_id: str, index: int) -> Block:
    """The block in a file."""
    try:
        with np.load(source, allow_pickle=False) as file:
            sizes = [(part.file_size, part.compress_size) for part in file.zip.infolist()]
            whole, in_file = sum(size for size, _ in sizes), sum(size for _, size in sizes)
            if whole > max(_UNPACKED_BYTES, _MOST_RATIO * in_file):
                raise _Unusable(f"would be {whole >> 20:,} MiB in memory, more than any block of its size")
            arrays = {name: file[name] for name in file.files}
        owner, number, n_trials, digest = json.loads(str(arrays.pop("about")))
        if digest != _digest(arrays, [owner, number, n_trials]):
            raise _Unusable("its checksum is not that of what it holds")
        if owner != run_id:
            raise _Unusable(f"is of another run ({str(owner)[:12]}, this one is {run_id[:12]})")
        if number != index:
            raise _Unusable(f"is block {number} under another name")
        n_policies = sum(name.startswith("states_") for name in arrays)
        n_years = sum(name.startswith("joint_counts_") for name in arrays)
        return Block(
            index,
            int(n_trials),
            tuple(_sorted_back(arrays[f"states_{p}"], arrays[f"order_{p}"]) for p in range(n_policies)),
            tuple(arrays[f"counts_{p}"].astype(np.int64) for p in range(n_policies)),
            tuple(arrays[f"joint_{y}"].astype(np.int32) for y in range(n_years)),
            tuple(arrays[f"joint_counts_{y}"].astype(np.int64) for y in range(n_years)),
        )
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _Unusable(f"cannot be read ({error.strerror or error})") from None
    except _DAMAGE:
        raise _Unusable("is cut short, damaged or no block") from None


def _small(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts in as few bytes each as the largest takes."""
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _sorted_back(differences: NDArray[np.int64], order: NDArray[Any]) -> NDArray[np.int64]:
    """States in the order in which they were found, from the differences of sorted ones."""
    states = np.empty_like(differences)
    states[order] = np.cumsum(differences, axis=0)
    return states


def _digest(arrays: Mapping[str, NDArray[Any]], whose: list[Any]) -> str:
    """SHA-256 over arrays and whose they are, so that counts that were changed by hand are noticed."""
    digest = hashlib.sha256(json.dumps(whose).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
