"""GuideLLM, ``guidellm run``, read at version 0.8.1.

Its terms, from ``guidellm/backends/openai/http.py`` and ``guidellm/schemas/base/request_stats.py``:

- All times are of the wall clock, ``time.time()``.
- TTFT: from the first header written to a connection that stands (so that opening one is not in
  it) to the first line whose delta has text, reasoning or a tool call
  [``OpenAIHTTPBackend``: ``_trace_request_start``, ``time_to_first_token_ms``].
- Its "inter token latency" is (last token − first token) / (tokens − 1) of each request, weighted
  by its tokens in the mean: our TPOT. Its "time per output token" includes the first token. It
  gives no gaps between chunks.
- End to end: to the end of the stream, the end marker included [``request_latency``].
- Output tokens: usage, else one for each line with content [``output_tokens``].
- Success: status 200, no error object in the stream, and some text or tokens
  [``request_handlers.py``: ``_check_streaming_error``, ``_validate_text_response``]. A stream that
  is cut without an end marker or a reason to finish, but with text, is a success.
- Throughput: a mean rate of tokens spread over the time from the first request's start to the
  last one's end [``StatusDistributionSummary.rate_distribution_from_timings_function``].
- Percentiles: an observed value, the first at which the share reaches p; no interpolation
  [``statistics.py``: ``Percentiles.from_pdf``]. Successes, failures and all are kept apart.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, count, number, parse, surroundings, with_costs, written

#: One core has no use for more; more made it no more accurate where there were more.
_ONE_WORKER = {"GUIDELLM__MAX_WORKER_PROCESSES": "1"}


class Guidellm:
    """Red Hat's client, with one worker process. Prompts are synthetic, about as long as asked."""

    name = "guidellm"

    def run(self, load: Load) -> Seen:
        output = load.scratch / "guidellm.json"
        argv: list[str | Path] = [
            environments.program("guidellm", "guidellm"),
            "run",
            *arguments(load, output),
        ]
        finished = ask(self.name, argv, load, surroundings(_ONE_WORKER))
        text = written(self.name, output, finished)
        return with_costs(read(environments.version("guidellm"), text), finished)


def arguments(load: Load, output: Path) -> list[str]:
    """The options that ask for ``load``, without warm-up, written to ``output``."""
    profile: dict[str, object] = {"kind": "concurrent", "streams": load.concurrency}
    if load.rate is not None:
        profile = {"kind": "poisson", "rate": load.rate, "max_concurrency": load.concurrency}
    lengths = {"prompt_tokens": load.input_tokens, "output_tokens": load.output_tokens}
    target = {"target": load.url, "model": load.model, "timeout": load.timeout_s}
    return [
        *("--backend", json.dumps({"kind": "openai_http", **target})),
        *("--profile", json.dumps(profile)),
        *("--constraint", json.dumps({"kind": "max_requests", "count": load.requests})),
        *("--tokenizer", json.dumps({"kind": "huggingface_auto", "model": str(load.model_dir)})),
        *("--data", json.dumps({"kind": "synthetic_text", **lengths})),
        *("--seed", json.dumps({"kind": "static", "value": load.seed})),
        *("--output", json.dumps({"kind": "json", "path": str(output)})),
        "--disable-console",
    ]


def read(version: str, text: str) -> Seen:
    """What the one benchmark in its file says."""
    benchmarks = parse(text)["benchmarks"]
    if not isinstance(benchmarks, list) or len(benchmarks) != 1:
        raise ValueError("one benchmark was expected in guidellm's file")
    benchmark = benchmarks[0]
    totals = ("metrics", "request_totals")
    succeeded = count(benchmark, *totals, "successful")

    def of(metric: str, *path: str, scale: float = 1.0) -> float | None:
        # With nothing completed its file has zeros, which nobody measured.
        where = ("metrics", metric, "successful", *path)
        return number(benchmark, *where, scale=scale) if succeeded else None

    return Seen(
        client="guidellm",
        version=version,
        succeeded=succeeded,
        failed=count(benchmark, *totals, "total") - succeeded,
        output_tokens=round(of("output_token_count", "total_sum") or 0),
        duration_s=number(benchmark, "duration"),
        throughput=of("output_tokens_per_second", "mean"),
        ttft_mean=of("time_to_first_token_ms", "mean"),
        ttft_p99=of("time_to_first_token_ms", "percentiles", "p99"),
        tpot_mean=of("inter_token_latency_ms", "mean"),
        e2e_mean=of("request_latency", "mean", scale=1e3),
        e2e_p99=of("request_latency", "percentiles", "p99", scale=1e3),
        request_rate=of("requests_per_second", "mean"),
        send_delay_p99=of("request_dispatch_delay", "percentiles", "p99", scale=1e3),
    )
