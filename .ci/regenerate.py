"""Writes the committed reports again, or with --check compares them with what would be written.

They are a sample run's, and the page of the self-check, which must hold.

With the library versions that the committed files name, every byte must agree; with others the numbers must.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPORTS = Path(__file__).resolve().parent.parent / "reports"
SAMPLE, PAGE = REPORTS / "seed-1t", REPORTS / "verification.html"
COMMAND = ["run", "seed-1t", "--policy", "unmap1g", "--policy", "hgm4k", "--policy", "hgm2m", "--policy", "migrate1g"]


def generate(folder: Path) -> None:
    """Runs the sample and the self-check into `folder`, without the sample's blocks; fails where a check does."""
    for command in ([*COMMAND, "--out", str(folder / SAMPLE.name)], ["verify", "--out", str(folder / PAGE.name)]):
        subprocess.run([sys.executable, "-m", "poisonsim", *command], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder / SAMPLE.name / "blocks")


def differences(fresh: Path) -> list[str]:
    """What differs between the committed reports and fresh ones."""
    folders = (SAMPLE, fresh / SAMPLE.name)
    versions = [json.loads((folder / "run.json").read_text())["software"] for folder in folders]
    if versions[0] == versions[1]:
        names = sorted({path.name for folder in folders for path in folder.iterdir()})
        found = [f"{SAMPLE.name}/{name}" for name in names if not same_bytes(*(folder / name for folder in folders))]
    else:
        print(f"library versions differ from the committed ones, comparing numbers only: {versions[1]}")
        rows = [list(csv.reader((folder / "summary.csv").open())) for folder in folders]
        same = len(rows[0]) == len(rows[1]) and all(map(same_row, *rows))
        found = [] if same else [f"{SAMPLE.name}/summary.csv"]
    if not PAGE.exists() or versions_of(PAGE) == versions_of(fresh / PAGE.name):
        return found if same_bytes(PAGE, fresh / PAGE.name) else [*found, PAGE.name]
    return found


def versions_of(page: Path) -> list[str]:
    """What a page of the self-check says it was computed with."""
    return re.findall(r'<span id="software">.*?</span>', page.read_text())


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
        fresh = Path(scratch)
        generate(fresh)
        if "--check" in sys.argv:
            if found := differences(fresh):
                sys.exit(f"in reports/, not what this code writes: {', '.join(found)}; run .ci/regenerate.py")
            return
        shutil.rmtree(SAMPLE, ignore_errors=True)
        shutil.copytree(fresh / SAMPLE.name, SAMPLE)
        shutil.copyfile(fresh / PAGE.name, PAGE)


if __name__ == "__main__":
    main()
