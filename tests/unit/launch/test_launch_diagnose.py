from __future__ import annotations

import pytest

from pytest_llmperf.launch.diagnose import describe_exit, diagnose, signal_name
from pytest_llmperf.records import FailureCause

OUT_OF_MEMORY = FailureCause(pattern="out of memory", cause="no memory", remedy="less of it")
CHILD_DIED = FailureCause(pattern="sigquit from a child", cause="a child died", remedy="see above")


def test_the_engines_causes_count_in_their_order() -> None:
    lines = ["torch.OutOfMemoryError: CUDA out of memory", "Received sigquit from a child process"]
    found = diagnose(lines, -9, [OUT_OF_MEMORY, CHILD_DIED])
    assert found.cause == "no memory (it logged: torch.OutOfMemoryError: CUDA out of memory)"
    assert found.remedy == "less of it"
    assert diagnose(lines[1:], -9, [OUT_OF_MEMORY, CHILD_DIED]).cause.startswith("a child died")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("ERROR: [Errno 98] error while attempting to bind on address", "the port it wanted"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ImportError: libcuda.so.1: cannot open shared object file", "a shared library"),
        ("ModuleNotFoundError: No module named 'vllm'", "a Python module is missing"),
        ("/usr/bin/python: No module named sglang", "a Python module is missing"),
        ("serve: error: unrecognized arguments: --tp-sise", "its own argument parser refused"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "the host ran out"),
    ],
)
def test_causes_that_any_server_may_have(line: str, cause: str) -> None:
    found = diagnose(["noise", line, "noise"], 1)
    assert found.cause.startswith(cause)
    assert found.remedy


def test_what_is_warned_of_has_not_happened() -> None:
    """As vLLM 0.32 logs it where it may not raise the limit itself."""
    line = "WARNING 11-23 [system_utils.py:255] Found ulimit of 20000 and failed to automatically "
    line += (
        "increase. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`"
    )
    assert diagnose([line], 1).cause == ""
    assert diagnose([line, "OSError: [Errno 24] Too many open files"], 1).cause.startswith("the li")


def test_an_optional_module_mentioned_in_passing_is_no_cause() -> None:
    line = "Ignore import error when loading models.x: ModuleNotFoundError: No module named 'y'"
    assert diagnose([line], 1).cause == ""


def test_a_signal_explains_itself() -> None:
    found = diagnose(["fine"], -9)
    assert found.cause.startswith("it was killed by SIGKILL (9); nothing here sent it")
    assert diagnose([], -15).cause == "it was killed by SIGTERM (15)"
    assert diagnose([], -40).cause == "it was killed by signal 40"


def test_a_traceback_speaks_when_nothing_else_does() -> None:
    lines = ["Traceback (most recent call last):", '  File "x.py", line 1', "ValueError: bad rope"]
    assert diagnose([*lines, "exiting"], 1).cause == "ValueError: bad rope"
    assert diagnose(["ready: no Error here at all"], 1).cause == ""


def test_nothing_known_is_said_to_be_nothing() -> None:
    assert (diagnose([], None).cause, diagnose([], 0).remedy) == ("", "")


def test_ends_in_words() -> None:
    assert describe_exit(0) == "ended with exit status 0"
    assert describe_exit(-11) == "was killed by SIGSEGV (11)"
    assert signal_name(64 + 1) == "signal 65"
