"""What was measured, from single requests to runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .chunks import Chunks
from .common import Side
from .curves import Curves
from .quality import OutputQuality
from .telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as it went over the wire.

    ``scheduled_ns`` is when it was to be written, in an open loop or by a session's think time;
    ``None`` in a closed loop. ``written_ns`` is when its bytes were handed to the socket,
    ``ended_ns`` when the response was complete or given up. ``asked_input`` and ``asked_output``
    are the lengths it was built for, in tokens (``None``: a text of unknown length).
    ``failure`` is ``None`` only for a strict success: HTTP 200, no error in the stream, a finish
    reason, the end marker, and exactly the tokens that were asked for (where the server can be
    held to that). ``token_source`` is "usage", "ids" or "chunks"; ``reasoning_tokens`` is counted
    by the server where it does, else ``None``. ``connect_ns`` is how long opening a connection
    for it took, before ``written_ns``; ``None`` where a pooled one was used. ``streamed`` is
    false where the response came in one piece, so that its chunks tell nothing about tokens'
    times. ``session`` and ``turn`` place it in its conversation. Of the first few of a run,
    ``repetition`` is the share of the text's beginning that compressing it saves (``None`` for a
    text too short to tell), ``text_digest`` tells equal beginnings.
    """

    index: int
    written_ns: int
    ended_ns: int
    status: int | None
    failure: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    token_source: str | None
    chunks: Chunks
    detail: str = ""
    connect_ns: int | None = None
    scheduled_ns: int | None = None
    asked_input: int | None = None
    asked_output: int | None = None
    streamed: bool = True
    session: int = 0
    turn: int = 0
    repetition: float | None = None
    text_digest: str | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWorker:
    """What one of several machines that ask says of its worker, over one run's window.

    ``node`` names the machine; ``cpu_share``, ``loop_lag_ms_p99`` and ``peak_rss_bytes`` are as in
    :class:`ClientHealth`. ``clock_offset_ms`` is how far its clock was behind ours before the
    run, ``clock_drift_ms`` by how much that had changed after it, ``clock_error_ms`` how wrong its
    times may be once both are set right. ``silent_s`` is the longest time in which nothing was
    heard of it.
    """

    node: str
    cpu_share: float
    loop_lag_ms_p99: float | None
    peak_rss_bytes: int
    clock_offset_ms: float | None = None
    clock_drift_ms: float | None = None
    clock_error_ms: float | None = None
    silent_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHealth:
    """What the load client says about itself over one run's window.

    ``cpu_share`` is CPU time over wall time, of the busiest of its ``processes``;
    ``loop_lag_ms_p99`` how late its event loop ran a timer. ``send_delay_ms_p99`` is how late
    requests went out behind their schedule (``None`` in a closed loop), ``offered_rate`` and
    ``achieved_rate`` requests per second as scheduled and as written. ``mean_in_flight`` is by
    Little's law. ``peak_rss_bytes`` is the sum over its processes; ``cpu_s`` their CPU time in
    the window. ``held_back`` says that a cap on requests in flight made one wait. ``workers``
    holds each of its processes where they run over a cluster, else it is ``None``.
    """

    cpu_share: float
    loop_lag_ms_p99: float | None
    loop_lag_ms_max: float | None
    peak_rss_bytes: int
    mean_in_flight: float | None
    processes: int = 1
    cpu_s: float | None = None
    send_delay_ms_p99: float | None = None
    send_delay_ms_max: float | None = None
    offered_rate: float | None = None
    achieved_rate: float | None = None
    held_back: bool = False
    workers: tuple[LoadWorker, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One workload pass as the client saw it: every request of one run, by index.

    ``started_ns`` is when the window opened.
    """

    seed: int
    started_at: str
    started_ns: int
    records: tuple[RequestRecord, ...]
    client: ClientHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """A metric of one run. ``unbounded`` marks a percentile that failed requests pushed to
    infinity; ``failed`` is how many did. ``value`` is ``None`` when not measured or unbounded.
    ``missing`` says why it was not measured and what to do, in words; "" where nobody can tell."""

    value: float | None
    unbounded: bool = False
    failed: int = 0
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workload pass on one launch, reduced to metrics.

    ``metrics`` holds every base metric and the standard percentiles by canonical name.
    ``valid`` is false when the run must not be judged; ``invalid_reasons`` say why in words.
    ``side`` and ``pair`` place it in an A/B comparison; ``pair`` counts from 0, ``None`` outside.
    ``quality`` is what its responses were like, ``telemetry`` what its devices were,
    ``curves`` its shape.
    """

    launch_id: str
    index: int
    seed: int
    started_at: str
    duration_s: float
    valid: bool
    invalid_reasons: tuple[str, ...]
    metrics: Mapping[str, MetricValue]
    sent: int
    succeeded: int
    failed: Mapping[str, int]
    input_tokens_mean: float | None
    output_tokens_mean: float | None
    reasoning_tokens_mean: float | None
    cached_tokens_total: int | None
    token_source: str | None
    client: ClientHealth
    side: Side = "candidate"
    pair: int | None = None
    quality: OutputQuality | None = None
    telemetry: Telemetry | None = None
    curves: Curves | None = None
