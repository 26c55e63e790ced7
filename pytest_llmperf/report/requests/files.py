"""Rows into a file that spreadsheets, pandas and DuckDB read; a few at a time, whatever there are.

Text is without control characters. In CSV, a text that a spreadsheet would take for a formula gets
an apostrophe before it, as OWASP's ASVS 5.0 asks in 1.2.10; Parquet has it as it is, for nothing
runs what is in there.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from pytest_llmperf.inert import cleaned
from pytest_llmperf.report.write import replacing

from . import GZIPPED, KIND, PARQUET
from .columns import COLUMNS, Kind, Value

Rows = Iterable[Sequence[Value]]
#: Rows held at a time; of a Parquet file, those of a row group.
ROWS_AT_ONCE = 1 << 16
#: A formula begins with one of these; the wide ones are taken for the same.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def write_rows(rows: Rows, path: Path, *, option: str) -> None:
    """Write ``rows`` to ``path`` in the format of its suffix. Raises
    :class:`~pytest_llmperf.errors.ReportError` for a disk that refuses, naming ``option``."""
    with replacing(path, option=option, what=f"the export {KIND}") as unfinished:
        if path.name.endswith(PARQUET):
            _write_parquet(rows, unfinished)
            return
        with unfinished.open("wb") as raw:
            if path.name.endswith(GZIPPED):
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                    _write_csv(rows, cast("IO[bytes]", packed))
            else:
                _write_csv(rows, raw)


def _write_csv(rows: Rows, raw: IO[bytes]) -> None:
    shown = [_SHOWN.get(column.kind, _as_it_is) for column in COLUMNS]
    text = TextIOWrapper(raw, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in COLUMNS)
    for row in rows:
        writer.writerow(
            None if value is None else show(value) for show, value in zip(shown, row, strict=True)
        )
    text.detach()  # flushed; whoever opened it closes it


def _write_parquet(rows: Rows, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema(
        pa.field(column.name, types[column.kind], metadata={"description": column.meaning})
        for column in COLUMNS
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in _batches(rows):
            columns = zip(COLUMNS, schema, zip(*batch, strict=True), strict=True)
            arrays = [
                pa.array(_told(column.kind, values), type=field.type)
                for column, field, values in columns
            ]
            writer.write_table(pa.table(arrays, schema=schema))


def _told(kind: Kind, values: Iterable[Value]) -> Iterable[object]:
    """``values`` as Parquet has them."""
    convert = _TOLD.get(kind)
    if convert is None:
        return values
    return [None if value is None else convert(value) for value in values]


def _batches(rows: Rows) -> Iterator[list[Sequence[Value]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, ROWS_AT_ONCE)):
        yield batch


def _as_it_is(value: Any) -> Any:
    return value


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    return cleaned(text)


@lru_cache(maxsize=4096)
def _inert(text: str) -> str:
    """``text`` as a cell that no spreadsheet runs."""
    plain = cleaned(text)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


@lru_cache(maxsize=4096)
def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


_SHOWN: dict[Kind, Callable[[Any], Any]] = {
    "text": _inert,
    "boolean": lambda value: "true" if value else "false",
}
_TOLD: dict[Kind, Callable[[Any], Any]] = {"text": _plain, "time": _moment}
