"""The patterns, tried on lines that SGLang 0.5.23 wrote."""

from __future__ import annotations

import re

import pytest

from pytest_llmperf.engines.sglang_logs import CAUSES, PROGRESS

STAMP = "[2026-11-22 03:53:47] "


def cause_of(*lines: str) -> str | None:
    found = (c.cause for c in CAUSES for line in lines if re.search(c.pattern, line))
    return next(found, None)


def progress_at(line: str) -> str | None:
    for step in PROGRESS:
        if match := re.search(step.pattern, line):
            return match.expand(step.text)
    return None


SEEN = [
    (
        "OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/nothere'.",
        "there is no such model",
    ),
    (
        "ValueError: Unrecognized model in /empty. Should have a `model_type` key in its "
        "config.json.",
        "does not describe a model",
    ),
    (
        "RuntimeError: Cannot find any model weights with `/noweights`",
        "holds no usable weights",
    ),
    (
        "OSError: We couldn't connect to 'https://hub' to load the files, and couldn't find them "
        "in the cached files.",
        "not on this machine and the hub could not be reached",
    ),
    (
        "sglang serve: error: unrecognized arguments: --no-such-flag 1",
        "does not accept its command line",
    ),
    (
        "sglang serve: error: argument --attention-backend: invalid choice: 'nonsense'",
        "does not accept its command line",
    ),
    ("ModuleNotFoundError: No module named 'vllm'", "a Python package that SGLang needs"),
    # srt/utils/numa_utils.py, init_threads_binding
    (
        "AssertionError: SGLANG_CPU_OMP_THREADS_BIND is not set, in this case, the total number of "
        "ranks (dp_size * tp_size * pp_size = 2) should be smaller than or equal to number of numa "
        "node on the machine 1. If you need more ranks than the number of numa nodes, please set",
        "wants a NUMA node for each rank",
    ),
    (
        "AssertionError: NUMA index 2 (derived from the worker's global device id / gpu_id) is out "
        "of range for 2 SGLANG_CPU_OMP_THREADS_BIND entries. Ensure the number of '|'-separated",
        "wants a NUMA node for each rank",
    ),
    (
        "AssertionError: NUMA index 1 (derived from the worker's global device id / gpu_id) is out "
        "of range for 1 numa nodes. This usually means dp_size * tp_size exceeds the number of",
        "wants a NUMA node for each rank",
    ),
    (
        "/opt/python: Error while finding module specification for 'sglang.launch_server' "
        "(ModuleNotFoundError: No module named 'sglang')",
        "SGLang is not installed",
    ),
    (
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "no memory was left for the key-value cache",
    ),
    (
        "ValueError: Loaded weights leave no GPU memory for the KV cache under "
        "--mem-fraction-static=0.0001. Raise --mem-fraction-static above 0.008",
        "no memory was left for the key-value cache",
    ),
    (
        STAMP + "ERROR:    [Errno 98] error while attempting to bind on address "
        "('127.0.0.1', 31990): address already in use",
        "the port is taken",
    ),
    (
        "AssertionError: FlashAttention v3 Backend requires SM>=80 and SM<=90. Please use "
        "`--attention-backend flashinfer`.",
        "do not support this device",
    ),
    ("IndexError: index out of range in self", "a token id that the model does not have"),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "the device ran out of memory",
    ),
    (
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "a library of the device's driver is missing",
    ),
    (
        "NotImplementedError: sgl_kernel.silu_and_mul was called, but no compiled sgl_kernel loads "
        "on this machine",
        "a compiled kernel that does not exist",
    ),
    (
        STAMP + "Received sigquit from a child process. It usually means the child failed.",
        "one of the server's own processes crashed",
    ),
]


@pytest.mark.parametrize(("line", "cause"), SEEN)
def test_a_failure_is_named(line: str, cause: str) -> None:
    named = cause_of(line)
    assert named is not None
    assert cause in named


@pytest.mark.parametrize(("line", "cause"), SEEN[:-1])
def test_the_crash_of_a_child_is_named_last(line: str, cause: str) -> None:
    named = cause_of(SEEN[-1][0], line)
    assert named is not None
    assert cause in named


@pytest.mark.parametrize(
    "line",
    [
        STAMP + "The server is fired up and ready to roll!",
        STAMP + "Ignore import error when loading sglang.srt.models.x: No module named 'x'",
        "pytest-llmperf: the installed sgl_kernel does not load here (libcuda.so.1: cannot open)",
        STAMP + "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 65536, KV size: 0.21 GB",
    ],
)
def test_ordinary_lines_name_no_cause(line: str) -> None:
    assert cause_of(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (STAMP + "server_args={'model_path': '/m'}", "reading the model's configuration"),
        (STAMP + "Load weight begin. avail mem=21.02 GB", "loading weights"),
        (
            "Multi-thread loading shards:  50% Completed | 2/4 [00:00<00:00, 84.01it/s]",
            "loading weights (2/4 shards)",
        ),
        (
            STAMP + "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 65536, KV size: 0.2 GB",
            "key-value cache of 65536 tokens",
        ),
        (STAMP + "Capture decode CUDA graph begin. This can take minutes.", "capturing graphs"),
        (STAMP + "INFO:     Application startup complete.", "warming up"),
        (
            STAMP + "The server is fired up and ready to roll!",
            "the server says it is ready",
        ),
        (STAMP + "Decode batch, #running-req: 8", None),
    ],
)
def test_progress_is_told(line: str, text: str | None) -> None:
    assert progress_at(line) == text


def test_every_cause_says_what_to_try() -> None:
    for cause in CAUSES:
        assert cause.cause
        assert cause.remedy
        re.compile(cause.pattern)
