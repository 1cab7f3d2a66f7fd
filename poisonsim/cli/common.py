"""What every command shares: how errors, warnings and JSON reach the user."""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer

from poisonsim.errors import PoisonsimError, PoisonsimWarning

P = ParamSpec("P")
R = TypeVar("R")


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
            typer.echo("interrupted; finished blocks are kept, run the same command again to go on", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            forget_stdout()
            raise typer.Exit(0) from None

    return wrapped


def forget_stdout() -> None:
    """Sends what is still to be written to nowhere, so that nothing fails again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def collected_warnings() -> Iterator[None]:
    """Prints our warnings once each on stderr when the block ends, without Python's decoration."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PoisonsimWarning)
        yield
    for message in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, PoisonsimWarning)):
        typer.echo(f"warning: {message}", err=True)
    for other in caught:
        if not issubclass(other.category, PoisonsimWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def print_json(data: Mapping[str, Any]) -> None:
    """`data` as JSON on stdout, and nothing else there."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def print_table(header: list[str], rows: list[list[str]], *, right: int = 1) -> None:
    """Aligned columns; those from number `right` on are aligned to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [
            cell.rjust(w) if i >= right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
