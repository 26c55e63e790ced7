"""A server's own counters: how an engine names them, and their values at one moment.

They only ever grow while a server lives, so what happened in between is the difference of two
readings. Labels are summed over: replicas, sources of cached tokens, streamed and unstreamed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterNames:
    """Names of samples in Prometheus' text format; ``None`` where the engine has no such counter.

    ``requests`` counts requests that have finished, and is the one by which the others are known
    to be up to date. ``cached_tokens`` are those of ``prompt_tokens`` that came from the prefix
    cache, ``drafting_steps`` the verifications of speculative decoding, ``accepted_tokens`` the
    drafts that passed. A counter without a sample stands at zero if ``requests`` has one: several
    engines show a counter only once it has counted.
    """

    requests: str
    prompt_tokens: str | None = None
    cached_tokens: str | None = None
    output_tokens: str | None = None
    drafting_steps: str | None = None
    accepted_tokens: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters of :class:`CounterNames` at one moment, or what they grew by."""

    requests: float
    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None
    drafting_steps: float | None = None
    accepted_tokens: float | None = None


#: SGLang counts when a request has ended, and of drafts only the steps; read in 0.5.23.
SGLANG = CounterNames(
    requests="sglang:num_requests_total",
    prompt_tokens="sglang:prompt_tokens_total",
    cached_tokens="sglang:cached_tokens_total",
    output_tokens="sglang:generation_tokens_total",
    drafting_steps="sglang:spec_verify_calls_total",
)
#: vLLM from 0.10 on, read in 0.32.
VLLM = CounterNames(
    requests="vllm:request_success_total",
    prompt_tokens="vllm:prefix_cache_queries_total",
    cached_tokens="vllm:prefix_cache_hits_total",
    output_tokens="vllm:generation_tokens_total",
    drafting_steps="vllm:spec_decode_num_drafts_total",
    accepted_tokens="vllm:spec_decode_num_accepted_tokens_total",
)


def read_counters(text: str, names: CounterNames) -> Counters | None:
    """The counters in a metrics page; ``None`` where it is not one, or does not count requests.

    A server on which nothing has finished yet may not show ``requests`` either: then the page has
    no sample of it at all, and what it shows later did not begin at a known value.
    """
    from prometheus_client.parser import text_string_to_metric_families

    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except ValueError:
        return None
    if names.requests not in sums:
        return None
    named = {field.name: getattr(names, field.name) for field in fields(names)}
    values: dict[str, Any] = {
        field: sums.get(name, 0.0) if name else None for field, name in named.items()
    }
    return Counters(**values)


def grown(before: Counters, after: Counters) -> Counters | None:
    """What each counter grew by; ``None`` when one fell, because the server was started anew."""
    growth: dict[str, Any] = {}
    for field in fields(Counters):
        old, new = getattr(before, field.name), getattr(after, field.name)
        growth[field.name] = None if old is None or new is None else new - old
    if any(value is not None and value < 0 for value in growth.values()):
        return None
    return Counters(**growth)
