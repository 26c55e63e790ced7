"""TensorRT-LLM's plan; its answers are in test_engines_recorded.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.engines.parallel import parallel_of
from pytest_llmperf.engines.tensorrt_llm import TensorRTLLM
from pytest_llmperf.engines.tensorrt_llm_logs import CAUSES, PROGRESS
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="tensorrt-llm", model="m")
R1 = "deepseek-ai/DeepSeek-R1-0528"


def placement(vendor: Vendor = "nvidia", model: str = R1, count: int = 8) -> Placement:
    devices = tuple(
        Device(vendor=vendor, product="NVIDIA H200", index=number, uuid=f"u{number}")
        for number in range(count)
    )
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=devices, source="override"),
        model_path=model,
        served_name=model,
        python="/opt/python",
        scratch=Path("/scratch"),
    )


def plan(
    place: Placement | None = None, *args: str, environ: dict[str, str] | None = None
) -> LaunchPlan:
    return TensorRTLLM(environ or {}).plan(replace(REQUEST, args=args), place or placement())


def value(argv: tuple[str, ...], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_the_command_names_model_and_address() -> None:
    made = plan()
    assert made.argv[:5] == ("/opt/python", "-m", "tensorrt_llm.commands.serve", "serve", R1)
    assert value(made.argv, "--host") == "127.0.0.1"
    assert value(made.argv, "--port") == "31000"
    assert value(made.argv, "--reasoning_parser") == "deepseek-r1"
    assert value(made.argv, "--tp_size") == "8"
    assert made.ready.path == "/health"


def test_blocks_are_not_used_again() -> None:
    made = plan()
    ((path, text),) = made.files
    assert value(made.argv, "--extra_llm_api_options") == str(path)
    assert path == Path("/scratch/pytest-llmperf-tensorrt-llm-31000.yaml")
    assert text == "kv_cache_config:\n  enable_block_reuse: false\n"
    assert "enable_block_reuse" in made.notes[0]


@pytest.mark.parametrize(
    "words",
    [
        ("--kv_cache_free_gpu_memory_fraction", "0.7"),
        ("--free_gpu_memory_fraction=0.7",),
        ("--free_gpu_memory_fraction", "0.5", "--kv_cache_free_gpu_memory_fraction=0.7"),
    ],
)
def test_the_file_repeats_what_it_would_replace(words: tuple[str, ...]) -> None:
    ((_, text),) = plan(None, *words).files
    assert text.endswith("\n  free_gpu_memory_fraction: 0.7\n")


@pytest.mark.parametrize("flag", ["--extra_llm_api_options", "--config"])
def test_the_users_own_file_wins_and_is_told(flag: str) -> None:
    made = plan(None, flag, "/mine.yaml")
    assert made.files == ()
    assert [word for word in made.argv if word.endswith(".yaml")] == ["/mine.yaml"]
    assert "no call that empties the cache" in made.notes[0]


@pytest.mark.parametrize("words", [("--reasoning_parser", "qwen3"), ("--reasoning-parser=qwen3",)])
def test_the_users_flags_win_however_they_are_spelt(words: tuple[str, ...]) -> None:
    argv = plan(None, *words).argv
    assert "deepseek-r1" not in argv
    assert argv[-len(words) :] == words


def test_the_users_spreading_wins() -> None:
    argv = plan(None, "--tensor_parallel_size", "4").argv
    assert "--tp_size" not in argv


def test_how_it_is_spread_is_told_unless_a_file_of_the_user_may_say_it() -> None:
    ours = parallel_of("tensorrt-llm", plan().argv)
    assert ours is not None
    assert ours.devices == 8
    made = plan(None, "--tp_size", "4", "--config", "mine.yaml")
    assert parallel_of("tensorrt-llm", made.argv) is None


@pytest.mark.parametrize("flag", ["--host", "--port", "--grpc", "--server_role"])
def test_address_and_roles_are_not_for_args(flag: str) -> None:
    shown = flag.replace("_", "-")
    with pytest.raises(UsageMistake, match=f"{shown} cannot stand in args="):
        plan(None, flag, "x")


@pytest.mark.parametrize("vendor", ["cpu", "amd", "ascend"])
def test_devices_without_a_build_are_told_with_engines_that_have_one(vendor: Vendor) -> None:
    with pytest.raises(UsageMistake, match=r'"tensorrt-llm" has no build for .* take .*"sglang"'):
        plan(placement(vendor))


def test_mpirun_stands_before_it_on_a_node_of_slurm_only() -> None:
    on_slurm = plan(environ={"SLURM_JOB_ID": "7"})
    assert on_slurm.argv[:5] == ("mpirun", "-n", "1", "--oversubscribe", "--allow-run-as-root")
    assert on_slurm.notes[-1] == "started under mpirun, as on a node of Slurm"
    assert plan().argv[0] == "/opt/python"
    # Inside a container the node's variables are not seen.
    inside = replace(placement(), environ={})
    assert plan(inside, environ={"SLURM_JOB_ID": "7"}).argv[0] == "/opt/python"


def test_workers_talk_over_loopback_unless_told_otherwise() -> None:
    assert dict(plan().env)["OMPI_MCA_btl_tcp_if_include"] == "lo"
    request = replace(REQUEST, env=(("OMPI_MCA_btl_tcp_if_include", "eth0"),))
    made = TensorRTLLM({}).plan(request, placement())
    assert dict(made.env)["OMPI_MCA_btl_tcp_if_include"] == "eth0"


@pytest.mark.parametrize(
    ("model", "told", "ours"),
    [
        (R1, R1, True),
        (R1, "DeepSeek-R1-0528", False),
        ("/models/DeepSeek-R1-0528", "DeepSeek-R1-0528", True),
        ("/models/DeepSeek-R1-0528", "/models/DeepSeek-R1-0528", False),
        (R1, None, False),
    ],
)
def test_models_go_by_the_name_of_their_directory(model: str, told: str, ours: bool) -> None:
    engine = TensorRTLLM({})
    identity = engine.identify({"/v1/models": {"data": [{"id": told}]}})
    assert (engine.mismatch(identity, placement(model=model)) is None) is ours


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("/opt/python: No module named tensorrt_llm", "not installed"),
        ("Error: No such option: --tp (Possible options: --tp_size)", "command line"),
        ("Error: Invalid value for '--reasoning_parser': 'x' is not one of", "command line"),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for TorchLlmArgs",
            "file",
        ),
        ("RuntimeError: Failed to bind socket to 127.0.0.1:8000: [Errno 98] Address", "port"),
        ("ValueError: No GPU devices found on the node", "no NVIDIA device"),
        ("RuntimeError: Only 4 GPUs are available, but 8 are required.", "fewer devices"),
        ("RuntimeError: No weight files found in /m.", "no usable weights"),
        ("Executor creation failed due to insufficient GPU memory.", "out of memory"),
        ("There are not enough slots available in the system", "MPI"),
        ("could not execute 'mpirun': [Errno 2] No such file", "mpirun is not here"),
        ("ImportError: libmpi.so.40: cannot open shared object file", "library"),
        ("RuntimeError: Executor worker died during initialization", "workers crashed"),
    ],
)
def test_causes(line: str, cause: str) -> None:
    found = next(each for each in CAUSES if re.search(each.pattern, line))
    assert cause in found.cause


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[TRT-LLM] [I] start MpiSession with 8 workers", "starting 8 workers"),
        (
            "[TRT-LLM] [RANK 0] [I] Prefetching 688.59GB checkpoint files.",
            "reading weights (688.59 GB)",
        ),
        (
            "Loading safetensors weights in parallel:  50%|##   | 8/16 [00:01<00:01]",
            "loading weights (8/16 files)",
        ),
        (
            "[I] Run generation-only CUDA graph warmup for batch size=64, draft_len=0, max_seq",
            "capturing graphs (batch of 64)",
        ),
        ("[I] Estimated max memory in KV cache : 41.20 GiB", "key-value cache of 41.20 GiB"),
    ],
)
def test_progress(line: str, text: str) -> None:
    match, told = next(
        (match, each) for each in PROGRESS if (match := re.search(each.pattern, line))
    )
    assert match.expand(told.text) == text
