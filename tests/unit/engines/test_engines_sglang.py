from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.engines.sglang_cpu import SERVER_PATH
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Accelerator,
    Device,
    Json,
    LaunchPlan,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="sglang", model="m")
R1 = "deepseek-ai/DeepSeek-R1-0528"


def placement(
    vendor: Vendor = "cpu", model: str = "/models/x", served: str = "tiny-r1"
) -> Placement:
    device = Device(vendor=vendor, product="p", index=0, uuid="u")
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=(device,), source="override"),
        model_path=model,
        served_name=served,
        python="/opt/python",
        cores=(2, 3),
    )


def plan(
    place: Placement | None = None,
    request: ServerRequest = REQUEST,
    environ: dict[str, str] | None = None,
) -> LaunchPlan:
    return SGLang(environ or {}).plan(request, place or placement())


def value(argv: tuple[str, ...], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_the_command_names_model_and_address() -> None:
    argv = plan().argv
    assert argv[:3] == ("/opt/python", "-m", "sglang.launch_server")
    assert value(argv, "--model-path") == "/models/x"
    assert value(argv, "--served-model-name") == "tiny-r1"
    assert value(argv, "--host") == "127.0.0.1"
    assert value(argv, "--port") == "31000"


def test_a_cpu_gets_the_recipe_for_cpus() -> None:
    made = plan(environ={"PYTHONPATH": "/theirs"})
    assert value(made.argv, "--device") == "cpu"
    assert value(made.argv, "--attention-backend") == "torch_native"
    env = dict(made.env)
    assert env["SGLANG_USE_CPU_ENGINE"] == "1"
    assert env["PYTHONPATH"].split(os.pathsep) == [str(SERVER_PATH), "/theirs"]
    assert made.notes
    assert made.cores == (2, 3)


@pytest.mark.parametrize(
    ("vendor", "flag", "expected"),
    [
        ("nvidia", "--attention-backend", "triton"),
        ("amd", "--attention-backend", "triton"),
        ("ascend", "--device", "npu"),
        ("intel", "--device", "xpu"),
    ],
)
def test_a_tiny_model_on_an_accelerator(vendor: Vendor, flag: str, expected: str) -> None:
    made = plan(placement(vendor))
    assert value(made.argv, flag) == expected
    assert "PYTHONPATH" not in dict(made.env)
    assert "OMP_NUM_THREADS" not in dict(made.env)
    assert made.notes == ()


def test_kernels_are_left_to_sglang_for_real_models() -> None:
    argv = plan(placement("nvidia", R1, R1)).argv
    assert "--attention-backend" not in argv
    assert "--device" not in argv


@pytest.mark.parametrize(
    ("served", "parses"),
    [
        (R1, True),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", True),
        ("tiny-r1", True),
        ("Qwen/Qwen2.5-7B-Instruct", False),
        ("somebody/super1", False),
    ],
)
def test_the_thoughts_of_r1_are_parsed(served: str, parses: bool) -> None:
    argv = plan(placement("nvidia", served, served)).argv
    assert ("--reasoning-parser" in argv) is parses


@pytest.mark.parametrize(
    "spelling", [("--reasoning-parser", "qwen3"), ("--reasoning-parser=qwen3",)]
)
def test_the_users_flags_win(spelling: tuple[str, ...]) -> None:
    argv = plan(request=replace(REQUEST, args=spelling)).argv
    assert "deepseek-r1" not in argv
    assert argv[-len(spelling) :] == spelling


def test_the_users_environment_wins() -> None:
    request = replace(REQUEST, env=(("OMP_NUM_THREADS", "7"), ("PYTHONPATH", "/mine")))
    env = dict(plan(request=request, environ={"PYTHONPATH": "/theirs"}).env)
    assert env["OMP_NUM_THREADS"] == "7"
    assert env["PYTHONPATH"].split(os.pathsep) == [str(SERVER_PATH), "/mine"]


@pytest.mark.parametrize("flag", ["--port", "--host", "--model-path", "--served-model-name"])
def test_address_and_model_are_not_for_args(flag: str) -> None:
    with pytest.raises(UsageMistake, match=f"{flag} cannot stand in args="):
        plan(request=replace(REQUEST, args=(flag, "x")))
    with pytest.raises(UsageMistake, match="cannot stand in args="):
        plan(request=replace(REQUEST, args=(flag[:-1], "x")))


def test_only_local_directories_keep_the_hub_away() -> None:
    assert dict(plan().env)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in dict(plan(placement("nvidia", R1, R1)).env)


@pytest.mark.parametrize(
    ("served", "low", "high"),
    [
        ("tiny-r1", 120, 900),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 600, 620),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 900, 930),
        (R1, 3600, 3700),
        ("some/model", 1800, 1800),
        ("some/model-v2b", 1800, 1800),
    ],
)
def test_the_time_to_start_grows_with_the_model(served: str, low: float, high: float) -> None:
    assert low <= plan(placement("nvidia", served, served)).start_timeout_s <= high


def test_the_users_time_limit_is_taken_as_it_is() -> None:
    assert plan(request=replace(REQUEST, timeout_s=12.5)).start_timeout_s == 12.5


def test_a_server_may_keep_bytecode_where_python_may_not() -> None:
    env = dict(plan(environ={"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/home/me"}).env)
    assert env["PYTHONDONTWRITEBYTECODE"] == ""
    assert env["PYTHONPYCACHEPREFIX"] == "/home/me/.cache/pytest-llmperf/bytecode"
    elsewhere = {"PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": "/cache"}
    assert dict(plan(environ=elsewhere).env)["PYTHONPYCACHEPREFIX"].startswith("/cache/")


@pytest.mark.parametrize("environ", [{"HOME": "/h"}, {"PYTHONDONTWRITEBYTECODE": "1"}])
def test_bytecode_is_left_to_python_otherwise(environ: dict[str, str]) -> None:
    assert "PYTHONPYCACHEPREFIX" not in dict(plan(environ=environ).env)


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (4, "2"), (32, "30")])
def test_threads_of_a_real_model_leave_cores_to_others(cores: int, threads: str) -> None:
    place = replace(placement(served="distill-1.5B"), cores=tuple(range(cores)))
    assert dict(plan(place).env)["OMP_NUM_THREADS"] == threads


def test_threads_are_left_alone_where_no_cores_are_given() -> None:
    free = replace(placement(served="distill-1.5B"), cores=None)
    assert "OMP_NUM_THREADS" not in dict(plan(free).env)


# As SGLang 0.5.23 answers, cut down.
INFO: dict[str, Json] = {
    "model_path": "/models/x",
    "served_model_name": "tiny-r1",
    "host": "127.0.0.1",
    "port": 31000,
    "api_key": "hush",
    "admin_api_key": None,
    "ssl_keyfile_password": None,
    "launch_command": "--model-path /models/x --api-key hush --admin-api-key=hush --port 31000",
    "max_total_num_tokens": 65536,
    "max_req_input_len": 32762,
    "internal_states": [{"api_key": "hush", "last_gen_throughput": 1.0}],
    "version": "0.5.23",
}
ANSWERS: dict[str, Json] = {
    "/server_info": INFO,
    "/model_info": {"model_path": "/models/x", "served_model_name": "tiny-r1"},
    "/v1/models": {"object": "list", "data": [{"id": "tiny-r1", "max_model_len": 32768}]},
}


def test_it_is_known_by_its_own_words() -> None:
    who = SGLang({}).identify(ANSWERS)
    assert (who.engine, who.version, who.model) == ("sglang", "0.5.23", "tiny-r1")
    assert who.max_context_tokens == 32768
    assert SGLang({}).mismatch(who, placement()) is None


def test_the_context_ends_where_the_cache_does() -> None:
    small = {**ANSWERS, "/server_info": {**INFO, "max_total_num_tokens": 2048}}
    assert SGLang({}).identify(small).max_context_tokens == 2048


def test_secrets_are_not_told() -> None:
    args = SGLang({}).identify(ANSWERS).args
    assert "hush" not in repr(args)
    assert args["launch_command"] == (
        "--model-path /models/x --api-key *** --admin-api-key=*** --port 31000"
    )


@pytest.mark.parametrize("answers", [{}, {"/server_info": []}, {"/server_info": None}])
def test_a_stranger_is_found_out(answers: dict[str, Json]) -> None:
    engine = SGLang({})
    told = engine.mismatch(engine.identify(answers), placement())
    assert told is not None
    assert told.startswith("the server that answers on 127.0.0.1:31000 is not the SGLang")


@pytest.mark.parametrize(
    ("key", "found"), [("model_path", "/models/y"), ("port", 30000), ("served_model_name", "z")]
)
def test_another_sglang_is_found_out(key: str, found: Json) -> None:
    engine = SGLang({})
    who = engine.identify({**ANSWERS, "/server_info": {**INFO, key: found}})
    told = engine.mismatch(who, placement())
    assert told is not None
    assert f"its {key} is {found!r}, not " in told


def test_the_length_of_answers_is_fixed() -> None:
    assert SGLang({}).exact_length == {"ignore_eos": True}
