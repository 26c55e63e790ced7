from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.engines import BUILT_IN, recipes, resolve, sglang_recipes
from pytest_llmperf.engines.arguments import merge
from pytest_llmperf.engines.cookbook import Recipe
from pytest_llmperf.engines.other_recipes import COOKBOOKS
from pytest_llmperf.engines.recipes import kind_of, recipe_for
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.engines.sglang_cpu import FLAGS
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    ModelSize,
    Placement,
    ServerRequest,
    Vendor,
)

GIB = 2**30
R1 = "deepseek-ai/DeepSeek-R1-0528"
FP4 = "nvidia/DeepSeek-R1-0528-FP4-v2"
DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
SIZES = {
    "7B": (15.2, 28, 4),
    "8B": (16.1, 32, 8),
    "14B": (29.5, 40, 8),
    "32B": (65.5, 40, 8),
    "70B": (141.1, 64, 8),
}


def accelerator(
    vendor: Vendor, product: str, count: int = 1, gib: float | None = None, nodes: int = 1
) -> Accelerator:
    memory = None if gib is None else round(gib * GIB)
    devices = tuple(
        Device(vendor=vendor, product=product, index=i, uuid=f"u{i}", memory_bytes=memory)
        for i in range(count)
    )
    return Accelerator(devices=devices, source="override", nodes=nodes)


H200 = accelerator("nvidia", "NVIDIA H200", 8, 140)
B200 = accelerator("nvidia", "NVIDIA B200", 8, 179)
MI300X = accelerator("amd", "AMD Instinct MI300X", 8, 192)
ASCEND = accelerator("ascend", "Ascend 910C", 16, 64)
XTX = accelerator("amd", "AMD Radeon RX 7900 XTX", 1, 24)
CPU = accelerator("cpu", "AMD EPYC 9654", 1, 64)


def size(billions: str) -> ModelSize:
    gigabytes, heads, kv_heads = SIZES[billions]
    return ModelSize(
        name=f"m-{billions}",
        parameters=round(gigabytes * 5e8),
        weight_bytes=round(gigabytes * 1e9),
        dtype="bfloat16",
        heads=heads,
        kv_heads=kv_heads,
        cache_bytes=1000,
    )


def taken(model: str, where: Accelerator, *args: str, engine: str = "sglang") -> Recipe:
    found = recipe_for(engine, model, where, args=args)
    assert found is not None
    return found


def words(recipe: Recipe) -> str:
    return " ".join(word for flag in recipe.flags for word in flag)


HOPPER = (
    "--tp-size 8 --disable-radix-cache --max-running-requests 512 "
    "--cuda-graph-max-bs-decode 512 --chunked-prefill-size 32768 --max-prefill-tokens 32768 "
    "--mem-fraction-static 0.82 --attention-backend flashinfer"
)
AITER = (
    "--tp-size 8 --mem-fraction-static 0.8 --cuda-graph-max-bs-decode 512 "
    "--chunked-prefill-size {chunk} --max-prefill-tokens {chunk} --num-continuous-decode-steps 4 "
    "--kv-cache-dtype fp8_e4m3 --attention-backend aiter --disable-radix-cache"
)


@pytest.mark.parametrize(
    ("model", "where", "command"),
    [
        (R1, H200, HOPPER),
        (
            R1,
            accelerator("nvidia", "NVIDIA H100 80GB HBM3", 8, 80, nodes=2),
            "--tp-size 16",
        ),
        (
            R1,
            accelerator("nvidia", "NVIDIA H800", 8, 80, nodes=2),
            "--tp-size 16",
        ),
        (R1, MI300X, AITER.format(chunk=131072)),
        (
            R1,
            accelerator("amd", "AMD Instinct MI325X", 8, 256),
            AITER.format(chunk=131072),
        ),
        (
            R1,
            accelerator("amd", "AMD Instinct MI355X", 8, 288),
            AITER.format(chunk=196608),
        ),
        (
            R1,
            B200,
            "--tp-size 8 --max-running-requests 128 --cuda-graph-max-bs-decode 128 "
            "--mem-fraction-static 0.82 --kv-cache-dtype fp8_e4m3 --chunked-prefill-size 32768 "
            "--max-prefill-tokens 32768 --fp8-gemm-backend flashinfer_trtllm "
            "--attention-backend trtllm_mla --moe-runner-backend flashinfer_trtllm "
            "--scheduler-recv-interval 30",
        ),
        (
            FP4,
            accelerator("nvidia", "NVIDIA B200", 4, 179),
            "--tp-size 4 --max-running-requests 256 "
            "--cuda-graph-max-bs-decode 256 --mem-fraction-static 0.85 --enable-symm-mem "
            "--attention-backend trtllm_mla --moe-runner-backend flashinfer_trtllm "
            "--scheduler-recv-interval 30 --ep-size 4",
        ),
        (
            "/models/DeepSeek-R1-0528-w4a8",
            ASCEND,
            "--tp-size 16 --device npu --attention-backend ascend "
            "--quantization modelslim --watchdog-timeout 9000 --cuda-graph-bs-decode 8 16 24 28 32 "
            "--mem-fraction-static 0.68 --max-running-requests 128 --disable-radix-cache "
            "--chunked-prefill-size -1 --max-prefill-tokens 16384 --moe-a2a-backend deepep "
            "--deepep-mode auto --attn-dp-size 4 --enable-dp-lm-head --dtype bfloat16",
        ),
        (
            DISTILL,
            accelerator("ascend", "Ascend 910B3", 8, 64),
            "--device npu --attention-backend ascend",
        ),
        (
            DISTILL,
            accelerator("nvidia", "NVIDIA GeForce RTX 4080 SUPER"),
            "--attention-backend flashinfer",
        ),
        (
            DISTILL,
            accelerator("nvidia", "NVIDIA GeForce RTX 4090"),
            "--attention-backend flashinfer",
        ),
        (
            DISTILL,
            accelerator("nvidia", "NVIDIA GeForce RTX 5090"),
            "--attention-backend flashinfer",
        ),
        (
            DISTILL,
            XTX,
            "--attention-backend triton --cuda-graph-backend-decode disabled "
            "--cuda-graph-backend-prefill disabled --mem-fraction-static 0.85 --dtype bfloat16",
        ),
        (DISTILL, CPU, " ".join(word for flag in FLAGS for word in flag)),
    ],
)
def test_the_documented_flags(model: str, where: Accelerator, command: str) -> None:
    recipe = taken(model, where)
    assert words(recipe) == command
    assert recipe.source


def test_what_a_recipe_needs_in_the_environment() -> None:
    assert dict(taken(R1, MI300X).env) == {
        "SGLANG_USE_AITER": "1",
        "SGLANG_AITER_MLA_PERSIST": "1",
    }
    assert dict(taken(R1, B200).env) == {"SGLANG_ENABLE_JIT_DEEPGEMM": "false"}
    assert "HCCL_BUFFSIZE" in dict(taken("/m/DeepSeek-R1-w8a8", ASCEND).env)


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", H200),
        (DISTILL, H200),
        (R1, accelerator("nvidia", "NVIDIA H200", 1)),
        ("somebody/super-r1", H200),
    ],
)
def test_nothing_is_added_where_nothing_is_documented(model: str, where: Accelerator) -> None:
    assert recipe_for("sglang", model, where) is None


def test_an_engine_without_recipes_has_none() -> None:
    assert recipe_for("mine", R1, H200) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (R1, "r1"),
        ("DeepSeek-R1", "r1"),
        ("/models/deepseek-r1-0528/", "r1"),
        (FP4, "r1-fp4"),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "r1-fp4"),
        ("/m/Deepseek-R1-bf16-hfd-w8a8", "r1-modelslim"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "distill"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "distill"),
        ("someone/DeepSeek-R1-Distill-Qwen-7B-AWQ", "other"),
        ("tiny-r1-distill-qwen", "tiny"),
        ("", "other"),
    ],
)
def test_kinds_are_told_by_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("billions", "count", "gib", "tp"),
    [
        ("7B", 1, 24, 1),
        ("8B", 2, 24, 1),  # fits one
        ("14B", 2, 24, 2),
        ("14B", 3, 24, 2),  # 40 heads go to 1, 2, 4, 5, 8, ...
        ("32B", 8, 80, 8),
        ("70B", 4, 140, 4),
        ("70B", 8, 192, 1),
        ("70B", 6, 80, 4),
        ("7B", 8, 16, 4),  # 28 heads
    ],
)
def test_tensors_are_spread_as_far_as_needed_and_heads_divide(
    billions: str, count: int, gib: float, tp: int
) -> None:
    where = accelerator("nvidia", "NVIDIA card", count, gib)
    found = recipe_for("sglang", "some/model", where, size=size(billions))
    assert (1 if found is None else found.tp) == tp
    assert found is None or words(found) == f"--tp-size {tp}"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--dp-size", "2"), "--tp-size 4"),
        (("--dp", "2"), "--tp-size 4"),
        (("--pp-size=4",), "--tp-size 2"),
        (("--dp-size", "8", "--enable-dp-attention"), "--tp-size 8"),
        (("--tp", "2"), ""),
        (("--tensor-parallel-size=2",), ""),
    ],
)
def test_tensors_take_what_other_ways_leave(args: tuple[str, ...], expected: str) -> None:
    where = accelerator("nvidia", "NVIDIA card", 8, 24)
    found = recipe_for("sglang", "some/model", where, size=size("70B"), args=args)
    assert ("" if found is None else words(found)) == expected


@pytest.mark.parametrize(
    "args", [("--tp", "4"), ("--tensor-parallel", "4"), ("--tp", "4", "--config", "mine.yaml")]
)
def test_what_is_all_the_users_is_no_recipe(args: tuple[str, ...]) -> None:
    assert recipe_for("sglang", "some/model", H200, size=size("70B"), args=args) is None


def test_nodes_count_whoever_names_them() -> None:
    one = accelerator("nvidia", "NVIDIA H800", 8, 80)
    by_args = taken(R1, one, "--nnodes", "2", "--node-rank", "0")
    assert by_args == taken(R1, replace(one, nodes=2))
    assert by_args.tp == 16
    both = taken(R1, replace(one, nodes=2), "--nnodes", "2")
    assert both.tp == 16


@pytest.mark.parametrize(
    ("where", "model", "args", "gone"),
    [
        (H200, R1, ("--attention-backend", "fa3"), "--attention-backend flashinfer"),
        (H200, R1, ("--prefill-attention-backend", "fa3"), "--attention-backend flashinfer"),
        (H200, R1, ("--cuda-graph-bs-decode", "1", "2"), "--cuda-graph-max-bs-decode"),
        (H200, R1, ("--disable-cuda-graph",), "--cuda-graph-max-bs-decode"),
        (H200, R1, ("--enable-hierarchical-cache",), "--disable-radix-cache"),
        (H200, R1, ("--radix-eviction-policy", "lru"), "--disable-radix-cache"),
        (H200, R1, ("--mem-frac", "0.9"), "--mem-fraction-static"),
        (H200, R1, ("--mem_fraction_static=0.9",), "--mem-fraction-static"),
        (B200, R1, ("--attention-backend", "triton"), "--kv-cache-dtype"),
        (B200, R1, ("--moe-a2a-backend", "deepep"), "--moe-runner-backend"),
        (B200, FP4, ("--tp", "4"), "--ep-size"),
        (ASCEND, "/m/DeepSeek-R1-w4a8", ("--dp-size", "8"), "--attn-dp-size"),
        (XTX, DISTILL, ("--quantization", "gptq"), "--dtype"),
    ],
)
def test_nothing_contradicts_the_user(
    where: Accelerator, model: str, args: tuple[str, ...], gone: str
) -> None:
    assert gone in words(taken(model, where))
    assert gone not in words(taken(model, where, *args))


ALL = [
    (model, where)
    for model in (R1, FP4, DISTILL, "/m/DeepSeek-R1-w4a8", "tiny-r1")
    for where in (H200, B200, MI300X, ASCEND, XTX, CPU)
]
OURS = sorted({flag[0] for row in sglang_recipes.SGLANG.rows for flag in row.flags} | {"--tp-size"})


@given(
    case=st.sampled_from(ALL),
    names=st.lists(st.sampled_from(OURS), unique=True, max_size=6),
    joined=st.booleans(),
    under=st.booleans(),
)
def test_every_flag_of_the_user_wins_and_stands_once(
    case: tuple[str, Accelerator], names: list[str], joined: bool, under: bool
) -> None:
    model, where = case
    said = ["--" + name[2:].replace("-", "_") if under else name for name in names]
    args = [word for name in said for word in ((f"{name}=7",) if joined else (name, "7"))]
    found = recipe_for("sglang", model, where, args=args)
    line = merge(found.flags if found else (), args)
    assert list(line[len(line) - len(args) :]) == args
    plain = [word.partition("=")[0].replace("_", "-") for word in line if word.startswith("--")]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize("engine", ["sglang", *COOKBOOKS])
def test_rows_are_whole(engine: str) -> None:
    book = sglang_recipes.SGLANG if engine == "sglang" else COOKBOOKS[engine]
    for row in book.rows:
        assert row.name
        assert row.source
        assert all(flag[0].startswith("--") for flag in row.flags), row.name
        names = [flag[0] for flag in row.flags]
        assert len(names) == len(set(names)), row.name
        assert set(row.models) <= set(recipes._KINDS), row.name
    assert all(flag.startswith("--") for flag in book.displaced)


@pytest.mark.parametrize(
    ("engine", "where", "command", "tp"),
    [
        (
            "vllm",
            H200,
            "--tensor-parallel-size 8 --enable-expert-parallel",
            8,
        ),
        (
            "vllm",
            MI300X,
            "--tensor-parallel-size 8 --max-model-len 32768 --block-size 1 "
            "--no-enable-prefix-caching --max-num-batched-tokens 32768 "
            "--gpu-memory-utilization 0.95",
            8,
        ),
        ("lmdeploy", H200, "--tp 8 --backend pytorch", 8),
        ("lmdeploy", ASCEND, "--tp 16 --backend pytorch --device ascend", 16),
        ("tensorrt-llm", H200, "--tp_size 8", 8),
        ("mindie", ASCEND, "", 16),
        ("llama.cpp", XTX, "--n-gpu-layers 99", 1),
    ],
)
def test_other_engines_have_recipes_too(
    engine: str, where: Accelerator, command: str, tp: int
) -> None:
    recipe = taken(R1, where, engine=engine)
    assert words(recipe) == command
    assert recipe.tp == tp


def test_flags_with_underscores_are_replaced_too() -> None:
    assert "--tensor-parallel-size" not in words(
        taken(R1, H200, "--tensor_parallel_size", "4", engine="vllm")
    )
    assert "--tensor" not in words(taken(R1, H200, "-tp", "4", engine="vllm"))


# --- in SGLang's plan ------------------------------------------------------------------------


def plan(where: Accelerator, model: str, **request: object) -> LaunchPlan:
    asked = ServerRequest(engine="sglang", model=model, **request)  # type: ignore[arg-type]
    place = Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=where,
        model_path="/models/tiny" if model.startswith("tiny") else model,
        served_name=model,
        python="/opt/python",
    )
    return SGLang({}).plan(asked, place)


def test_a_plan_says_which_recipe_it_took() -> None:
    made = plan(H200, R1)
    assert made.recipe is not None
    assert made.recipe.startswith("DeepSeek-R1 in FP8 on 8x H200 (sgl-project/sglang ")
    assert HOPPER in " ".join(made.argv)
    assert plan(H200, "some/model").recipe is None


def test_the_users_flags_and_variables_go_over_those_of_a_recipe() -> None:
    made = plan(
        MI300X,
        R1,
        args=("--attention-backend", "triton", "--tp", "4"),
        env=(("SGLANG_USE_AITER", "0"),),
    )
    assert made.argv[-4:] == ("--attention-backend", "triton", "--tp", "4")
    assert made.argv.count("--attention-backend") == 1
    assert "--tp-size" not in made.argv
    assert dict(made.env)["SGLANG_USE_AITER"] == "0"
    assert dict(made.env)["SGLANG_AITER_MLA_PERSIST"] == "1"


def test_a_tiny_model_on_a_processor_starts_as_ever() -> None:
    made = plan(CPU, "tiny-r1")
    assert " ".join(made.argv[1:]) == (
        "-m sglang.launch_server --model-path /models/tiny --served-model-name tiny-r1 "
        "--host 127.0.0.1 --port 31000 --enable-cache-report --random-seed 1 "
        "--reasoning-parser deepseek-r1 --enable-metrics --device cpu "
        "--attention-backend torch_native --sampling-backend pytorch --disable-overlap-schedule "
        "--skip-server-warmup --mem-fraction-static 0.3 --max-total-tokens 65536 "
        "--max-running-requests 256"
    )


def test_replicas_and_stages_leave_the_experts_to_sglang() -> None:
    b200 = accelerator("nvidia", "NVIDIA B200", 4, 179)
    assert "--ep-size" in words(taken(FP4, b200))
    for args in (("--dp", "2"), ("--pp-size", "2"), ("--data-parallel-size=2",)):
        assert "--ep-size" not in words(taken(FP4, b200, *args))


def test_devices_before_the_first_are_not_counted() -> None:
    h100 = accelerator("nvidia", "NVIDIA H100 80GB HBM3", 8, 80)
    model = "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
    free = recipe_for("sglang", model, h100, size=size("70B"), args=())
    later = recipe_for("sglang", model, h100, size=size("70B"), args=("--base-gpu-id", "4"))
    assert free is not None
    assert later is not None
    assert (free.tp, later.tp) == (8, 4)


# --- none at all


@pytest.mark.parametrize("engine", sorted({*BUILT_IN} - {"sim", "endpoint"}))
def test_without_a_recipe_only_the_users_flags_are_added(engine: str, tmp_path: Path) -> None:
    vendor = ASCEND if engine == "mindie" else H200
    (tmp_path / "DeepSeek-R1").mkdir()
    model = {"llama.cpp": "/m/r1.gguf", "mindie": str(tmp_path / "DeepSeek-R1")}.get(engine, R1)
    at = Placement(
        host="127.0.0.1",
        port=1,
        accelerator=vendor,
        model_path=model,
        served_name=model,
        python="python",
        scratch=tmp_path,
        environ={},
    )
    user = () if engine == "mindie" else ("--own", "7")
    request = ServerRequest(engine=engine, model=model, args=user)
    with_one = resolve(engine).plan(request, at)
    without = resolve(engine).plan(replace(request, recipe=False), at)
    assert with_one.recipe
    assert without.recipe is None
    assert set(with_one.argv) > set(without.argv)
    assert set(user) <= set(without.argv)
    assert not {"--tp", "--tp-size", "--worldSize"} & set(without.argv)
