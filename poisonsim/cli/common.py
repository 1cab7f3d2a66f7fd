"""What every command shares: how errors, warnings and JSON reach the user."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from poisonsim.errors import PoisonsimError, PoisonsimWarning, ScenarioError, WorkerError

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    import pandas as pd

FAILED = 3
INTERRUPTED = 130
VMS = 10_000
"""Size of the fleet that a run's last lines and report speak of, where none is given."""
LESS_MEMORY = "what takes it is errors per VM (faults), huge pages (vm.memory, vm.backing) and --threads; lower one"
EXIT_CODES = {
    0: ("ok", "all that was asked is done"),
    1: ("a bug of ours", "the lines above say where; please report them"),
    2: ("wrong usage or input", "every problem is on stderr, one on a line, and nothing was lost"),
    FAILED: (
        "a check did not hold",
        "a `--fail-if` holds, an `--until` is not reached, `plan` knows no choice that meets all levels, or `verify` "
        "found a difference; everything is written",
    ),
    INTERRUPTED: ("interrupted", "what is finished is kept, and the command that goes on is printed"),
}
"""What each exit code says, in short, and what to expect then."""
WIDTH = 118
"""Characters of a line of text, so that it fits beside other windows."""

P = ParamSpec("P")
R = TypeVar("R")


def examples(*commands: str) -> str:
    """The end of a command's help: commands to try, one on a line."""
    return "\n\n".join(["Examples:", *commands])


def user_errors(command: Callable[P, R]) -> Callable[P, R]:
    """`command` with errors a user can mend printed one per line, exit code 2, and Ctrl-C as exit code 130."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PoisonsimError as error:
            for problem in error.problems:
                typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; to go on, give the same command again", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except MemoryError as error:
            typer.echo(f"error: out of memory: {error or 'nothing more can be had'}; {LESS_MEMORY}", err=True)
            raise typer.Exit(2) from None
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            forget_stdout()
            raise typer.Exit(0) from None

    if command.__doc__:  # the help keeps line breaks within a paragraph
        wrapped.__doc__ = "\n\n".join(" ".join(part.split()) for part in command.__doc__.split("\n\n"))
    return wrapped


def command_given(told: Callable[[str], str] = str) -> str:
    """The command line of this process, each word as `told` tells it."""
    return shlex.join(["poisonsim", *map(told, sys.argv[1:])])


@contextmanager
def going_on(kept: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C says what is `kept` by then, and prints the very command that goes on from there; exit code 130.

    Prints the command where workers are lost, too.
    """
    command = f"go on with:\n  {command_given()}"
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {kept()}; {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except WorkerError as error:
        typer.echo("\n".join(f"error: {problem}" for problem in error.problems) + f"; {command}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def workers(cluster: str | None, threads: int | None) -> Iterator[Executor | None]:
    """What computes blocks, as an executor: the workers of a cluster, or None for threads of this process.

    Raises:
        ScenarioError: Both are asked for.
        WorkerError: The cluster cannot be used.
    """
    if cluster is None:
        yield None
        return
    if threads is not None:
        raise ScenarioError(
            "--cluster and --threads exclude each other; workers have as many threads as they were given"
        )
    from poisonsim.engine.cluster import cluster as connected

    with connected(cluster) as executor:
        yield executor


@contextmanager
def pool_set_back(kept: str = "") -> Iterator[None]:
    """On Ctrl-C or a signal says that the pool of huge pages is as it was, after what else is `kept`."""
    from poisonsim.translation.calibrate.pool import Terminated

    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {kept}the pool of huge pages is as it was", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Terminated as signal:
        typer.echo(f"ended by {signal}; {kept}the pool of huge pages is as it was", err=True)
        raise typer.Exit(128 + signal.number) from None


@contextmanager
def options_named(options: Mapping[str, str]) -> Iterator[None]:
    """Problems with an argument of ours told by the option that gave it: `options` by the argument's name.

    Examples:
        >>> try:
        ...     with options_named({"base": "--base"}):
        ...         raise ScenarioError("base: 3 is odd")
        ... except ScenarioError as error:
        ...     print(*error.problems)
        --base: 3 is odd
    """
    try:
        yield
    except PoisonsimError as error:
        told = []
        for problem in error.problems:
            name, colon, rest = problem.partition(":")
            told.append(f"{options[name]}:{rest}" if colon and name in options else problem)
        raise type(error)(told) from None


@contextmanager
def while_read() -> Iterator[None]:
    """Prints as long as anybody reads: where the reader has gone, as `head` does, drops the rest and goes on."""
    try:
        yield
    except BrokenPipeError:
        forget_stdout()


def forget_stdout() -> None:
    """Sends what is still to be written to nowhere, so that nothing fails again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def collected_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Prints our warnings once each on stderr when the block ends, without Python's decoration; gives those so far."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PoisonsimWarning)
        try:
            yield caught
        finally:  # an error may follow from what they say
            ours = [w for w in caught if issubclass(w.category, PoisonsimWarning)]
            for message in dict.fromkeys(str(w.message) for w in ours):
                typer.echo(f"warning: {message}", err=True)
    for other in caught:
        if not issubclass(other.category, PoisonsimWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def print_json(data: Mapping[str, Any]) -> None:
    """`data` as JSON on stdout, and nothing else there."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def print_csv(frame: pd.DataFrame) -> None:
    """`frame` as CSV on stdout, and nothing else there."""
    typer.echo(frame.to_csv(index=False), nl=False)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys as CSV on stdout, and nothing else there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    typer.echo(text.getvalue(), nl=False)


def one_output(given: Mapping[str, bool]) -> None:
    """Refuses more than one of the options that say what is printed.

    Raises:
        ScenarioError: Two of them are given.
    """
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise ScenarioError(f"{' and '.join(chosen)} exclude each other; give one of them")


def check_page(out: Path | None) -> None:
    """Refuses a file that is to hold a page and is not called one.

    Raises:
        ScenarioError: It does not end in .html.
    """
    if out is not None and out.suffix != ".html":
        raise ScenarioError(f"--out {out}: is no page; end it in .html")


def options(given: Mapping[str, object]) -> list[str]:
    """Options with their values as words of a command; those without one are left out."""
    words: list[str] = []
    for flag, value in given.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            words += [flag, str(each)]
    return words


def print_table(header: list[str], rows: list[list[str]], *, right: int = 1) -> None:
    """Aligned columns; those from number `right` on are aligned to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [
            cell.rjust(w) if i >= right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
