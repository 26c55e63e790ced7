"""``vllm bench serve``: the JSON file of ``--save-result``.

Source: vLLM 0.32.0, ``vllm/benchmarks/serve.py`` (``benchmark``, ``calculate_metrics``,
``main_async``). Its ``itl`` is the gap between chunks, our ``icl``. Its ``date`` is local time of
an unknown place, so when it ran is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .found import (
    FAILED_LEFT_OUT,
    FAILED_UNKNOWN,
    Found,
    count,
    figures,
    flat_latencies,
    mean,
    number,
    text,
)

TOOL = "vllm bench serve"
_NAMES = {"ttft": "ttft", "tpot": "tpot", "itl": "icl", "e2el": "e2e"}
_NOTES = (
    "Its latencies begin before the HTTP client has a connection; in the chat API its TTFT ends "
    "with the first chunk, also one without text.",
    "Its percentiles are interpolated, ours are order statistics.",
)


def matches(data: Mapping[str, Any]) -> bool:
    return "completed" in data and "num_prompts" in data


def read(data: Mapping[str, Any]) -> list[Found]:
    """Raises KeyError for a file without what every file of its has."""
    completed, failed = count(data, "completed") or 0, count(data, "failed")
    latencies = flat_latencies(data, _NAMES) if completed and not failed else {}
    lost = FAILED_UNKNOWN if failed is None else FAILED_LEFT_OUT if failed else ""
    rate, burstiness = number(data, "request_rate"), number(data, "burstiness")
    return [
        Found(
            tool=TOOL,
            engine="vllm" if text(data, "backend") == "vllm" else None,
            model=text(data, "model_id"),
            duration_s=float(data["duration"]),
            succeeded=completed,
            failed=failed,
            metrics={**_rates(data, completed, failed), **latencies},
            concurrency=count(data, "max_concurrency"),
            rate=rate,
            arrivals=_arrivals(rate, burstiness, data.get("max_concurrency")),
            burstiness=burstiness if rate else None,
            requests=count(data, "num_prompts"),
            input_mean=mean(number(data, "total_input_tokens"), completed),
            output_mean=mean(number(data, "total_output_tokens"), completed),
            notes=tuple(note for note in (*_NOTES, lost) if note),
        )
    ]


def _rates(data: Mapping[str, Any], completed: int, failed: int | None) -> dict[str, float]:
    sent = None if failed is None else completed + failed
    return figures(
        {
            "output_throughput": number(data, "output_throughput"),
            "total_throughput": number(data, "total_token_throughput"),
            "request_throughput": number(data, "request_throughput"),
            "success_rate": completed / sent if sent else None,
            "goodput": number(data, "request_goodput"),
            "accept_length": number(data, "spec_decode_acceptance_length"),
        }
    )


def _arrivals(rate: float | None, burstiness: float | None, concurrency: object) -> str | None:
    if not rate:
        return "closed" if concurrency else None
    return "poisson" if burstiness in (None, 1.0) else "gamma"
