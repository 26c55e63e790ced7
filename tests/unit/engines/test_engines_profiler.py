"""What engines say of their profilers; the words are those of SGLang 0.5.23 and vLLM 0.32.0."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.engines import resolve, vllm
from pytest_llmperf.engines.base import extras_of
from pytest_llmperf.engines.profiler import SGLANG, STEPS, VLLM
from pytest_llmperf.engines.registry import BUILT_IN
from pytest_llmperf.records import Accelerator, Device, Placement, ServerRequest, Vendor

CPU = Accelerator(
    devices=(Device(vendor="cpu", product="p", index=0, uuid="u"),), source="override"
)
PLACE = Placement(
    host="127.0.0.1",
    port=31000,
    accelerator=CPU,
    model_path="/models/x",
    served_name="m",
    python="/opt/python",
)


@pytest.mark.parametrize(
    ("vendor", "activities"),
    [
        ("cpu", ["CPU"]),
        ("nvidia", ["CPU", "GPU"]),
        ("amd", ["CPU", "GPU"]),
        ("ascend", ["CPU", "GPU"]),
        ("intel", ["CPU", "XPU"]),
    ],
)
def test_sglang_is_asked_for_what_the_device_has(vendor: Vendor, activities: list[str]) -> None:
    assert SGLANG.body is not None
    asked = SGLANG.body(Path("/there"), vendor)
    assert asked == {"output_dir": "/there", "num_steps": STEPS, "activities": activities}


def test_vllm_has_a_profiler_in_launches_that_are_there_for_it_alone() -> None:
    request = ServerRequest(engine="vllm", model="m")
    usual = vllm.VLLM({}).plan(request, PLACE)
    assert "--profiler-config" not in usual.argv
    told = vllm.VLLM({}).plan(request, replace(PLACE, profiles=Path("/there")))
    at = told.argv.index("--profiler-config")
    config = json.loads(told.argv[at + 1])
    assert config["torch_profiler_dir"] == "/there"
    assert config["max_iterations"] == STEPS
    assert config["ignore_frontend"] is True
    assert (*told.argv[:at], *told.argv[at + 2 :]) == usual.argv
    assert told.env == usual.env


def test_what_the_user_configured_goes_first() -> None:
    theirs = ("--profiler-config", '{"profiler": "cuda"}')
    request = ServerRequest(engine="vllm", model="m", args=theirs)
    told = vllm.VLLM({}).plan(request, replace(PLACE, profiles=Path("/there")))
    assert told.argv.count("--profiler-config") == 1
    assert told.argv[-2:] == theirs


def test_the_others_have_none() -> None:
    having = {name for name in BUILT_IN if extras_of(resolve(name)).profiler is not None}
    assert having == {"sglang", "vllm"}


@pytest.mark.parametrize("pattern", VLLM.traces)
def test_a_table_beside_the_traces_is_none_of_them(pattern: str) -> None:
    assert not Path("profiler_out_0.txt").match(pattern)
    assert Path("rank0.1767225600.pt.trace.json.gz").match("*.pt.trace.json.gz")
