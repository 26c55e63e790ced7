"""Gates on what made-up prompts and weights make meaningless."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.blind_spots import check_blind_spots
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import ServerRequest, Source, SourceKind, Workload

MADE_UP = Workload(
    name="chat",
    input_tokens=10,
    output_tokens=4,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
)
SERVER = ServerRequest(engine="sglang", model="deepseek-ai/DeepSeek-R1")


def real(kind: SourceKind) -> Workload:
    return replace(MADE_UP, source=Source(kind=kind, path="p.jsonl", sha256="0" * 64))


@pytest.mark.parametrize("workload", [MADE_UP, real("trace")])
def test_acceptance_of_made_up_prompts_is_refused(workload: Workload) -> None:
    with pytest.raises(UsageMistake, match=r"made-up prompts .* file of prompts"):
        check_blind_spots(["ttft_p95", "accept_length"], workload, SERVER)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "tiny-r1"},
        {"args": ("--load-format", "dummy")},
        {"args": ("--tp", "2", "--load-format=dummy")},
    ],
)
def test_acceptance_with_made_up_weights_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageMistake, match="made-up weights"):
        check_blind_spots(["accept_length"], real("prompts"), replace(SERVER, **changed))


def test_acceptance_of_real_prompts_by_a_real_model_is_gated() -> None:
    other = replace(SERVER, args=("--load-format", "auto", "--quantization", "dummy"))
    for kind in ("sharegpt", "prompts", "ids"):
        check_blind_spots(["accept_length"], real(kind), SERVER)
        check_blind_spots(["accept_length"], real(kind), other)


def test_what_the_simulated_server_is_told_to_accept_may_be_gated() -> None:
    check_blind_spots(["accept_length"], MADE_UP, ServerRequest(engine="sim"))


def test_hits_that_are_not_meant_are_refused() -> None:
    with pytest.raises(UsageMistake, match="hits would be an accident"):
        check_blind_spots(["cache_hit_rate"], MADE_UP, SERVER)
    for meant in ({"turns": 3}, {"flush": False}, {"shared_prefix_tokens": 5}):
        changed: dict[str, Any] = meant
        check_blind_spots(["cache_hit_rate"], replace(MADE_UP, **changed), SERVER)


def test_other_gates_and_tests_that_measure_nothing_are_no_matter() -> None:
    check_blind_spots(["output_throughput", "ttft_p95"], MADE_UP, SERVER)
    check_blind_spots(["accept_length"], None, SERVER)
    check_blind_spots(["accept_length"], MADE_UP, None)
