"""PyTorch's OSS benchmark database, schema v3: a list of records, a metric each.

Source: pytorch/test-infra, clickhouse_db_schema/benchmark.oss_ci_benchmark_v3/schema.sql and
.github/scripts/upload_benchmark_results.py, commit 61a7757 (August 2026). The uploader adds who
ran it (``repo``, ``head_sha``, ``workflow_id``, ...). Its maps take texts only. The
``benchmark_values`` are those of the valid runs; ``target_value`` is a gate's limit. Lost:
intervals, verdicts other than as text, and digits: the database keeps single precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .figures import (
    Document,
    Entry,
    Figure,
    accelerator_of,
    figures,
    json_text,
    load_of,
    shortened,
)


def files(document: Document, path: Path) -> dict[Path, str]:
    found = figures(document, all_metrics=True)
    return {path: json_text([_record(document, figure) for figure in found if figure.values])}


def _record(document: Document, figure: Figure) -> dict[str, Any]:
    server = figure.server
    record = {
        "benchmark": {
            "name": "pytest-llmperf",
            "mode": "inference",
            "extra_info": {
                "test": figure.name,
                "workload": shortened(load_of(figure.measurement)),
                "simulated": str(bool(figure.measurement["simulated"])).lower(),
            },
        },
        "model": {
            "name": server["model"] or "unknown",
            "type": "LLM",
            "backend": server["engine"],
            "extra_info": {"engine_version": server["version"] or "unknown"},
        },
        "metric": _metric(figure),
        "dependencies": {
            name: {"version": version}
            for name, version in document["environment"]["packages"].items()
        },
    }
    runners = _runners(document)
    return {**record, "runners": runners} if runners else record


def _metric(figure: Figure) -> dict[str, Any]:
    metric: dict[str, Any] = {
        "name": figure.metric,
        "benchmark_values": figure.values,
        "extra_info": {
            "unit": figure.unit,
            "direction": figure.direction,
            **{f"verdict.{gate['kind']}": gate["verdict"] for gate in figure.gates},
        },
    }
    limits = [gate["limit"] for gate in figure.gates if gate["limit"] is not None]
    return {**metric, "target_value": limits[0]} if len(limits) == 1 else metric


def _runners(document: Document) -> list[dict[str, Any]]:
    """What it ran on; without one, the uploader tells of the machine that it runs on itself."""
    host: Entry = document["environment"]["host"]
    accelerator = accelerator_of(document)
    if accelerator is None:
        return []
    runner: dict[str, Any] = {"name": str(host.get("hostname") or "")}
    if accelerator["vendor"] == "cpu":
        return [{**runner, "cpu_info": accelerator["product"]}]
    sizes = [device["memory_bytes"] for device in accelerator["devices"]]
    known = {"avail_gpu_mem_in_gb": sum(sizes) // 2**30} if None not in sizes else {}
    gpu = {"gpu_info": accelerator["product"], "gpu_count": accelerator["count"]}
    return [{**runner, **gpu, **known}]
