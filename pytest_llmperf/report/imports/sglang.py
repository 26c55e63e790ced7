"""``sglang.bench_serving``: a JSON line for each run, as ``--output-file`` appends it.

Source: SGLang 0.5.23, ``sglang/benchmark/serving.py`` (``benchmark``, ``calculate_metrics``). Its
``itl`` is a gap per token on its own API (backends ``sglang`` and ``sglang-native``), a gap between
chunks, our ``icl``, elsewhere.
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

TOOL = "sglang.bench_serving"
_OWN_API = ("sglang", "sglang-native")
_RATES = ("output_throughput", "total_throughput", "request_throughput", "accept_length")
_NOTES = (
    "Its latencies begin before the HTTP client has a connection; its throughput divides by the "
    "whole run, a last request for the server's state included.",
    "Its percentiles are interpolated, ours are order statistics.",
)


def matches(data: Mapping[str, Any]) -> bool:
    return "completed" in data and "total_output_tokens_retokenized" in data


def read(data: Mapping[str, Any]) -> list[Found]:
    """Raises KeyError for a line without what every line of its has."""
    completed, failed = count(data, "completed") or 0, _failed(data)
    own = data["backend"] in _OWN_API
    names = {"ttft": "ttft", "tpot": "tpot", "itl": "itl" if own else "icl", "e2e_latency": "e2e"}
    latencies = flat_latencies(data, names) if completed and not failed else {}
    lost = FAILED_UNKNOWN if failed is None else FAILED_LEFT_OUT if failed else ""
    rate = number(data, "request_rate")
    random = str(data.get("dataset_name", "")).startswith("random")
    return [
        Found(
            tool=TOOL,
            engine="sglang" if str(data["backend"]).startswith("sglang") else None,
            engine_version=text(data, "server_info", "version"),
            model=text(data, "server_info", "model_path"),
            name=text(data, "dataset_name") or "imported",
            duration_s=float(data["duration"]),
            succeeded=completed,
            failed=failed,
            metrics={**figures({name: number(data, name) for name in _RATES}), **latencies},
            input_tokens=count(data, "random_input_len") if random else None,
            output_tokens=count(data, "random_output_len") if random else None,
            concurrency=count(data, "max_concurrency"),
            rate=rate,
            arrivals="poisson" if rate else "closed" if data.get("max_concurrency") else None,
            input_mean=mean(number(data, "total_input_tokens"), completed),
            output_mean=mean(number(data, "total_output_tokens"), completed),
            notes=tuple(note for note in (*_NOTES, lost) if note),
        )
    ]


def _failed(data: Mapping[str, Any]) -> int | None:
    """Told with ``--output-details`` only: the error of each request, empty for a success."""
    errors = data.get("errors")
    return sum(bool(error) for error in errors) if isinstance(errors, list) else None
