"""inference-perf of the Kubernetes project, read at version 0.7.0.

Its terms, from ``inference_perf/client/modelserver/openai_client.py``,
``inference_perf/apis/streaming_parser.py`` and ``inference_perf/reportgen/base.py``:

- TTFT: from just before the request is handed to aiohttp to the first message with text of the
  answer; reasoning is not looked at, so that thinking counts as waiting
  [``apis/chat.py``: ``process_response``; ``compute_request_latency_metrics``].
- ITL: gaps between tokens, where every token that its tokenizer finds in a message has the
  message's time: a message of four tokens gives three gaps of nought
  [``correct_streamed_response_metrics``].
- TPOT: (last token − first token) / (tokens − 1) for each request.
- End to end: until the stream has been read and its text counted by the tokenizer.
- Output tokens: usage where ``use_server_output_tokens`` is set, as here, else the tokenizer over
  the text of the answer [``effective_output_tokens``].
- Success: status 200 and a body that ends; an error inside the stream is not looked at.
- Throughput: tokens of successes from the first request's start to the last one's end, failures
  included in the time [``summarize_requests``].
- Percentiles: NumPy's, linear between neighbours, over successes only.
- Arrivals: for each second a Poisson number of requests, spread at random over that second; the
  delay behind that schedule is reported [``loadgen/load_timer.py``: ``PoissonLoadTimer``].
"""

from __future__ import annotations

import json
from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, count, number, parse, with_costs, written


class InferencePerf:
    """The Kubernetes project's client, with one worker process."""

    name = "inference_perf"

    def run(self, load: Load) -> Seen:
        output = load.scratch / "inference_perf"
        asked = load.scratch / "inference_perf.yaml"
        asked.write_text(json.dumps(configuration(load, output)))  # JSON is YAML too
        command = environments.program("inference_perf", "inference-perf")
        finished = ask(self.name, [command, "-c", asked], load)
        text = written(self.name, output / "summary_lifecycle_metrics.json", finished)
        return with_costs(
            read(environments.version("inference_perf"), text, load.rate is not None), finished
        )


def configuration(load: Load, output: Path) -> dict[str, object]:
    """Its configuration for ``load``, with its files below ``output``.

    Its plain text prompts go to the completions endpoint only; the empty ``multimodal`` has the
    same prompts sent as chat messages. An open loop lasts whole seconds, so that the number of
    requests is only about the one asked for.
    """
    stage: dict[str, object] = {
        "num_requests": load.requests,
        "concurrency_level": load.concurrency,
    }
    if load.rate is not None:
        stage = {"rate": load.rate, "duration": max(1, round(load.requests / load.rate))}
    return {
        "api": {"type": "chat", "streaming": True},
        "server": {
            "type": "vllm",
            "model_name": load.model,
            "base_url": load.url,
            "ignore_eos": True,
        },
        "tokenizer": {"pretrained_model_name_or_path": str(load.model_dir)},
        "data": {"type": "shared_prefix", "shared_prefix": _prompts(load), "multimodal": {}},
        "load": {
            "type": "concurrent" if load.rate is None else "poisson",
            "stages": [stage],
            "num_workers": 1,
            "worker_max_concurrency": load.concurrency,
            "request_timeout": load.timeout_s,
            "base_seed": load.seed,
        },
        "report": {
            "request_lifecycle": {
                "summary": True,
                "per_stage": False,
                "per_request": False,
                "use_server_output_tokens": True,
                "percentiles": [50, 99],
            }
        },
        "storage": {"local_storage": {"path": str(output)}},
    }


def _prompts(load: Load) -> dict[str, int]:
    """As many prompts as requests, no two with a common beginning."""
    return {
        "num_groups": 1,
        "num_prompts_per_group": load.requests,
        "system_prompt_len": 0,
        "question_len": load.input_tokens,
        "output_len": load.output_tokens,
        "seed": load.seed,
    }


def read(version: str, text: str, open_loop: bool) -> Seen:
    """What its summary says. In a closed loop its delays behind a schedule mean nothing."""
    document = parse(text)
    good = document["successes"]
    delay = ("load_summary", "schedule_delay", "p99")

    def latency(metric: str, statistic: str) -> float | None:
        return number(good, "latency", metric, statistic, scale=1e3)

    return Seen(
        client="inference_perf",
        version=version,
        succeeded=count(good, "count"),
        failed=count(document, "failures", "count"),
        output_tokens=round(number(good, "output_tokens", "total") or 0),
        duration_s=number(document, "benchmark_time_seconds"),
        throughput=number(good, "throughput", "output_tokens_per_sec"),
        ttft_mean=latency("time_to_first_token", "mean"),
        ttft_p99=latency("time_to_first_token", "p99"),
        tpot_mean=latency("time_per_output_token", "mean"),
        itl_mean=latency("inter_token_latency", "mean"),
        itl_p99=latency("inter_token_latency", "p99"),
        e2e_mean=latency("request_latency", "mean"),
        e2e_p99=latency("request_latency", "p99"),
        request_rate=number(good, "throughput", "requests_per_sec"),
        send_delay_p99=number(document, *delay, scale=1e3) if open_loop else None,
    )
