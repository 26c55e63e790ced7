from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.models import materialize
from pytest_llmperf.models.sizes import FAMILY, size_of

DISTILL = "deepseek-ai/DeepSeek-R1-Distill"


def dense(
    layers: int, hidden: int, inner: int, heads: int, kv: int, vocab: int, bias: bool, norms: bool
) -> int:
    """Parameters of a dense model with heads of 128 and a head of its own for the vocabulary."""
    attention = 2 * hidden * heads * 128 + 2 * hidden * kv * 128
    extra = (heads + 2 * kv) * 128 * bias + 2 * 128 * norms
    layer = attention + extra + 3 * hidden * inner + 2 * hidden
    return 2 * vocab * hidden + layers * layer + hidden


# Shapes as in the models' config.json on their hub.
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{DISTILL}-Qwen-1.5B", (28, 1536, 8960, 12, 2, 151936, True, False)),
        (f"{DISTILL}-Qwen-7B", (28, 3584, 18944, 28, 4, 152064, True, False)),
        (f"{DISTILL}-Qwen-14B", (48, 5120, 13824, 40, 8, 152064, True, False)),
        (f"{DISTILL}-Qwen-32B", (64, 5120, 27648, 40, 8, 152064, True, False)),
        (f"{DISTILL}-Llama-8B", (32, 4096, 14336, 32, 8, 128256, False, False)),
        (f"{DISTILL}-Llama-70B", (80, 8192, 28672, 64, 8, 128256, False, False)),
        (
            "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
            (36, 4096, 12288, 32, 8, 151936, False, True),
        ),
    ],
)
def test_the_distills_add_up(name: str, shape: tuple[Any, ...]) -> None:
    size = size_of(name)
    assert size is not None
    layers, _, _, heads, kv, *_ = shape
    assert (size.heads, size.kv_heads) == (heads, kv)
    assert size.parameters == dense(*shape)
    assert size.weight_bytes == 2 * size.parameters
    assert size.cache_bytes == layers * 2 * kv * 128 * 2


def test_r1_adds_up() -> None:
    layers, dense_layers, hidden, heads = 61, 3, 7168, 128
    queries = hidden * 1536 + 1536 * heads * 192
    keys = hidden * (512 + 64) + 512 * heads * 256
    attention = queries + keys + heads * 128 * hidden
    experts = (layers - dense_layers) * 257 * 3 * hidden * 2048
    mlps = dense_layers * 3 * hidden * 18432
    routers = (layers - dense_layers) * (256 * hidden + 256)
    norms = layers * (2 * hidden + 1536 + 512) + hidden
    plain = 2 * 129280 * hidden + routers + norms
    linear = layers * attention + experts + mlps
    fp8, fp4, v2 = (
        size_of(name)
        for name in (
            "deepseek-ai/DeepSeek-R1-0528",
            "nvidia/DeepSeek-R1-FP4",
            "nvidia/DeepSeek-R1-0528-FP4-v2",
        )
    )
    assert fp8 is not None
    assert fp4 is not None
    assert v2 is not None
    assert fp8.parameters == linear + plain
    assert fp8.weight_bytes == linear + 2 * plain + 4 * linear // 128**2
    halves = experts + mlps
    assert fp4.weight_bytes == halves * 9 // 16 + 2 * (linear + plain - halves)
    outputs = layers * heads * 128 * hidden
    assert v2.weight_bytes == fp4.weight_bytes - 2 * outputs + outputs * 9 // 16
    assert fp8.cache_bytes == layers * (512 + 64) * 2
    assert fp8.experts == 256


def test_names_are_found_in_any_case_and_others_not_at_all() -> None:
    assert (
        size_of("DeepSeek-AI/deepseek-r1-distill-qwen-7b") is FAMILY[f"{DISTILL}-Qwen-7B".lower()]
    )
    for name in ("unsloth/DeepSeek-R1-Distill-Qwen-7B-bnb-4bit", "Qwen/Qwen2.5-7B", "", "gpt"):
        assert size_of(name) is None


# --- directories -----------------------------------------------------------------------------

CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "torch_dtype": "bfloat16",
}


def write(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            **{
                name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]}
                for name, (kind, shape) in tensors.items()
            },
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def model(tmp_path: Path, tensors: dict[str, tuple[str, list[int]]], **config: object) -> str:
    directory = tmp_path / "some-model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write(directory / "model.safetensors", tensors)
    return str(directory)


def test_a_directory_is_read(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.a": ("BF16", [10, 10]),
        "model.layers.1.b": ("F8_E4M3", [10, 20]),
        "model.layers.1.b_scale": ("F32", [5]),
    }
    size = size_of(model(tmp_path, tensors))
    assert size is not None
    assert size.name == "some-model"
    assert size.parameters == 305
    assert size.weight_bytes == 2 * 100 + 200 + 2 * 5  # 32 bit is served in 16
    assert (size.heads, size.kv_heads) == (4, 2)
    assert size.cache_bytes == 2 * 2 * 2 * 16 * 2
    assert (size.dtype, size.experts) == ("bfloat16", 0)


def test_layers_that_predict_further_tokens_are_not_loaded(tmp_path: Path) -> None:
    tensors = {"model.layers.1.a": ("BF16", [10]), "model.layers.2.a": ("BF16", [1000])}
    size = size_of(model(tmp_path, tensors, kv_lora_rank=512, qk_rope_head_dim=64))
    assert size is not None
    assert size.parameters == 10
    assert size.cache_bytes == 2 * (512 + 64) * 2


def test_a_quantised_model_is_named_after_its_method(tmp_path: Path) -> None:
    directory = model(
        tmp_path, {"w": ("I32", [8])}, quantization_config={"quant_method": "awq"}, num_experts=8
    )
    size = size_of(directory)
    assert size is not None
    assert (size.dtype, size.weight_bytes, size.experts) == ("awq", 32, 8)


def test_of_several_files_those_in_the_index_count(tmp_path: Path) -> None:
    directory = Path(model(tmp_path, {"whole": ("BF16", [1000])}))
    for part in ("a", "b"):
        write(directory / f"{part}.safetensors", {part: ("BF16", [7])})
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors", "c": "absent.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    size = size_of(str(directory))
    assert size is not None
    assert size.parameters == 14


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 20, b"[]"])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, broken: str, content: bytes) -> None:
    directory = Path(model(tmp_path, {"a": ("BF16", [7])}))
    (directory / broken).write_bytes(content)
    assert size_of(str(directory)) is None


def test_a_directory_without_weights_is_unknown(tmp_path: Path) -> None:
    directory = Path(model(tmp_path, {"a": ("BF16", [7])}))
    (directory / "model.safetensors").unlink()
    assert size_of(str(directory)) is None


def test_our_own_tiny_models_can_be_read(tmp_path: Path) -> None:
    directory = materialize("tiny-r1", tmp_path)
    size = size_of(str(directory))
    assert size is not None
    assert size.experts > 0
    assert size.weight_bytes <= (directory / "model.safetensors").stat().st_size
