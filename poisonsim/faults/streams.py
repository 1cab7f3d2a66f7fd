"""Random streams: one per (seed, purpose, block), so that no draw ever shifts another."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

# What is drawn and in which order; part of every run id, so that folders of another version are refused.
STREAM_VERSION = 4

# First word of every seed. It stays when STREAM_VERSION goes up, so that scenarios whose draws did not change keep
# their values.
_ENTROPY = 1


class Purpose(IntEnum):
    """What a stream is drawn for; a new purpose never changes the values of the others."""

    ARRIVALS = 0
    GEOMETRY = 1
    GUEST = 2
    GROWTH = 3
    DETECTION = 4
    CORRECTED = 5
    REPLENISHING = 6


def stream(seed: int, purpose: Purpose, block: int) -> np.random.Generator:
    """The generator of one purpose in one block of trials; a pure function of its arguments.

    Examples:
        >>> a, b = (stream(7, Purpose.GEOMETRY, 3).integers(100, size=4).tolist() for _ in range(2))
        >>> a == b
        True
    """
    sequence = np.random.SeedSequence((_ENTROPY, seed), spawn_key=(int(purpose), block))
    return np.random.Generator(np.random.PCG64DXSM(sequence))
