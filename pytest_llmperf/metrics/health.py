"""When a run must not be judged, in words: the client, the set-up, or the load was at fault."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.records import ClientHealth, Pass, RequestRecord, Run, Workload

from .bounds import HealthBounds
from .steady import Span, Trend

#: A trend as strong as this comes by chance in one run of a thousand.
TREND_P_VALUE = 0.001
_HITS = "prefix-cache hits"
_MORE_WORKERS = "give it more workers (--llmperf-ray-workers) or nodes with less to do"
_MORE = "give it a core of its own, more processes (--llmperf-client-processes) or another machine"


def invalid_reasons(
    pass_: Pass,
    workload: Workload,
    bounds: HealthBounds,
    *,
    steady: Span | None,
    trend: Trend | None = None,
) -> tuple[str, ...]:
    """Why a run must not be judged, in words; empty when it may be. ``steady`` is its steady part,
    ``None`` where it has none."""
    reasons = (
        _busy(pass_.client, bounds),
        _late_clock(pass_.client, bounds),
        *_behind_schedule(pass_, bounds),
        _idle(pass_, workload, bounds, steady),
        _clocks(pass_, bounds, steady),
        *_silent(pass_.client, bounds),
        _cache_hits(pass_.records, workload, bounds),
        _wrong_prompts(pass_.records, bounds),
        _not_steady(trend, bounds),
    )
    return tuple(reason for reason in reasons if reason)


# --- the client


def _busy(client: ClientHealth, bounds: HealthBounds) -> str | None:
    if bounds.cpu_share is None or client.cpu_share <= bounds.cpu_share:
        return None
    return (
        f"client-bound: the load client{_busiest(client)} used {client.cpu_share:.0%} of a core "
        f"(bound {bounds.cpu_share:.0%}); {_more(client)}"
    )


def _busiest(client: ClientHealth) -> str:
    """Where the busiest worker is, if they are on several machines."""
    workers = client.workers or ()
    worst = max(workers, key=lambda worker: worker.cpu_share, default=None)
    return f"'s worker on {worst.node}" if worst else ""


def _latest(client: ClientHealth) -> str:
    workers = client.workers or ()
    worst = max(workers, key=lambda worker: worker.loop_lag_ms_p99 or 0.0, default=None)
    return f"'s worker on {worst.node}" if worst else ""


def _more(client: ClientHealth) -> str:
    return _MORE if client.workers is None else _MORE_WORKERS


def _late_clock(client: ClientHealth, bounds: HealthBounds) -> str | None:
    lag, bound = client.loop_lag_ms_p99, bounds.loop_lag_ms_p99
    if lag is None or bound is None or lag <= bound:
        return None
    return (
        f"client-bound: the clock of the load client{_latest(client)} ran {lag:.1f} ms late at "
        f"p99 (bound {bound:g} ms); {_more(client)}"
    )


def _behind_schedule(pass_: Pass, bounds: HealthBounds) -> list[str]:
    """Requests that went out late, unless the cap on requests in flight held them back."""
    client = pass_.client
    if client.held_back:
        return []
    reasons = []
    delay, bound = client.send_delay_ms_p99, bounds.send_delay_ms_p99
    if delay is not None and bound is not None and delay > bound:
        reasons.append(
            f"client-bound: requests went out {delay:.1f} ms behind their schedule at p99 "
            f"(bound {bound:g} ms); {_more(client)}"
        )
    offered, achieved = client.offered_rate, client.achieved_rate
    least = bounds.delivered_share
    if offered and achieved is not None and least is not None and achieved < least * offered:
        reasons.append(
            f"client-bound: {achieved:.4g} of {offered:.4g} requests per second went out "
            f"({achieved / offered:.1%}, bound {least:.0%}); {_more(client)}"
        )
    return reasons


def _idle(pass_: Pass, workload: Workload, bounds: HealthBounds, steady: Span | None) -> str | None:
    """Slots of a closed loop that stood empty although the load was to be whole."""
    asked, bound = workload.concurrency, bounds.in_flight_share
    if workload.arrivals != "closed" or asked is None or bound is None or workload.think_time_s:
        return None
    if steady is None:
        return None
    kept = busy_slots(pass_.records, steady)
    if kept >= bound * asked:
        return None
    return (
        f"client-bound: {kept:.3g} of {asked} requests were in flight on the average, the others "
        f"waited for the client to send them (bound {bound:.0%}); {_more(pass_.client)}, or ask "
        f"for longer outputs"
    )


def busy_slots(records: Sequence[RequestRecord], span: Span) -> float:
    """Requests in flight, or being connected, on the average of ``span``."""
    busy = 0
    for record in records:
        begun = record.written_ns - (record.connect_ns or 0)
        busy += max(0, min(record.ended_ns, span.end_ns) - max(begun, span.start_ns))
    return busy / (span.end_ns - span.start_ns)


def _clocks(pass_: Pass, bounds: HealthBounds, steady: Span | None) -> str | None:
    """Latencies are by one worker's clock each. What clocks of several mix in are the ends of the
    whole and of the steady part; each may be the time of the worker whose clock is known worst, so
    both together are wrong by the two largest errors."""
    workers = pass_.client.workers or ()
    errors = sorted((worker.clock_error_ms or 0.0, worker.node) for worker in workers)[-2:]
    if bounds.clock_share is None or not errors:
        return None
    seconds = steady.seconds if steady is not None else _whole_s(pass_.records)
    if not seconds:
        return None
    wrong_ms = sum(error for error, _ in errors)
    share = wrong_ms / 1e3 / seconds
    if share <= bounds.clock_share:
        return None
    return (
        f"clock-error: the ends of the window are known to {wrong_ms:.3g} ms, {share:.2%} of its "
        f"{seconds:.3g} s (bound {bounds.clock_share:.2%}); the clock of {errors[-1][1]} is known "
        f"worst; measure for longer, or over a network with shorter round trips"
    )


def _whole_s(records: Sequence[RequestRecord]) -> float:
    """Seconds from the first request to the end of the last; 0 where there is none."""
    if not records:
        return 0.0
    return (max(r.ended_ns for r in records) - min(r.written_ns for r in records)) / 1e9


def _silent(client: ClientHealth, bounds: HealthBounds) -> list[str]:
    """Workers that were cut off from us for a time."""
    most = bounds.silence_s
    if most is None:
        return []
    return [
        f"worker unheard: nothing was heard of the load's worker on {worker.node} for "
        f"{worker.silent_s:.1f} s (bound {most:g} s); see what its link and its machine did"
        for worker in client.workers or ()
        if worker.silent_s is not None and worker.silent_s > most
    ]


# --- the set-up


def _cache_hits(
    records: Sequence[RequestRecord], workload: Workload, bounds: HealthBounds
) -> str | None:
    """Hits that the server reported with its answers; where it reported none, none are known."""
    if workload.shares_prefixes:
        return None
    prompt = sum(record.prompt_tokens or 0 for record in records)
    cached = sum(record.cached_tokens or 0 for record in records)
    hits = _hits(cached, prompt, len(records), bounds)
    return hits and f"{_HITS}: {hits}; flush it between runs"


def counted_hits(
    growth: Counters | None,
    run: Run,
    workload: Workload,
    bounds: HealthBounds,
    *,
    keeps_cache: bool,
) -> str | None:
    """Why ``run`` must not be judged by what the whole server counted, which is what its
    ``cache_hit_rate`` is made of; ``None`` if it may, or has been told so before.

    ``growth`` is what the server's counters grew by in the run, as in
    :func:`~.served.server_metrics`. With ``keeps_cache`` nobody empties the cache between runs: it
    then answers a file's prompts from the second time on. A trace has no prompts to be sent again:
    they are made anew for each run, but for the blocks that it says are shared.
    """
    told = any(reason.startswith(_HITS) for reason in run.invalid_reasons)
    source = workload.source
    again = keeps_cache and workload.flush and source is not None and source.kind != "trace"
    if told or (workload.shares_prefixes and not again):
        return None
    hits = _hits(*_counted(growth, run), bounds)
    if hits is None:
        return None
    if not again:
        return f"{_HITS}: {hits}; flush it between runs"
    return (
        f"{_HITS}: this file's prompts were sent before, or begin alike: {hits}, which cannot be "
        f"flushed from here; say flush=False if hits are meant"
    )


def _counted(growth: Counters | None, run: Run) -> tuple[int, int, int]:
    """Cached and all prompt tokens, and requests; zeros where they are unknown."""
    if growth is not None and growth.prompt_tokens and growth.cached_tokens is not None:
        requests = run.succeeded if growth.requests is None else round(growth.requests)
        return round(growth.cached_tokens), round(growth.prompt_tokens), requests
    if run.cached_tokens_total is None or not run.input_tokens_mean:
        return 0, 0, 0
    return run.cached_tokens_total, round(run.input_tokens_mean * run.succeeded), run.succeeded


def _hits(cached: int, prompt: int, requests: int, bounds: HealthBounds) -> str | None:
    """Cached prompt tokens in words, if there are more of them than there may be."""
    if bounds.cached_share is None or not prompt:
        return None
    if cached <= max(bounds.cached_share * prompt, bounds.template_tokens * requests):
        return None
    return (
        f"{cached:,} of {prompt:,} prompt tokens ({cached / prompt:.0%}) came from the server's "
        f"cache (bound {bounds.cached_share:.0%})"
    )


def _wrong_prompts(records: Sequence[RequestRecord], bounds: HealthBounds) -> str | None:
    """Prompts that came to another length than they were built for, as the server counts."""
    checked = [
        (record.prompt_tokens, record.asked_input)
        for record in records
        if record.prompt_tokens is not None and record.asked_input is not None
    ]
    wrong = [(was, asked) for was, asked in checked if _off(was, asked) > bounds.prompt_error]
    if not wrong:
        return None
    was, asked = max(wrong, key=lambda pair: _off(*pair))
    return (
        f"prompt length not as asked: {len(wrong)} of {len(checked)} prompts differ, at worst "
        f"{was:,} tokens where {asked:,} were asked for"
    )


def _off(was: int, asked: int) -> float:
    return abs(was - asked) / asked if asked else float(was != asked)


# --- the load


def _not_steady(trend: Trend | None, bounds: HealthBounds) -> str | None:
    if trend is None or bounds.drift is None or trend.p_value >= TREND_P_VALUE:
        return None
    change = trend.retention - 1
    if abs(change) <= bounds.drift:
        return None
    went = "fell" if change < 0 else "rose"
    return (
        f"not steady: the output rate {went} by {abs(change):.0%} from the first to the last third "
        f"of the steady part (bound {bounds.drift:.0%}, p = {trend.p_value:.1g}); warm up longer, "
        f"look for throttling, leaks or neighbours, or set llmperf_max_drift"
    )
