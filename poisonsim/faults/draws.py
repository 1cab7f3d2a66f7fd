"""Random numbers drawn inside compiled code: NumPy's SFC64 and its exponential law, number for number.

To ask a NumPy generator for one number at a time, or to fill arrays that are read once, takes longer than all that is
done with a bad line. So a kernel takes a state, carries it along as four variables, and puts it back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import compiled, inlined

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

wrapping = np.errstate(over="ignore")
"""For what calls kernels that draw: interpreted, they would warn of words that wrap around, as they must."""

_11, _3, _24, _40, _8, _1, _LOWEST = (np.uint64(n) for n in (11, 3, 24, 40, 8, 1, 255))


def _ziggurat() -> tuple[F64, F64, U64]:
    """Layers of equal area that cover the density exp(-x): the base first, then from the top down to it.

    Returns:
        float64[256], widths over 2**53; float64[256], exp(-width), 1 for the base; uint64[256], how many of 2**53 parts
        of a width lie below the curve on all of the layer's height.
    """
    width = np.empty(256)
    width[0], width[255] = _AREA * np.exp(_TAIL), _TAIL  # the base has the tail's area too
    for i in range(254, 0, -1):
        width[i] = -np.log(np.exp(-width[i + 1]) + _AREA / width[i + 1])
    inner = np.concatenate(([_TAIL, 0.0], width[1:255]))
    height = np.exp(-width)
    height[0] = 1.0
    return width * 2.0**-53, height, (inner / width * 2.0**53).astype(np.uint64)


_TAIL = 7.697117470131050077  # where the tail begins that has no layers
_AREA = 3.949659822581572e-3  # of each layer
_WIDTH, _HEIGHT, _FULL = _ziggurat()


def seed_state(rng: np.random.Generator) -> U64:
    """The state of a generator for compiled code, uint64[4], drawn from another one.

    Examples:
        >>> state = seed_state(np.random.default_rng(1))
        >>> sfc64 = np.random.SFC64()
        >>> sfc64.state = sfc64.state | {"state": {"state": state.copy()}}
        >>> bool(next_word(tuple(state))[0] == sfc64.random_raw())
        True
    """
    return rng.integers(0, 1 << 64, size=4, dtype=np.uint64)


@inlined
def next_word(state: Any) -> Any:
    """64 random bits, and the state from then on."""
    a, b, c, counter = state
    word = a + b + counter
    return word, (b ^ (b >> _11), c + (c << _3), ((c << _24) | (c >> _40)) + word, counter + _1)


@inlined
def uniform(word: Any) -> Any:
    """A number from 0 to 1 - 2**-53, of a word's highest bits."""
    return np.int64(word >> _11) * 2.0**-53


@inlined
def exponential(state: Any) -> Any:
    """An exponential random number of mean 1, and the state from then on (the ziggurat of Marsaglia and Tsang)."""
    word, state = next_word(state)
    layer, at = (word >> _3) & _LOWEST, word >> _11
    x = np.int64(at) * _WIDTH[layer]
    if at >= _FULL[layer]:  # once in 90 times
        x, state = _beyond(x, layer, state)
    return x, state


@compiled
def _beyond(x: Any, layer: Any, state: Any) -> Any:
    """The same from a point `x` of a layer that may lie above the curve."""
    while True:
        word, state = next_word(state)
        if layer == 0:
            return _TAIL - np.log1p(-uniform(word)), state
        if (_HEIGHT[layer - _1] - _HEIGHT[layer]) * uniform(word) + _HEIGHT[layer] < np.exp(-x):
            return x, state
        word, state = next_word(state)
        layer, at = (word >> _3) & _LOWEST, word >> _11
        x = np.int64(at) * _WIDTH[layer]
        if at < _FULL[layer]:
            return x, state
