"""Chunk columns on their way from a worker to its parent: a file, not a pipe.

Tens of millions of chunks fit neither into the memory of two processes nor through a pipe in
good time. The worker appends them to a temporary file without a name; the parent, which holds the
same descriptor, maps it and reads the columns in place.
"""

from __future__ import annotations

import mmap
import os

from pytest_llmperf.records import NO_CHUNKS, Chunks

_BUFFER_BYTES = 1 << 20
#: Where each entry begins, so that its first column can be read as 64-bit integers.
_ALIGNMENT = 8
_BYTES_PER_CHUNK = 17


def _padded(count: int) -> int:
    """Bytes that ``count`` chunks take in the file."""
    return -(-count * _BYTES_PER_CHUNK // _ALIGNMENT) * _ALIGNMENT


class SpillWriter:
    """Appends columns to the file behind ``fd``, which is empty at first and stays the caller's."""

    __slots__ = ("_buffer", "_fd", "_written")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._written = 0

    @property
    def position(self) -> int:
        """Where the next columns will begin, those still buffered counted."""
        return self._written + len(self._buffer)

    def write(self, chunks: Chunks) -> None:
        """Append one request's chunks. Raises :class:`OSError` (no space left, for one)."""
        packed = chunks.pack()
        self._buffer += packed
        self._buffer += bytes(_padded(len(chunks)) - len(packed))
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
    """Reads columns in the order they were written, from the file behind ``fd`` as it now is.

    ``position`` is where the first of them begin, by :attr:`SpillWriter.position`. What is read
    are views, which keep the mapping alive as long as they live.
    """

    __slots__ = ("_at", "_view")

    def __init__(self, fd: int, position: int = 0) -> None:
        self._at = position
        size = os.fstat(fd).st_size
        whole = mmap.mmap(fd, size, access=mmap.ACCESS_READ) if size else b""  # none of 0 bytes
        self._view = memoryview(whole)

    def chunks(self, count: int) -> Chunks:
        """The next ``count`` chunks. Raises :class:`ValueError` when the file ends before."""
        if not count:
            return NO_CHUNKS
        end = self._at + _padded(count)
        if end > len(self._view):
            raise ValueError(f"{count} chunks at byte {self._at} reach beyond {len(self._view)}")
        found = Chunks.unpack(self._view[self._at : end], count)
        self._at = end
        return found
