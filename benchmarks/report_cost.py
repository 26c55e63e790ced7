"""What a report costs: time, memory and size of its making, and how fast its page opens.

Three reports are made up and then go through what ships: "200" and "2000" gates, four of each test,
half of which are told with a history of 60 sessions; and "requests", one run of many requests with
a chunk for each token, which is reduced first. Each is made in a process of its own. Memory is
the most that was resident, in all and before the step began. Prints JSON; --keep leaves the files,
to be opened.

    python -m benchmarks.report_cost
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pytest_llmperf.gates.chronicle import history_of
from pytest_llmperf.gates.history import judge_history
from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.gates.stats import launch_summary
from pytest_llmperf.metrics.summary import reduce_pass
from pytest_llmperf.records import (
    Accelerator,
    Chunks,
    ClientHealth,
    Device,
    GateHistory,
    LaunchRecord,
    LaunchValues,
    Limit,
    Observation,
    Pass,
    RegressionGate,
    RequestRecord,
    Run,
    Verdict,
    Workload,
)
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.assembly import assemble
from pytest_llmperf.report.html import write_page
from pytest_llmperf.report.markdown import markdown
from pytest_llmperf.report.write import write_report

Made = TypeVar("Made")
CASES = {"200": 200, "2000": 2000, "requests": 0}
LAUNCHES: Final = 3
CONCURRENCY: Final = 64
SESSIONS: Final = 60
COMMENT: Final = 65_536
STARTED: Final = "2026-11-20T10:00:00+00:00"
DEVICE: Final = "made up"
CLIENT: Final = ClientHealth(
    cpu_share=0.2,
    loop_lag_ms_p99=0.4,
    loop_lag_ms_max=2.0,
    peak_rss_bytes=80 << 20,
    mean_in_flight=float(CONCURRENCY),
)
SERVER: Final = LaunchRecord(
    id="launch",
    server_id="made-up",
    launched=True,
    engine="sim",
    version="simulated",
    model="m",
    url="http://127.0.0.1:30000",
    argv=("python", "-m", "server"),
    env=(),
    args={f"argument_{number}": number for number in range(300)},
    notes=(),
    cores=None,
    started_at=STARTED,
    startup_time_s=40.0,
    log=None,
    failure=None,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=64, help="of each response")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where to leave the files")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        json.dump(cost_of(chosen), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        rows = [in_a_process(chosen, case, place) for case in CASES]
    machine = {"python": platform.python_version(), "cpu": cpu(), "cores": os.cpu_count()}
    print(json.dumps({**machine, "rows": rows}, indent=2))


def cpu() -> str:
    """The processor's name, where Linux tells it."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*:\s*(.*)", told)
    return found[1] if found else platform.processor()


def in_a_process(chosen: argparse.Namespace, case: str, place: Path) -> dict[str, Any]:
    sizes = [f"--requests={chosen.requests}", f"--tokens={chosen.tokens}", f"--keep={place}"]
    command = [sys.executable, "-m", "benchmarks.report_cost", f"--case={case}", *sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cost_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """Make one report and all that is made of it, step by step."""
    case, place, steps = chosen.case, chosen.keep, {}
    gates = CASES[case]
    if gates:
        fragments = suite_of(gates)
    else:
        pass_, workload = simulated(chosen.requests, chosen.tokens)
        steps["reduce"], run = step(lambda: reduced(pass_, workload, "launch-0"))
        fragments = [fragment("t.py::test_long", [run], workload, {})]
        del pass_
    steps["assemble"], document = step(lambda: assembled(fragments))
    files = {kind: place / f"{case}.{kind}" for kind in ("json", "html", "md")}
    steps["json"], _ = step(lambda: write_report(document, files["json"], option="-o"))
    steps["html"], _ = step(lambda: write_page(document, files["html"], option="-o"))
    steps["md"], text = step(lambda: markdown(document, limit=COMMENT))
    files["md"].write_text(text, encoding="utf-8")
    sizes = {kind: path.stat().st_size for kind, path in files.items()}
    return {"case": case, "gates": len(document["gates"]), "steps": steps, "bytes": sizes}


def step(make: Callable[[], Made]) -> tuple[dict[str, float], Made]:
    before, began, busy = peak_mib(), time.perf_counter(), time.process_time()
    made = make()
    busy, spent = time.process_time() - busy, time.perf_counter() - began
    found = {"s": round(spent, 3), "cpu_s": round(busy, 3)}
    return {**found, "peak_mib": peak_mib(), "before_mib": before}, made


def peak_mib() -> float:
    """The most that was resident so far; Linux counts it in KiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


# --- reports that are made up ----------------------------------------------------------------


def suite_of(gates: int) -> list[dict[str, Any]]:
    """One fragment for each test, as its process hands it over."""
    runs = [[run for run, _ in (made(seed, at) for at in range(LAUNCHES))] for seed in range(8)]
    workload = made(0, 0)[1]
    told = [verdicts_of(each, seed) for seed, each in enumerate(runs)]
    return [
        fragment(f"perf/test_suite.py::test_{number}", runs[number % 8], workload, told[number % 8])
        for number in range(gates // 4)
    ]


def made(seed: int, at: int) -> tuple[Run, Workload]:
    pass_, workload = simulated(200, 32, seed=10 * seed + at)
    return reduced(pass_, workload, f"launch-{at}"), workload


def reduced(pass_: Pass, workload: Workload, launch: str) -> Run:
    return reduce_pass(pass_, workload=workload, launch_id=launch, index=0, devices=1)


Told = dict[str, tuple[Verdict, GateHistory | None]]


def verdicts_of(runs: list[Run], seed: int) -> Told:
    """Two limits, and two gates with a history, of which some fail."""
    found: Told = {}
    bounds: list[tuple[Literal["floor", "ceiling"], str, float]]
    bounds = [("floor", "output_throughput", 0.9), ("ceiling", "ttft_p95", 1.1)]
    for kind, metric, share in bounds:
        values = [[run.metrics[metric]] for run in runs]
        bound = (values[0][0].value or 0) * (share if seed % 4 else 2 - share)
        limit = Limit(kind=kind, metric=metric, limit=bound, on=None, source="t.py:7")
        found[metric] = judge_limit(limit, values, device=DEVICE), None
    for metric in ("tpot_mean", "e2e_p95"):
        nights = [night(metric, runs, number, seed) for number in range(SESSIONS)]
        accepted = nights[-20:]
        verdict = judge_history(
            RegressionGate(metric=metric, loss_to_catch=0.1, allow=0.0, source="t.py:8"),
            [[run.metrics[metric]] for run in runs],
            [[launch.metrics[metric] for launch in each.launches] for each in accepted],
            alpha=0.01,
            family=1,
            device=DEVICE,
            against="the level accepted on 2026-11-01",
        )
        fresh = replace(nights[-1], id="fresh")
        found[metric] = (
            verdict,
            history_of(nights, fresh, metric, accepted, "the level of November"),
        )
    return found


def night(metric: str, runs: list[Run], number: int, seed: int) -> Observation:
    """A session near what these runs measured, with a step at a third of the nights."""
    draw = random.Random(1000 * seed + number)
    level = 1.0 if number > SESSIONS / 3 else 1.1
    values = [(run.metrics[metric].value or 1) * level * draw.gauss(1, 0.01) for run in runs]
    return Observation(
        id=f"night-{number}",
        key="key",
        created=f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T03:00:00+00:00",
        test="t.py::test_a",
        workload="w",
        environment={},
        subject={"version": f"0.5.{number // 10}"},
        block={},
        commit=f"{draw.getrandbits(160):040x}",
        dirty=False,
        launches=tuple(
            LaunchValues(
                launch_id=f"{number}-{at}", started_at=STARTED, runs=1, metrics={metric: v}
            )
            for at, v in enumerate(values)
        ),
    )


def fragment(test: str, runs: list[Run], workload: Workload, told: Told) -> dict[str, Any]:
    names = [name for name, value in runs[0].metrics.items() if value.value is not None]
    summary = {
        name: launch_summary([[run.metrics[name].value or 0.0] for run in runs], 0.99)
        for name in names
    }
    launches = [replace(SERVER, id=run.launch_id) for run in runs]
    return {
        "launches": [doc.launch_entry(launch) for launch in launches],
        "measurements": [
            doc.measurement_entry(f"of {test}", test, "made-up", workload, runs, summary)
        ],
        "gates": [doc.gate_entry(test, f"of {test}", *each) for each in told.values()],
        "tests": [doc.test_entry(test, "passed", "", 90.0)],
    }


def assembled(fragments: list[dict[str, Any]]) -> dict[str, Any]:
    device = Device(
        vendor="cpu", product=DEVICE, index=0, uuid="made-up", memory_bytes=None, details={}
    )
    environment = doc.environment_entry(
        accelerators=[Accelerator(devices=(device,), source="made up")],
        key="made-up",
        match={"vendor": "cpu"},
        context={},
        host={"hostname": "made-up"},
        python="3.12",
        packages={},
    )
    return assemble(
        fragments,
        environment=environment,
        command=["pytest"],
        seed=None,
        created=STARTED,
        complete=True,
        exit_status=10,
        tool_version="0",
    )


# --- runs that are made up -------------------------------------------------------------------


def simulated(requests: int, tokens: int, *, seed: int = 0) -> tuple[Pass, Workload]:
    """A pass of streams that keep all their slots busy: a token about every 8 ms."""
    draw = random.Random(seed)
    free = [0] * CONCURRENCY
    records = []
    for index in range(requests):
        slot = index % CONCURRENCY
        records.append(response(index, free[slot], tokens, draw))
        free[slot] = records[-1].ended_ns + 100_000
    pass_ = Pass(seed=seed, started_at=STARTED, started_ns=0, records=tuple(records), client=CLIENT)
    workload = Workload(
        name="chat",
        input_tokens=512,
        output_tokens=tokens,
        concurrency=CONCURRENCY,
        requests=requests,
        warmup_requests=CONCURRENCY,
        runs=1,
    )
    return pass_, workload


def response(index: int, begin: int, tokens: int, draw: random.Random) -> RequestRecord:
    first = begin + int(draw.gauss(60e6, 8e6))
    gap = int(draw.gauss(8e6, 3e5))
    at = array("q", range(first, first + gap * tokens, gap))
    return RequestRecord(
        index=index,
        written_ns=begin,
        ended_ns=at[-1] + 50_000,
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=512,
        cached_tokens=0,
        output_tokens=tokens,
        reasoning_tokens=None,
        token_source="usage",  # noqa: S106 - it is no password
        chunks=Chunks(
            memoryview(at),
            memoryview(array("i", range(1, tokens + 1))),
            memoryview(array("i", [5]) * tokens),
            memoryview(b"\x02" * tokens),
        ),
        asked_input=512,
        asked_output=tokens,
    )


if __name__ == "__main__":
    main()
