"""The chunks of one response while they are still being worked on."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pytest_llmperf.records import CHUNK_KINDS, UNKNOWN, Chunks

NONE, REASONING, ANSWER = map(CHUNK_KINDS.index, ("none", "reasoning", "answer"))


class Columns:
    """Grows by a row for each event; see :class:`~pytest_llmperf.records.Chunks`.

    ``carrying`` is how many rows are of a token; ``uncounted`` says that one of them came without
    the server's count.
    """

    __slots__ = (
        "_at", "_characters", "_cumulative", "_highest", "_kinds", "carrying",
        "uncounted",
    )  # fmt: skip

    def __init__(self) -> None:
        self._at = array("q")
        self._cumulative = array("i")
        self._characters = array("i")
        self._kinds = bytearray()
        self._highest = 0
        self.carrying = 0
        self.uncounted = False

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, kind: int, characters: int, count: int | None) -> None:
        """A row without its time; ``count`` is the server's own of all tokens so far."""
        self.extend((kind,), (characters,), (UNKNOWN if count is None else count,))

    def extend(
        self, kinds: Sequence[int], characters: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Many rows, with ``UNKNOWN`` for a count that was not told."""
        self._kinds.extend(kinds)
        self._characters += array("i", characters)
        self._cumulative += array("i", counts)
        self.carrying += len(kinds) - kinds.count(NONE)
        self._highest = max(self._highest, *counts, 0)
        if UNKNOWN in counts and not self.uncounted:
            rows = zip(kinds, counts, strict=True)
            self.uncounted = any(kind and count == UNKNOWN for kind, count in rows)

    def stamp(self, times: Sequence[int]) -> None:
        """Give the rows that have none their times; there may be more times than rows."""
        self._at.extend(times[: len(self._kinds) - len(self._at)])

    def mark_thought(self, limit: int | None) -> None:
        """Make reasoning of what lies in the first ``limit`` characters, or of all."""
        at = 0
        for row, characters in enumerate(self._characters):
            at += characters
            if limit is not None and (at > limit or (at == limit and not characters)):
                break
            if self._kinds[row]:
                self._kinds[row] = REASONING

    def settle(self, total: int | None, finish_row: int | None) -> None:
        """Say what counts mean once all have come: ``total`` is the server's last one."""
        if self.uncounted:  # a total at the end is no running count
            self._cumulative = array("i", [UNKNOWN]) * len(self._kinds)
        elif self.carrying and finish_row is not None and (total or 0) > self._highest:
            # Tokens that showed no text (half a character, an end token) came by the finish.
            self._cumulative[finish_row] = total or 0

    def freeze(self) -> Chunks:
        """The rows as an immutable sequence; nothing may be added after."""
        return Chunks(
            memoryview(self._at),
            memoryview(self._cumulative),
            memoryview(self._characters),
            memoryview(self._kinds),
        )
