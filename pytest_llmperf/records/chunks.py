"""The chunks of a response, one entry for each, held as columns: 17 bytes a chunk.

A run of an hour has tens of millions of them; as objects they would not fit into memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, overload

ChunkKind = Literal["none", "reasoning", "answer"]
#: A kind's number in the column is its place here.
CHUNK_KINDS: tuple[ChunkKind, ...] = ("none", "reasoning", "answer")
#: Stands for a running count that the server did not send.
UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event of a response stream that reached us.

    ``at_ns`` is when its last byte was read. ``cumulative_tokens`` is the server's own count of
    output tokens so far, where it sends one. ``characters`` counts the text it carried.
    """

    at_ns: int
    kind: ChunkKind
    characters: int
    cumulative_tokens: int | None = None


class Chunks:
    """An immutable sequence of :class:`Chunk`.

    ``at_ns`` is a column of 64-bit integers, ``cumulative`` and ``characters`` of 32-bit ones
    (``UNKNOWN`` where there is no count), ``kinds`` of bytes that index :data:`CHUNK_KINDS`. Each
    is a :class:`memoryview`, so numpy reads it without a copy.
    """

    __slots__ = ("at_ns", "characters", "cumulative", "kinds")

    def __init__(
        self, at_ns: memoryview, cumulative: memoryview, characters: memoryview, kinds: memoryview
    ) -> None:
        self.at_ns = at_ns
        self.cumulative = cumulative
        self.characters = characters
        self.kinds = kinds

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> Chunks:
        """The columns of ``chunks``."""
        listed = list(chunks)
        counts = (each.cumulative_tokens for each in listed)
        return cls(
            memoryview(array("q", [each.at_ns for each in listed])),
            memoryview(array("i", [UNKNOWN if count is None else count for count in counts])),
            memoryview(array("i", [each.characters for each in listed])),
            memoryview(bytes(CHUNK_KINDS.index(each.kind) for each in listed)),
        )

    @classmethod
    def unpack(cls, data: memoryview, count: int) -> Chunks:
        """What :meth:`pack` wrote, as views into ``data``."""
        starts = [0, 8 * count, 12 * count, 16 * count, 17 * count]
        parts = [data[a:b] for a, b in pairwise(starts)]
        return cls(parts[0].cast("q"), parts[1].cast("i"), parts[2].cast("i"), parts[3])

    def pack(self) -> bytes:
        """The columns one behind the other: 17 bytes a chunk, in this machine's byte order."""
        columns = (self.at_ns, self.cumulative, self.characters, self.kinds)
        return b"".join(column.tobytes() for column in columns)

    def __len__(self) -> int:
        return len(self.at_ns)

    def __iter__(self) -> Iterator[Chunk]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> list[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | list[Chunk]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        count = self.cumulative[index]
        return Chunk(
            at_ns=self.at_ns[index],
            kind=CHUNK_KINDS[self.kinds[index]],
            characters=self.characters[index],
            cumulative_tokens=None if count == UNKNOWN else count,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chunks) and self.pack() == other.pack()

    def __hash__(self) -> int:
        return hash(self.pack())

    def __repr__(self) -> str:
        return f"Chunks({list(self)!r})"


NO_CHUNKS = Chunks.of(())
