"""Writes the committed generated files again, or with --check compares them with what would be written.

These are the sample report, the page of the self-check, which must hold, the manual's reference, and what the commands
of the manual and the README print. With the library versions that the reports name, every byte of them must agree; with
others the numbers of the sample must. What commands print is not compared here: tests do that, block by block.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE, PAGE = ROOT / "reports" / "seed-1t", ROOT / "reports" / "verification.html"
MANUAL = ROOT / "poisonsim" / "manual"
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


def reference() -> dict[Path, str]:
    """The manual's reference and its index, by file."""
    from poisonsim.manual import index
    from poisonsim.manual.generate import reference_pages

    pages = {MANUAL / "reference" / f"{name}.md": text for name, text in reference_pages().items()}
    return {**pages, MANUAL / "README.md": index()}


def refresh_documents() -> None:
    """Writes into manual and README what their commands print now; pages on field data only where there is any."""
    sys.path.insert(0, str(ROOT / "tests"))
    import documents

    for page in [ROOT / "README.md", *sorted(set(MANUAL.glob("*/*.md")) - set(reference()))]:
        with tempfile.TemporaryDirectory() as scratch:
            if needed := documents.NEEDS.get(page.stem):
                data = Path(os.environ.get("POISONSIM_DATA", "")) / needed
                if not data.is_file():
                    print(f"{page.name}: left as it is; point POISONSIM_DATA at the field data to run it")
                    continue
                (Path(scratch) / data.name).symlink_to(data.absolute())
            only = ("console",) if page.name == "README.md" else ()
            page.write_text(documents.refreshed(page.read_text(), Path(scratch), only))


def main() -> None:
    from poisonsim.manual import topic

    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if "--check" in sys.argv:
            stale = [f"reports/{name}" for name in differences(fresh)]
            stale += [
                str(path.relative_to(ROOT))
                for path, text in reference().items()
                if not path.exists() or path.read_text() != text
            ]
            if stale:
                sys.exit(f"not what this code writes: {', '.join(stale)}; run .ci/regenerate.py")
            return
        shutil.rmtree(SAMPLE, ignore_errors=True)
        shutil.copytree(fresh / SAMPLE.name, SAMPLE)
        shutil.copyfile(fresh / PAGE.name, PAGE)
    for _ in range(2):  # the index takes its lines from the pages
        topic.cache_clear()
        for path, text in reference().items():
            path.write_text(text)
    refresh_documents()


if __name__ == "__main__":
    main()
