"""llm-d's Benchmark Report, version 0.2.1: a file for each measurement, ``PATH`` is a directory.

Source: llm-d/llm-d-benchmark, llmdbenchmark/analysis/benchmark_report/br_v0_2_1_json_schema.json
and schema_v0_2_1.py, commit 8bc9f1d (August 2026); JSON, which its tools read as YAML. Latencies
are in seconds, percentiles are means over launches. Its ``time_per_output_token`` is our ``tpot``,
its ``inter_token_latency`` the gaps between chunks, our ``icl``, as inference-perf fills them; its
``request_latency`` is ``e2e``. Lost: intervals over launches, gates and verdicts, single runs
(``run.time`` is the span of all), gaps per token (``itl``), and what was sent beyond lengths, rate
and concurrency (whole in ``scenario.load.native.config``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from .figures import (
    Document,
    Entry,
    accelerator_of,
    json_text,
    measurements,
    server_of,
    shortened,
    slug,
    valid_runs,
)

VERSION = "0.2.1"
_LATENCIES = {
    "time_to_first_token": ("ttft", "s"),
    "time_per_output_token": ("tpot", "s/token"),
    "inter_token_latency": ("icl", "s/token"),
    "request_latency": ("e2e", "s"),
}
_RATES = {
    "output_token_rate": ("output_throughput", "tokens/s"),
    "total_token_rate": ("total_throughput", "tokens/s"),
    "request_rate": ("request_throughput", "queries/s"),
}
_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


def files(document: Document, path: Path) -> dict[Path, str]:
    return {
        path / f"{slug(name)}.json": json_text(_report(document, name, entry))
        for name, entry in measurements(document)
        if valid_runs(entry)
    }


def _report(document: Document, name: str, entry: Entry) -> dict[str, Any]:
    return {
        "version": VERSION,
        "run": _run(document, name, entry),
        "scenario": {"stack": [_engine(document, entry)], "load": _load(document, entry)},
        "results": {"request_performance": {"aggregate": _aggregate(entry)}},
    }


def _run(document: Document, name: str, entry: Entry) -> dict[str, Any]:
    runs = valid_runs(entry)
    begins = [datetime.fromisoformat(run["started_at"]) for run in runs if run["started_at"]]
    known = {}
    if begins and len(begins) == len(runs):
        ends = [
            start + timedelta(seconds=run["duration_s"])
            for start, run in zip(begins, runs, strict=True)
        ]
        span = max(ends) - min(begins)
        known["time"] = {
            "start": min(begins).isoformat(),
            "end": max(ends).isoformat(),
            "duration": f"PT{span.total_seconds():.6f}S",
        }
    words = ["SIMULATED: describes no hardware"] if entry["simulated"] else []
    return {
        "uid": f"{document['created']} {slug(name)}",
        "description": name,
        "keywords": ["pytest-llmperf", *words],
        **known,
    }


def _engine(document: Document, entry: Entry) -> dict[str, Any]:
    server, accelerator = server_of(document, entry), accelerator_of(document)
    launch = server["launches"][-1]
    sizes: Mapping[str, int] = accelerator.get("parallel", {}) if accelerator else {}
    return {
        "metadata": {"label": shortened(server["id"]), "cfg_id": shortened(server["id"])},
        "standardized": {
            "kind": "inference_engine",
            "tool": server["engine"],
            "tool_version": server["version"] or "unknown",
            "role": "replica",
            "replicas": 1,
            "model": {"name": server["model"] or "unknown"},
            "accelerator": {
                "model": accelerator["product"] if accelerator else "unknown",
                "count": accelerator["count"] if accelerator else 0,
                "parallelism": {
                    name: size for name, size in sizes.items() if name in ("tp", "dp", "ep", "pp")
                },
            },
        },
        "native": {"args": dict(launch["args"]), "envars": dict(launch["env"])},
    }


def _load(document: Document, entry: Entry) -> dict[str, Any]:
    asked = entry["workload"]["asked"]
    standardized: dict[str, Any] = {
        "tool": document["tool"]["name"],
        "tool_version": document["tool"]["version"],
        "source": "random" if asked["source"] is None else "sampled",
        "input_seq_len": _length(entry, "input"),
    }
    if _told(entry, "output") is not None:
        standardized["output_seq_len"] = _length(entry, "output")
    if asked["rate"] is not None:
        standardized["rate_qps"] = asked["rate"]
    if asked["concurrency"] is not None:
        standardized["concurrency"] = asked["concurrency"]
    if (asked["turns"] or 1) > 1:
        turns = {"distribution": "fixed", "value": asked["turns"]}
        standardized["multi_turn"] = {"enabled": True, "max_turns": turns}
    return {
        "metadata": {"description": shortened(asked["name"])},
        "standardized": standardized,
        "native": {"config": dict(asked)},
    }


def _told(entry: Entry, which: str) -> float | None:
    asked: float | None = entry["workload"]["asked"][f"{which}_tokens"]
    sent: float | None = entry["workload"]["sent"][f"{which}_tokens_mean"]
    return sent if asked is None else asked


def _length(entry: Entry, which: str) -> dict[str, Any]:
    spread = entry["workload"]["asked"]["length_spread"]
    asked = entry["workload"]["asked"][f"{which}_tokens"]
    word = "other" if asked is None or spread is None else "uniform" if spread else "fixed"
    return {"distribution": word, "value": _told(entry, which) or 0}


def _aggregate(entry: Entry) -> dict[str, Any]:
    summary = entry["summary"]
    latency = {
        name: found
        for name, (metric, units) in _LATENCIES.items()
        if (found := _latency(summary, metric, units))
    }
    throughput = {
        name: {"units": units, "mean": summary[metric]["value"]}
        for name, (metric, units) in _RATES.items()
        if metric in summary and summary[metric]["value"] is not None
    }
    return {"requests": _requests(entry), "latency": latency, "throughput": throughput}


def _latency(summary: Mapping[str, Entry], metric: str, units: str) -> dict[str, Any] | None:
    """In seconds; its format cannot tell percentiles without a mean."""
    found = {
        word: summary[f"{metric}_{word}"]["value"] / 1000
        for word in _STATISTICS
        if summary.get(f"{metric}_{word}", {}).get("value") is not None
    }
    return {"units": units, **found} if "mean" in found else None


def _requests(entry: Entry) -> dict[str, Any]:
    runs, sent = valid_runs(entry), entry["workload"]["sent"]
    total = sum(run["requests"]["sent"] for run in runs)
    requests: dict[str, Any] = {
        "total": total,
        "failures": total - sum(run["requests"]["succeeded"] for run in runs),
    }
    for name, which in (("input_length", "input"), ("output_length", "output")):
        if (mean := sent[f"{which}_tokens_mean"]) is not None:
            requests[name] = {"units": "count", "mean": mean}
    return requests
