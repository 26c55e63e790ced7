"""The part of each rank, and what cannot be spread over nodes."""

from __future__ import annotations

import pytest

from pytest_llmperf.engines.nodes import NODE_FLAGS, check_nodes, rank_words
from pytest_llmperf.engines.parallel import parallel_of
from pytest_llmperf.errors import UsageMistake

COMMAND = ("python", "-m", "sglang.launch_server", "--port", "20001", "--tp", "16")


def test_each_rank_has_the_same_words_and_its_own_number() -> None:
    ranks = [
        rank_words(NODE_FLAGS["sglang"], COMMAND, rank=at, nodes=2, address="a:5") for at in (0, 1)
    ]
    for at, words in enumerate(ranks):
        own = ("--nnodes", "2", "--node-rank", str(at), "--dist-init-addr", "a:5")
        assert words == (*COMMAND, *own)


def test_a_rank_on_the_same_machine_listens_elsewhere() -> None:
    words = rank_words(NODE_FLAGS["sglang"], COMMAND, rank=1, nodes=2, address="a:5", port=7)
    assert words[3:5] == ("--port", "7")


@pytest.mark.parametrize(
    ("engine", "nodes", "args", "said"),
    [
        ("vllm", 2, ("-tp", "16"), "of the engines only sglang is started on several nodes"),
        ("sglang", 2, ("--nnodes", "2"), "--nnodes cannot stand in args="),
        ("sglang", 2, ("--nccl-init-addr=a:5",), "--nccl-init-addr cannot stand in args="),
        ("sglang", 2, ("--dist-init", "a:5"), "--dist-init-addr cannot stand in args="),
        ("sglang", 2, (), "over 1 device, which 2 nodes cannot share alike"),
        ("sglang", 3, ("--tp", "16"), "over 16 devices, which 3 nodes cannot share alike"),
        ("sglang", 2, ("--tp", "8", "--dp", "2"), r"its replicas \(--dp-size\) must be on one"),
    ],
)
def test_what_cannot_be_spread_is_refused(
    engine: str, nodes: int, args: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageMistake, match=said):
        check_nodes(engine, nodes, args, parallel_of(engine, args))


def test_attention_inside_the_group_may_be_spread() -> None:
    args = ("--tp", "16", "--dp", "16", "--enable-dp-attention")
    assert check_nodes("sglang", 2, args, parallel_of("sglang", args)) is NODE_FLAGS["sglang"]
