"""How much of a device a model takes: DeepSeek-R1's family by name, any other from its directory.

Names of a hub beyond that family are unknown, and nothing is ever fetched to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_llmperf.records import ModelSize

_LARGEST_HEADER = 64 * 2**20
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
#: Bytes of a value as it is loaded: what a file holds in 32 bit is served in 16.
_LOADED = {"F64": 2, "F32": 2, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}
_CACHE_VALUE = 2


def _dense(name: str, parameters: int, layers: int, heads: int, kv_heads: int) -> ModelSize:
    """One of the distilled models: bfloat16, heads of 128."""
    return ModelSize(
        name=name,
        parameters=parameters,
        weight_bytes=2 * parameters,
        dtype="bfloat16",
        heads=heads,
        kv_heads=kv_heads,
        cache_bytes=layers * 2 * kv_heads * 128 * _CACHE_VALUE,
    )


def _r1(name: str, weight_bytes: int, dtype: str) -> ModelSize:
    """R1 itself: 61 layers with 128 heads over a latent cache of 512 + 64 values a token."""
    return ModelSize(
        name=name,
        parameters=671_026_419_200,
        weight_bytes=weight_bytes,
        dtype=dtype,
        heads=128,
        kv_heads=128,
        cache_bytes=61 * (512 + 64) * _CACHE_VALUE,
        experts=256,
    )


# From the shapes in the models' config.json, which tests add up again. FP8: one byte a weight of
# the linear layers and four for each block of 128 x 128; embeddings, head and routers in 16 bit.
# NVFP4: four and a half bits a weight of the experts and the dense MLPs, with v2 of the output
# projections too; the rest in 16 bit.
_FP8, _FP4, _FP4_V2 = 673_150_575_280, 396_677_819_392, 386_379_754_496
_R1_FP8 = tuple(
    _r1(f"deepseek-ai/{name}", _FP8, "fp8")
    for name in ("DeepSeek-R1", "DeepSeek-R1-0528", "DeepSeek-R1-Zero")
)
_DISTILL = "deepseek-ai/DeepSeek-R1-Distill"

#: Lower bounds where a file is not here to be looked at.
FAMILY: Mapping[str, ModelSize] = MappingProxyType(
    {
        size.name.lower(): size
        for size in (
            *_R1_FP8,
            _r1("nvidia/DeepSeek-R1-FP4", _FP4, "4-bit floats"),
            _r1("nvidia/DeepSeek-R1-0528-FP4", _FP4, "4-bit floats"),
            _r1("nvidia/DeepSeek-R1-0528-FP4-v2", _FP4_V2, "4-bit floats"),
            _dense(f"{_DISTILL}-Qwen-1.5B", 1_777_088_000, 28, 12, 2),
            _dense(f"{_DISTILL}-Qwen-7B", 7_615_616_512, 28, 28, 4),
            _dense(f"{_DISTILL}-Qwen-14B", 14_770_033_664, 48, 40, 8),
            _dense(f"{_DISTILL}-Qwen-32B", 32_763_876_352, 64, 40, 8),
            _dense(f"{_DISTILL}-Llama-8B", 8_030_261_248, 32, 32, 8),
            _dense(f"{_DISTILL}-Llama-70B", 70_553_706_496, 80, 64, 8),
            _dense("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8_190_735_360, 36, 32, 8),
        )
    }
)


def size_of(model: str) -> ModelSize | None:
    """The size of ``model``, a directory or the name of a hub; ``None`` where it is not known."""
    if model.lower() in FAMILY:
        return FAMILY[model.lower()]
    directory = Path(model)
    if not model or not directory.is_dir():
        return None
    try:
        return _of_directory(directory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Whatever is the matter with these files, the engine will say it better.
        return None


def _of_directory(directory: Path) -> ModelSize | None:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    files = _weight_files(directory)
    if not files:
        return None
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    tensors = [one for file in files for one in _tensors(file) if _is_loaded(one[0], layers)]
    return ModelSize(
        name=directory.name,
        parameters=sum(prod(shape) for _, _, shape in tensors),
        weight_bytes=sum(_LOADED.get(kind, 1) * prod(shape) for _, kind, shape in tensors),
        dtype=_dtype(config),
        heads=heads,
        kv_heads=kv_heads,
        cache_bytes=_cache_bytes(config, layers, heads, kv_heads),
        experts=int(config.get("n_routed_experts") or config.get("num_experts") or 0),
    )


def _weight_files(directory: Path) -> list[Path]:
    """The files that are loaded; other ones often lie beside them. Empty where that is unsure."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [path for name in sorted(names) if (path := directory / name).is_file()]
    single = directory / "model.safetensors"
    return [single] if single.is_file() else []


def _tensors(file: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Name, type and shape of each tensor, from the head of a safetensors file."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= _LARGEST_HEADER:
            raise ValueError(f"{file} has no safetensors header")
        header: dict[str, Any] = json.loads(opened.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry["dtype"], entry["shape"]


def _is_loaded(name: str, layers: int) -> bool:
    """Layers past the last only predict further tokens."""
    layer = _LAYER.search(name)
    return layer is None or int(layer[1]) < layers


def _dtype(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config")
    if quantization:
        return str(quantization.get("quant_method", "quantised"))
    return str(config.get("dtype") or config.get("torch_dtype") or "16 bit")


def _cache_bytes(config: Mapping[str, Any], layers: int, heads: int, kv_heads: int) -> int:
    if config.get("kv_lora_rank"):
        values = int(config["kv_lora_rank"]) + int(config.get("qk_rope_head_dim") or 0)
    else:
        head = config.get("head_dim") or int(config["hidden_size"]) // heads
        values = 2 * kv_heads * int(head)
    return layers * values * _CACHE_VALUE
