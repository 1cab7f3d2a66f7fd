"""Addresses of cache lines from inside compiled code, by the tables of `AddressMap.encoder`."""

from __future__ import annotations

from typing import Any

from poisonsim.compiled import inlined


@inlined
def cell_of(m: Any, bank: Any, row: Any, line: Any) -> Any:
    """Number of a cache line among those of its rank, as `encode_cell` takes it: line, row and bank, lowest bits first.

    Args:
        m: What `AddressMap.encoder()` returned; pass the tuple through the caller's own arguments.
        bank: Bank of the rank: bank group x banks of a group + bank of the group.
        row: Row of the bank.
        line: Cache line of the row: column // 8.
    """
    return line | (row << m[0][0]) | (bank << m[0][1])


@inlined
def unit_of(m: Any, controller: Any, channel: Any, rank: Any) -> Any:
    """Number of a rank among those of its interleave set, as `encode_cell` takes it.

    Args:
        m: As for `cell_of`.
        controller: Memory controller.
        channel: Channel of the controller; on DDR5 2 x channel + subchannel.
        rank: Rank of the channel.
    """
    return (controller * m[0][3] + channel) * m[0][4] + rank


@inlined
def encode_cell(m: Any, unit: Any, cell: Any) -> Any:
    """The byte address of one cache line, from inside compiled code; nothing is checked.

    Args:
        m: As for `cell_of`.
        unit: From `unit_of`.
        cell: From `cell_of`.

    Returns:
        int64, where the line begins in the interleave set.

    Examples:
        >>> from poisonsim.faults.address_map import load_address_map
        >>> from poisonsim.faults.geometry import load_dimm
        >>> m = load_address_map("linear", load_dimm("ddr4-16g-1rx4")).encoder()
        >>> encode_cell(m, unit_of(m, 0, 0, 0), cell_of(m, 1, 0, 2))
        32896
    """
    _, _, _, levels, digits, unhash = m
    a = undivided(m, unit, cell)
    if len(levels) == 1:  # as a rule, and sooner done without a loop
        a = _put_digit(a, levels, digits, unit, 0)
    else:
        for i in range(len(levels) - 1, -1, -1):
            a = _put_digit(a, levels, digits, unit, i)
    if len(unhash) == 0:
        return a
    address = a & 0
    for k in range(len(unhash)):
        address ^= unhash[k, (a >> (8 * k)) & 255]
    return address


@inlined
def undivided(m: Any, unit: Any, cell: Any) -> Any:
    """The address of one cache line before any digit is put in its place and hashes are undone.

    Args:
        m, unit, cell: As for `encode_cell`.
    """
    _, parts, place, _, _, _ = m
    return (
        place[unit]
        ^ parts[0, cell & 511]
        ^ parts[1, (cell >> 9) & 511]
        ^ parts[2, (cell >> 18) & 511]
        ^ parts[3, (cell >> 27) & 511]
        ^ parts[4, (cell >> 36) & 511]
    )


@inlined
def _put_digit(a: Any, levels: Any, digits: Any, unit: Any, i: Any) -> Any:
    """An address with the digit of level `i` in its place."""
    digit = digits[i, unit]
    if levels[i, 2] >= 0:
        digit -= (a >> levels[i, 2]) & 1
        if digit < 0:
            digit += levels[i, 1]
    return (((a >> levels[i, 0]) * levels[i, 1] + digit) << levels[i, 0]) | (a & levels[i, 3])
