"""Random streams: one per (seed, purpose, block), so that no draw ever shifts another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

STREAM_VERSION = 1


class Purpose(IntEnum):
    """What a stream is drawn for; a new purpose never changes the values of the others."""

    ARRIVALS = 0
    GEOMETRY = 1
    GUEST = 2


def stream(seed: int, purpose: Purpose, block: int) -> np.random.Generator:
    """The generator of one purpose in one block of trials; a pure function of its arguments.

    Examples:
        >>> a, b = (stream(7, Purpose.GEOMETRY, 3).integers(100, size=4).tolist() for _ in range(2))
        >>> a == b
        True
    """
    sequence = np.random.SeedSequence((STREAM_VERSION, seed), spawn_key=(int(purpose), block))
    return np.random.Generator(np.random.PCG64DXSM(sequence))
