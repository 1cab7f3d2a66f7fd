"""Fits of hosts that are not alike: an inventory of their memory, windows and ages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, kstest, nbinom

import poisonsim as ps
from poisonsim.errors import PoisonsimError
from poisonsim.fitting.counts import HostCounts
from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.fitting.findings import Finding
from poisonsim.fitting.timing import Times, bursts_check, even_check, shape_of

TIB = 1 << 40
HOSTS = """host,memory,since,until,installed
a,2TiB,2025-01-01,2026-01-01,2024-01-01
b,512GiB,2025-07-01,2026-01-01,2025-07-01
c,1TiB,2025-01-01,2025-07-01,

d,1TiB,2025-01-01,2026-01-01,2023-01-01
"""
LOG = (
    "time,host,kind,address\n2025-03-01T00:00:00Z,a,UE,0x40000000\n2025-03-01T00:00:00Z,b,UE,0x50000000\n"
    "2025-08-01T00:00:00Z,b,UE,0x60000000\n2025-08-01T00:00:00Z,c,UE,0x70000000\n"
)


def files(folder: Path, hosts: str = HOSTS, log: str = LOG) -> tuple[Path, Path]:
    (folder / "hosts.csv").write_text(hosts)
    (folder / "errors.csv").write_text(log)
    return folder / "errors.csv", folder / "hosts.csv"


def test_each_host_counts_for_what_was_watched_of_it(tmp_path: Path) -> None:
    log, hosts = files(tmp_path)
    found = ps.fit(log, inventory=hosts)
    days = 2 * 365 + 184 / 2 + 181 + 365
    assert found.exposure.n_hosts == 4 and found.exposure.derived == ()
    assert found.exposure.tib_years == pytest.approx(days / 365.25)
    # Before it was watched b had an error, and c after; a and b are left with one each, c and d with none.
    assert found.errors.counts.tolist() == [1, 1, 0, 0] and found.observed.n_outside == 2
    assert found.observed.hosts == ("a", "b")
    assert found.exposure.of("memory_bytes", np.arange(4)).tolist() == [2 * TIB, TIB // 2, TIB, TIB]
    assert not found.to_dict()["exposure"]["alike"]


def test_what_the_inventory_leaves_open_is_as_given_for_all(tmp_path: Path) -> None:
    log, hosts = files(tmp_path, "host\na\nb\nc\n")
    found = ps.fit(log, inventory=hosts, memory="1TiB", since="2025-01-01", until="2026-01-01")
    alike = ps.fit(log, hosts=3, memory="1TiB", since="2025-01-01", until="2026-01-01")
    assert found.exposure.weight is None
    assert [f.to_dict() for f in found.findings] == [f.to_dict() for f in alike.findings]


def test_no_error_of_any_listed_host_is_an_answer(tmp_path: Path) -> None:
    log, hosts = files(tmp_path, log=LOG.replace("2025", "2021"))
    assert ps.fit(log, inventory=hosts)["rate.ue_per_tib_year"].estimate.best == 0


@pytest.mark.parametrize(
    ("hosts", "given", "told"),
    [
        ("", {}, "line 1: needs a column host"), ("memory\n1TiB\n", {}, "needs a column host"),
        ("host,host\na,a\n", {}, "each once"), ("host,instaled\na,2025\n", {}, "did you mean installed?"),
        ("host,memory\na\n", {}, "line 2: has 1 fields, not 2"), ("host\na\na\n", {}, "line 3: host 'a' comes twice"),
        ("host,memory\n,1TiB\n", {}, "line 2: names no host"), ("host\n", {}, "names no host; write a row for each"),
        ("host,memory\na,much\nb,1T\n", {}, "line 3: memory: "), ("host,since\na,soon\n", {}, "line 2: since: 'soon'"),
        ("host\na\n", {}, "no row for 'b', 'c' of the log"), (HOSTS, {"hosts": 4}, "exclude each other"),
        ("host\na\nb\nc\n", {"memory": None}, "memory of host 'a' is not said; write it, or give `memory`"),
        ("host,until\na,2025-01-01\nb,\nc,\n", {}, "until of host 'a' is not after its since"),
        ("host,installed\na,2025-02-01\nb,\nc,\n", {}, "installed of host 'a' is after its since"),
    ],
)  # fmt: skip
def test_inventories_that_cannot_be_used_are_refused(
    tmp_path: Path, hosts: str, given: dict[str, Any], told: str
) -> None:
    log, path = files(tmp_path, hosts)
    all_given = {"memory": "1TiB", "since": "2025-01-01", "until": "2026-01-01", **given}
    with pytest.raises(PoisonsimError) as caught:
        ps.fit(log, inventory=path, **all_given)
    assert told in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    log, _ = files(tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"host\n\xff\xfe\n")
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "bytes.csv"):
        with pytest.raises(PoisonsimError, match="cannot be read"):
            ps.fit(log, inventory=path)


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    log, path = files(tmp_path, "host,memory\n" + "".join(f"h{i},much\n" for i in range(50)))
    with pytest.raises(PoisonsimError) as caught:
        ps.fit(log, inventory=path)
    assert len(caught.value.problems) == 9 and "and 42 more problems" in caught.value.problems[-1]


# ------------------------------------------------------------------------------------------------------------ laws


def test_the_likelihood_is_that_of_the_negative_binomial_law_with_each_hosts_mean() -> None:
    counts, weight = np.array([0, 3, 1, 7, 0, 0]), np.array([0.5, 1, 1, 2, 0.5, 1.0])

    def law(mean: float, dispersion: float) -> float:
        size = 1 / dispersion
        return float(nbinom(size, size / (size + mean * weight)).logpmf(counts).sum())

    found = HostCounts(counts, weight)
    ours = found.log_likelihood(1.2, 0.8) - found.log_likelihood(0.7, 2.0)
    assert ours == pytest.approx(law(1.2, 0.8) - law(0.7, 2.0))
    best = law(found.mean, found.dispersion)
    assert all(best >= law(found.mean * a, found.dispersion * b) for a, b in ((1.05, 1), (0.95, 1), (1, 1.1), (1, 0.9)))
    assert sum(found.expected(3)["differing"]) == pytest.approx(6)


def test_hosts_of_equal_weight_are_as_hosts_alike() -> None:
    counts = np.array([0, 0, 3, 1, 0, 7, 2])
    plain, weighed = HostCounts(counts), HostCounts(counts, np.ones(7))
    assert weighed.dispersion == pytest.approx(plain.dispersion, rel=1e-3)
    assert weighed.dispersion_interval == pytest.approx(plain.dispersion_interval, rel=1e-3)
    assert weighed.mean_interval == pytest.approx(plain.mean_interval, rel=1e-3)
    assert weighed.p_alike == pytest.approx(plain.p_alike, abs=0.05)


@pytest.mark.parametrize("dispersion", [0.0, 1.5])
def test_intervals_of_unequal_hosts_hold_the_truth(dispersion: float) -> None:
    """60 fits, each interval held as often as by 94 %; fails by chance once in a million."""
    rng, n = np.random.default_rng(11), 60
    weight = np.tile([0.2, 0.6, 1.0, 2.2], 50)
    held = {"mean": 0, "dispersion": 0, "alike": 0}
    for _ in range(n):
        frailty = rng.gamma(1 / dispersion, dispersion, len(weight)) if dispersion else 1.0
        found = HostCounts(rng.poisson(0.5 * weight * frailty), weight)
        assert found.mean_interval is not None
        held["mean"] += found.mean_interval[0] <= 0.5 <= found.mean_interval[1]
        held["dispersion"] += found.dispersion_interval[0] <= dispersion <= found.dispersion_interval[1]
        held["alike"] += found.p_alike >= 0.01
    fewest = binom.ppf(1e-6, n, 0.94)
    assert held["mean"] >= fewest and held["dispersion"] >= fewest
    assert held["alike"] >= binom.ppf(1e-6, n, 0.99) if not dispersion else held["alike"] < n / 2


def staggered(n: int, rng: np.random.Generator) -> Exposure:
    """Hosts that went into service over three years, and are watched from within half a year on until the fifth."""
    year = round(US_PER_YEAR)
    installed = (rng.random(n) * 3 * year).astype(np.int64)
    begin = installed + (rng.random(n) * year / 2).astype(np.int64)
    return Exposure(n, np.full(n, TIB), begin, np.full(n, 5 * year), installed)


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.5])
def test_the_shape_is_found_in_hosts_of_all_ages(shape: float) -> None:
    """40 fits, each interval held as often as by 94 %; fails by chance once in a million."""
    rng, n, held = np.random.default_rng(12), 40, 0
    for _ in range(n):
        exposure = staggered(150, rng)
        low, high = ((np.asarray(each) - exposure.installed) / US_PER_YEAR for each in (exposure.begin, exposure.end))
        age = (low**shape + rng.random(150) * (high**shape - low**shape)) ** (1 / shape)
        time = np.asarray(exposure.installed) + (age * US_PER_YEAR).astype(np.int64)
        found = shape_of(Times(np.arange(150), time, exposure))
        assert isinstance(found, Finding) and found.method == "profile likelihood"
        held += found.estimate.low <= shape <= found.estimate.high
    assert held >= binom.ppf(1e-6, n, 0.94)


def test_hosts_of_unknown_age_do_not_count_for_ageing() -> None:
    year = round(US_PER_YEAR)
    installed = np.array([0, -(1 << 62), 0, 0])
    exposure = Exposure(4, TIB, 0, year, installed)
    found = shape_of(Times(np.arange(4), np.array([1, 2, 3, 4]) * year // 5, exposure))
    assert isinstance(found, Finding) and found.counts == "3 incidents at ages of 0 to 1 years"


def test_constant_rates_look_constant_in_a_fleet_that_grows() -> None:
    rng = np.random.default_rng(13)
    exposure = staggered(2000, rng)
    span = np.asarray(exposure.end) - np.asarray(exposure.begin)
    host = rng.choice(2000, 300, p=span / span.sum())
    time = np.asarray(exposure.begin)[host] + (rng.random(300) * span[host]).astype(np.int64)
    times = Times(host, time, exposure)
    assert kstest(times.share, "uniform").pvalue > 1e-6
    order = np.lexsort((time, host))
    in_order = Times(host[order], time[order], exposure)
    check, bursts = even_check(in_order), bursts_check(in_order)
    assert check is not None and check.p > 1e-6 and bursts is not None and bursts.p > 1e-3
