"""Bytes that wait to be decoded, and the bound on how many may wait.

A short run is decoded after its window. A long one would not fit into memory: past the bound, the
oldest bytes are decoded in slices of some tenths of a millisecond between reads, ended responses
first, and their records go to disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection

from pytest_llmperf.load.read.digest import Digest
from pytest_llmperf.load.read.reading import RequestRow
from pytest_llmperf.load.read.spill import SpillWriter

from .wire import Connection, Exchange

#: Memory that reads may take before decoding begins: 150,000 and more of those that carry a token.
MOST_BYTES = 80 * 2**20
#: What a read takes beside its bytes: the objects that hold it, its place and its stamp.
_READ_BYTES = 64
_SLICE_READS = 96
_SLICE_BYTES = 64 * 1024
#: The last reads of a response that still comes are where its end is looked for.
_KEPT_READS = 8


class Backlog:
    """Exchanges that have ended, on their way to rows and spilled columns."""

    def __init__(self, spill: SpillWriter, *, most_bytes: int = MOST_BYTES) -> None:
        self._spill = spill
        self._most = most_bytes
        self._enough = most_bytes * 3 // 4
        self._ended: deque[Exchange] = deque()
        self._waiting = 0
        self._coming: list[Connection] = []  # those receiving, the largest response last
        self._excess = 0  # bytes to decode yet; asked for anew with every watch, not every slice
        self.rows: list[RequestRow] = []

    def add(self, exchange: Exchange) -> None:
        """Take over an exchange that has ended."""
        self._ended.append(exchange)
        self._waiting += _held_by(exchange)

    def watch(self, active: Collection[Connection]) -> None:
        """Begin to decode if too much waits; ``active`` are the connections still receiving."""
        held = self._waiting + sum(_held_by(each.exchange) for each in active)
        if held > self._most and self._excess <= 0:
            self._excess = held - self._enough
            self._coming = sorted(active, key=lambda each: _held_by(each.exchange))
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        freed = self._slice_ended() if self._ended else self._slice_active()
        self._excess = self._excess - freed if freed else 0
        if self._excess > 0:
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice_ended(self) -> int:
        exchange = self._ended[0]
        before = _held_by(exchange)
        _digest(exchange, _slice_of(exchange))
        freed = before - _held_by(exchange)
        self._waiting -= freed
        if not exchange.reads:
            self._settle(exchange)
            self._ended.popleft()
        return max(1, freed)

    def _slice_active(self) -> int:
        """Decode of the responses under way, the largest first; 0 when none has enough."""
        while self._coming:
            connection = self._coming[-1]
            exchange = connection.exchange
            spare = len(exchange.reads) - _KEPT_READS
            if connection.digestible and spare > 0:
                before = _held_by(exchange)
                _digest(exchange, min(_slice_of(exchange), spare))
                return max(1, before - _held_by(exchange))
            self._coming.pop()
        return 0

    def drain(self) -> list[RequestRow]:
        """Decode all that is left, letting go of each exchange's bytes, and return every row."""
        while self._ended:
            exchange = self._ended[0]
            _digest(exchange, len(exchange.reads))
            self._settle(exchange)
            self._ended.popleft()
        self._spill.flush()
        return self.rows

    def _settle(self, exchange: Exchange) -> None:
        digest = exchange.digest or Digest(exchange.turn)
        row, chunks = digest.finish(exchange)
        row.chunks_at = self._spill.write(chunks)
        self.rows.append(row)


def _typical(exchange: Exchange) -> int:
    """Bytes of the read in the middle: their mean, also where each repeats what was said before."""
    reads = exchange.reads
    return len(reads[len(reads) // 2]) if reads else 0


def _held_by(exchange: Exchange) -> int:
    return len(exchange.reads) * (_typical(exchange) + _READ_BYTES)


def _slice_of(exchange: Exchange) -> int:
    """How many reads to decode at a time."""
    return max(1, min(_SLICE_READS, _SLICE_BYTES // max(1, _typical(exchange))))


def _digest(exchange: Exchange, count: int) -> None:
    """Decode the first ``count`` reads of an exchange and let go of them."""
    if exchange.digest is None:
        exchange.digest = Digest(exchange.turn)
    reads, stamps = exchange.reads[:count], exchange.stamps[:count]
    del exchange.reads[:count]
    del exchange.stamps[:count]
    exchange.digest.take(reads, stamps)
