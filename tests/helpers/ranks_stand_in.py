"""A plugin, for suites of their own: the simulator by the name of an engine with ranks. Of its
command line it knows but the first words."""

from __future__ import annotations

import sys
from dataclasses import replace

from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.records import LaunchPlan, Placement, ServerRequest

SERVE = "import sys; from pytest_llmperf.testing.__main__ import main; main(sys.argv[1:7])"


class Ranks(Sim):
    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        plan = super().plan(replace(request, args=()), placement)
        return replace(plan, argv=(sys.executable, "-c", SERVE, *plan.argv[3:]))


def pytest_llmperf_engines() -> dict[str, Ranks]:
    return {"sglang": Ranks()}
