"""Every client by name; a module is imported only when its client is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import cast

from .base import Client

#: Module, callable in it, and its arguments.
CLIENTS: Mapping[str, tuple[str, str, Mapping[str, object]]] = {
    "ours": ("ours", "Ours", {}),
    "ours_completions": ("ours", "Ours", {"api": "completions"}),
    "bare": ("bare", "Bare", {}),
    "bare_completions": ("bare", "Bare", {"chat": False}),
    "reader": ("bare", "Bare", {"keep": False}),
    "sglang_python": ("sglang_python", "SglangPython", {}),
    "sglang_rust": ("sglang_rust", "SglangRust", {}),
    "vllm_bench": ("vllm_bench", "VllmBench", {}),
    "aiperf": ("aiperf", "Aiperf", {}),
    "guidellm": ("guidellm", "Guidellm", {}),
    "inference_perf": ("inference_perf", "InferencePerf", {}),
}


def find(name: str) -> Client:
    """The client called ``name``. Raises :class:`SystemExit` naming those there are."""
    if name not in CLIENTS:
        raise SystemExit(f"no client is called {name!r}; there are {', '.join(CLIENTS)}")
    module, attribute, arguments = CLIENTS[name]
    found = getattr(import_module(f"benchmarks.clients.{module}"), attribute)
    return partial(cast("Callable[..., Client]", found), **arguments)()
