"""What a row holds: the one table of columns, of which the files and their documentation come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: "time" is a moment of the wall clock, in UTC; kept as ISO 8601 text until it is written.
Kind = Literal["text", "integer", "number", "boolean", "time"]
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``meaning`` is its documentation. Every value may be absent."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class RequestColumn(Column):
    """``of`` takes a :class:`~.seen.Seen` and gives the values of all its requests."""

    of: Callable[[Any], Sequence[Value]]


def _field(name: str, kind: Kind, meaning: str, field: str = "") -> RequestColumn:
    return RequestColumn(name, kind, meaning, lambda seen: seen.field(field or name))


def _clock(name: str, field: str, meaning: str) -> RequestColumn:
    return RequestColumn(name, "number", meaning, lambda seen: seen.seconds(field))


def _latency(metric: str, meaning: str = "") -> RequestColumn:
    said = meaning or f"`{metric}` of this request"
    return RequestColumn(f"{metric}_ms", "number", said, lambda seen: seen.latency(metric))


def _pause(metric: str, meaning: str) -> RequestColumn:
    return RequestColumn(f"{metric}_ms", "number", meaning, lambda seen: seen.pause(metric))


#: What all requests of a run have in common.
RUN_COLUMNS = (
    Column(
        "test",
        "text",
        "node id of the test that reports the run, of several the first; else of the one that ran",
    ),
    Column("measurement", "text", "`id` of the measurement in the report"),
    Column("server", "text", "`id` of the server in the report"),
    Column("launch_id", "text", "`id` of the launch in the report"),
    Column("side", "text", "`candidate`, or `reference` in a comparison"),
    Column("pair", "integer", "the pair of launches in a comparison, from 0"),
    Column("workload", "text", "name of the workload"),
    Column(
        "run", "integer", "the run's number on its launch, from 0; a repeated run has two seeds"
    ),
    Column("seed", "integer", "what the run's prompts were drawn from"),
    Column("run_started_at", "time", "wall clock as the run began, `started_at` in the report"),
    Column("valid", "boolean", "whether the run may be judged; the report has the reasons"),
)
REQUEST_COLUMNS = (
    _field("request", "integer", "number within the run, from 0", "index"),
    _field("session", "integer", "number of its conversation"),
    _field("turn", "integer", "its turn in that, from 0"),
    _clock("scheduled_s", "scheduled_ns", "when it was due, in s since the run's window opened"),
    _clock("sent_s", "written_ns", "when it was written, on the same clock"),
    _clock("ended_s", "ended_ns", "when its response was complete or given up, on the same clock"),
    RequestColumn(
        "connect_ms",
        "number",
        "opening a connection for it, before it was written; absent where one was open",
        lambda seen: seen.milliseconds("connect_ns"),
    ),
    _latency("ttft"),
    _latency("ttfat"),
    _latency("tpot"),
    _pause("itl_p50", "median `itl` within this request"),
    _pause("itl_max", "its longest `itl`"),
    _pause("icl_max", "its longest `icl`"),
    _latency("e2e"),
    _latency("ttft_from_schedule"),
    _latency("ttfat_from_schedule"),
    _latency("e2e_from_schedule"),
    _field("asked_input_tokens", "integer", "length that its prompt was built for", "asked_input"),
    _field("asked_output_tokens", "integer", "output tokens that it asked for", "asked_output"),
    _field("input_tokens", "integer", "prompt tokens, by the server", "prompt_tokens"),
    _field("cached_tokens", "integer", "of these from the prefix cache, where the server tells"),
    _field("output_tokens", "integer", "output tokens, reasoning included"),
    _field("reasoning_tokens", "integer", "of these reasoning, where the server tells"),
    _field("token_source", "text", "who counted them: `usage`, `ids` or `chunks`"),
    _field("streamed", "boolean", "whether the response was to come in chunks"),
    _field("status", "integer", "HTTP status"),
    _field("finish_reason", "text", "as the server gives it"),
    _field("ok", "boolean", "whether it succeeded strictly"),
    _field("failure", "text", "name of the cause, where it failed"),
    RequestColumn(
        "failure_detail",
        "text",
        "what was seen of it, the server's words perhaps",
        lambda seen: seen.details(),
    ),
)
COLUMNS: tuple[Column, ...] = (*RUN_COLUMNS, *REQUEST_COLUMNS)
