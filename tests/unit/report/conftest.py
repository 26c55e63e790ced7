"""Realistic records and documents for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.gates.stats import launch_summary
from pytest_llmperf.gates.verdict import no_comparison
from pytest_llmperf.metrics import units
from pytest_llmperf.records import (
    Accelerator,
    ClientHealth,
    Curves,
    Device,
    DeviceTelemetry,
    LaunchRecord,
    Limit,
    MetricValue,
    OutputQuality,
    Price,
    RegressionGate,
    Run,
    SampledRequests,
    Series,
    Telemetry,
    Timeline,
    Verdict,
    Workload,
)
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.assembly import assemble

NODE = "tests/perf/test_r1.py::test_chat"

DEVICE = Device(
    vendor="nvidia",
    product="NVIDIA GeForce RTX 4090",
    index=0,
    uuid="GPU-1",
    memory_bytes=24 << 30,
    details={"driver": "570.86", "pcie_gen": 4},
)
LAUNCH = LaunchRecord(
    id="launch-1",
    server_id="sglang-1",
    launched=True,
    engine="sglang",
    version="0.5.23",
    model="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    url="http://127.0.0.1:30000",
    argv=("python", "-m", "sglang.launch_server", "--api-key", "sk-1"),
    env=(("HF_TOKEN", "hf_1"), ("CUDA_VISIBLE_DEVICES", "0")),
    args={"tp_size": 1, "api_key": "sk-1", "nested": [{"password": "p"}, 1.5, None]},
    notes=("threads bound to cores 0-3",),
    cores=(0, 1),
    started_at="2026-11-20T10:00:00+00:00",
    startup_time_s=41.25,
    log="logs/sglang-1.log",
    failure=None,
)
WORKLOAD = Workload(
    name="chat",
    input_tokens=1024,
    output_tokens=1024,
    concurrency=16,
    requests=160,
    warmup_requests=16,
    runs=1,
)
CLIENT = ClientHealth(
    cpu_share=0.21,
    loop_lag_ms_p99=0.4,
    loop_lag_ms_max=1.9,
    peak_rss_bytes=80 << 20,
    mean_in_flight=15.6,
)
QUALITY = OutputQuality(
    answered=152,
    without_text=0,
    finish_reasons={"length": 152},
    sampled=8,
    distinct=8,
    repetition=0.55,
)
TELEMETRY = Telemetry(
    source="nvml",
    period_s=1.0,
    cpu_share=0.0004,
    energy_j=30_500.0,
    peak_memory_bytes=22 << 30,
    peak_memory_of="devices",
    devices=(
        DeviceTelemetry(
            uuid="GPU-1",
            index=0,
            product="NVIDIA GeForce RTX 4090",
            samples=2,
            energy_j=30_500.0,
            energy_from="counter",
            power_mean_w=333.3,
            power_max_w=402.0,
            clock_p50_mhz=2520.0,
            temperature_max_c=67.0,
            memory_max_bytes=22 << 30,
            utilisation_mean=0.97,
            slowed={"software thermal slowdown": 0.5},
            power_capped_share=0.25,
            series=Series(
                at_s=(-0.4, 0.6),
                power_w=(300.0, None),
                temperature_c=(66.0, 67.0),
                memory_used_bytes=(22 << 30, None),
                slowed=(0.0, 1.0),
            ),
        ),
    ),
    price=Price(
        per_device_hour=0.5,
        currency="EUR",
        usd=1.1,
        devices=1,
        dated="2026-11-01",
        source="our contract",
        matched="RTX 4090",
    ),
)
CURVES = Curves(
    quantiles={"ttft": (150.0, 180.0, None), "e2e": (9000.0, 9100.5, None)},
    requests=160,
    timeline=Timeline(
        bin_s=1.0, output_tokens=(0.0, 1600.5), in_flight=(15.5, 16.0), failed=(0, 8)
    ),
    sample=SampledRequests(
        written_s=(0.0, 0.1), first_s=(0.18, None), ended_s=(9.1, 1.5), ok=(True, False)
    ),
)
RUN = Run(
    launch_id="launch-1",
    index=0,
    seed=7,
    started_at="2026-11-20T10:01:00+00:00",
    duration_s=91.5,
    valid=True,
    invalid_reasons=(),
    metrics={
        "output_throughput": MetricValue(value=1612.0),
        "ttft_p50": MetricValue(value=180.0),
        "ttft_p95": MetricValue(value=None, unbounded=True, failed=8),
        "ttft_max": MetricValue(value=float("inf")),
        "itl_p50": MetricValue(value=None),
    },
    sent=160,
    succeeded=152,
    failed={"cut": 8},
    input_tokens_mean=1024.0,
    output_tokens_mean=1024.0,
    reasoning_tokens_mean=None,
    cached_tokens_total=0,
    token_source="usage",
    client=CLIENT,
    quality=QUALITY,
    telemetry=TELEMETRY,
    curves=CURVES,
)
FLOOR = Limit(
    kind="floor",
    metric="output_throughput",
    limit=1800.0,
    on="RTX 4090",
    source="floor set in tests/perf/test_r1.py:7",
)

#: Of each metric: value, bounds, and what the single runs say.
FIGURES: dict[str, tuple[float, float, float, list[float]]] = {
    "output_throughput": (1600.0, 1500.0, 1700.0, [1500.0, 1600.0, 1700.0]),
    "ttft_mean": (190.0, 150.0, 230.0, [180.0, 190.0, 200.0]),
    "ttft_p50": (180.0, 140.0, 220.0, [170.0, 180.0, 190.0]),
    "ttft_p95": (310.0, 300.0, 330.0, [300.0, 310.0, 320.0]),
    "tpot_mean": (9.5, 9.0, 10.0, [9.0, 9.5, 10.0]),
    "success_rate": (1.0, 1.0, 1.0, [1.0, 1.0, 1.0]),
    "peak_memory": (20.0, 19.0, 21.0, [19.0, 20.0, 21.0]),
}


class Samples:
    """Records as a session makes them, and what the report makes of those."""

    node = NODE
    device = DEVICE
    launch = LAUNCH
    workload = WORKLOAD
    client = CLIENT
    quality = QUALITY
    run = RUN
    floor = FLOOR
    figures = FIGURES

    def failed_gate(self) -> Verdict:
        values = [[MetricValue(value=value)] for value in (1612.0, 1600.0, 1620.0)]
        return judge_limit(FLOOR, values, device="RTX 4090")

    def fragment(
        self, test: str = NODE, run: Run = RUN, launch: LaunchRecord = LAUNCH
    ) -> dict[str, Any]:
        summary = {
            "output_throughput": launch_summary([[1612.0], [1600.0], [1620.0]], 0.99),
            "ttft_max": launch_summary([[900.0]], 0.99),
        }
        measured = doc.measurement_entry(f"{test}-1", test, "sglang-1", WORKLOAD, [run], summary)
        regression = no_comparison(
            RegressionGate(
                metric="ttft_p95", loss_to_catch=0.2, allow=0.0, source="gate set in t.py:9"
            ),
            "no_reference",
            "nothing to compare with",
            covered=False,
            mode="history",
        )
        return {
            "launches": [doc.launch_entry(launch)],
            "measurements": [measured],
            "gates": [
                doc.gate_entry(test, f"{test}-1", self.failed_gate()),
                doc.gate_entry(test, None, regression),
            ],
            "tests": [doc.test_entry(test, "slow", "−10.4 % under floor", 123.4)],
        }

    def assemble(self, *fragments: Mapping[str, Any]) -> dict[str, Any]:
        environment = doc.environment_entry(
            accelerators=[Accelerator(devices=(DEVICE,), source="nvml")],
            key="abc",
            match={"vendor": "nvidia", "count": 1},
            context={"driver": "570.86"},
            host={"name": "box", "cores": 16},
            python="3.12.3",
            packages={"sglang": "0.5.23"},
            commit="0" * 40,
            branch="main",
            dirty=False,
        )
        return assemble(
            fragments,
            environment=environment,
            command=["pytest", "--llmperf-url", "https://me:pw@host/v1"],
            seed=None,
            created="2026-11-20T10:05:00+00:00",
            complete=True,
            exit_status=10,
            tool_version="0.1.0",
        )

    def measured(self, test: str = NODE) -> dict[str, Any]:
        """A report of one measurement with three runs, a failed floor and a hole in coverage."""
        found = deepcopy(self.assemble(self.fragment(test)))
        (entry,) = found["measurements"]
        entry["runs"] = [
            {
                **entry["runs"][0],
                "index": at,
                "metrics": {n: row[3][at] for n, row in FIGURES.items()},
            }
            for at in range(3)
        ]
        entry["summary"] = {
            name: {
                "value": value,
                "unit": units.row_of(name).unit,
                "direction": units.row_of(name).direction,
                "ci_low": low,
                "ci_high": high,
                "n_launches": 3,
                "n_runs": 3,
            }
            for name, (value, low, high, _) in FIGURES.items()
        }
        return found


@pytest.fixture(scope="session")
def samples() -> Samples:
    return Samples()
