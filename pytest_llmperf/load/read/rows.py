"""What is known of each request, in the spill file behind the columns of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from .reading import RequestRow
from .spill import SpillReader, SpillWriter


def write_rows(spill: SpillWriter, rows: Iterable[RequestRow]) -> int:
    """Append ``rows``, and see to it that they can be read; how many they were. Raises
    :class:`OSError`."""
    encode = msgspec.msgpack.Encoder().encode
    count = 0
    for row in rows:
        spill.write_entry(encode(row))
        count += 1
    spill.flush()
    return count


def read_rows(spill: SpillReader, at: int, count: int) -> Iterator[RequestRow]:
    """The rows that were written from ``at`` on, one at a time."""
    return map(msgspec.msgpack.Decoder(RequestRow).decode, spill.entries(at, count))
