"""Metrics that only the server knows, from what its counters grew by in a run."""

from __future__ import annotations

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.records import MetricValue, Run


def server_metrics(growth: Counters | None, run: Run) -> dict[str, MetricValue]:
    """``accept_length`` and ``cache_hit_rate`` of ``run``.

    ``growth`` is ``None`` where the server has no counters, or they do not tell of this run alone.
    The hit rate is then the one that the server reported with its answers, if it did.
    """
    hits = None if growth is None else cache_hit_rate(growth)
    return {
        "accept_length": MetricValue(value=None if growth is None else accept_length(growth)),
        "cache_hit_rate": MetricValue(value=_reported_hits(run) if hits is None else hits),
    }


def accept_length(growth: Counters) -> float | None:
    """Tokens per step of speculative decoding; ``None`` where there was no such step.

    An engine that does not count accepted drafts made all its output in such steps, but for the
    first token of each request, which the prompt's own pass gives.
    """
    steps = growth.drafting_steps
    if not steps:
        return None
    if growth.accepted_tokens is not None:
        return 1 + growth.accepted_tokens / steps
    if growth.output_tokens is None or growth.requests is None:
        return None
    return (growth.output_tokens - growth.requests) / steps


def cache_hit_rate(growth: Counters) -> float | None:
    """Prompt tokens from the prefix cache over all of them."""
    if not growth.prompt_tokens or growth.cached_tokens is None:
        return None
    return growth.cached_tokens / growth.prompt_tokens


def _reported_hits(run: Run) -> float | None:
    if run.cached_tokens_total is None or not run.input_tokens_mean:
        return None
    return run.cached_tokens_total / (run.input_tokens_mean * run.succeeded)
