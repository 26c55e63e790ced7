"""Documented ways to serve DeepSeek-R1 with engines other than SGLang, by accelerator.

Flags of vLLM are in the form of 0.32. It has no ``VLLM_USE_FLASHINFER_MOE_FP8`` and ``_FP4`` any
more, nor ``--max-seq-len-to-capture`` and ``VLLM_USE_V1``: it chooses these itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .arguments import Flag
from .cookbook import Cookbook, Row

_VLLM_RECIPES = "vllm-project/recipes DeepSeek/DeepSeek-V3.md, vLLM 0.32"
_VLLM_AMD = "vllm-project/recipes DeepSeek/AMD_GPU/README.md at 9098634, vLLM 0.32"
_LMDEPLOY = "InternLM/lmdeploy docs/en/supported_models/supported_models.md at 1263d5c"
_TRTLLM = "NVIDIA/TensorRT-LLM docs, deployment guides, 1.2"
_LLAMA = "ggml-org/llama.cpp tools/server/README.md"

_EXPERTS: Flag = ("--enable-expert-parallel",)
_VLLM_TP = frozenset({"--tensor-parallel-size", "-tp"})

_VLLM = Cookbook(
    rows=(
        Row(
            name="DeepSeek-R1 in FP8 on 8x H200",
            vendor="nvidia",
            product=r"\bG?H200\b",
            models=("r1",),
            devices=(8, 8),
            flags=(_EXPERTS,),
            source=_VLLM_RECIPES,
        ),
        Row(
            name="DeepSeek-R1 in FP8 on B200",
            vendor="nvidia",
            product=r"\bG?B200\b",
            models=("r1",),
            devices=(4, 8),
            flags=(_EXPERTS,),
            source=_VLLM_RECIPES,
        ),
        Row(
            name="DeepSeek-R1 in FP4 on B200",
            vendor="nvidia",
            product=r"\bG?B200\b",
            models=("r1-fp4",),
            devices=(4, 8),
            flags=(_EXPERTS,),
            source=_VLLM_RECIPES,
        ),
        Row(
            name="DeepSeek-R1 in FP8 on 8x MI300X or MI325X",
            vendor="amd",
            product=r"\bMI3(?:00|25)X\b",
            models=("r1",),
            devices=(8, 8),
            flags=(
                ("--max-model-len", "32768"),
                ("--block-size", "1"),
                ("--no-enable-prefix-caching",),
                ("--max-num-batched-tokens", "32768"),
                ("--gpu-memory-utilization", "0.95"),
            ),
            env=(("SAFETENSORS_FAST_GPU", "1"), ("VLLM_ROCM_USE_AITER", "1")),
            source=_VLLM_AMD,
        ),
    ),
    tp="--tensor-parallel-size",
    displaced=MappingProxyType(
        {
            "--tensor-parallel-size": _VLLM_TP,
            "--enable-expert-parallel": frozenset({"--no-enable-expert-parallel", "-ep"}),
            "--no-enable-prefix-caching": frozenset({"--enable-prefix-caching"}),
            "--block-size": frozenset({"--attention-backend"}),
        }
    ),
)

_LMDEPLOY_BOOK = Cookbook(
    rows=(
        Row(
            name="Ascend",
            vendor="ascend",
            flags=(("--backend", "pytorch"), ("--device", "ascend")),
            source=_LMDEPLOY,
        ),
        Row(
            name="DeepSeek-R1, which its PyTorch engine alone knows",
            vendor="nvidia",
            models=("r1",),
            flags=(("--backend", "pytorch"),),
            source=_LMDEPLOY,
        ),
    ),
    tp="--tp",
    displaced=MappingProxyType({}),
)

_TRTLLM_BOOK = Cookbook(
    rows=(
        Row(
            name="DeepSeek-R1",
            vendor="nvidia",
            models=("r1", "r1-fp4"),
            devices=(4, 1024),
            flags=(),
            source=_TRTLLM,
        ),
    ),
    tp="--tp_size",
    displaced=MappingProxyType({"--tp_size": frozenset({"--tensor_parallel_size"})}),
)

_ALL_LAYERS: tuple[Flag, ...] = (("--n-gpu-layers", "99"),)
_LLAMA_BOOK = Cookbook(
    rows=tuple(
        Row(name="all layers on the devices", vendor=vendor, flags=_ALL_LAYERS, source=_LLAMA)
        for vendor in ("nvidia", "amd", "intel", "ascend")
    ),
    tp=None,
    displaced=MappingProxyType({"--n-gpu-layers": frozenset({"-ngl", "--gpu-layers"})}),
)

#: By the names that tests use.
COOKBOOKS: Mapping[str, Cookbook] = MappingProxyType(
    {
        "vllm": _VLLM,
        "lmdeploy": _LMDEPLOY_BOOK,
        "tensorrt-llm": _TRTLLM_BOOK,
        "mindie": Cookbook(rows=(), tp=None, displaced=MappingProxyType({})),
        "llama.cpp": _LLAMA_BOOK,
    }
)
