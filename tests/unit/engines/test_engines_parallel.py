"""How many devices a command line uses, checked against the rules of the engines' own sources."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.engines.parallel import OWN_FILE, SPREADS, Parallel, parallel_of
from pytest_llmperf.errors import UsageMistake


def parallel(engine: str, words: str) -> Parallel:
    found = parallel_of(engine, shlex.split(words))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("engine", "words", "devices"),
    [
        ("sglang", "python -m sglang.launch_server --model-path m", 1),
        ("sglang", "--tp 2", 2),
        ("sglang", "--tp-size=8", 8),
        ("sglang", "--tensor-parallel-size 4 --pp-size 2", 8),
        ("sglang", "--tensor_parallel_size 4", 4),
        # Replicas beside each other, and attention's within the group.
        ("sglang", "--tp 4 --dp-size 2", 8),
        ("sglang", "--tp 8 --dp 8 --enable-dp-attention", 8),
        ("sglang", "--tp 8 --attn-dp-size 8 --ep-size 8", 8),
        ("sglang", "--tp 2 --tp 4", 4),
        ("vllm", "vllm serve m -tp 8", 8),
        ("vllm", "-tp=2 -pp 2 -dp 2 --enable-expert-parallel", 8),
        ("vllm", "--tensor-parallel-size 2 --decode-context-parallel-size 2", 2),
        ("vllm", "-tp 2 --data-parallel-size 4 --data-parallel-rank 0", 2),
        ("vllm", "-tp 2 -pcp 2", 4),
        ("lmdeploy", "lmdeploy serve api_server m --backend pytorch --tp 8", 8),
        ("lmdeploy", "--backend pytorch --tp 8 --dp 8", 8),
        ("lmdeploy", "--backend pytorch --dp 16 --ep 16", 16),
        ("lmdeploy", "--backend turbomind --tp 4 --dp 2", 8),
        ("lmdeploy", "--backend turbomind --tp 8 --ep 8", 8),
        ("tensorrt-llm", "trtllm-serve m --tp_size 8 --pp_size 2 --ep_size 8", 16),
        ("tensorrt-llm", "--tensor_parallel_size 4", 4),
        ("mindie", "--worldSize 8", 8),
        ("mindie", "--ModelConfig.worldSize 8", 8),
        ("mindie", "--BackendConfig.ModelDeployConfig.ModelConfig.worldSize=8", 8),
        ("mindie", "--npuDeviceIds [[0,1,2,3]]", 4),
        ("mindie", "--BackendConfig.npuDeviceIds=[[0,1],[2,3]] --worldSize 2", 4),
        ("lmdeploy", "--backend=turbomind --tp 4 --dp 2", 8),
        ("lmdeploy", "lmdeploy serve api_server turbomind --backend pytorch --tp 8 --dp 8", 8),
        ("tensorrt-llm", f"--tp_size 4 --extra_llm_api_options /x/{OWN_FILE}1.yaml", 4),
        # Parsers made with argparse take the beginning of a flag.
        ("sglang", "--tensor-parallel 4", 4),
        ("vllm", "--tensor_parallel=4 --pipeline 2", 8),
        ("lmdeploy", "--back turbomind --tp 2 --dp 2", 4),
        ("sglang", "--tp 8 --dp-si 8 --enable-dp-att", 8),
        ("vllm", "--data-parallel 2", 1),
        ("tensorrt-llm", "--tensor_parallel 4", 1),
    ],
)
def test_devices_of_a_command_line(engine: str, words: str, devices: int) -> None:
    assert parallel(engine, words).devices == devices


def test_a_share_of_them_is_on_each_node() -> None:
    found = parallel("sglang", "--tp 16 --nnodes 2 --node-rank 1")
    assert (found.devices, found.nodes, found.here) == (16, 2, 8)


def test_sizes_are_told_by_short_names_and_only_above_one() -> None:
    found = parallel("sglang", "--tp 8 --pp-size 1 --ep-size 8 --nnodes 2 --base-gpu-id 4")
    assert dict(found.sizes) == {"tp": 8, "ep": 8}


def test_a_placement_by_hand_is_seen() -> None:
    found = parallel("sglang", "--tp 2 --base-gpu-id 4 --gpu-id-step 2")
    assert (found.placed, found.first, found.step) == (True, 4, 2)
    assert not parallel("sglang", "--tp 2").placed
    found = parallel("mindie", "--npuDeviceIds [[4,5,6,7]]")
    assert (found.placed, found.first, found.step, found.sizes) == (True, 4, 1, {"tp": 4})
    assert not parallel("mindie", "--worldSize 2").placed


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("llama.cpp", "-ngl 99"),
        ("mine", "--tp 2"),
        # What stands in a file is not seen.
        ("sglang", "--config serve.yaml"),
        ("vllm", "--config=serve.yaml"),
        # Ray, or the user, deals out devices of other machines too.
        ("vllm", "-tp 16 --distributed-executor-backend ray"),
        ("vllm", "-tp 8 -pp 2 --distributed-executor-backend=ray"),
        ("vllm", "-dp 16 --data-parallel-size-local 8"),
        ("sglang", "--tp 16 --use-ray"),
        # The backend that it takes by itself decides what these mean.
        ("lmdeploy", "--dp 2 --tp 2"),
        ("lmdeploy", "--tp 4 --ep 2"),
        ("vllm", "--conf serve.yaml"),
        ("tensorrt-llm", "--tp_size 4 --config mine.yaml"),
        ("tensorrt-llm", "--extra_llm_api_options=mine.yaml"),
        ("mindie", "--npuDeviceIds [[0,1,4]]"),
        ("mindie", "--npuDeviceIds [[1,0]]"),
        ("mindie", "--npuDeviceIds [[]]"),
        ("mindie", "--npuDeviceIds [0,1]"),
        ("mindie", "--npuDeviceIds all"),
    ],
)
def test_what_cannot_be_told_is_not_guessed(engine: str, words: str) -> None:
    assert parallel_of(engine, shlex.split(words)) is None


@pytest.mark.parametrize("words", ["--tp two", "--tp 0", "--tp", "--tp --dp", "--tp=-1"])
def test_a_size_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(UsageMistake, match=r"--tp .*expected a whole number of at least 1"):
        parallel_of("sglang", shlex.split(words))


@given(
    st.sampled_from(sorted(SPREADS)),
    st.dictionaries(st.sampled_from(["tp", "pp"]), st.integers(1, 16)),
    st.lists(st.sampled_from(["--trust-remote-code", "--port=1", "words", "-v"])),
)
def test_other_words_change_nothing(engine: str, sizes: dict[str, int], others: list[str]) -> None:
    flags = SPREADS[engine].flags
    words = [
        word for name, n in sizes.items() if name in flags for word in (flags[name][0], str(n))
    ]
    assert parallel_of(engine, words) == parallel_of(engine, [*others, *words, *others])
