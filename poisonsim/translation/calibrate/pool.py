"""The kernel's pool of huge pages: reading it, and growing it for a while so that it always goes back.

Growing the pool is the one thing here that changes the machine for others. `while_changed` undoes every change
before it returns, whatever ends the work: an error, Ctrl-C, SIGTERM or SIGHUP. Only SIGKILL and a crash of the
machine are beyond it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol, TypeVar

from poisonsim.errors import MachineError
from poisonsim.units import KIB, page_bytes

T = TypeVar("T")

HUGEPAGES = Path("/sys/kernel/mm/hugepages")
"""Where the kernel keeps its pools."""
NODES = Path("/sys/devices/system/node")
"""Where it keeps what of them lies on each NUMA node."""

# The kernel may find no room for a 1G page at first and find it when asked again.
_ATTEMPTS = 4
_SECONDS_BETWEEN_ATTEMPTS = 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PoolState(NamedTuple):
    """Pages of one size in the pool.

    Examples:
        >>> PoolState(total=8, free=5, reserved=2).usable
        3
    """

    total: int
    free: int
    reserved: int

    @property
    def usable(self) -> int:
        """Free pages that no mapping has a claim on."""
        return max(0, self.free - self.reserved)


class Terminated(BaseException):
    """SIGTERM or SIGHUP came while the pool was changed.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@dataclass(frozen=True)
class Pool:
    """Pools of huge pages, one per page size.

    Args:
        root: Folder with one `hugepages-<n>kB` folder per size.
        nodes: Folder with one `node<n>/hugepages` folder, of the same kind, per NUMA node.

    Examples:
        >>> Pool(Path("/nowhere")).state("1G") is None
        True
    """

    root: Path = HUGEPAGES
    nodes: Path = NODES

    def state(self, size: str) -> PoolState | None:
        """The pool of one page size; None where the kernel has none.

        Args:
            size: Such as `"2M"`.
        """
        folder = self._folder(size)
        try:
            total, free, reserved = (
                int((folder / name).read_text()) for name in ("nr_hugepages", "free_hugepages", "resv_hugepages")
            )
        except (OSError, ValueError):
            return None
        return PoolState(total, free, reserved)

    def file(self, size: str) -> Path:
        """The file that sets how many pages of a size the pool has."""
        return self._folder(size) / "nr_hugepages"

    def by_node(self, size: str) -> dict[Path, int]:
        """Pages of a size on each NUMA node, by the file that sets them; empty where there is one node.

        Examples:
            >>> Pool(nodes=Path("/nowhere")).by_node("1G")
            {}
        """
        files = sorted(self.nodes.glob(f"node*/hugepages/{self._folder(size).name}/nr_hugepages"))
        try:
            return {file: int(file.read_text()) for file in files} if len(files) > 1 else {}
        except (OSError, ValueError):
            return {}

    def command(self, size: str, n_more: int) -> str:
        """What an administrator types to give the pool more pages of a size.

        Examples:
            >>> Pool().command("1G", 4)
            'echo 4 | sudo tee /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages'
        """
        state = self.state(size)
        return f"echo {(state.total if state else 0) + n_more} | sudo tee {self.file(size)}"

    def _folder(self, size: str) -> Path:
        return self.root / f"hugepages-{page_bytes(size) // KIB}kB"


class Change(Protocol):
    """Something changed on the machine, and changed back."""

    def apply(self) -> None:
        """Makes the change. Raises MachineError where it is not allowed."""
        ...

    def undo(self) -> None:
        """Takes it back; safe to call twice, and before `apply`."""
        ...


@dataclass
class MorePages:
    """So many more pages of a size in the pool.

    Pages that somebody else adds meanwhile stay; the pool ends with no fewer than it had, on each node.

    Args:
        pool: The pool.
        size: Page size.
        n: How many more, 1 or more.

    Raises:
        MachineError: The kernel has no pool of that size.
    """

    pool: Pool
    size: str
    n: int
    before: int = field(init=False)
    _touched: bool = field(init=False, default=False, repr=False)
    _gained: int = field(init=False, default=0, repr=False)
    _after: int | None = field(init=False, default=None, repr=False)
    _nodes_before: dict[Path, int] = field(init=False, repr=False)
    _nodes_grown: dict[Path, int] = field(init=False, default_factory=dict, repr=False)
    _nodes_after: dict[Path, int] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        state = self.pool.state(self.size)
        self._nodes_before = self.pool.by_node(self.size)
        if state is None:
            raise MachineError(f"huge pages: this kernel has no {self.size} pages ({self.pool.file(self.size)})")
        self.before = state.total

    def apply(self) -> None:
        """Adds the pages; fewer come where the kernel finds no more free contiguous memory.

        Raises:
            MachineError: No permission.
        """
        self._touched, self._gained = True, self.n  # should a signal come before it is known
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)  # compaction goes on meanwhile
            write_setting(self.pool.file(self.size), self.before + self.n)
            state = self.pool.state(self.size)
            self._nodes_grown = self.pool.by_node(self.size)
            if state is not None and state.total >= self.before + self.n:
                return
        if state is not None:
            self._gained = max(0, state.total - self.before)

    def undo(self) -> None:
        """Takes them out again; those still mapped go when they are unmapped."""
        state = self.pool.state(self.size)
        if not self._touched or state is None:
            return
        if self._after is None:
            self._after = max(self.before, state.total - self._gained)
        if state.total > self._after:
            self._undo_by_node()
            state = self.pool.state(self.size) or state
        if state.total > self._after:
            write_setting(self.pool.file(self.size), self._after)

    def _undo_by_node(self) -> None:
        """Takes from each node what it gained: a smaller total alone would take from all of them in turn."""
        now = self.pool.by_node(self.size)
        if self._nodes_after is None:
            grown = {node: self._nodes_grown.get(node, n) - self._nodes_before.get(node, n) for node, n in now.items()}
            self._nodes_after = {node: max(self._nodes_before.get(node, n), n - grown[node]) for node, n in now.items()}
        for node, n in now.items():
            if n > self._nodes_after.get(node, n):
                write_setting(node, self._nodes_after[node])


@dataclass
class Setting:
    """A file of the kernel that holds a number.

    Args:
        path: The file.
        value: What it is to hold.

    Raises:
        MachineError: It cannot be read.
    """

    path: Path
    value: int
    before: int = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.before = int(self.path.read_text())
        except (OSError, ValueError):
            raise MachineError(f"{self.path}: cannot be read; this kernel does not have the setting") from None

    def apply(self) -> None:
        """Sets it.

        Raises:
            MachineError: No permission.
        """
        write_setting(self.path, self.value)

    def undo(self) -> None:
        """Sets it to what it was."""
        if int(self.path.read_text()) != self.before:
            write_setting(self.path, self.before)


def write_setting(path: Path, value: int) -> None:
    """Writes a number to a file of the kernel.

    Raises:
        MachineError: It is not allowed.
    """
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be set to {value} ({error.strerror}); run as root, or leave out --reserve"
        ) from None


def while_changed(changes: Sequence[Change], body: Callable[[], T]) -> T:
    """What `body` returns, called while the changes hold; they are undone before this returns or raises.

    From the first change on, the first SIGINT raises KeyboardInterrupt and the first SIGTERM or SIGHUP raises
    Terminated; later signals are ignored, so that at most one of them can fall into the undoing, which is then
    done again.

    Args:
        changes: Applied in order, undone in reverse.
        body: The work.

    Raises:
        MachineError: A change is not allowed, or cannot be undone.

    Examples:
        >>> while_changed([], lambda: 4)
        4
    """
    with _first_signal_raises():
        try:
            try:
                for change in changes:
                    change.apply()
                return body()
            finally:
                _undo(changes)
        finally:
            _undo(changes)


def _undo(changes: Sequence[Change]) -> None:
    problems: list[str] = []
    for change in reversed(changes):
        try:
            change.undo()
        except (MachineError, OSError, ValueError) as error:
            problems.append(f"{change}: could not be undone ({error}); look at it by hand")
    if problems:
        raise MachineError(problems)


@contextmanager
def _first_signal_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    raised = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal raised
        if raised:
            return
        raised = True
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
