"""The timings of every request of a pass, computed on columns.

A chunk *carries tokens* when it holds text, or when the server's own count rose with it (half a
character shows no text, yet its token was made). How many it carries is the rise of that count;
where the server sends no running count it is known only when as many chunks carried text as
tokens were made, because then each carried exactly one. Everything else is unknown: no guesses.

A response that came in one piece tells nothing about when its tokens were made: it has no
arrivals, and of the timings only ``e2e``, to its last byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_llmperf.records import CHUNK_KINDS, NO_CHUNKS, RequestRecord

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Chunks worked on at a time, so that an hour's run fits into memory.
_BATCH = 1 << 20
_NONE, _ANSWER = CHUNK_KINDS.index("none"), CHUNK_KINDS.index("answer")
#: Stands for a time that a request does not have.
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Tokens reaching us: by request, and within one in the order of time.

    ``request`` is a place in the pass, ``tokens`` how many came at ``at_ns``, 0 for unknown.
    """

    request: npt.NDArray[np.int32]
    at_ns: Integers
    tokens: npt.NDArray[np.int32]

    def of(self, chosen: Flags) -> Arrivals:
        """Those of the requests that ``chosen`` marks; places stay as they are."""
        kept = chosen[self.request]
        return Arrivals(
            request=self.request[kept], at_ns=self.at_ns[kept], tokens=self.tokens[kept]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Metrics in ms, one entry for each request; NaN where it does not have one.

    ``last_ns`` is when the last token of a request came, of a response in one piece its end.
    """

    ttft: Floats
    ttfat: Floats
    tpot: Floats
    e2e: Floats
    ttft_from_schedule: Floats
    ttfat_from_schedule: Floats
    e2e_from_schedule: Floats
    last_ns: Integers
    has_last: Flags
    arrivals: Arrivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Gaps between arrivals in ms, and how many tokens each stands for."""

    ms: Floats
    tokens: Integers


def timings(records: Sequence[RequestRecord]) -> Timings:
    """The timings of ``records``, in their order; meaningful for successful ones."""
    batches = [_Batch(records[a:b], first=a) for a, b in _batches(records)]
    arrivals = Arrivals(
        request=_joined([batch.request for batch in batches], np.int32),
        at_ns=_joined([batch.at_ns for batch in batches], np.int64),
        tokens=_joined([batch.tokens for batch in batches], np.int32),
    )
    came, first, last = _ends(arrivals, len(records))
    answered = _joined([batch.answered_ns for batch in batches], np.int64)
    whole = np.array([not record.streamed and record.ok for record in records], bool)
    last = np.where(whole, _column(records, "ended_ns"), last)
    written = _column(records, "written_ns")
    scheduled = _due(_column(records, "scheduled_ns"), written)
    return Timings(
        ttft=_ms(first, written),
        ttfat=_ms(answered, written),
        tpot=_tpot(first, last, _column(records, "output_tokens"), came),
        e2e=_ms(last, written),
        ttft_from_schedule=_ms(first, scheduled),
        ttfat_from_schedule=_ms(answered, scheduled),
        e2e_from_schedule=_ms(last, scheduled),
        last_ns=last,
        has_last=last != _NEVER,
        arrivals=arrivals,
    )


def raw_gaps(arrivals: Arrivals) -> Gaps:
    """The gaps between arrivals of the same request, each of weight 1."""
    same = arrivals.request[1:] == arrivals.request[:-1]
    apart = np.diff(arrivals.at_ns)[same] / 1e6
    return Gaps(ms=apart, tokens=np.ones(len(apart), np.int64))


def token_gaps(arrivals: Arrivals) -> Gaps | None:
    """The gaps per token, weighted by tokens; ``None`` when any arrival's tokens are unknown."""
    same = arrivals.request[1:] == arrivals.request[:-1]
    tokens = arrivals.tokens[1:][same].astype(np.int64)
    if not tokens.all():
        return None
    return Gaps(ms=np.diff(arrivals.at_ns)[same] / 1e6 / tokens, tokens=tokens)


# --- from records to columns


def _batches(records: Sequence[RequestRecord]) -> Iterator[tuple[int, int]]:
    """Slices of the records, each of about ``_BATCH`` chunks."""
    start, chunks = 0, 0
    for place, record in enumerate(records):
        chunks += len(record.chunks)
        if chunks >= _BATCH:
            yield start, place + 1
            start, chunks = place + 1, 0
    if start < len(records):
        yield start, len(records)


class _Batch:
    """The arrivals of some records; ``first`` is the place of their first in the pass.

    ``answered_ns`` holds for each record when its first answer token came.
    """

    def __init__(self, records: Sequence[RequestRecord], *, first: int) -> None:
        streams = [record.chunks if record.streamed else NO_CHUNKS for record in records]
        counts = np.array([len(chunks) for chunks in streams], np.int64)
        at_ns = _flat([chunks.at_ns for chunks in streams], np.dtype(np.int64))
        running = _flat([chunks.cumulative for chunks in streams], np.dtype(np.intc))
        kinds = _flat([chunks.kinds for chunks in streams], np.dtype(np.uint8))
        owner = np.repeat(np.arange(len(records), dtype=np.int32), counts)
        tokens = self._tokens(records, owner, running, kinds != _NONE)
        carried = tokens >= 0
        self.request = owner[carried] + np.int32(first)
        self.at_ns = at_ns[carried]
        self.tokens = tokens[carried]
        self.answered_ns = np.full(len(records), _NEVER, np.int64)
        answers = np.flatnonzero(kinds == _ANSWER)[::-1]
        self.answered_ns[owner[answers]] = at_ns[answers]  # of several the last written stays

    @staticmethod
    def _tokens(
        records: Sequence[RequestRecord],
        owner: npt.NDArray[np.int32],
        running: npt.NDArray[np.intc],
        text: Flags,
    ) -> npt.NDArray[np.int32]:
        """Tokens that each chunk carried: -1 for none at all, 0 for an unknown number."""
        size = len(records)
        counted = np.bincount(owner[text & (running < 0)], minlength=size) == 0
        made = _column(records, "output_tokens")
        one_each = np.bincount(owner[text], minlength=size) == made
        by_text = np.where(text, np.where(one_each[owner], 1, 0), -1)
        rises = _rises(owner, running)
        by_count = np.where(rises > 0, rises, -1)
        return np.where(counted[owner], by_count, by_text).astype(np.int32)


def _rises(owner: npt.NDArray[np.int32], running: npt.NDArray[np.intc]) -> Integers:
    """By how much each request's running count rose above all before it."""
    if not len(running):
        return np.zeros(0, np.int64)
    # One maximum over all requests: each begins above all that came before it.
    floor = owner.astype(np.int64) * (int(running.max(initial=0)) + 1)
    highest = np.maximum.accumulate(floor + np.maximum(running, 0))
    before = np.maximum(floor, np.concatenate(([0], highest[:-1])))
    return highest - before


def _ends(arrivals: Arrivals, size: int) -> tuple[Flags, Integers, Integers]:
    """Whether a request has arrivals, and when its first and its last came."""
    counts = np.bincount(arrivals.request, minlength=size)
    after = np.cumsum(counts)
    came = counts > 0
    first, last = np.full(size, _NEVER), np.full(size, _NEVER)
    first[came] = arrivals.at_ns[(after - counts)[came]]
    last[came] = arrivals.at_ns[after[came] - 1]
    return came, first, last


def _tpot(first: Integers, last: Integers, made: Integers, came: Flags) -> Floats:
    known = came & (made >= 2)
    found = np.full(len(first), np.nan)
    found[known] = (last[known] - first[known]) / 1e6 / (made[known] - 1)
    return found


def _ms(at: Integers, since: Integers) -> Floats:
    known = (at != _NEVER) & (since != _NEVER)
    found = np.full(len(at), np.nan)
    found[known] = (at[known] - since[known]) / 1e6
    return found


def _due(scheduled: Integers, written: Integers) -> Integers:
    """When requests were due: one without a time, where others have one, when it was written.

    In a conversation only the later turns are due at some time, after somebody has thought."""
    if (scheduled == _NEVER).all():
        return scheduled
    return np.where(scheduled == _NEVER, written, scheduled)


def _column(records: Sequence[RequestRecord], name: str) -> Integers:
    """A field of whole numbers; ``_NEVER`` stands for ``None``."""
    values = (getattr(record, name) for record in records)
    return np.fromiter((_NEVER if v is None else v for v in values), np.int64, len(records))


def _flat(columns: Sequence[memoryview], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(b"".join(columns), dtype)


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
