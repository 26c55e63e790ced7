"""A gate made to fail on real engines, and the trace that their own profiler leaves of it."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SUITE = """
import pytest

@pytest.mark.llm_server({engine!r}, model={model!r}, python={python!r}, accelerator="cpu")
@pytest.mark.llm_workload("chat", input_tokens=48, output_tokens=24, concurrency=4, requests=20,
                          runs=1)
@pytest.mark.llm_floor(output_throughput="100000000 tok/s")
def test_made_to_fail(llm_perf):
    llm_perf.run()
"""


def profiled(pytester: pytest.Pytester, **server: str) -> tuple[dict[str, Any], Counter[str]]:
    """The one profile of the report, and how often each kind of event is in its one trace."""
    pytester.makepyfile(test_it=SUITE.format(**server))
    result = pytester.runpytest_subprocess(
        "--llmperf-report=out/r.json", "--llmperf-html=out/r.html", "--llmperf-profile-on-fail"
    )
    result.assert_outcomes(failed=1)
    assert result.ret == 10
    out = pytester.path / "out"
    report = json.loads((out / "r.json").read_text())
    assert report["counts"]["launches"] == 1
    assert [run["requests"]["sent"] for run in report["measurements"][0]["runs"]] == [20]
    (found,) = report["profiles"]
    assert found["reason"] == ""
    (path,) = found["traces"]
    assert path in (out / "r.html").read_text()
    return found, kinds(out / path)


def kinds(path: Path) -> Counter[str]:
    with gzip.open(path, "rt") as file:
        events = json.load(file)["traceEvents"]
    counted = Counter(str(event.get("cat")) for event in events)
    counted["steps"] = sum("step[" in str(event.get("name")) for event in events)
    return counted


@pytest.mark.usefixtures("sglang")
def test_sglang_is_profiled_on_the_launch_that_failed(pytester: pytest.Pytester) -> None:
    found, events = profiled(pytester, engine="sglang", model="tiny-r1", python=sys.executable)
    assert not found["own_launch"]
    assert events["cpu_op"] > 1000
    assert events["python_function"] > 1000
    # As many as were asked for, and not those of all that was sent.
    assert 20 <= events["steps"] <= 64
    assert not events["kernel"]  # a GPU was not asked for


def test_vllm_is_profiled_on_a_launch_of_its_own(pytester: pytest.Pytester) -> None:
    python = os.environ.get("LLMPERF_VLLM_PYTHON")
    if not python:
        pytest.skip("LLMPERF_VLLM_PYTHON does not name an interpreter")
    model = "tiny-r1-distill-qwen"
    found, events = profiled(pytester, engine="vllm", model=model, python=python)
    assert found["own_launch"]
    assert events["cpu_op"] > 1000
