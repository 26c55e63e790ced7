"""What the ground-truth server logged, and the statistics of it, in the words of our metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrueChunk:
    """A chunk as it left: monotonic ns right before its ``send``, how much later than the server
    meant to (ns), the tokens in it, and whether they were reasoning."""

    at_ns: int
    late_ns: int
    tokens: int
    reasoning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueRequest:
    """One generation request as the server knows it.

    ``received_ns`` is when its last byte had been read. ``fault`` is what was done to it, if
    anything; ``end`` is how it ended: "done", the fault's name, "gone" when the client left, "open"
    when it has not ended. ``blocked`` counts sends that the client's socket had no room for.
    """

    index: int
    connection: int
    streamed: bool
    chat: bool
    received_ns: int
    prompt_tokens: int
    asked_tokens: int
    fault: str | None
    end: str
    ended_ns: int
    blocked: int
    chunks: tuple[TrueChunk, ...]

    @property
    def ok(self) -> bool:
        """Whether a strict client must count it as a success."""
        return self.fault is None and self.end == "done"

    @property
    def tokens(self) -> int:
        """Output tokens that left."""
        return sum(chunk.tokens for chunk in self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueFigures:
    """Statistics of requests: latencies (ms) and tokens of the good ones, tokens per second from
    first request received to last token sent, requests received per second from the first to the
    last, and how late the server was (ms)."""

    requests: int
    succeeded: int
    output_tokens: int
    start_ns: int
    end_ns: int
    throughput: float
    arrival_rate: float | None
    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    tpot_mean: float | None
    itl_mean: float | None
    itl_p50: float | None
    itl_p99: float | None
    e2e_mean: float
    e2e_p50: float
    e2e_p99: float
    late_p99: float
    late_max: float
    blocked: int

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


def read_log(path: Path) -> list[TrueRequest]:
    """The requests in a log, in order of arrival."""
    return [_request(line.split()) for line in path.read_text().splitlines()]


def _request(fields: Sequence[str]) -> TrueRequest:
    return TrueRequest(
        index=int(fields[0]),
        connection=int(fields[1]),
        streamed=fields[2] == "1",
        chat=fields[3] == "1",
        received_ns=int(fields[4]),
        prompt_tokens=int(fields[5]),
        asked_tokens=int(fields[6]),
        fault=None if fields[7] == "none" else fields[7],
        end=fields[8],
        ended_ns=int(fields[9]),
        blocked=int(fields[10]),
        chunks=tuple(map(_chunk, fields[11:])),
    )


def _chunk(field: str) -> TrueChunk:
    at, late, tokens, reasoning = map(int, field.split(":"))
    return TrueChunk(at, late, tokens, bool(reasoning))


def measured(truth: Sequence[TrueRequest], count: int) -> list[TrueRequest]:
    """The last ``count`` streamed requests: what a client sent after its own rehearsal."""
    return [request for request in truth if request.streamed][-count:]


def figures(truth: Iterable[TrueRequest]) -> TrueFigures:
    """The statistics of ``truth``. Raises :class:`ValueError` when none of it succeeded."""
    every = list(truth)
    good = [request for request in every if request.ok and request.chunks]
    if not good:
        raise ValueError("not one request succeeded")
    start = min(request.received_ns for request in every)
    end = max(chunk.at_ns for request in every for chunk in request.chunks)
    tokens = sum(request.tokens for request in good)
    ttft = [_ms(each.chunks[0].at_ns - each.received_ns) for each in good]
    e2e = [_ms(each.chunks[-1].at_ns - each.received_ns) for each in good]
    tpot = [_tpot(each) for each in good if each.tokens > 1]
    itl = [gap for each in good for gap in _gaps(each)]
    late = [(_ms(chunk.late_ns), 1) for each in every for chunk in each.chunks]
    return TrueFigures(
        requests=len(every),
        succeeded=len(good),
        output_tokens=tokens,
        start_ns=start,
        end_ns=end,
        throughput=tokens / max(end - start, 1) * 1e9,
        arrival_rate=_rate([request.received_ns for request in every]),
        ttft_mean=_mean(ttft),
        ttft_p50=_at(ttft, 0.50),
        ttft_p99=_at(ttft, 0.99),
        tpot_mean=_mean(tpot) if tpot else None,
        itl_mean=math.fsum(v * w for v, w in itl) / sum(w for _, w in itl) if itl else None,
        itl_p50=percentile(itl, 0.50) if itl else None,
        itl_p99=percentile(itl, 0.99) if itl else None,
        e2e_mean=_mean(e2e),
        e2e_p50=_at(e2e, 0.50),
        e2e_p99=_at(e2e, 0.99),
        late_p99=percentile(late, 0.99),
        late_max=percentile(late, 1.0),
        blocked=sum(each.blocked for each in every),
    )


def percentile(values: Iterable[tuple[float, int]], quantile: float) -> float:
    """The order statistic at index ``ceil(quantile * (n - 1))`` of ``(value, weight)`` pairs, where
    a weight stands for so many equal values: the rule of the plugin's own percentiles."""
    ordered = sorted(values)
    rank = math.ceil(round(quantile * (sum(weight for _, weight in ordered) - 1), 9))
    for value, weight in ordered:
        rank -= weight
        if rank < 0:
            return value
    raise ValueError("a percentile of nothing")


def _ms(nanoseconds: int) -> float:
    return nanoseconds / 1e6


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _at(values: Sequence[float], quantile: float) -> float:
    return percentile([(value, 1) for value in values], quantile)


def _rate(times_ns: Sequence[int]) -> float | None:
    span = times_ns[-1] - times_ns[0]
    return (len(times_ns) - 1) / span * 1e9 if span > 0 else None


def _tpot(request: TrueRequest) -> float:
    span = request.chunks[-1].at_ns - request.chunks[0].at_ns
    return _ms(span) / (request.tokens - 1)


def _gaps(request: TrueRequest) -> list[tuple[float, int]]:
    """Gaps per token (ms), each weighing as much as the tokens it stands for."""
    return [
        (_ms(later.at_ns - earlier.at_ns) / later.tokens, later.tokens)
        for earlier, later in pairwise(request.chunks)
    ]
