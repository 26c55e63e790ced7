"""Real Ray clusters of several nodes on this machine; none is ever found here by accident."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from netns import OBJECT_STORE_BYTES  # type: ignore[import-not-found] # lies beside this file

#: What each node says that it has.
EACH = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": OBJECT_STORE_BYTES}


@pytest.fixture(autouse=True)
def _any_machine(busy_machine: None) -> None: ...


@pytest.fixture(scope="session")
def _ray() -> None:
    """Ray is installed; ``make test`` makes its absence a failure."""
    if importlib.util.find_spec("ray") is not None:
        return
    if os.environ.get("LLMPERF_ENGINES_REQUIRED") == "1":
        pytest.fail("Ray must be installed where clusters are tested", pytrace=False)
    pytest.skip("Ray is not installed: make test runs this")


class Nodes:
    """A cluster whose nodes say that they have one GPU each; ``workers`` are those beside the
    head's."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"include_dashboard": False, **EACH},
        )
        self.address: str = self._cluster.address
        self.workers: list[Any] = []

    def grow(self) -> None:
        self.workers.append(self._cluster.add_node(**EACH))

    def kill_one(self) -> None:
        """As when its power fails."""
        self._cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def nodes(_ray: None) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # What tests call in a member is found there by its name.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        # A busy machine is no dead one, and a dead one is to be found in seconds.
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        patch.setenv("RAY_health_check_initial_delay_ms", "1000")
        patch.setenv("RAY_health_check_period_ms", "1000")
        patch.setenv("RAY_health_check_failure_threshold", "5")
        made = Nodes()
        try:
            yield made
        finally:
            made.end()
