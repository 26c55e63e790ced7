from __future__ import annotations

from dataclasses import fields, replace

import pytest

from pytest_llmperf.cli.workloads import workload_text
from pytest_llmperf.records import Slo, Source, Workload

CHAT = Workload(
    name="chat",
    input_tokens=8,
    output_tokens=32,
    concurrency=4,
    requests=16,
    warmup_requests=1,
    runs=3,
)


def test_what_is_asked_is_told_in_words() -> None:
    assert workload_text(CHAT.identity) == (
        "chat: 8 input tokens, 32 output tokens, concurrency 4, 16 requests, 1 warmup request, "
        "3 runs"
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"flush": False}, "no flush"),
        ({"duration_s": 30.0, "requests": None}, "duration 30 s"),
        ({"arrivals": "poisson", "rate": 2.5}, "arrivals poisson, rate 2.5"),
        ({"slo": (Slo(metric="ttft", limit_ms=300.0),)}, "TTFT within 300 ms"),
        (
            {"source": Source(kind="prompts", path="/home/me/p.jsonl", sha256="0123456789ab")},
            "from a file of prompts (01234567)",
        ),
    ],
)
def test_what_is_not_usual_is_told(changed: dict[str, object], told: str) -> None:
    text = workload_text(replace(CHAT, **changed).identity)  # type: ignore[arg-type]
    assert text.endswith(told) or f", {told}" in text
    assert "(" not in text or "source" in changed
    assert "/home" not in text


def test_every_field_but_defaults_is_told() -> None:
    plain = workload_text(CHAT.identity)
    assert "None" not in plain
    assert "=" not in plain
    for field in fields(Workload):
        if field.default in (0, 1, 0.0, 1.0) and not isinstance(field.default, bool):
            changed = workload_text(replace(CHAT, **{field.name: 7}).identity)  # type: ignore[arg-type]
            assert changed != plain, field.name


@pytest.mark.parametrize("kept", ["chat-1a2b3c4d", "Workload(", "print('x')", "", "Workload(1)"])
def test_what_no_session_wrote_is_left_as_it_is(kept: str) -> None:
    assert workload_text(kept) == kept
