"""Stands in for SGLang in the tests of examples: ``-p standin`` offers the simulator by its name.

What an example says to SGLang becomes a pace of the simulator. A Python other than the one that
runs the tests is one of an environment that a test has made, and starts the ``toyengine`` in it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.records import LaunchPlan, Placement, ServerRequest

PACES = {
    (): ("--ttft-ms", "5", "--itl-ms", "2"),
    ("--max-running-requests", "15"): ("--ttft-ms", "5", "--itl-ms", "4"),
}


class StandIn(Sim):
    """The simulator, started by SGLang's words."""

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        plan = super().plan(replace(request, args=PACES[request.args]), placement)
        if placement.python == sys.executable:
            return plan
        argv = ["toyengine" if word == "pytest_llmperf.testing" else word for word in plan.argv]
        return replace(plan, argv=tuple(argv))


@pytest.hookimpl
def pytest_llmperf_engines() -> Mapping[str, Engine]:
    return {"sglang": StandIn()}
