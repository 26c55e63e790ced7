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
    to be up to date; where there is none, they are whenever the page is made. ``prompt_tokens`` are
    all of them, or with ``cached_apart`` those that were computed. ``cached_tokens`` came from the
    prefix cache, ``drafting_steps`` are the verifications of speculative decoding,
    ``accepted_tokens`` the drafts that passed. A counter without a sample stands at zero if
    ``requests`` has one: several engines show a counter only once it has counted. Where an engine
    has no ``requests``, such a counter is not known.
    """

    requests: str | None
    prompt_tokens: str | None = None
    cached_tokens: str | None = None
    output_tokens: str | None = None
    drafting_steps: str | None = None
    accepted_tokens: str | None = None
    cached_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters of :class:`CounterNames` at one moment, or what they grew by."""

    requests: float | None
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

#: llama.cpp, read in the sources of October 2026 (``tools/server/server-task.cpp``): no requests
#: are counted, and what has been answered is counted when the page is made.
LLAMACPP = CounterNames(
    requests=None,
    prompt_tokens="llamacpp:prompt_tokens_total",
    cached_tokens="llamacpp:prompt_tokens_cached_total",
    output_tokens="llamacpp:tokens_predicted_total",
    drafting_steps="llamacpp:spec_decode_num_drafts_total",
    accepted_tokens="llamacpp:spec_decode_num_accepted_tokens_total",
    cached_apart=True,
)
#: LMDeploy from 0.11 on, read in 0.18. Cached tokens and drafts are counted from 0.14 on: before
#: that they read as none, which is true while prefixes are not kept, as they are not by default.
LMDEPLOY = CounterNames(
    requests="lmdeploy:request_success_total",
    prompt_tokens="lmdeploy:prompt_tokens_total",
    cached_tokens="lmdeploy:cached_tokens_total",
    output_tokens="lmdeploy:generation_tokens_total",
    drafting_steps="lmdeploy:spec_decode_num_drafts_total",
    accepted_tokens="lmdeploy:spec_decode_num_accepted_tokens_total",
)
#: TensorRT-LLM from 1.1 on, read in 1.3.0rc3; later ones count tokens too.
TENSORRT_LLM = CounterNames(requests="trtllm_request_success_total")
#: MindIE, read in 3.0.0. What the prefix cache gave is a gauge there.
MINDIE = CounterNames(
    requests="request_success_total",
    prompt_tokens="prompt_tokens_total",
    output_tokens="generation_tokens_total",
)


def read_counters(text: str, names: CounterNames) -> Counters | None:
    """The counters in a metrics page; ``None`` where it is not one, or lacks the one by which the
    others are known to be up to date.

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
    if (names.requests or names.prompt_tokens) not in sums:
        return None
    named = {field.name: getattr(names, field.name) for field in fields(Counters)}
    unseen = None if names.requests is None else 0.0
    values: dict[str, Any] = {
        field: sums.get(name, unseen) if name else None for field, name in named.items()
    }
    if names.cached_apart:
        computed, cached = values["prompt_tokens"], values["cached_tokens"]
        values["prompt_tokens"] = None if None in (computed, cached) else computed + cached
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
