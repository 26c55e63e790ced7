"""The terms in which load clients speak: the same requests as figures in one's or another's.

Each field of :class:`Terms` is one definition that clients differ in, so that going from one
client's terms to another's a field at a time says what each of them is worth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from pytest_llmperf.metrics.requests import Floats, raw_gaps, timings, token_gaps
from pytest_llmperf.records import CHUNK_KINDS, RequestRecord

NONE = CHUNK_KINDS.index("none")
FIGURES = (
    "throughput",
    "ttft_mean",
    "ttft_p99",
    "tpot_mean",
    "itl_mean",
    "itl_p99",
    "e2e_mean",
    "e2e_p99",
)

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a client defines what it reports; the defaults are this project's.

    - ``connection``: whether latencies include the opening of a connection.
    - ``first``: what ends TTFT: a chunk with a token, or any message with a choice in it, such as
      one that only says who speaks.
    - ``last``: what ends the request: its last token, its last message with a choice, or the end
      of the response.
    - ``pace``: TPOT from the first token to the last one, or from TTFT to the end of the request.
    - ``gaps``: ITL for each token, for each chunk with text, or for each message with a choice.
    - ``window``: throughput up to the last token, to the end of the last response, or to the end
      of what the client asks the server after that.
    - ``percentile``: numpy's name for the method.
    """

    connection: bool = False
    first: Literal["token", "message"] = "token"
    last: Literal["token", "message", "response"] = "token"
    pace: Literal["tokens", "request"] = "tokens"
    gaps: Literal["token", "text", "message"] = "token"
    window: Literal["token", "response", "questions"] = "token"
    percentile: Literal["higher", "linear"] = "higher"


OURS = Terms()
WORDS = {
    "connection": "opening a connection counts as latency",
    "first": "TTFT ends with the first message that has a choice, even one without a token",
    "last": "the request ends later than its last token",
    "pace": "TPOT is (E2E - TTFT) / (tokens - 1) in its own E2E and TTFT",
    "gaps": "ITL is the gap between messages, not the time per token",
    "window": "the window of throughput goes beyond the last token",
    "percentile": "percentiles are interpolated",
}


def figures(records: Sequence[RequestRecord], terms: Terms, *, tail_s: float = 0.0) -> Figures:
    """Latencies in ms and throughput in tokens/s of ``records``, all successes, in ``terms``.

    ``tail_s`` is how long the client's questions went on after the last response. Where a server
    was not asked for a running count of tokens, gaps between chunks stand in for those of tokens.
    """
    times = [_Times(record, terms) for record in records]
    ttft = np.array([each.first - each.begun for each in times]) / 1e6
    e2e = np.array([each.last - each.begun for each in times]) / 1e6
    gaps = _gaps(records, terms)
    begun = min(each.begun for each in times)
    tokens = sum(record.output_tokens or 0 for record in records)
    found = {
        "throughput": tokens / ((_window_end(records, terms) - begun) / 1e9 + _tail(terms, tail_s)),
        "ttft_mean": ttft.mean(),
        "ttft_p99": np.percentile(ttft, 99, method=terms.percentile),
        "tpot_mean": np.mean([each.pace for each in times]),
        "itl_mean": gaps.mean(),
        "itl_p99": np.percentile(gaps, 99, method=terms.percentile),
        "e2e_mean": e2e.mean(),
        "e2e_p99": np.percentile(e2e, 99, method=terms.percentile),
    }
    return {name: float(found[name]) for name in FIGURES}


def steps(
    records: Sequence[RequestRecord], theirs: Terms, tail_s: float
) -> Iterator[tuple[str, Figures]]:
    """What each definition changes, in turn, on the way from our terms to ``theirs``."""
    terms, before = OURS, figures(records, OURS)
    for name in WORDS:
        there = getattr(theirs, name)
        if there == getattr(terms, name):
            continue
        terms = dataclasses.replace(terms, **{name: there})
        after = figures(records, terms, tail_s=tail_s)
        yield name, {each: after[each] - before[each] for each in after}
        before = after


class _Times:
    """When a request began, and when its first and its last of what counts came (ns)."""

    def __init__(self, record: RequestRecord, terms: Terms) -> None:
        tokens = _token_times(record)
        messages = _messages(record)
        opening = record.connect_ns or 0 if terms.connection else 0
        self.begun = record.written_ns - opening
        self.first = tokens[0] if terms.first == "token" else messages[0]
        ends = {"token": tokens[-1], "message": messages[-1], "response": record.ended_ns}
        self.last = ends[terms.last]
        first, last = (tokens[0], tokens[-1]) if terms.pace == "tokens" else (self.first, self.last)
        self.pace = (last - first) / 1e6 / max(1, (record.output_tokens or 0) - 1)


def _token_times(record: RequestRecord) -> list[int]:
    found: list[int] = timings([record]).arrivals.at_ns.tolist()
    return found


def _messages(record: RequestRecord) -> list[int]:
    """When messages with a choice came: all but the last, which has the usage."""
    return list(record.chunks.at_ns)[:-1]


def _gaps(records: Sequence[RequestRecord], terms: Terms) -> Floats:
    if terms.gaps == "token":
        arrivals = timings(records).arrivals
        known = token_gaps(arrivals) or raw_gaps(arrivals)
        return np.repeat(known.ms, known.tokens)
    if terms.gaps == "text":
        return raw_gaps(timings(records).arrivals).ms
    times = [_messages(record) for record in records]
    return np.array([b - a for each in times for a, b in pairwise(each)]) / 1e6


def _window_end(records: Sequence[RequestRecord], terms: Terms) -> int:
    if terms.window == "token":
        return max(_token_times(record)[-1] for record in records)
    return max(record.ended_ns for record in records)


def _tail(terms: Terms, tail_s: float) -> float:
    return tail_s if terms.window == "questions" else 0.0
