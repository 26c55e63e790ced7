"""Documented ways to serve DeepSeek-R1 and its distills with SGLang, by accelerator.

Flags are in the form of SGLang 0.5.23, whose parser no longer takes some of what the pages say:
``--cuda-graph-max-bs`` is ``--cuda-graph-max-bs-decode``, ``--cuda-graph-bs`` is
``--cuda-graph-bs-decode``, ``--disable-cuda-graph`` is ``--cuda-graph-backend-decode disabled`` and
the same for prefill, ``--enable-dp-attention --dp-size N`` is ``--attn-dp-size N``.

Three things that pages say are left out everywhere: ``--stream-interval`` and
``--decode-log-interval``, which change what is seen of the tokens' times and not how they are made,
and speculative decoding, which is for the test to ask for.
"""

from __future__ import annotations

from types import MappingProxyType

from . import sglang_cpu
from .arguments import Flag
from .cookbook import Cookbook, Row

_COOKBOOK = (
    "sgl-project/sglang docs_new/src/snippets/autoregressive/deepseek-r1-advanced-deployment.jsx, "
    "SGLang 0.5.6, high throughput"
)
_SIZES_OF_NODES = (
    "sgl-project/sglang docs_new/cookbook/autoregressive/DeepSeek/DeepSeek-R1.mdx at 23b0c3d"
)
_OWN = "SGLang 0.5.23, srt/arg_groups"
_ASCEND = (
    "sgl-project/sglang docs_new/docs/hardware-platforms/ascend-npus/"
    "ascend_npu_deepseek_example.mdx at 2a4051d"
)
_RADEON = "AMD-AIM/sglang-radeon README.md at 37cbe3b (sglang-radeon-rdna3 0.1)"

_NO_PREFIX_CACHE: Flag = ("--disable-radix-cache",)


def _chunks(tokens: int) -> tuple[Flag, Flag]:
    return ("--chunked-prefill-size", str(tokens)), ("--max-prefill-tokens", str(tokens))


def _aiter(chunk: int) -> tuple[Flag, ...]:
    return (
        ("--mem-fraction-static", "0.8"),
        ("--cuda-graph-max-bs-decode", "512"),
        *_chunks(chunk),
        ("--num-continuous-decode-steps", "4"),
        ("--kv-cache-dtype", "fp8_e4m3"),
        ("--attention-backend", "aiter"),
        _NO_PREFIX_CACHE,
    )


_HOPPER: tuple[Flag, ...] = (
    _NO_PREFIX_CACHE,
    ("--max-running-requests", "512"),
    ("--cuda-graph-max-bs-decode", "512"),
    *_chunks(32768),
    ("--mem-fraction-static", "0.82"),
    ("--attention-backend", "flashinfer"),
)
_BLACKWELL: tuple[Flag, ...] = (
    ("--attention-backend", "trtllm_mla"),
    ("--moe-runner-backend", "flashinfer_trtllm"),
    ("--scheduler-recv-interval", "30"),
)
_BLACKWELL_FP8: tuple[Flag, ...] = (
    ("--max-running-requests", "128"),
    ("--cuda-graph-max-bs-decode", "128"),
    ("--mem-fraction-static", "0.82"),
    ("--kv-cache-dtype", "fp8_e4m3"),
    *_chunks(32768),
    ("--fp8-gemm-backend", "flashinfer_trtllm"),
    *_BLACKWELL,
)
_BLACKWELL_FP4: tuple[Flag, ...] = (
    ("--max-running-requests", "256"),
    ("--cuda-graph-max-bs-decode", "256"),
    ("--mem-fraction-static", "0.85"),
    ("--enable-symm-mem",),
    *_BLACKWELL,
)
_NPU: tuple[Flag, ...] = (("--device", "npu"), ("--attention-backend", "ascend"))
_NPU_R1: tuple[Flag, ...] = (
    *_NPU,
    ("--quantization", "modelslim"),
    ("--watchdog-timeout", "9000"),
    ("--cuda-graph-bs-decode", "8", "16", "24", "28", "32"),
    ("--mem-fraction-static", "0.68"),
    ("--max-running-requests", "128"),
    _NO_PREFIX_CACHE,
    ("--chunked-prefill-size", "-1"),
    ("--max-prefill-tokens", "16384"),
    ("--moe-a2a-backend", "deepep"),
    ("--deepep-mode", "auto"),
    ("--attn-dp-size", "4"),
    ("--enable-dp-lm-head",),
    ("--dtype", "bfloat16"),
)
_NPU_R1_ENV = (
    ("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
    ("STREAMS_PER_DEVICE", "32"),
    ("SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK", "32"),
    ("HCCL_BUFFSIZE", "1600"),
    ("SGLANG_NPU_USE_MLAPO", "1"),
    ("SGLANG_USE_FIA_NZ", "1"),
)
_RDNA3: tuple[Flag, ...] = (
    ("--attention-backend", "triton"),
    ("--cuda-graph-backend-decode", "disabled"),
    ("--cuda-graph-backend-prefill", "disabled"),
    ("--mem-fraction-static", "0.85"),
)
_RDNA3_PRODUCT = r"\bRX 7[6-9]\d0\b|\bW7[5-9]00\b|gfx110[0-2]"

_NVIDIA = (
    Row(
        name="tiny models on an accelerator",
        vendor="nvidia",
        source="our own choice",
        models=("tiny",),
        # Few heads and small sizes: other backends have no kernels for them.
        flags=(("--attention-backend", "triton"),),
    ),
    Row(
        name="DeepSeek-R1 in FP8 on 8x H200",
        vendor="nvidia",
        product=r"\bG?H200\b",
        models=("r1",),
        devices=(8, 8),
        flags=_HOPPER,
        source=_COOKBOOK,
    ),
    Row(
        name="DeepSeek-R1 in FP8 on two nodes of 8 Hopper cards",
        vendor="nvidia",
        product=r"\bH(?:100|200|800|20)\b",
        models=("r1",),
        devices=(16, 1024),
        flags=(),
        source=_SIZES_OF_NODES,
    ),
    Row(
        name="DeepSeek-R1 in FP8 on 8x B200",
        vendor="nvidia",
        product=r"\bG?B200\b",
        models=("r1",),
        devices=(8, 8),
        flags=_BLACKWELL_FP8,
        env=(("SGLANG_ENABLE_JIT_DEEPGEMM", "false"),),
        source=_COOKBOOK,
    ),
    Row(
        name="DeepSeek-R1 in FP4 on 4x B200",
        vendor="nvidia",
        product=r"\bG?B200\b",
        models=("r1-fp4",),
        devices=(4, 7),
        flags=(*_BLACKWELL_FP4, ("--ep-size", "4")),
        spread=4,
        source=_COOKBOOK,
    ),
    Row(
        name="DeepSeek-R1 in FP4 on 8x B200",
        vendor="nvidia",
        product=r"\bG?B200\b",
        models=("r1-fp4",),
        devices=(8, 8),
        flags=(
            *_BLACKWELL_FP4,
            ("--kv-cache-dtype", "fp8_e4m3"),
            ("--chunked-prefill-size", "16384"),
            ("--ep-size", "8"),
        ),
        spread=8,
        source=_COOKBOOK,
    ),
    Row(
        name="distilled models on RTX 40 and 50 cards",
        vendor="nvidia",
        product=r"\bRTX [45]0\d0\b",
        models=("distill",),
        # What SGLang takes by itself: fa3 is for SM 8.0 to 9.0, trtllm_mha for SM 10.
        flags=(("--attention-backend", "flashinfer"),),
        source=f"{_OWN}/model_override_base.py",
    ),
)
_AMD = (
    Row(
        name="distilled models on RDNA3, with sglang-radeon-rdna3",
        vendor="amd",
        product=_RDNA3_PRODUCT,
        models=("distill",),
        flags=(*_RDNA3, ("--dtype", "bfloat16")),
        source=_RADEON,
    ),
    Row(
        name="RDNA3, with sglang-radeon-rdna3",
        vendor="amd",
        product=_RDNA3_PRODUCT,
        flags=_RDNA3,
        source=_RADEON,
    ),
    Row(
        name="tiny models on an accelerator",
        vendor="amd",
        source="our own choice",
        models=("tiny",),
        flags=(("--attention-backend", "triton"),),
    ),
    Row(
        name="DeepSeek-R1 in FP8 on 8x MI300X or MI325X",
        vendor="amd",
        product=r"\bMI3(?:00|25)X\b",
        models=("r1",),
        devices=(8, 8),
        flags=_aiter(131072),
        env=(("SGLANG_USE_AITER", "1"), ("SGLANG_AITER_MLA_PERSIST", "1")),
        source=_COOKBOOK,
    ),
    Row(
        name="DeepSeek-R1 in FP8 on 8x MI350X or MI355X",
        vendor="amd",
        product=r"\bMI35[05]X\b",
        models=("r1",),
        devices=(8, 8),
        flags=_aiter(196608),
        env=(
            ("SGLANG_USE_AITER", "1"),
            ("RCCL_MSCCL_ENABLE", "0"),
            ("ROCM_QUICK_REDUCE_QUANTIZATION", "INT4"),
        ),
        source=_COOKBOOK,
    ),
)
_OTHERS = (
    Row(
        name="DeepSeek-R1 quantised by modelslim on 16 Ascend dies",
        vendor="ascend",
        product=r"910[BC]",
        models=("r1-modelslim",),
        devices=(16, 1024),
        flags=_NPU_R1,
        env=_NPU_R1_ENV,
        spread=16,
        source=_ASCEND,
    ),
    Row(name="Ascend", vendor="ascend", flags=_NPU, source=_ASCEND),
    Row(name="Intel GPU", vendor="intel", flags=(("--device", "xpu"),), source=_OWN),
    Row(
        name="SGLang on a processor",
        vendor="cpu",
        flags=sglang_cpu.FLAGS,
        source="found out by running SGLang 0.5.23",
    ),
)

_TP = frozenset({"--tp-size", "--tensor-parallel-size"})
_GRAPHS = frozenset({"--cuda-graph-config", "--disable-cuda-graph", "--debug-cuda-graph"})
_DECODE_GRAPHS = _GRAPHS | {"--cuda-graph-backend-decode", "--disable-decode-cuda-graph"}
_ATTENTION = frozenset({"--attention-backend", "--prefill-attention-backend"})

#: By our flags: those of a user that mean the same, or with which ours would not go.
_DISPLACED = MappingProxyType(
    {
        "--tp-size": _TP,
        "--ep-size": _TP
        | {"--expert-parallel-size", "--ep", "--moe-a2a-backend"}
        # Replicas and stages leave fewer devices to a group, which must hold the experts.
        | {"--dp-size", "--data-parallel-size", "--dp"}
        | {"--pp-size", "--pipeline-parallel-size", "--pp"},
        "--attn-dp-size": _TP
        | {"--attention-data-parallel-size", "--enable-dp-attention", "--dp-size"}
        | {"--data-parallel-size", "--moe-a2a-backend"},
        "--enable-dp-lm-head": _TP | {"--attn-dp-size", "--attention-data-parallel-size"},
        "--moe-a2a-backend": _TP | {"--moe-runner-backend"},
        "--deepep-mode": _TP | {"--moe-a2a-backend", "--moe-runner-backend"},
        "--moe-runner-backend": frozenset({"--moe-a2a-backend", "--quantization"}),
        "--fp8-gemm-backend": frozenset({"--quantization"}),
        "--attention-backend": _ATTENTION | {"--decode-attention-backend"},
        # The attention backend of a recipe is what can read its cache.
        "--kv-cache-dtype": _ATTENTION | {"--decode-attention-backend", "--page-size"},
        "--dtype": frozenset({"--quantization"}),
        "--cuda-graph-max-bs-decode": _DECODE_GRAPHS | {"--cuda-graph-bs-decode"},
        "--cuda-graph-bs-decode": _DECODE_GRAPHS | {"--cuda-graph-max-bs-decode"},
        "--cuda-graph-backend-decode": _DECODE_GRAPHS,
        "--cuda-graph-backend-prefill": _GRAPHS | {"--disable-prefill-cuda-graph"},
        "--disable-radix-cache": frozenset(
            {
                "--radix-eviction-policy",
                "--radix-cache-backend",
                "--enable-hierarchical-cache",
                "--enable-hicache",
                "--enable-lmcache",
                "--enable-flexkv",
            }
        ),
    }
)

SGLANG = Cookbook(
    rows=(*_NVIDIA, *_AMD, *_OTHERS),
    tp="--tp-size",
    displaced=_DISPLACED,
)
