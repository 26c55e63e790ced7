"""NVIDIA's AIPerf, ``aiperf profile``, read at version 0.13.0.

Its terms, from ``aiperf/transports/aiohttp_client.py``, ``aiperf/endpoints/openai_chat.py`` and
``aiperf/metrics/types``:

- TTFT: from just before the request is handed to aiohttp (a session of its own each time, over a
  shared pool of connections) to the first message whose delta has text, reasoning or a tool call;
  role-only messages do not count [``ttft_metric.py``].
- Its "inter token latency" is what others call TPOT: (end − TTFT) / (tokens − 1) for each request
  [``inter_token_latency_metric.py``]. Its "inter chunk latency" has the gaps between messages
  with content, whatever they hold [``inter_chunk_latency_metric.py``]; that is our ITL.
- End to end: to the last message with content; usage and end marker do not count
  [``request_latency_metric.py``].
- Output tokens: usage where ``--use-server-token-count`` is given, as here; a request without
  usage then has none at all. Otherwise its tokenizer over answer and reasoning.
- Success: a 2xx status and one message with content; of errors inside a stream only the event of
  that name is heeded, not an error object [``sse_utils.py``: ``inspect_message_for_error``].
- Throughput: tokens of successes from the first request sent to the last content received, on the
  wall clock [``benchmark_duration_metric.py``].
- Percentiles: linear between neighbours, over successes; figures that count failures as late come
  beside them, named ``adj_...`` [``metric_dicts.py``: ``metric_result_from_array``].
"""

from __future__ import annotations

from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, number, parse, surroundings, with_costs, written

#: Told that it is offline, it refuses a tokenizer that lies in a directory.
_NOT_TOLD = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Aiperf:
    """NVIDIA's client, with one worker and one record processor, as befits one core."""

    name = "aiperf"

    def run(self, load: Load) -> Seen:
        output = load.scratch / "aiperf"
        argv: list[str | Path] = [
            environments.program("aiperf", "aiperf"),
            "profile",
            *arguments(load, output),
        ]
        finished = ask(self.name, argv, load, surroundings(without=_NOT_TOLD))
        text = written(self.name, output / "profile_export_aiperf.json", finished)
        return with_costs(read(environments.version("aiperf"), text), finished)


def arguments(load: Load, output: Path) -> list[str]:
    """The options that ask for ``load``, without warm-up, with its files below ``output``."""
    rate = [] if load.rate is None else ["--request-rate", str(load.rate)]
    return [
        *("--model", load.model, "--url", load.url, "--endpoint-type", "chat", "--streaming"),
        *("--tokenizer", str(load.model_dir), "--use-server-token-count"),
        *("--isl", str(load.input_tokens), "--isl-stddev", "0"),
        *("--osl", str(load.output_tokens), "--osl-stddev", "0"),
        *("--extra-inputs", "ignore_eos:true", "--random-seed", str(load.seed)),
        *("--request-count", str(load.requests), "--concurrency", str(load.concurrency)),
        *(*rate, *(("--arrival-pattern", "poisson") if rate else ())),
        *("--request-timeout-seconds", str(load.timeout_s)),
        *("--workers-max", "1", "--record-processors", "1", "--ui", "none"),
        *("--no-gpu-telemetry", "--no-server-metrics", "--output-artifact-dir", str(output)),
    ]


def read(version: str, text: str) -> Seen:
    """What its JSON export says; a count that it leaves out is nought."""
    document = parse(text)
    return Seen(
        client="aiperf",
        version=version,
        succeeded=round(number(document, "request_count", "avg") or 0),
        failed=round(number(document, "error_request_count", "avg") or 0),
        output_tokens=round(number(document, "total_osl", "avg") or 0),
        duration_s=number(document, "benchmark_duration", "avg"),
        throughput=number(document, "output_token_throughput", "avg"),
        ttft_mean=number(document, "time_to_first_token", "avg"),
        ttft_p99=number(document, "time_to_first_token", "p99"),
        tpot_mean=number(document, "inter_token_latency", "avg"),
        itl_mean=number(document, "inter_chunk_latency", "avg"),
        itl_p99=number(document, "inter_chunk_latency", "p99"),
        e2e_mean=number(document, "request_latency", "avg"),
        e2e_p99=number(document, "request_latency", "p99"),
        request_rate=number(document, "request_throughput", "avg"),
    )
