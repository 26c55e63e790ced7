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

#: Reads kept before decoding begins: with the 300 to 500 bytes of most, some 60 MB.
MOST_READS = 150_000
_SLICE_READS = 96
#: The last reads of a response that still comes are where its end is looked for.
_KEPT_READS = 8


class Backlog:
    """Exchanges that have ended, on their way to rows and spilled columns."""

    def __init__(self, spill: SpillWriter, *, most_reads: int = MOST_READS) -> None:
        self._spill = spill
        self._most = most_reads
        self._enough = most_reads * 3 // 4
        self._ended: deque[Exchange] = deque()
        self._waiting = 0
        self._active: Collection[Connection] = ()
        self._slicing = False
        self.rows: list[RequestRow] = []

    def add(self, exchange: Exchange) -> None:
        """Take over an exchange that has ended."""
        self._ended.append(exchange)
        self._waiting += len(exchange.reads)

    def watch(self, active: Collection[Connection]) -> None:
        """Begin to decode if too much waits; ``active`` are the connections still receiving."""
        self._active = active
        if not self._slicing and self._held() > self._most:
            self._slicing = True
            asyncio.get_running_loop().call_soon(self._slice)

    def _held(self) -> int:
        return self._waiting + sum(len(each.exchange.reads) for each in self._active)

    def _slice(self) -> None:
        worked = self._slice_ended() if self._ended else self._slice_active()
        self._slicing = worked and self._held() > self._enough
        if self._slicing:
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice_ended(self) -> bool:
        exchange = self._ended[0]
        self._waiting -= _digest(exchange, _SLICE_READS)
        if not exchange.reads:
            self._ended.popleft()
            self._settle(exchange)
        return True

    def _slice_active(self) -> bool:
        coming = [each.exchange for each in self._active if each.digestible]
        longest = max(coming, key=lambda each: len(each.reads), default=None)
        if longest is None or len(longest.reads) <= _KEPT_READS:
            return False
        _digest(longest, min(_SLICE_READS, len(longest.reads) - _KEPT_READS))
        return True

    def drain(self) -> list[RequestRow]:
        """Decode all that is left, letting go of each exchange's bytes, and return every row."""
        while self._ended:
            exchange = self._ended.popleft()
            _digest(exchange, len(exchange.reads))
            self._settle(exchange)
        self._spill.flush()
        return self.rows

    def _settle(self, exchange: Exchange) -> None:
        digest = exchange.digest or Digest(exchange.turn)
        row, chunks = digest.finish(exchange)
        self._spill.write(chunks)
        self.rows.append(row)


def _digest(exchange: Exchange, count: int) -> int:
    """Decode the first ``count`` reads of an exchange and let go of them."""
    if exchange.digest is None:
        exchange.digest = Digest(exchange.turn)
    reads, stamps = exchange.reads[:count], exchange.stamps[:count]
    del exchange.reads[:count]
    del exchange.stamps[:count]
    exchange.digest.take(reads, stamps)
    return len(reads)
