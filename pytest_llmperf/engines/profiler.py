"""Engines' own profilers: how to start and stop them, and what they leave behind.

A trace grows with every step of the engine, soon to gigabytes, so each is asked for :data:`STEPS`
of them and no more.

Read off SGLang 0.5.23 (``srt/entrypoints/http_server.py``, ``srt/managers/io_struct.py``,
``srt/managers/scheduler_components/profiler_manager.py``) and vLLM 0.32.0 (``config/profiler.py``,
``profiler/wrapper.py``, ``entrypoints/serve/profile/api_router.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.records import Json, Vendor

#: Steps of the engine in a trace: the prompts of a first wave, and then some tokens of each.
STEPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """A profiler that a running server starts and stops when asked, by POST.

    ``body`` makes the JSON to start it with from the directory for its traces and the vendor of
    the devices; ``None`` sends nothing. ``traces`` are the patterns of its files' names, anywhere
    below that directory. With ``at_launch`` a server has it only when its plan was told so, by
    ``Placement.profiles``. With ``stops_itself`` it may have stopped after its steps, and then
    refuses to be stopped once more.
    """

    start: str = "/start_profile"
    stop: str = "/stop_profile"
    body: Callable[[Path, Vendor], Mapping[str, Json]] | None = None
    traces: tuple[str, ...] = ("*.trace.json", "*.trace.json.gz")
    at_launch: bool = False
    stops_itself: bool = False


def _sglang(directory: Path, vendor: Vendor) -> dict[str, Json]:
    activities: dict[Vendor, list[Json]] = {"cpu": ["CPU"], "intel": ["CPU", "XPU"]}
    return {
        "output_dir": str(directory),
        "num_steps": STEPS,
        "activities": activities.get(vendor, ["CPU", "GPU"]),
    }


#: It answers at once, and writes its traces when it has seen its steps, or when it is stopped;
#: after them ``/stop_profile`` answers with status 500. On Ascend, where GPU stands for NPU, the
#: traces are those of ``torch_npu``.
SGLANG = Profiler(
    body=_sglang,
    traces=("*.trace.json.gz", "trace_view.json"),
    stops_itself=True,
)
#: The two paths are there only for a server with a profiler configured, since 0.13 by this flag.
VLLM = Profiler(traces=("*.pt.trace.json", "*.pt.trace.json.gz"), at_launch=True)


def vllm_flag(directory: Path) -> tuple[str, str]:
    """What vLLM must be started with to be profiled. Without ``ignore_frontend`` its API server
    would be traced, too, which knows no steps and so no end."""
    config: dict[str, Json] = {
        "profiler": "torch",
        "torch_profiler_dir": str(directory),
        "ignore_frontend": True,
        "max_iterations": STEPS,
    }
    return "--profiler-config", json.dumps(config)
