"""Servers over Ray: what engines are told, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from pytest_llmperf.engines.over_ray import (
    CAUSES,
    LABEL,
    SETUP,
    check_engine,
    environment,
    ray_flags,
    refuse_own,
    without_ray,
)
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.engines.vllm import VLLM
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.diagnose import diagnose, is_final
from pytest_llmperf.records import Accelerator, Device, Placement, ServerRequest
from pytest_llmperf.redact import HIDDEN, redact_env

CPU = Device(vendor="cpu", product="AMD EPYC", index=0, uuid="")
GPU = Device(vendor="nvidia", product="NVIDIA H100", index=0, uuid="GPU-1")


def placement() -> Placement:
    return Placement(
        host="127.0.0.1",
        port=30000,
        accelerator=Accelerator(devices=(GPU,) * 8, source="nvml"),
        model_path="/models/r1",
        served_name="r1",
        python="python",
    )


def request(engine: str, **more: object) -> ServerRequest:
    said = {"engine": engine, "model": "r1", "ray": "auto", **more}
    return ServerRequest(**said)  # type: ignore[arg-type]


def test_sglang_is_told_of_ray_and_of_how_many_nodes() -> None:
    plan = SGLang({}).plan(request("sglang", nodes=2, args=("--tp", "16")), placement())
    words = " ".join(plan.argv)
    assert "--use-ray --nnodes 2" in words
    assert "--node-rank" not in words
    assert "--dist-init-addr" not in words
    assert plan.causes[: len(CAUSES)] == CAUSES


def test_without_ray_nothing_is_said_of_it() -> None:
    plan = SGLang({}).plan(request("sglang", ray=None), placement())
    assert "ray" not in " ".join(plan.argv)
    assert not set(CAUSES) & set(plan.causes)


def test_a_rank_that_stays_without_serving_ends_the_wait() -> None:
    """As SGLang 0.5.23 logs it, in ``srt/ray/scheduler_actor.py``; Ray's colours are gone."""
    line = "(SchedulerActor pid=459) [2026-11-23 DP0 TP0] Scheduler PP0 TP0 crashed: no driver"
    plan = SGLang({}).plan(request("sglang"), placement())
    assert is_final([line], plan.causes)
    assert "takes no requests any more (it logged:" in diagnose([line], None, plan.causes).cause
    assert not is_final([line], SGLang({}).plan(request("sglang", ray=None), placement()).causes)


def test_what_a_processor_needs_is_called_in_each_process_that_ray_starts() -> None:
    cpu = replace(placement(), accelerator=Accelerator(devices=(CPU,), source="/proc"))
    env = dict(SGLang({}).plan(request("sglang"), cpu).env)
    assert env[SETUP] == "llmperf_sglang_cpu.register"
    told = environment("10.0.0.1:6379", env, "label-1")["RAY_JOB_CONFIG_JSON_ENV_VAR"]
    job = json.loads(told)
    assert job["runtime_env"]["worker_process_setup_hook"] == env[SETUP]
    assert SETUP not in dict(SGLang({}).plan(request("sglang", ray=None), cpu).env)
    assert SETUP not in dict(SGLang({}).plan(request("sglang"), placement()).env)


def test_vllm_places_its_ranks_itself() -> None:
    plan = VLLM({}).plan(request("vllm", nodes=2, args=("-tp", "16")), placement())
    words = " ".join(plan.argv)
    assert "--distributed-executor-backend ray" in words
    assert "nnodes" not in words
    assert plan.causes[: len(CAUSES)] == CAUSES


@pytest.mark.parametrize(
    ("engine", "args"),
    [
        ("sglang", ("--use-ray",)),
        ("vllm", ("--distributed-executor-backend", "ray")),
        ("vllm", ("--distributed-executor-backend=ray",)),
    ],
)
def test_ray_in_args_is_refused_for_it_would_start_a_cluster(
    engine: str, args: tuple[str, ...]
) -> None:
    with pytest.raises(UsageMistake, match='say where the cluster is with ray="auto"'):
        refuse_own(engine, args)


def test_another_executor_is_no_matter_of_ours() -> None:
    refuse_own("vllm", ("--distributed-executor-backend", "mp"))


def test_how_it_is_spread_is_read_without_ray() -> None:
    words = ("--tp", "8", "--distributed-executor-backend", "ray", "--x")
    assert without_ray("vllm", words) == ("--tp", "8", "--x")
    assert without_ray("sglang", ("--use-ray", "--tp", "2")) == ("--tp", "2")


def test_other_engines_do_not_know_ray() -> None:
    with pytest.raises(UsageMistake, match="only sglang and vllm run their ranks in a Ray cluster"):
        check_engine("llamacpp", "llm_server('llamacpp', ray='auto')")
    check_engine("sglang", "")


def test_a_server_finds_its_cluster_and_its_workers_their_variables() -> None:
    env = environment("10.0.0.1:6379", {"HF_TOKEN": "hf_abc", "OMP_NUM_THREADS": "1"}, "label-1")
    assert env["RAY_ADDRESS"] == "10.0.0.1:6379"
    job = json.loads(env["RAY_JOB_CONFIG_JSON_ENV_VAR"])
    assert job["runtime_env"] == {"env_vars": {"HF_TOKEN": "hf_abc", "OMP_NUM_THREADS": "1"}}
    assert job["metadata"] == {LABEL: "label-1"}


def test_what_workers_are_told_is_not_shown() -> None:
    env = environment("10.0.0.1:6379", {"HF_TOKEN": "hf_abc"}, "label-1")
    shown = dict(redact_env(tuple(env.items())))
    assert shown["RAY_JOB_CONFIG_JSON_ENV_VAR"] == HIDDEN
    assert shown["RAY_ADDRESS"] == "10.0.0.1:6379"


def test_ray_is_not_said_where_it_is_not_asked_for() -> None:
    assert ray_flags(request("sglang", ray=None)) == ()


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            "ImportError: Ray is required for --use-ray mode. Install it with: pip install ...",
            "the server's own environment has no Ray",
        ),
        (
            "RuntimeError: Version mismatch: The cluster was started with:",
            "the server's environment and the cluster differ in their Ray or Python",
        ),
        (
            "RuntimeError: Engine node 10.0.0.1 not found in any placement group bundle [...]",
            "Ray placed no rank on this machine, where the server's first has to be",
        ),
        (
            "The actor died because its node has died. Node Id: 0011",
            "a node of the cluster died under one of the server's ranks",
        ),
    ],
)
def test_what_the_log_says_of_ray_is_told_in_words(line: str, cause: str) -> None:
    told = next(each for each in CAUSES if re.search(each.pattern, line))
    assert told.cause == cause
