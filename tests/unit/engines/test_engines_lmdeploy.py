"""LMDeploy's plan; its answers are in test_engines_recorded.py."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_llmperf.engines.lmdeploy import LMDeploy
from pytest_llmperf.engines.lmdeploy_logs import CAUSES, PROGRESS
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="lmdeploy", model="m")
DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"


def placement(vendor: Vendor = "nvidia", model: str = DISTILL, count: int = 1) -> Placement:
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
        cores=(2, 3),
    )


def plan(place: Placement | None = None, *args: str) -> LaunchPlan:
    return LMDeploy().plan(replace(REQUEST, args=args), place or placement())


def value(argv: tuple[str, ...], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_the_command_names_model_and_address() -> None:
    made = plan()
    assert made.argv[:6] == ("/opt/python", "-m", "lmdeploy", "serve", "api_server", DISTILL)
    assert value(made.argv, "--model-name") == DISTILL
    assert value(made.argv, "--server-name") == "127.0.0.1"
    assert value(made.argv, "--server-port") == "31000"
    assert (made.ready.path, made.ready.status) == ("/health", 200)
    assert made.cores == (2, 3)


@pytest.mark.parametrize(
    ("model", "parses"),
    [
        (DISTILL, True),
        ("deepseek-ai/DeepSeek-R1-0528", True),
        ("tiny-r1", True),
        ("Qwen/Qwen2.5-7B-Instruct", False),
    ],
)
def test_the_thoughts_of_r1_are_parsed(model: str, parses: bool) -> None:
    argv = plan(placement(model=model)).argv
    assert ("--reasoning-parser" in argv) is parses


def test_r1_is_spread_over_all_devices() -> None:
    made = plan(placement(model="deepseek-ai/DeepSeek-R1-0528", count=8))
    assert value(made.argv, "--tp") == "8"
    assert value(made.argv, "--backend") == "pytorch"
    assert made.recipe is not None


def test_ascend_is_named() -> None:
    argv = plan(placement("ascend")).argv
    assert value(argv, "--device") == "ascend"
    assert value(argv, "--backend") == "pytorch"


@pytest.mark.parametrize("vendor", ["cpu", "amd", "intel"])
def test_devices_without_a_build_are_told_with_engines_that_have_one(vendor: Vendor) -> None:
    with pytest.raises(UsageMistake, match=r'"lmdeploy" has no build for .* take .*"sglang"'):
        plan(placement(vendor))


@pytest.mark.parametrize("words", [("--reasoning_parser", "qwen-qwq"), ("--reasoning-parser=x",)])
def test_the_users_flags_win(words: tuple[str, ...]) -> None:
    argv = plan(None, *words).argv
    assert "deepseek-r1" not in argv
    assert argv[-len(words) :] == words


def test_the_users_environment_wins() -> None:
    request = replace(REQUEST, env=(("PYTHONUNBUFFERED", "0"),))
    assert ("PYTHONUNBUFFERED", "0") in LMDeploy().plan(request, placement()).env


@pytest.mark.parametrize(
    "flag", ["--server-port", "--server_name", "--model-name", "--api-keys", "--ssl", "--proxy-url"]
)
def test_address_and_model_are_not_for_args(flag: str) -> None:
    shown = flag.replace("_", "-")
    with pytest.raises(UsageMistake, match=f"{shown} cannot stand in args="):
        plan(None, flag, "x")
    with pytest.raises(UsageMistake, match=f"{shown} cannot stand in args="):
        plan(None, flag[:-1], "x")


def test_a_cache_that_cannot_be_emptied_is_told() -> None:
    assert plan().notes == ()
    assert "empties its cache" in plan(None, "--enable-prefix-caching").notes[0]


def test_only_local_directories_keep_the_hub_away() -> None:
    assert ("HF_HUB_OFFLINE", "1") in plan(placement(model="/models/x")).env
    assert "HF_HUB_OFFLINE" not in dict(plan().env)


def test_another_server_is_told_from_ours() -> None:
    engine, place = LMDeploy(), placement()
    other = engine.identify({"/v1/models": {"data": [{"id": DISTILL, "owned_by": "sglang"}]}})
    assert "is not LMDeploy: it says it is 'sglang'" in str(engine.mismatch(other, place))
    elsewhere = engine.identify({"/v1/models": {"data": [{"id": "m", "owned_by": "lmdeploy"}]}})
    assert "it serves 'm', not" in str(engine.mismatch(elsewhere, place))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("/opt/python: No module named lmdeploy", "not installed"),
        ("lmdeploy: error: unrecognized arguments: --foo", "command line"),
        ("lmdeploy serve api_server: error: argument --tp: invalid int value: 'x'", "command line"),
        ("ValueError: The reasoning parser x is not in the parser list: dict_keys([])", "parser"),
        ("[Errno 98] error while attempting to bind on address ('127.0.0.1', 1)", "port"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "gated"),
        ("RuntimeError: No enough gpu memory for kv cache.", "key-value cache"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out of memory"),
        ("<CUDA> check failed!", "no NVIDIA device"),
        ("ERROR - ModuleNotFoundError: No module named 'dlinfer'", "package that brings"),
        ("<Model> check failed!", "does not describe a model"),
        ("ImportError: libcuda.so.1: cannot open shared object file", "driver"),
        ("ModuleNotFoundError: No module named 'fastapi'", "Python package"),
        ("<Dist> check failed!", "check of its surroundings"),
    ],
)
def test_causes(line: str, cause: str) -> None:
    found = next(each for each in CAUSES if re.search(each.pattern, line))
    assert cause in found.cause


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Fetching 12 files:  50%|#####     | 6/12 [00:01<00:01]", "downloading files (6/12)"),
        (
            "Loading weights from safetensors:  25%|##    | 1/4 [00:00<00:02,  1.2it/s]",
            "loading weights (1/4 files)",
        ),
        (
            "Loading:  50%|#####     | 16/32 [00:03<00:03,  5.0it/s]",
            "loading weights (16/32 layers)",
        ),
        ("HINT:    Please open \x1b[93m\x1b[1mhttp://127.0.0.1:1\x1b[0m in", "the model is loaded"),
    ],
)
def test_progress(line: str, text: str) -> None:
    match, told = next(
        (match, each) for each in PROGRESS if (match := re.search(each.pattern, line))
    )
    assert match.expand(told.text) == text
