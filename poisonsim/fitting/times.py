"""Times that a user gives, as numbers."""

from __future__ import annotations

import numpy as np

from poisonsim.errors import ScenarioError, shown


def moment(name: str, value: str | np.datetime64 | None) -> int | None:
    """A time in microseconds since 1970, UTC; `None` for none.

    Raises:
        ScenarioError: It is no time.

    Examples:
        >>> moment("since", "1970-01-02T00:00:00Z")
        86400000000
    """
    if value is None:
        return None
    try:
        when = np.array([str(value).removesuffix("Z")], "M8[us]")[0]
    except ValueError:
        when = np.datetime64("NaT", "us")
    if np.isnat(when):
        raise ScenarioError(f"{name}: {shown(str(value))} is not a time; write one such as 2025-03-01T06:00:00, UTC")
    return int(when.astype(np.int64))
