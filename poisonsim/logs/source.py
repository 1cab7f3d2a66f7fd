"""Files as a reader of logs takes them: in blocks of whole lines, decompressed, in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import LogError
from poisonsim.logs.names import printable
from poisonsim.logs.report import FileReport

BLOCK_BYTES = 4 << 20
LONGEST_LINE = 64 << 10
HEAD_BYTES = 64 << 10
_PIECE_BYTES = 1 << 18
_NEW_LINE = 10
_COMPRESSED: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open),
)  # fmt: skip
_FOREIGN = {b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}


class Block(NamedTuple):
    """Some whole lines of a text.

    Args:
        text: Their bytes, uint8[n].
        starts: First byte of each line, int64[n_lines].
        ends: What follows its last byte, int64[n_lines]; neither line feed nor carriage return belong to it.
        lines: Number of each line in the file, counted from 1, int64[n_lines].
        is_cut: Whether the last line lacks its line feed.
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]
    is_cut: bool

    def line(self, i: int) -> bytes:
        """The bytes of line `i` of the block, no more than a message shows."""
        return self.text[self.starts[i] : min(self.ends[i], self.starts[i] + 240)].tobytes()

    def cut_before(self, i: int) -> Block:
        """The block without its lines from `i` on."""
        return Block(self.text, self.starts[:i], self.ends[:i], self.lines[:i], is_cut=False)


class _Counted(RawIOBase):
    """A file that notes what was read from it: how many bytes, and their digest."""

    def __init__(self, file: Any, report: FileReport, progress: Callable[[int], None]) -> None:
        self.file, self.report, self.progress = file, report, progress
        self.digest, self.n_read = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        n: int = self.file.readinto(into)
        self.digest.update(memoryview(into)[:n])
        self.n_read += n
        self.progress(self.n_read)
        return n


def head(path: Path) -> bytes:
    """The first bytes of a file, decompressed, to tell its format by.

    Raises:
        LogError: It cannot be opened, or is packed in a way that is not read here.
    """
    shown = printable(str(path))
    if _is_odd(path):
        raise LogError(f"{shown}: is no file but a pipe or device; write what comes from it to a file and give that")
    with opened(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        for magic, name in _FOREIGN.items():
            if start.startswith(magic):
                raise LogError(f"{shown}: is packed with {name}; unpack it first, or pack it with gzip")
        return _some(_unpacked(file, start), HEAD_BYTES)[0]


def _is_odd(path: Path) -> bool:
    """Whether a path is there, but neither a file nor a folder."""
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False


@contextmanager
def opened(path: Path, mode: str) -> Iterator[Any]:
    """`path` open, or an error in our own words."""
    try:
        file = path.open(mode)
    except IsADirectoryError:
        raise LogError(f"{printable(str(path))}: is a folder; name the logs in it") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise LogError(f"{printable(str(path))}: cannot be read: {why}; give a log file that you may read") from None
    except ValueError:
        raise LogError(f"{printable(str(path))}: no file can have this name; give the path of a log") from None
    with file:
        yield file


def _unpacked(file: Any, start: bytes) -> BufferedIOBase:
    for magic, unpack in _COMPRESSED:
        if start.startswith(magic):
            return cast(BufferedIOBase, unpack(file))
    return cast(BufferedIOBase, file)


def blocks(
    path: Path,
    report: FileReport,
    progress: Callable[[int], None] = lambda _: None,
    keep: Callable[[Block], int] | None = None,
) -> Iterator[Block]:
    """The text of a file, block by block; lines beyond `LONGEST_LINE` bytes are counted as damaged and left out.

    A file whose compression breaks off gives what can be unpacked and counts one damaged record.

    Args:
        keep: Of each block but the last, the line from which on it is to be seen again with the next one; such as
            the start of a record that may go on. The number of lines says: none.
    """
    with opened(path, "rb") as plain:
        start = plain.read(8)
        plain.seek(0)
        counted = _Counted(plain, report, progress)
        source = _unpacked(BufferedReader(counted, 1 << 20), start)
        yield from _lines(source, report, keep)
        while counted.read(1 << 20):  # what a broken archive leaves belongs to the digest
            pass
        report.n_bytes, report.sha256 = counted.n_read, counted.digest.hexdigest()


def _lines(source: Any, report: FileReport, keep: Callable[[Block], int] | None) -> Iterator[Block]:
    rest, line, skipping, ended = b"", 1, False, False
    broken_off = ""
    while not ended:
        fresh, broken = _some(source, BLOCK_BYTES)
        broken_off = broken_off or broken
        ended = len(fresh) < BLOCK_BYTES
        if skipping:  # inside a line that is too long
            stop = fresh.find(b"\n")
            if stop < 0 and not ended:
                continue
            fresh, skipping, line = fresh[stop + 1 :] if stop >= 0 else b"", False, line + 1
            if not fresh and not ended:
                continue
        data = rest + fresh
        stop = len(data) if ended else data.rfind(b"\n") + 1
        rest = data[stop:]
        if len(rest) > LONGEST_LINE:
            _too_long(report, line + data.count(b"\n", 0, stop), rest)
            rest, skipping = b"", True
        if not stop:
            continue
        block = _block(data[:stop], line)
        if not ended and keep is not None:
            at = keep(block)
            if 0 < at < len(block.lines):
                rest = data[block.starts[at] : stop] + rest
                block = block.cut_before(at)
        line += len(block.lines)
        yield _without_long(block, report)
    if broken_off:
        report.n_records += 1
        report.damaged(f"compressed data broken off ({broken_off})", line)


def _some(source: Any, n_bytes: int) -> tuple[bytes, str]:
    """The next bytes, none at the end; and what is wrong with those that follow, if they cannot be unpacked."""
    pieces: list[bytes] = []
    n = 0
    while n < n_bytes:
        try:
            piece = source.read1(min(n_bytes - n, _PIECE_BYTES))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            return b"".join(pieces), printable(str(error), 60)
        if not piece:
            break
        pieces.append(piece)
        n += len(piece)
    return b"".join(pieces), ""


def _too_long(report: FileReport, line: int, text: bytes) -> None:
    report.n_records += 1
    report.damaged(f"line of more than {LONGEST_LINE >> 10} KiB", line, text[:60])


def _block(data: bytes, line: int) -> Block:
    text = np.frombuffer(data, np.uint8)
    stops = np.flatnonzero(text == _NEW_LINE)
    is_cut = not data.endswith(b"\n")
    ends = np.append(stops, len(text)) if is_cut else stops
    starts = np.concatenate([[0], stops + 1])[: len(ends)]
    ends = ends - ((ends > starts) & (text[ends - 1] == 13))
    return Block(text, starts, ends, np.arange(line, line + len(ends)), is_cut)


def _without_long(block: Block, report: FileReport) -> Block:
    """The block without lines that are too long, which are counted."""
    long = block.ends - block.starts > LONGEST_LINE
    if not long.any():
        return block
    for i in np.flatnonzero(long):
        _too_long(report, int(block.lines[i]), block.line(int(i)))
    return Block(block.text, block.starts[~long], block.ends[~long], block.lines[~long], block.is_cut and not long[-1])
