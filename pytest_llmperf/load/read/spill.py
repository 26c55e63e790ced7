"""What a worker saw, on its way to its parent: a file, not a pipe.

Tens of millions of chunks fit neither into the memory of two processes nor through a pipe in
good time. The worker appends them to a temporary file without a name, and what it knows of each
request behind them; the parent, which holds the same descriptor, maps it, reads the columns in
place and the requests one by one.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

from pytest_llmperf.records import NO_CHUNKS, Chunks

_BUFFER_BYTES = 1 << 20
#: Where each entry begins, so that its first column can be read as 64-bit integers.
_ALIGNMENT = 8
_BYTES_PER_CHUNK = 17
_LENGTH = struct.Struct("=Q")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def aligned_end(fd: int) -> int:
    """Where an entry behind all that is in the file would begin."""
    return _aligned(os.fstat(fd).st_size)


class SpillWriter:
    """Appends to the file behind ``fd``, which stays the caller's, from byte ``at`` on: a multiple
    of 8, where the file ends."""

    __slots__ = ("_buffer", "_fd", "_written")

    def __init__(self, fd: int, at: int = 0) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._written = at

    @property
    def position(self) -> int:
        """Where the next entry will begin, those still buffered counted."""
        return self._written + len(self._buffer)

    def write(self, chunks: Chunks) -> int:
        """Append one request's chunks; where they begin. Raises :class:`OSError` (no space left,
        for one)."""
        begins = self.position
        self._append(chunks.pack())
        return begins

    def write_entry(self, data: bytes) -> None:
        """Append what is read by :meth:`SpillReader.entries`. Raises :class:`OSError`."""
        self._append(_LENGTH.pack(len(data)) + data)

    def _append(self, data: bytes) -> None:
        self._buffer += data
        self._buffer += bytes(_aligned(len(data)) - len(data))
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand all that is buffered to the file; only then can a reader be told of it. Raises
        :class:`OSError`."""
        while self._buffer:
            with memoryview(self._buffer) as view:
                done = os.pwrite(self._fd, view, self._written)
            self._written += done  # so that what is tried again after an error begins where it was
            del self._buffer[:done]


class SpillReader:
    """Reads the file behind ``fd`` as it now is.

    Places are those of the writer, whose own file may be another one: what lies in this one at 0
    is then at ``base`` there. What is read are views, which keep the mapping alive as long as they
    live; where ``writable``, what is written to them is in the file.
    """

    __slots__ = ("_base", "_view")

    def __init__(self, fd: int, *, base: int = 0, writable: bool = False) -> None:
        self._base = base
        size = os.fstat(fd).st_size
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        whole = mmap.mmap(fd, size, access=access) if size else b""  # none of 0 bytes
        self._view = memoryview(whole)

    def chunks(self, at: int, count: int) -> Chunks:
        """``count`` chunks from ``at`` on. Raises :class:`ValueError` when the file ends before."""
        if not count:
            return NO_CHUNKS
        return Chunks.unpack(self._cut(at, count * _BYTES_PER_CHUNK), count)

    def entries(self, at: int, count: int) -> Iterator[memoryview]:
        """``count`` entries from ``at`` on. Raises :class:`ValueError` as above."""
        for _ in range(count):
            (size,) = _LENGTH.unpack(self._cut(at, _LENGTH.size))
            yield self._cut(at + _LENGTH.size, size)
            at += _aligned(_LENGTH.size + size)

    def _cut(self, at: int, size: int) -> memoryview:
        begin = at - self._base
        if begin < 0 or begin + size > len(self._view):
            raise ValueError(f"{size} bytes at {begin} reach beyond {len(self._view)}")
        return self._view[begin : begin + size]
