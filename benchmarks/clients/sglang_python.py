"""SGLang's own client, ``python -m sglang.bench_serving``, read at version 0.5.23.

Its terms, from ``sglang/benchmark/serving.py`` (functions in brackets):

- TTFT: from just before the request is handed to aiohttp, which then opens a new connection, to
  the first chunk whose delta has text, reasoning or answer; role-only chunks do not count
  [``async_request_openai_chat_completions``].
- ITL: gaps between chunks with text, one for each chunk however many tokens it holds.
- TPOT: (end − TTFT) / (tokens − 1) for each request, then the mean over requests; requests with
  one token are left out [``calculate_metrics``].
- End to end: to the last line of the stream of any kind, the usage and the end marker included.
- Output tokens: ``usage.completion_tokens`` where sent (asked for here), else the number that was
  asked for, as if it had been delivered.
- Success: status 200 and a body that ends; an error inside the stream is not looked at.
- Throughput: tokens of successes over the time from before the first request to after a
  ``/server_info`` request that follows the last one [``benchmark``].
- Percentiles: NumPy's, linear between neighbours, over successes only.
- Arrivals: a sleep of an exponential interval after each send, so delays add up [``get_request``].
"""

from __future__ import annotations

import json
from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, count, number, parse, with_costs, written


class SglangPython:
    """The Python client. Prompts are runs of token ids as text, about as long as asked."""

    name = "sglang_python"

    def run(self, load: Load) -> Seen:
        return carry_out(self.name, "sglang.bench_serving", load)


def carry_out(client: str, module: str, load: Load) -> Seen:
    """Run the load with one of SGLang's two clients, which take the same options."""
    output = load.scratch / f"{client}.jsonl"
    python = environments.program("sglang")
    finished = ask(client, [python, "-m", module, *arguments(load, output)], load)
    text = written(client, output, finished)
    return with_costs(read(client, environments.version("sglang"), text, load.requests), finished)


def arguments(load: Load, output: Path) -> list[str]:
    """The options that ask for ``load``, without warm-up, written to ``output``."""
    extra = json.dumps({"stream_options": {"include_usage": True}})
    return [
        *("--backend", "sglang-oai-chat", "--base-url", load.url),
        *("--model", load.model, "--served-model-name", load.model),
        *("--tokenizer", str(load.model_dir), "--dataset-name", "random-ids"),
        *("--random-input-len", str(load.input_tokens)),
        *("--random-output-len", str(load.output_tokens), "--random-range-ratio", "1.0"),
        *("--num-prompts", str(load.requests), "--max-concurrency", str(load.concurrency)),
        *("--request-rate", "inf" if load.rate is None else str(load.rate)),
        *("--seed", str(load.seed), "--warmup-requests", "0", "--ready-check-timeout-sec", "0"),
        *("--extra-request-body", extra, "--output-file", str(output), "--disable-tqdm"),
    ]


def read(client: str, version: str, text: str, requests: int) -> Seen:
    """What the one line of its output file says of ``requests`` requests."""
    document = parse(text.splitlines()[-1])
    completed = count(document, "completed")
    # With nothing completed its file has zeros for latencies, which nobody measured.
    latencies = document if completed else {}
    return Seen(
        client=client,
        version=version,
        succeeded=completed,
        failed=requests - completed,
        output_tokens=count(document, "total_output_tokens"),
        duration_s=number(document, "duration"),
        throughput=number(document, "output_throughput"),
        ttft_mean=number(latencies, "mean_ttft_ms"),
        ttft_p99=number(latencies, "p99_ttft_ms"),
        tpot_mean=number(latencies, "mean_tpot_ms"),
        itl_mean=number(latencies, "mean_itl_ms"),
        itl_p99=number(latencies, "p99_itl_ms"),
        e2e_mean=number(latencies, "mean_e2e_latency_ms"),
        e2e_p99=number(latencies, "p99_e2e_latency_ms"),
        request_rate=number(document, "request_throughput"),
    )
