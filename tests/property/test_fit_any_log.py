"""Whatever a log holds, a fit of it is finite data, a model that loads, or an error that says what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import poisonsim as ps
from poisonsim.cli import app
from poisonsim.errors import PoisonsimError

HEADER = "time,host,kind,address,severity,count,span_s,label,rank,device,bank_group,bank,row,column\n"
SMALL = st.sampled_from(["", "0", "1", "2"])
ROWS = st.tuples(
    st.sampled_from(["", "2024-12-31T00:00:00Z", "2025-01-01T00:00:00Z"])
    | st.integers(1_735_689_600, 1_767_225_600).map(str),
    st.sampled_from(["a", "b", "c", "", 'x"<$\\']),
    st.sampled_from(["UE", "UE", "CE", "poison", "soft-offline", "notice"]),
    st.sampled_from(["", "0x0", "0x1000", "0x40000000", "0x3fffffffffff"]) | st.integers(0, 1 << 40).map(hex),
    st.sampled_from(["", "AO", "AR", "fatal"]), st.sampled_from(["0", "1", "60", "5000"]),
    st.sampled_from(["0", "0", "0", "86400", "-1"]), SMALL, SMALL, SMALL, SMALL, SMALL,
    SMALL | st.integers(0, 131_071).map(str), SMALL | st.integers(0, 1023).map(str),
).map(",".join)  # fmt: skip
GIVEN: dict[str, Any] = {"memory": "1TiB", "since": "2025-01-01", "until": "2026-01-01", "installed": "2024-06-01"}


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(ROWS, max_size=14),
    hosts=st.sampled_from([None, 5, 400]),
    kept=st.sets(st.sampled_from(sorted(GIVEN))),
    model=st.sampled_from([None, "rate", "field"]),
)
def test_a_fit_is_finite_or_an_error_that_says_what_to_do(
    rows: list[str], hosts: int | None, kept: set[str], model: str | None
) -> None:
    given = {name: GIVEN[name] for name in kept}
    with TemporaryDirectory() as folder:
        log = Path(folder, "errors.csv")
        log.write_text(HEADER + "\n".join(rows))
        try:
            found = ps.fit(log, hosts=hosts, model=model, **given)
        except PoisonsimError as error:
            assert all(problem for problem in error.problems)
            return
        json.dumps(found.to_dict(), allow_nan=False)
        for finding in found.findings:
            e = finding.estimate
            assert 0 <= e.low <= e.best <= e.high and math.isfinite(e.high), finding
        assert all(0 <= check.p <= 1 for check in found.checks)
        words = [f"--{name}={value}" for name, value in given.items()] + ([f"--hosts={hosts}"] if hosts else [])
        done = CliRunner().invoke(app, ["fit", str(log), *words])
        assert done.exit_code == 0, done.output
        try:
            files = found.to_toml()
        except PoisonsimError:
            return
        for name, text in files.items():
            Path(folder, name).write_text(text)
        ps.load_scenario(Path(folder, "model.toml"))
