"""What every block of one process shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.launch.addresses import LOOPBACK
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.prices import Prices
from pytest_llmperf.records import LaunchRecord, Pass, Question, Run, Side, Workload

from .nodes import Nodes
from .progress import Progress

if TYPE_CHECKING:
    from pytest_llmperf.cluster.crew import RayLoad

    from .block import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every block of one process shares."""

    progress: Progress
    log_dir: Path
    cache_dir: Path
    lock_dir: Path | None
    launches: int
    statistics: tuple[str, ...]
    bounds: HealthBounds
    client_processes: int | None
    #: The cluster whose nodes ask, instead of this machine.
    ray: RayLoad | None = None
    #: The address that servers are started at.
    bind: str = LOOPBACK
    #: What accelerators cost, where the user told.
    prices: Prices | None = None
    #: Whether the server and the client are kept on cores of their own.
    pin: bool
    #: Whether it matters what exactly runs in a server.
    subjects: bool
    remember: Callable[[LaunchRecord], None]
    #: Whether launches that are compared or remembered answer fixed prompts.
    fingerprints: bool = False
    #: Where the ranks of a server over several nodes run.
    nodes: Nodes = field(default_factory=Nodes)
    #: Where the launches leave traces that are there to be profiled.
    profiles: Path | None = None
    #: What each side is asked once.
    questions: tuple[Question, ...] = ()
    #: Called with a block whenever one of its launches was measured by a workload.
    measured: Callable[[Block, Workload, str], None] = lambda *_: None
    #: Called with each run and its requests as soon as it is over, and the server's id, the
    #: workload, the side and the pair that it belongs to.
    keep: Callable[[str, Workload, Side, int | None, Run, Pass], None] = lambda *_: None
