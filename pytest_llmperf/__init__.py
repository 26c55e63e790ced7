"""Perf assertions for LLM serving, inside pytest.

The names below are loaded when they are first used, so that having the plugin installed costs a
test run nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import (
        ClientError,
        Inconclusive,
        LimitMissed,
        LlmPerfError,
        Regressed,
        ServerError,
        UsageMistake,
    )
    from .records import Accelerator, Run, Verdict, Workload
    from .session.handle import LlmPerf, ServerHandle
    from .session.measurement import Measurement
    from .session.sweep import Sweep

__all__ = [
    "Accelerator",
    "ClientError",
    "Inconclusive",
    "LimitMissed",
    "LlmPerf",
    "LlmPerfError",
    "Measurement",
    "Regressed",
    "Run",
    "ServerError",
    "ServerHandle",
    "Sweep",
    "UsageMistake",
    "Verdict",
    "Workload",
]

_HOMES = {
    "records": ("Accelerator", "Run", "Verdict", "Workload"),
    "session.handle": ("LlmPerf", "ServerHandle"),
    "session.measurement": ("Measurement",),
    "session.sweep": ("Sweep",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
