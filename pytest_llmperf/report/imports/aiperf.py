"""AIPerf: ``profile_export_aiperf.json``.

Source: AIPerf 0.13.0, ``aiperf/common/models/export_models.py`` (``JsonExportData``) and
``aiperf/metrics/types``. Its ``inter_token_latency`` is our ``tpot``, its ``inter_chunk_latency``
our ``icl``. Figures named ``adj_...`` count failures as infinitely late, as ours do: where requests
failed, those are taken and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .found import Found, count, figures, number, text

TOOL = "AIPerf"
_LATENCIES = {
    "time_to_first_token": "ttft",
    "time_to_first_output_token": "ttfat",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "icl",
    "request_latency": "e2e",
}
_RATES = {
    "output_token_throughput": "output_throughput",
    "total_token_throughput": "total_throughput",
    "output_token_throughput_per_user": "throughput_per_user",
    "request_throughput": "request_throughput",
    "goodput": "goodput",
}
_STATISTICS = {"avg": "mean", "max": "max"}
_NOTES = (
    "Its latencies begin when the request is handed to the HTTP client; its output tokens are its "
    "tokenizer's unless it was told to take the server's.",
    "Its percentiles are interpolated, ours are order statistics.",
)

_ADJUSTED = (
    "Requests failed: of its latencies those named adj_ are taken over, which take such requests "
    "as infinitely late, and no others."
)


def matches(data: Mapping[str, Any]) -> bool:
    return "aiperf_version" in data or number(data, "time_to_first_token", "avg") is not None


def read(data: Mapping[str, Any]) -> list[Found]:
    """A count that it leaves out is nought."""
    succeeded = count(data, "request_count", "avg") or 0
    failed = count(data, "error_request_count", "avg") or 0
    sent = succeeded + failed
    rates = {ours: number(data, name, "avg") for name, ours in _RATES.items()}
    rates["success_rate"] = succeeded / sent if sent else None
    config = data.get("input_config")
    rate = _only(config, "request_rate")
    concurrency = _only(config, "concurrency")
    return [
        Found(
            tool=TOOL,
            version=text(data, "aiperf_version"),
            model=_model(config),
            duration_s=float(number(data, "benchmark_duration", "avg") or 0.0),
            succeeded=succeeded,
            failed=failed,
            metrics={**figures(rates), **(_latencies(data, bool(failed)) if succeeded else {})},
            concurrency=None if concurrency is None else round(concurrency),
            rate=rate,
            arrivals="closed" if concurrency and rate is None else None,
            input_mean=number(data, "input_sequence_length", "avg"),
            output_mean=number(data, "output_sequence_length", "avg"),
            notes=(*_NOTES, _ADJUSTED) if failed else _NOTES,
        )
    ]


def _latencies(data: Mapping[str, Any], failed: bool) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for name, ours in _LATENCIES.items():
        entry = data.get(f"adj_{name}" if failed else name)
        if isinstance(entry, Mapping):
            for word in map(str, entry):
                statistic = _STATISTICS.get(word, word)
                if statistic.startswith("p") or not failed:
                    found[f"{ours}_{statistic}"] = number(entry, word)
    return figures(found)


def _model(config: object) -> str | None:
    found = _below(config, "model_names", "model")
    names = {each for value in found for each in ([value] if isinstance(value, str) else value)}
    texts = [name for name in names if isinstance(name, str)]
    return texts[0] if len(texts) == 1 else None


def _only(config: object, name: str) -> float | None:
    """The one number of that name anywhere in the configuration, whose shape changes from version
    to version; ``None`` where there are several."""
    found = {
        float(value)
        for value in _below(config, name)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return found.pop() if len(found) == 1 else None


def _below(config: object, *names: str) -> Iterator[Any]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name in names and value:
                yield tuple(value) if isinstance(value, list) else value
            else:
                yield from _below(value, *names)
    elif isinstance(config, list):
        for value in config:
            yield from _below(value, *names)
