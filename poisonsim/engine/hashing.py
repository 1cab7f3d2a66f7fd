"""Open-addressing tables of integer keys whose entries go stale when the stamp changes, for the compiled kernels."""

from __future__ import annotations

from numpy import int64, uint64

from poisonsim.compiled import compiled, inlined


@inlined
def bucket_of(key, mask):
    """Where a search for `key` begins; unsigned, which is sooner looked up."""
    return uint64((key * int64(-7046029254386353131) >> int64(20)) & mask)


@inlined
def slot_of(keys, stamps, mask, key, stamp):
    """Index of `key` in the table, or of the free place where it belongs."""
    i = bucket_of(key, mask)
    while stamps[i] == stamp and keys[i] != key:
        i = uint64((int64(i) + 1) & mask)
    return i


@inlined
def claim(keys, stamps, mask, key, stamp):
    """Whether `key` is new in the table; from now on it is there."""
    i = slot_of(keys, stamps, mask, key, stamp)
    if stamps[i] == stamp:
        return False
    keys[i] = key
    stamps[i] = stamp
    return True


@inlined
def put(keys, stamps, values, mask, key, stamp, value):
    """Keeps `value` under `key`."""
    i = slot_of(keys, stamps, mask, key, stamp)
    keys[i] = key
    stamps[i] = stamp
    values[i] = value


@compiled
def lucky(luck, trial, attempt, threshold):
    """Whether a trial has luck at an attempt: in `threshold` of 2**53 cases, the same whenever it is asked."""
    x = int64(luck) + int64(trial) * int64(-7046029254386353131) + int64(attempt) * int64(-4417276706812531889)
    for _ in range(2):
        x = (x ^ (x >> int64(29))) * int64(-4658895280553007687)
    return ((x ^ (x >> int64(32))) & ((int64(1) << int64(53)) - 1)) < threshold


@compiled
def bits_for(n):
    """log2 of a table size, at least 16, that holds `n` keys at half load."""
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    return bits


@compiled
def rebuild_index(index, mask, hashes, first, n_states):
    """Fills the part of `index` below `mask` with the states from `first` on again, by their hashes."""
    index[: mask + 1] = -1
    for state in range(first, n_states):
        i = hashes[state] & mask
        while index[i] >= 0:
            i = (i + 1) & mask
        index[i] = state
