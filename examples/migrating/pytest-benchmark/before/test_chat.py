"""Before: one request, timed by pytest-benchmark."""

import json
import urllib.request

import pytest

from pytest_llmperf.testing import FakeServer, Script

ASKED = {"model": "sim", "prompt": "Why is the sky blue?", "max_tokens": 32, "ignore_eos": True}


# In real life: whatever starts your server. Launches of it differ by 5 %.
@pytest.fixture(scope="module")
def server():
    with FakeServer(Script(ttft_ms=20, itl_ms=4, launch_cv=0.05)) as started:
        yield started


def ask(url):
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(ASKED).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_chat(benchmark, server):
    answer = benchmark.pedantic(ask, args=(server.url,), rounds=20, warmup_rounds=2)
    assert answer["usage"]["completion_tokens"] == 32
