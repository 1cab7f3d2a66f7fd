"""Texts of a log as numbers: hosts and DIMM labels, made safe to show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.logs.codes import UNKNOWN

LONGEST_NAME = 200
MOST_NAMES = 1_000_000


def printable(text: str | bytes, longest: int = LONGEST_NAME) -> str:
    r"""`text` of a log made safe to show: on one line, no control characters, not longer than `longest`.

    Examples:
        >>> printable(b"a\x1b[0m\nb\xff"), printable("x" * 9, 5)
        ('a�[0m�b�', 'xxxx…')
    """
    if isinstance(text, bytes):
        text = text[: 4 * longest].decode("utf-8", "replace")
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


class Names:
    r"""Distinct texts of a log, each known by its number: hosts, or DIMM labels.

    Text from a log is data and may be hostile: undecodable bytes and control characters become `�`, and all beyond
    `LONGEST_NAME` characters is cut. The empty text is `UNKNOWN`, and so are the words in `nameless`. No more than
    `MOST_NAMES` are told apart.

    Examples:
        >>> names = Names()
        >>> names.number("host17"), names.number(b"bad\x1b[31m"), names.number("host17"), names.number("")
        (0, 1, 0, -1)
        >>> names[0], names[1], names[-1], len(names)
        ('host17', 'bad�[31m', '', 2)
    """

    def __init__(self, texts: Iterable[str] = (), *, nameless: Iterable[str] = ()) -> None:
        self._texts: list[str] = []
        self._number: dict[str | bytes, int] = {"": UNKNOWN, b"": UNKNOWN}
        self._number.update((text, UNKNOWN) for word in nameless for text in (word, word.encode()))
        self.n_left_out = 0
        for text in texts:
            self.number(text)

    def number(self, text: str | bytes) -> int:
        """The number of `text`, a new one if it was never seen; `UNKNOWN` for the empty text or one too many."""
        known = self._number.get(text)
        return self._new(text) if known is None else known

    def numbers(self, texts: Iterable[str | bytes]) -> NDArray[np.int32]:
        """The numbers of many texts, int32[n]."""
        return np.fromiter(map(self.number, texts), np.int32)

    def _new(self, text: str | bytes) -> int:
        plain = printable(text)
        n = self._number.get(plain)
        if n is None:
            if len(self._texts) >= MOST_NAMES:
                self.n_left_out += 1
                return UNKNOWN
            n = self._number[plain] = len(self._texts)
            self._texts.append(plain)
        if len(self._number) < 2 * MOST_NAMES and len(text) <= LONGEST_NAME:
            self._number[text] = n
        return n

    def __getitem__(self, n: int) -> str:
        return "" if n < 0 else self._texts[n]

    def __len__(self) -> int:
        return len(self._texts)

    def all(self) -> tuple[str, ...]:
        """Every text, in the order of its number."""
        return tuple(self._texts)

    def texts(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The texts of many numbers, object[n]."""
        texts: NDArray[Any] = np.array([*self._texts, ""], dtype=object)
        found: NDArray[Any] = texts[numbers]
        return found
