from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.engines.recipes import recipe_for
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.models.sizes import size_of
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    LaunchRecord,
    ModelSize,
    Placement,
    ServerRequest,
    Vendor,
)
from pytest_llmperf.session.block import Block
from pytest_llmperf.session.devices import planned_words
from pytest_llmperf.session.fitting import check_fit, weights
from pytest_llmperf.session.progress import Progress
from pytest_llmperf.session.surroundings import Surroundings

MIB = 2**20
R1 = "deepseek-ai/DeepSeek-R1-0528"
DISTILL = "deepseek-ai/DeepSeek-R1-Distill"


def accelerator(
    vendor: Vendor, product: str, count: int, mib: int | None, nodes: int = 1
) -> Accelerator:
    devices = tuple(
        Device(
            vendor=vendor,
            product=product,
            index=i,
            uuid=f"u{i}",
            memory_bytes=None if mib is None else mib * MIB,
        )
        for i in range(count)
    )
    return Accelerator(devices=devices, source="override", nodes=nodes)


# Memory as the vendors' tools report it.
RTX_4080_SUPER = accelerator("nvidia", "NVIDIA GeForce RTX 4080 SUPER", 1, 16376)
RTX_4090 = accelerator("nvidia", "NVIDIA GeForce RTX 4090", 1, 24564)
TWO_4090 = accelerator("nvidia", "NVIDIA GeForce RTX 4090", 2, 24564)
RTX_5090 = accelerator("nvidia", "NVIDIA GeForce RTX 5090", 1, 32607)
XTX = accelerator("amd", "AMD Radeon RX 7900 XTX", 1, 24560)
H100 = accelerator("nvidia", "NVIDIA H100 80GB HBM3", 8, 81559)
H200 = accelerator("nvidia", "NVIDIA H200", 8, 143771)
MI300X = accelerator("amd", "AMD Instinct MI300X", 8, 196592)
HOST = accelerator("cpu", "AMD EPYC 9654", 1, 32000)


def known(model: str) -> ModelSize:
    size = size_of(model)
    assert size is not None
    return size


def fit(model: str, where: Accelerator, *args: str, engine: str = "sglang") -> str | None:
    """As a launch asks: with the flags of the recipe under those of the user."""
    size = known(model)
    recipe = recipe_for(engine, model, where, size=size, args=args)
    ours = [word for flag in (recipe.flags if recipe else ()) for word in flag]
    return check_fit(engine, (*ours, *args), args, size=size, accelerator=where)


@pytest.mark.parametrize(
    ("where", "largest"),
    [
        (RTX_4080_SUPER, "Llama-8B"),
        (RTX_4090, "Llama-8B"),
        (XTX, "Llama-8B"),
        (RTX_5090, "Qwen-14B"),
        (TWO_4090, "Qwen-14B"),
        (H100, "Llama-70B"),
        (HOST, "Qwen-14B"),
    ],
)
def test_which_distills_fit_in_16_bit(where: Accelerator, largest: str) -> None:
    names = ["Qwen-1.5B", "Qwen-7B", "Llama-8B", "Qwen-14B", "Qwen-32B", "Llama-70B"]
    at = names.index(largest)
    for name in names[: at + 1]:
        assert fit(f"{DISTILL}-{name}", where) is None
    for name in names[at + 1 :]:
        with pytest.raises(UsageMistake, match=f"{name} needs about"):
            fit(f"{DISTILL}-{name}", where)


def test_the_message_says_what_why_and_what_to_do() -> None:
    with pytest.raises(UsageMistake) as caught:
        fit(f"{DISTILL}-Qwen-14B", RTX_4090)
    assert str(caught.value) == (
        "DeepSeek-R1-Distill-Qwen-14B needs about 29.5 GB for its weights in bfloat16, and NVIDIA "
        "GeForce RTX 4090 has 24 GiB: take a smaller or quantised model, or more devices (--tp)."
    )


def test_r1_does_not_fit_eight_cards_of_80_gb_and_two_nodes_are_named() -> None:
    with pytest.raises(UsageMistake) as caught:
        fit(R1, H100)
    assert str(caught.value) == (
        "DeepSeek-R1-0528 needs about 673 GB (627 GiB) for its weights in fp8 and something for "
        "the driver, and 8 × NVIDIA H100 80GB HBM3 have 637 GiB: take a smaller or quantised "
        "model, more devices (--tp), or 2 such nodes (nodes=2, that is --tp 16)."
    )
    two = accelerator("nvidia", "NVIDIA H100 80GB HBM3", 8, 81559, nodes=2)
    assert fit(R1, two) is None
    assert fit(R1, H100, "--nnodes", "2") is None


@pytest.mark.parametrize("where", [H200, MI300X])
def test_r1_fits_where_it_is_documented(where: Accelerator) -> None:
    assert fit(R1, where) is None


def test_only_the_devices_of_a_copy_count() -> None:
    model = f"{DISTILL}-Llama-70B"
    assert fit(model, H100, "--tp", "2") is None
    with pytest.raises(UsageMistake, match=r"NVIDIA H100 80GB HBM3 has 79.6 GiB"):
        fit(model, H100, "--tp", "1")
    with pytest.raises(UsageMistake, match=r"NVIDIA H100 80GB HBM3 has 79.6 GiB"):
        fit(model, H100, "--dp-size", "8")  # each replica holds all of it
    assert fit(model, H100, "--pp-size", "2", "--tp-size", "1") is None


def test_experts_may_lie_on_all_devices() -> None:
    args = ("--tensor-parallel-size", "1", "--data-parallel-size", "8")
    assert fit(R1, H200, *args, "--enable-expert-parallel", engine="vllm") is None


@pytest.mark.parametrize(
    ("args", "fits"),
    [
        (("--quantization", "awq"), True),
        (("--quantization=gptq",), True),
        (("--quantization", "some-new-way"), True),
        (("--quantization", "fp8"), True),
        (("--dtype", "float16"), False),
    ],
)
def test_quantising_is_honoured(args: tuple[str, ...], fits: bool) -> None:
    model = f"{DISTILL}-Qwen-14B"
    if fits:
        assert fit(model, RTX_4090, *args) is None
    else:
        with pytest.raises(UsageMistake):
            fit(model, RTX_4090, *args)


def test_quantising_may_not_be_enough() -> None:
    with pytest.raises(UsageMistake, match=r"32\.8 GB .* in the format asked for"):
        fit(f"{DISTILL}-Qwen-32B", RTX_4090, "--quantization", "fp8")
    assert fit(f"{DISTILL}-Qwen-32B", RTX_4090, "--quantization", "awq") is None


def test_a_format_that_a_model_has_already_changes_nothing() -> None:
    assert weights(known(R1), ("--quantization", "fp8")) == pytest.approx(671e9, rel=0.01)


@pytest.mark.parametrize(
    "flag", ["--mem-fraction-static", "--cpu-offload-gb", "--gpu-memory-utilization"]
)
def test_who_takes_memory_in_hand_gets_a_note(flag: str) -> None:
    note = fit(f"{DISTILL}-Qwen-14B", RTX_4090, flag, "0.9")
    assert note is not None
    assert note.startswith("DeepSeek-R1-Distill-Qwen-14B needs about 29.5 GB")
    assert note.endswith("args= say how to use memory, so it is tried all the same")


@pytest.mark.parametrize(
    "flag",
    [
        "--config",
        "--device",
        "--revision",
        "--json-model-override-args",
        "--kt-weight-path",
        "--load-format",
    ],
)
def test_what_is_not_known_is_not_judged(flag: str) -> None:
    assert fit(R1, RTX_4090, flag, "x") is None


def test_an_unknown_model_or_memory_is_not_judged() -> None:
    nothing = accelerator("nvidia", "NVIDIA GB10", 1, None)
    assert check_fit("sglang", (), (), size=None, accelerator=RTX_4090) is None
    assert fit(R1, nothing) is None
    shared = accelerator("amd", "AMD Radeon 8060S Graphics", 1, 512)
    assert fit(f"{DISTILL}-Qwen-7B", shared) is None


@pytest.mark.parametrize("engine", ["llama.cpp", "mindie", "sim", "endpoint", "mine"])
def test_engines_that_can_keep_weights_elsewhere_are_not_judged(engine: str) -> None:
    assert check_fit(engine, (), (), size=known(R1), accelerator=RTX_4090) is None


@given(
    gigabytes=st.floats(0.1, 2000),
    gib=st.floats(1, 300),
    count=st.sampled_from([1, 2, 4, 8]),
)
def test_what_leaves_a_tenth_free_is_never_refused(
    gigabytes: float, gib: float, count: int
) -> None:
    where = accelerator("nvidia", "NVIDIA card", count, round(gib * 1024))
    size = ModelSize(
        name="m",
        parameters=round(gigabytes * 5e8),
        weight_bytes=round(gigabytes * 1e9),
        dtype="bfloat16",
        heads=64,
        kv_heads=8,
        cache_bytes=1000,
    )
    words = ("--tp-size", str(count))
    if size.weight_bytes <= 0.9 * round(gib * 1024) * MIB * count:
        assert check_fit("sglang", words, (), size=size, accelerator=where) is None


# --- before a launch -------------------------------------------------------------------------


def block(
    where: Accelerator, tmp_path: Path, records: list[LaunchRecord], model: str, *args: str
) -> Block:
    told = os.open(tmp_path / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Block(
        request=ServerRequest(engine="sglang", model=model, args=args),
        engine=SGLang({}),
        accelerator=where,
        around=Surroundings(
            progress=Progress(told, terminal=False),
            log_dir=tmp_path,
            cache_dir=tmp_path,
            lock_dir=tmp_path,
            launches=1,
            statistics=(),
            bounds=HealthBounds(),
            subjects=False,
            client_processes=None,
            pin=False,
            remember=records.append,
        ),
    )


def placed(where: Accelerator, model: str) -> Placement:
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=where,
        model_path=model,
        served_name=model,
        python="/opt/python",
        size=size_of(model),
    )


def fitting(made: Block, model: str) -> LaunchPlan:
    place = placed(made.accelerator, model)
    return made._fitting(made.engine.plan(made.request, place), place)


def test_a_model_that_cannot_fit_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    records: list[LaunchRecord] = []
    refused = block(RTX_4090, tmp_path, records, f"{DISTILL}-Qwen-14B")
    with pytest.raises(UsageMistake, match=r"Qwen-14B needs about 29\.5 GB"):
        refused.open()
    assert records == []
    assert not list(tmp_path.glob("*.log"))
    assert refused.device.descriptors == ()


def test_the_recipe_is_told_with_the_first_launch(tmp_path: Path) -> None:
    made = block(H200, tmp_path, [], R1)
    plan = fitting(made, R1)
    assert plan.recipe is not None
    made.launched += 1
    fitting(made, R1)
    said = (tmp_path / "told").read_text()
    assert said.count(f"recipe: {plan.recipe}") == 1


def test_a_tight_fit_taken_in_hand_is_noted_in_the_plan(tmp_path: Path) -> None:
    model = f"{DISTILL}-Qwen-14B"
    plan = fitting(block(RTX_4090, tmp_path, [], model, "--cpu-offload-gb", "20"), model)
    assert plan.notes[-1].startswith("DeepSeek-R1-Distill-Qwen-14B needs about 29.5 GB")


@pytest.mark.parametrize(
    ("request_", "ranks", "tp"),
    [
        (ServerRequest(engine="sglang", model=R1), 1, "8"),
        (ServerRequest(engine="sglang", model=R1, devices=4), 1, "4"),
        (ServerRequest(engine="sglang", model=R1, nodes=2), 1, "16"),
        (ServerRequest(engine="sglang", model=R1, nodes=2), 2, "8"),  # both here
    ],
)
def test_a_recipe_counts_devices_and_nodes(request_: ServerRequest, ranks: int, tp: str) -> None:
    found = replace(H200, nodes=1)
    words = planned_words(SGLang({}), request_, found, ranks=ranks)
    assert words[words.index("--tp-size") + 1] == tp
