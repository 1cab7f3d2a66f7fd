"""Reader of Parquet files with the columns of our CSV; needs the extra `poisonsim[parquet]`."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import LogError
from poisonsim.logs.codes import CODES, UNKNOWN
from poisonsim.logs.context import Context
from poisonsim.logs.events import COLUMNS, DEFAULTS, Bools, EventBatch
from poisonsim.logs.names import printable
from poisonsim.logs.source import opened
from poisonsim.logs.table import NAMED, WORDS

ROWS = 1 << 16


def pyarrow_parquet() -> Any:
    """The module that reads Parquet.

    Raises:
        LogError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise LogError("Parquet needs pyarrow; install poisonsim[parquet], or write the events as CSV") from None
    return pyarrow.parquet


def read_parquet(context: Context) -> Iterator[EventBatch]:
    """The events of a Parquet file, some rows at a time."""
    parquet, path = pyarrow_parquet(), context.report.path
    import pyarrow as pa

    digest = sha256()
    with opened(context.path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            context.report.n_bytes += len(chunk)
    context.report.sha256 = digest.hexdigest()
    with opened(context.path, "rb") as file:
        try:
            table = parquet.ParquetFile(file)
            there = table.schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LogError(
                f"{path}: cannot be read as Parquet: {printable(str(error), 80)}; give a whole file"
            ) from None
        names = [name for name in there if name in COLUMNS and name != "source"]
        if "kind" not in names:
            raise LogError(f"{path}: has no column kind; its columns are {printable(', '.join(there), 100)}")
        first = 1
        try:
            for rows in table.iter_batches(batch_size=ROWS, columns=names):
                yield _events(rows, names, first, context)
                first += len(rows)
                context.progress(min(context.report.n_bytes, file.tell()))
        except (pa.ArrowException, OSError, ValueError) as error:
            context.report.n_records += 1
            context.report.damaged(f"rows that cannot be read ({printable(str(error), 60)})", first)


def _events(rows: Any, names: list[str], first: int, context: Context) -> EventBatch:
    import pyarrow as pa

    bad = np.zeros(len(rows), np.bool_)
    columns: dict[str, NDArray[Any]] = {}

    def damaged(which: Bools, what: str) -> None:
        for i in np.flatnonzero(which & ~bad).tolist():
            context.report.damaged(what, first + i)
        bad[which] = True

    for name in names:
        column = rows.column(name)
        try:
            if name == "time":
                if not pa.types.is_timestamp(column.type):
                    raise TypeError
                times = column.cast(pa.timestamp("us", column.type.tz), safe=False)
                columns[name] = times.to_numpy(zero_copy_only=False).astype("M8[us]")
            elif name in CODES or name in NAMED:
                words = column.cast(pa.string()).to_pylist()
                if name in NAMED:
                    of = context.hosts if name == "host" else context.labels
                    columns[name] = of.numbers(word or "" for word in words)
                    continue
                codes = [WORDS[name].get((word or "").lower(), -9) for word in words]
                columns[name] = np.array(codes, np.int64)
                lowest = 0 if name == "kind" else UNKNOWN
                damaged(columns[name] < lowest, f"unknown {name}")
            else:
                numbers = column.cast(pa.int64()).fill_null(int(DEFAULTS.get(name, UNKNOWN)))
                values = columns[name] = numbers.to_numpy(zero_copy_only=False)
                damaged((values < -1) | (values > np.iinfo(COLUMNS[name]).max), f"{name} out of range")
        except (pa.ArrowException, TypeError):
            what = "a timestamp" if name == "time" else "text" if name in CODES or name in NAMED else "a whole number"
            raise LogError(f"{context.report.path}: column {name} is of type {column.type}, not {what}") from None
    events = context.batch(**columns)
    context.report.n_records += len(rows)
    context.report.n_used += int((~bad).sum())
    return events[~bad] if bad.any() else events
