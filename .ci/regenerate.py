"""Writes the committed sample report again, or with --check compares it with what would be written.

With the library versions that the committed files name, every byte must agree; with others the numbers must.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "reports" / "seed-1t"
COMMAND = ["run", "seed-1t", "--policy", "unmap1g", "--policy", "hgm4k", "--policy", "hgm2m", "--policy", "migrate1g"]


def generate(folder: Path) -> None:
    """Runs the sample into `folder`, without its blocks."""
    command = [sys.executable, "-m", "poisonsim", *COMMAND, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / "blocks")


def differences(fresh: Path) -> list[str]:
    """What differs between the committed sample and a fresh one."""
    versions = [json.loads((folder / "run.json").read_text())["software"] for folder in (SAMPLE, fresh)]
    if versions[0] == versions[1]:
        names = sorted({path.name for folder in (SAMPLE, fresh) for path in folder.iterdir()})
        return [name for name in names if not same_bytes(SAMPLE / name, fresh / name)]
    print(f"library versions differ from the committed ones, comparing numbers only: {versions[1]}")
    rows = [list(csv.reader((folder / "summary.csv").open())) for folder in (SAMPLE, fresh)]
    return [] if len(rows[0]) == len(rows[1]) and all(map(same_row, *rows)) else ["summary.csv"]


def same_bytes(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.read_bytes() == b.read_bytes()


def same_row(a: list[str], b: list[str]) -> bool:
    return len(a) == len(b) and all(map(same_cell, a, b))


def same_cell(a: str, b: str) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return a == b


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "seed-1t"
        generate(fresh)
        if "--check" in sys.argv:
            if found := differences(fresh):
                sys.exit(f"reports/seed-1t is not what this code writes: {', '.join(found)}; run .ci/regenerate.py")
            return
        shutil.rmtree(SAMPLE, ignore_errors=True)
        shutil.copytree(fresh, SAMPLE)


if __name__ == "__main__":
    main()
