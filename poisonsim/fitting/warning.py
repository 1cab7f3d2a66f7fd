"""What corrected errors say of uncorrected ones to come: how often a page or host that passes a threshold has one."""

from __future__ import annotations

import numpy as np

from poisonsim.faults.laws import CeThreshold, load_laws
from poisonsim.fitting.findings import I64, Finding, Refusal, counted
from poisonsim.fitting.observed import PAGE_BYTES, Observed
from poisonsim.logs.gather import passed_threshold
from poisonsim.results.statistics import binomial

AHEAD_DAYS = 30
"""How soon after the warning an error must come to be one that it warned of."""
_DAY_US, _SECOND_US = 86_400_000_000, 1_000_000
_NEVER = np.iinfo(np.int64).max


def warnings_of(observed: Observed) -> list[Finding | Refusal]:
    """Precision and reach of each threshold of corrected errors per page that the laws know.

    A host warns when the first of its pages passes the threshold. Hosts that were not watched long enough after it,
    and had no UE, are left out.
    """
    host, time = observed.timed
    first_ue = np.full(observed.exposure.n_hosts, _NEVER)
    np.minimum.at(first_ue, host, time)
    found: list[Finding | Refusal] = []
    if not len(observed.corrected.page):
        why = "the log has no corrected error with a page and a time"
        needed = "logs that hold CEs, of hosts that do not mute them"
        return [Refusal("warning", "what CEs say of UEs to come", why, needed)]
    for threshold in load_laws("field").thresholds.values():
        found += _of(threshold, observed, first_ue)
    return found


def _of(threshold: CeThreshold, observed: Observed, first_ue: I64) -> list[Finding | Refusal]:
    name, label = f"warning.{threshold.name}", f"warned by {threshold.name} ({threshold.ces:,} CEs of a page)"
    window_s = threshold.window_years * 365.25 * 86_400
    passed = passed_threshold(observed.corrected, ces=threshold.ces, window_s=window_s)
    first = np.full(observed.exposure.n_hosts, _NEVER)
    np.minimum.at(first, passed.host, passed.second * _SECOND_US)
    hit, ahead = first_ue < _NEVER, AHEAD_DAYS * _DAY_US
    warned = first < _NEVER
    before = warned & (first_ue >= first)  # warnings after the first UE are too late to count
    soon = before & hit & (first_ue - np.where(warned, first, 0) <= ahead)
    end = observed.exposure.of_all(observed.exposure.end)
    judged = before & (soon | (end - np.where(warned, first, 0) >= ahead))
    n, right = int(judged.sum()), int(soon.sum())
    found: list[Finding | Refusal] = []
    if n:
        told = f"{right:,} of {counted(n, 'host')} with a UE in {AHEAD_DAYS} d"
        found.append(Finding(f"{name}.precision", label, binomial(right, n), told, "exact binomial"))
        same, pages = _same_page(passed.host, passed.page, passed.second, observed)
        told, label = f"{same:,} of {counted(pages, 'page')}", f"… {threshold.name}: pages poisoned later"
        found.append(Finding(f"{name}.page_precision", label, binomial(same, pages), told, "exact binomial"))
    else:
        why = "no page passed it" if not warned.any() else f"no host was watched for {AHEAD_DAYS} d after it did"
        found.append(Refusal(f"{name}.precision", label, why, "hosts that pass it: 30 of them for ±18 points"))
    if n_hit := int(hit.sum()):
        told, reached = f"… {threshold.name}: hosts with a UE warned of", int((before & hit).sum())
        found.append(Finding(
            f"{name}.reach", told, binomial(reached, n_hit), f"{reached:,} of {counted(n_hit, 'host')}",
            "exact binomial",
        ))  # fmt: skip
    return found


def _same_page(host: I64, page: I64, second: I64, observed: Observed) -> tuple[int, int]:
    """Pages that passed a threshold and then had an error, and all that passed it."""
    errors = observed.errors
    at = errors.span == PAGE_BYTES
    later = {
        (int(h), int(p)): int(t)
        for h, p, t in zip(errors.host[at], errors.low[at] // PAGE_BYTES, errors.end[at], strict=True)
    }
    passed = zip(host.tolist(), page.tolist(), (second * _SECOND_US).tolist(), strict=True)
    return sum(later.get((h, p), -1) >= t for h, p, t in passed), len(host)
