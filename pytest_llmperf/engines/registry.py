"""Engines by name; a built-in one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType

from pytest_llmperf.errors import UsageMistake

from .base import Engine

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "sglang": "pytest_llmperf.engines.sglang:SGLang",
        "lmdeploy": "pytest_llmperf.engines.lmdeploy:LMDeploy",
        "tensorrt-llm": "pytest_llmperf.engines.tensorrt_llm:TensorRTLLM",
        "mindie": "pytest_llmperf.engines.mindie:MindIE",
        "vllm": "pytest_llmperf.engines.vllm:VLLM",
        "llama.cpp": "pytest_llmperf.engines.llamacpp:LlamaCpp",
        "endpoint": "pytest_llmperf.engines.endpoint:Endpoint",
        "sim": "pytest_llmperf.engines.sim:Sim",
    }
)


def resolve(name: str, extra: Mapping[str, Engine] = MappingProxyType({})) -> Engine:
    """The engine called ``name``; ``extra`` are those of other plugins and go first.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` naming the nearest one that exists.
    """
    if name in extra:
        return extra[name]
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        engine: Engine = getattr(import_module(module), attribute)()
        return engine
    known = sorted({*BUILT_IN, *extra})
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageMistake(f"There is no engine {name!r}.{hint} The engines are: {', '.join(known)}.")
