"""Keys are shown nowhere: not in what pytest prints, not in any file that a session leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

# Loaded here, before any inner run: what such a run loads first is another module to the next one.
from pytest_llmperf.launch import http
from pytest_llmperf.testing import FakeServer, Script

KEY = "sk-0123456789abcdef"
TOKEN = "hf_abcdefghijklmnop"
TEST = """
import pytest
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=16, requests=8, concurrency=4)
@pytest.mark.llm_floor(output_throughput="{floor} tok/s")
def test_a(llm_perf): llm_perf.run()
"""
LAUNCHED = """
pytestmark = pytest.mark.llm_server("sim", model="m", args="{args}", env={{"HF_TOKEN": "{token}"}})
"""
LOUD = ("-l", "-vv", "--full-trace", "-ra", "--llmperf-no-progress", "--llmperf-runs=1")
FILES = (
    "--llmperf-report=out/r.json",
    "--llmperf-html=out/r.html",
    "--llmperf-markdown=out/r.md",
    "--llmperf-export=openmetrics:out/r.txt",
    "--llmperf-store=out/perf",
    "--llmperf-log-dir=out/logs",
    "--junitxml=out/junit.xml",
)


def check(pytester: pytest.Pytester, result: pytest.RunResult, *secrets: str) -> None:
    said = result.stdout.str() + result.stderr.str()
    texts = {path: path.read_bytes() for path in _files(pytester.path / "out")}
    for secret in secrets:
        assert secret not in said
        assert [path for path, text in texts.items() if secret.encode() in text] == []


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def endpoint(pytester: pytest.Pytester, server: FakeServer, floor: str = "1") -> pytest.RunResult:
    pytester.makepyfile(test_it=TEST.format(floor=floor))
    return pytester.runpytest(f"--llmperf-url={server.url}", *LOUD, *FILES)


def test_the_key_of_an_endpoint(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPERF_API_KEY", KEY)
    with FakeServer(Script(model="m", ttft_ms=2, itl_ms=2, api_key=KEY)) as server:
        result = endpoint(pytester, server, floor="1000000")
    result.assert_outcomes(failed=1)
    check(pytester, result, KEY)


def test_a_key_that_is_refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPERF_API_KEY", KEY)
    with FakeServer(Script(model="m", api_key="another-key-altogether")) as server:
        result = endpoint(pytester, server)
    assert result.ret == 11  # broken
    check(pytester, result, KEY, "another-key-altogether")


def test_a_mistake_of_our_own_with_locals_in_the_traceback(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that hold the header are shown, and not what is in it."""

    def broken(method: str, url: str, *, timeout_s: float, headers: Any = None, **_: Any) -> Any:
        raise RuntimeError("broken inside")

    monkeypatch.setenv("LLMPERF_API_KEY", KEY)
    monkeypatch.setattr(http, "call", broken)
    with FakeServer(Script(model="m", api_key=KEY)) as server:
        result = endpoint(pytester, server)
    result.stdout.fnmatch_lines(["*headers*Authorization*", "*broken inside*"])
    check(pytester, result, KEY)


@pytest.mark.parametrize("args", ["", f"--api-key {KEY} --ttft-ms=x"])
def test_secrets_of_a_server_that_is_started(pytester: pytest.Pytester, args: str) -> None:
    """Also where it does not start, and its log repeats the command line."""
    marked = LAUNCHED.format(args=args, token=TOKEN)
    test = TEST.format(floor="1000000")
    pytester.makepyfile(test_it=test.replace("import pytest", f"import pytest{marked}"))
    result = pytester.runpytest(*LOUD, *FILES)
    assert result.ret != 0
    check(pytester, result, TOKEN, *([KEY] if args else []))
