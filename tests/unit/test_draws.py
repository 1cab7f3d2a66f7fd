"""Numbers drawn inside compiled code are those of NumPy's generator, one for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from poisonsim.faults.draws import exponential, next_word, seed_state
from poisonsim.faults.geometry import _POWERS_OF_TWO as MOST


def numpy_generator(state: NDArray[np.uint64]) -> np.random.Generator:
    """NumPy's own, from the same state on."""
    sfc64 = np.random.SFC64()
    sfc64.state = sfc64.state | {"state": {"state": state.copy()}}
    return np.random.Generator(sfc64)


def words(state: Any, n: Any) -> Any:
    s = (state[0], state[1], state[2], state[3])
    out = np.empty(n, np.uint64)
    for i in range(n):
        out[i], s = next_word(s)
    return out


def exponentials(state: Any, n: Any) -> Any:
    s = (state[0], state[1], state[2], state[3])
    out = np.empty(n)
    for i in range(n):
        out[i], s = exponential(s)
    return out


def test_words_are_those_of_sfc64() -> None:
    state = seed_state(np.random.default_rng(1))
    np.testing.assert_array_equal(njit(words)(state, 1000), numpy_generator(state).bit_generator.random_raw(1000))


def test_exponential_numbers_are_those_of_numpy_on_all_layers_and_in_the_tail() -> None:
    """The layers are worked out here, so that the last bits may differ."""
    state, n = seed_state(np.random.default_rng(2)), 300_000
    theirs = numpy_generator(state).standard_exponential(n)
    assert (theirs > 7.7).sum() > 50
    np.testing.assert_allclose(njit(exponentials)(state, n), theirs, rtol=1e-9)


def test_a_word_has_bits_enough_for_every_line_of_the_largest_channel() -> None:
    """48 say where a line is; and compiled address maps take 45 of a line of one rank."""
    most = {name: high.bit_length() - 1 for name, (_, high) in MOST.items()}
    of_rank = most["n_rows"] + most["n_columns"] - 3 + most["n_bank_groups"] + most["n_banks_per_group"]
    assert of_rank <= 45 and of_rank + most["n_ranks"] <= 48
