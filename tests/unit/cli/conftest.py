"""Reports and stores for the tests of the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.gates.stats import launch_summary
from pytest_llmperf.records import (
    Accelerator,
    ClientHealth,
    Device,
    Json,
    LaunchRecord,
    LaunchValues,
    MetricValue,
    Observation,
    Run,
    Scalar,
    Verdict,
    VerdictWord,
    Workload,
)
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.assembly import assemble
from pytest_llmperf.report.write import write_report

NODE = "tests/perf/test_r1.py::test_chat"
DEVICE = Device(
    vendor="nvidia", product="NVIDIA H100", index=0, uuid="GPU-1", memory_bytes=80 << 30, details={}
)
LAUNCH = LaunchRecord(
    id="launch",
    server_id="server",
    launched=True,
    engine="sglang",
    version="0.5.22",
    model="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    url="http://127.0.0.1:30000",
    argv=("python", "-m", "sglang.launch_server"),
    env=(),
    args={},
    notes=(),
    cores=None,
    started_at="2026-11-20T10:00:00+00:00",
    startup_time_s=40.0,
    log=None,
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
    cpu_share=0.2,
    loop_lag_ms_p99=0.4,
    loop_lag_ms_max=1.9,
    peak_rss_bytes=80 << 20,
    mean_in_flight=15.6,
)

#: Of one metric: a value per launch; ``None`` was not measured, ``inf`` is unbounded.
Figures = Mapping[str, Sequence[float | None]]


class Reports:
    """Writes reports with the figures asked for, and reads nothing back."""

    node = NODE
    workload = WORKLOAD

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def measured(
        self,
        figures: Figures,
        *,
        test: str = NODE,
        gated: Sequence[str] = (),
        verdict: VerdictWord = "pass",
        workload: Workload = WORKLOAD,
        version: str = "0.5.22",
        engine: str = "sglang",
    ) -> dict[str, Any]:
        """The fragment of one test with one measurement."""
        count = max(map(len, figures.values()))
        ids = [f"{test}-launch-{at}" for at in range(count)]
        runs = [
            _run(id_, {name: row[at] for name, row in figures.items()})
            for at, id_ in enumerate(ids)
        ]
        summary = {
            name: launch_summary([[value] for value in row if value is not None], 0.99)
            for name, row in figures.items()
            if all(value is not None and value != float("inf") for value in row)
        }
        measurement, server = f"{test}-{workload.concurrency}", f"server-{test}-{engine}"
        return {
            "launches": [
                doc.launch_entry(
                    replace(LAUNCH, id=id_, server_id=server, version=version, engine=engine)
                )
                for id_ in ids
            ],
            "measurements": [
                doc.measurement_entry(measurement, test, server, workload, runs, summary)
            ],
            "gates": [doc.gate_entry(test, measurement, _gate(name, verdict)) for name in gated],
            "tests": [doc.test_entry(test, "passed" if verdict == "pass" else "slow", "", 1.0)],
        }

    def write(
        self, name: str, *fragments: Mapping[str, Any], match: Mapping[str, Scalar] | None = None
    ) -> str:
        """The path of a report made of ``fragments``, which matches its schema."""
        path = self._directory / name
        write_report(self.document(*fragments, match=match), path, option="-o")
        return str(path)

    def document(
        self, *fragments: Mapping[str, Any], match: Mapping[str, Scalar] | None = None
    ) -> dict[str, Any]:
        environment = doc.environment_entry(
            accelerators=[Accelerator(devices=(DEVICE,), source="nvml")],
            key="k",
            match={"product": "NVIDIA H100", "count": 1} if match is None else match,
            context={},
            host={},
            python="3.12.3",
            packages={},
            commit="0123456789" * 4,
        )
        return assemble(
            fragments,
            environment=environment,
            command=["pytest"],
            seed=None,
            created="2026-11-20T10:05:00+00:00",
            complete=True,
            exit_status=0,
            tool_version="0.1.0",
        )


def _run(launch: str, metrics: Mapping[str, float | None]) -> Run:
    return Run(
        launch_id=launch,
        index=0,
        seed=7,
        started_at="2026-11-20T10:01:00+00:00",
        duration_s=90.0,
        valid=True,
        invalid_reasons=(),
        metrics={name: _metric(value) for name, value in metrics.items()},
        sent=160,
        succeeded=160,
        failed={},
        input_tokens_mean=1024.0,
        output_tokens_mean=1024.0,
        reasoning_tokens_mean=None,
        cached_tokens_total=0,
        token_source="usage",
        client=CLIENT,
    )


def _metric(value: float | None) -> MetricValue:
    if value == float("inf"):
        return MetricValue(value=None, unbounded=True, failed=3)
    return MetricValue(value=value)


def _gate(metric: str, verdict: VerdictWord) -> Verdict:
    return Verdict(
        kind="floor",
        mode="limits",
        metric=metric,
        unit="tok/s",
        verdict=verdict,
        reason_code="within" if verdict == "pass" else "beyond",
        reason=f"−10 % under floor: {metric}" if verdict == "fail" else "within",
        source="floor set in t.py:7",
        limit=1.0,
    )


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


# --- stores ----------------------------------------------------------------------------------

Observe = Callable[..., Observation]


@pytest.fixture
def observe() -> Observe:
    """Makes observations, each a day after the one before."""
    made = 0

    def make(
        *throughput: float,
        key: str = "test_chat.0123456789.0123456789",
        test: str = NODE,
        metric: str = "output_throughput",
        gates: Sequence[str] = ("output_throughput",),
        subject: Mapping[str, Json] | None = None,
        created: str = "",
    ) -> Observation:
        nonlocal made
        made += 1
        when = created or f"2026-{(made - 1) // 28 + 1:02}-{(made - 1) % 28 + 1:02}T03:00:00+00:00"
        return Observation(
            id=f"observation{made:04}",
            key=key,
            created=when,
            test=test,
            workload="chat",
            environment={"product": "NVIDIA H100", "count": 1},
            subject={"engine": "sglang", "version": "0.5.22"} if subject is None else subject,
            block={"device": "GPU-1"},
            launches=tuple(
                LaunchValues(
                    launch_id=f"{made}-{at}", started_at=when, runs=1, metrics={metric: value}
                )
                for at, value in enumerate(throughput)
            ),
            gates=tuple(gates),
            verdict="pass",
            commit=f"{made:040x}",
            dirty=False,
            runner="ci",
            tool_version="0.1.0",
        )

    return make


@pytest.fixture
def status_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: its status, output and errors."""
    from pytest_llmperf.cli import main

    def run(*argv: str) -> tuple[int, str, str]:
        try:
            status = main(argv)
        except SystemExit as left:
            status = int(left.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
