"""Whatever happens to a log, reading it gives events and counts that add up, or an error in our own words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sound_logs import FORMATS, sound_logs

from poisonsim.errors import PoisonsimError
from poisonsim.logs import Kind, read_all


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A small sound log of each format."""
    return sound_logs(tmp_path_factory.mktemp("sound")).__getitem__


_PIECES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [
            b"\n",
            b"\0",
            b"\r\n",
            b'"',
            b",",
            b"\xff\xfe",
            b"9" * 30,
            b"EDAC MC0: 1 CE ",
            b"0x",
            b"-",
            b"{",
            b"|",
            b"\\u12",
            b"[",
            b"]: 0x",
        ]
    ),
)
_CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.just(b""), _PIECES)), max_size=5)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(changes=_CHANGES, end=st.one_of(st.just(1.0), st.floats(0, 1)), forced=st.booleans())
@pytest.mark.parametrize("format", FORMATS)
def test_a_mutated_log_is_read_or_refused(
    sound: Callable[[str], bytes],
    tmp_path: Path,
    format: str,
    changes: list[tuple[float, int, bytes]],
    end: float,
    forced: bool,
) -> None:
    data = sound(format)
    for share, n_gone, new in changes:
        at = int(share * len(data))
        data = data[:at] + new + data[at + n_gone :]
    path = tmp_path / "mutated.log"
    path.write_bytes(data[: int(end * len(data))])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            log = read_all(path, format=format if forced else None, year=2024)
    except PoisonsimError:
        return
    [report] = log.report.files
    assert report.n_records == report.n_used + report.n_other + report.n_damaged
    assert report.n_events == len(log.events) and len(report.sha256) == 64
    assert min(report.n_used, report.n_other, report.n_merged, *(damage.n for damage in report.damage.values()), 0) == 0
    events = log.events
    assert (events.address >= -1).all() and (events.count >= 0).all() and (events.grain_bytes >= 0).all()
    assert np.isin(events.kind, list(Kind)).all() and (events.host >= 0).all()
    assert all(name.isprintable() for name in events.labels.all() + events.hosts.all())
    events.to_frame()
