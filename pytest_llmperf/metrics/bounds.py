"""Past which figures a run is not judged. Apart from :mod:`.health`: settings must stay light."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthBounds:
    """Past these a run says more about the client or the set-up than about the server.

    ``None`` switches a check off. The client's own bounds:

    ``cpu_share`` of one core, of the busiest process: at nine tenths the next burst has to queue.
    ``loop_lag_ms_p99``: a timer that ran so late means that stamps were, too; a decoding step of a
    large model takes about as long, so latencies would be wrong by a token.
    ``send_delay_ms_p99`` behind the schedule: a quarter of such a step, so that no more than one
    request in a hundred can have missed a batch that it was due for; our own client keeps below
    1 ms. Where a cap on requests in flight was reached, waiting was asked for and is not judged.
    ``delivered_share`` of the offered rate: one percent less load flatters a server near its
    capacity by more than one percent.
    ``in_flight_share`` of a closed loop's ``concurrency``, on the average of the steady part:
    between an answer and the next request of its slot nobody but the client is at work, thinking
    and connecting (which is the server's doing as well) set aside.
    ``clock_share``, where workers on several machines asked: how wrong the ends of the steady part
    may be for their clocks, as a share of it, which is how wrong a throughput is at most. A tenth
    of the smallest loss that gates are commonly asked to catch. ``silence_s`` is how long nothing
    may be heard of one of them: its link was down, and may have been to the server as well.

    Of the set-up: ``cached_share`` is the most of all prompt tokens that may come from the
    server's prefix cache where no hits are meant; ``template_tokens`` per request may in any case,
    which is what a chat template puts in front of every prompt. ``prompt_error`` is the largest
    relative error of any prompt's length. ``drift`` is the largest change of the output rate from
    the first to the last third of the steady part, as a fraction of the former, where a trend is
    certain.
    """

    cpu_share: float | None = 0.9
    loop_lag_ms_p99: float | None = 25.0
    send_delay_ms_p99: float | None = 5.0
    delivered_share: float | None = 0.99
    in_flight_share: float | None = 0.9
    clock_share: float | None = 0.001
    silence_s: float | None = 2.0
    cached_share: float | None = 0.10
    template_tokens: int = 8
    prompt_error: float = 0.0
    drift: float | None = 0.2
