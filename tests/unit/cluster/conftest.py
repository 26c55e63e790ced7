"""A double in Ray's place, for what runs in a member of a cluster and imports Ray there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``install(double, RayError=...)``; to be on a node is there a pair of it and whether another
    one would do."""

    def put(double: Any, **exceptions: type[Exception]) -> None:
        modules = {name: ModuleType(name) for name in ("ray.util", "ray.exceptions")}
        strategies = ModuleType("ray.util.scheduling_strategies")
        strategies.__dict__["NodeAffinitySchedulingStrategy"] = lambda node, soft: (node, soft)
        modules["ray.exceptions"].__dict__.update(exceptions)
        for name, module in {**modules, strategies.__name__: strategies, "ray": double}.items():
            monkeypatch.setitem(sys.modules, name, module)

    return put
