"""A server whose ranks Ray runs: what it is told, watching all of it, leaving nothing behind."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise

from pytest_llmperf import clock
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.accelerators.sampling import Found, Sampler
from pytest_llmperf.cluster import agents, serving
from pytest_llmperf.cluster.agents import Said
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.serving import Survey
from pytest_llmperf.cluster.state import await_end
from pytest_llmperf.engines.over_ray import LABEL, RAY_FLAGS, environment, without_ray
from pytest_llmperf.engines.parallel import Parallel, parallel_of
from pytest_llmperf.errors import ClusterError, ServerError, UsageMistake
from pytest_llmperf.metrics.energy import LARGEST_GAP_S, Window
from pytest_llmperf.records import Accelerator, Device, LaunchPlan, RankPlace, ServerRequest

from .devices import Allotment

#: How often the cluster is asked how the server fares.
PERIOD_S = 1.0
_AGENTS_S = 0.8
#: Longer than a link may be down without Ray giving up its node, which takes 15 s by default.
_SILENCE_S = 25.0
#: Ray ends what a driver leaves when its connection closes, within a second or two.
_CLEAN_S = 30.0
#: Links that were down need some seconds until what runs over them tries again.
_SETTLE_S = 15.0
_JOIN_THREAD_S = _SILENCE_S + 5.0

Progress = Callable[[str, float], None]


def allotment_over(request: ServerRequest, found: Accelerator, words: Sequence[str]) -> Allotment:
    """The devices of a server over Ray, which chooses among them itself: like those here on every
    node. ``words`` is the command line that tells how many."""
    parallel = _parallel(request.engine, words)
    nodes = request.nodes or parallel.nodes
    sizes = {**parallel.sizes, "ray": 1, **({"nodes": nodes} if nodes > 1 else {})}
    found = replace(found, parallel=sizes, nodes=nodes)
    if found.vendor == "cpu":
        return Allotment(among=found, count=len(found.devices))
    each = math.ceil(parallel.devices / nodes)
    if each > len(found.devices):
        raise UsageMistake(
            f"llm_server({request.engine!r}, ray=...): its arguments take {each} devices on each "
            f"of {nodes} nodes, and this machine, whose are alike, has {len(found.devices)}; "
            "correct args= or nodes=."
        )
    return Allotment(among=found, count=each)


def _parallel(engine: str, words: Sequence[str]) -> Parallel:
    return parallel_of(engine, without_ray(engine, words)) or Parallel(devices=1)


class RayServing:
    """The part of one launch that is in the cluster; made by :meth:`join`.

    Used by one thread, but for the one it starts itself. ``pids`` are those of the ranks, on
    whichever node. ``accelerator`` are the devices of all nodes that serve, ``None`` where an
    agent could not tell; ``notes`` say why.
    """

    def __init__(self, cluster: Cluster, label: str, vendor: str) -> None:
        self._cluster = cluster
        self._label = label
        self._vendor = vendor
        self._used: set[str] = set()
        self._head = ""
        self._next = clock.Deadline(0.0)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble: ClusterError | None = None
        self._finished = False
        self._found: dict[str, Found] = {}
        self._heard: dict[str, list[Said]] = {}
        self._names: dict[str, str] = {}
        self._new: list[Condition] = []
        self._lock = threading.Lock()
        self.pids: tuple[int, ...] = ()
        self.accelerator: Accelerator | None = None
        self.notes: tuple[str, ...] = ()

    @classmethod
    def join(cls, request: ServerRequest, plan: LaunchPlan, vendor: str, label: str) -> RayServing:
        """Join the cluster of ``request`` and see that there is room for the server of ``plan``;
        ``label`` is what it will be known by. Raises ClusterError."""
        cluster = Cluster.join(request.ray or "", package=True)
        try:
            one = cls(cluster, label, vendor)
            one._check_room(request, plan)
        except BaseException:
            cluster.close()
            raise
        return one

    def _check_room(self, request: ServerRequest, plan: LaunchPlan) -> None:
        flags = RAY_FLAGS[request.engine]
        parallel = _parallel(request.engine, plan.argv)
        needed = (request.nodes or parallel.nodes) if flags.nodes else 1
        each = math.ceil(parallel.devices / needed) if flags.nodes else 1
        found = self._cluster.nodes()
        self._head = next((str(node) for node in found if node.head), "")
        lacks = serving.lacking(
            found, needed=needed, bundle={"CPU": 1, "GPU": each}, here=flags.here
        )
        if lacks:
            raise ClusterError(
                f"the Ray cluster at {self._cluster.address} has no room for the server",
                cause=lacks,
                remedy="correct args= and nodes=, or start nodes with as many (`ray start "
                "--num-gpus=...` says how many a node has)",
            )

    def adjusted(self, plan: LaunchPlan) -> LaunchPlan:
        """``plan``, told of the cluster."""
        workers = {name: value for name, value in plan.env if name != "RAY_ADDRESS"}
        told = environment(self._cluster.address, workers, self._label)
        env = tuple(sorted({**dict(plan.env), **told}.items()))
        note = f"its ranks run in the Ray cluster at {self._cluster.address}"
        return replace(plan, env=env, notes=(*plan.notes, note))

    # --- while it starts ----------------------------------------------------------------------

    def starting(self, tell: Progress) -> Progress:
        """``tell``, with a look at the cluster on the way: raises ClusterError where a node or a
        rank is gone."""

        def told(text: str, seconds: float) -> None:
            if self._next.passed:
                seen = self._look()
                self._next = clock.Deadline(PERIOD_S)
                waits = any(group.state == "PENDING" for group in seen.job.groups)
                text = "waiting for room in the Ray cluster" if waits else text
            tell(text, seconds)

        return told

    def _look(self, *, method: str = "") -> Survey:
        """Look once; raises what is wrong."""
        try:
            seen = self._cluster.call_within(
                _SILENCE_S, serving.survey, LABEL, self._label, method=method, seconds=_AGENTS_S
            )
        except ClusterError as error:
            head = f"its head, {self._head}, " if self._head else "its head "
            error.cause = f"{head}is gone, or cannot be reached from here"
            raise
        found = serving.trouble(seen, self._used)
        self._used |= seen.used
        if found is not None:
            raise found
        return seen

    def ready(self, kill: Callable[[], None]) -> tuple[RankPlace, ...]:
        """Where the ranks are, now that the server answers. From here on a thread looks after them,
        and calls ``kill`` where one is lost: the server would go on and answer nobody."""
        seen = self._look()
        self._names = {node.id: str(node) for node in seen.nodes}
        places = {node.id: node for node in seen.nodes}
        alive = [(name, actor) for name, actor in serving.ranks(seen.job) if actor.alive]
        self.pids = tuple(actor.pid for _, actor in alive)
        told = tuple(
            RankPlace(
                name=name,
                node=actor.node,
                host=places[actor.node].host,
                address=places[actor.node].address,
                devices=actor.devices,
            )
            for name, actor in alive
        )
        self._start_agents(told)
        self._thread = threading.Thread(
            target=self._watch, args=(kill,), name="llmperf-ray", daemon=True
        )
        self._thread.start()
        return told

    def _start_agents(self, ranks: Sequence[RankPlace]) -> None:
        nodes = list(dict.fromkeys(rank.node for rank in ranks))
        said = self._cluster.call_within(
            agents.START_S + _SILENCE_S, agents.start, nodes, Sampler, self._vendor
        )
        self._found = {one.node: one.value for one in said if not one.missing}
        self.notes = tuple(
            f"the devices of node {self._names[one.node]} are not seen: {one.missing}"
            for one in said
            if one.missing
        )
        self.notes += tuple(
            f"which of the devices of node {self._names[node]} serve is not known: Ray does not "
            "tell, and there are more than ranks"
            for node, found in self._found.items()
            if _serving(found, node, ranks) is None
        )
        if not self.notes:
            self.accelerator = _together(self._found, ranks)

    # --- while it serves ----------------------------------------------------------------------

    def _watch(self, kill: Callable[[], None]) -> None:
        while not self._over.wait(PERIOD_S):
            try:
                self._keep(self._look(method="look").said)
            except ClusterError as error:
                self._trouble = error
                kill()
                return

    def _keep(self, said: Sequence[Said]) -> None:
        with self._lock:
            for one in said:
                if one.missing:
                    continue
                self._heard.setdefault(one.node, []).append(replace(one, value=None))
                self._new += (
                    replace(each, at_ns=one.heard_ns + (each.at_ns or 0)) for each in one.value
                )

    def check(self) -> None:
        """Raise what was lost of the server."""
        if self._trouble is not None:
            raise self._trouble

    def settle(self) -> None:
        """Wait a while for nodes that do not answer: what is measured meanwhile is of no use."""
        deadline = clock.Deadline(_SETTLE_S)
        while self._trouble is None and self._silent() and not deadline.passed:
            clock.sleep(0.1)

    def _silent(self) -> bool:
        since_ns = clock.now_ns() - LARGEST_GAP_S * 1e9
        with self._lock:
            return any(said[-1].heard_ns < since_ns for said in self._heard.values())

    def silences(self, window: Window | None) -> list[str]:
        """Which nodes could not be reached for a while in ``window``, in words."""
        if window is None:
            return []
        with self._lock:
            heard = {node: [one.heard_ns for one in said] for node, said in self._heard.items()}
        return [
            f"node {self._names[node]} could not be reached for {longest:.1f} s: what was measured "
            "meanwhile says little about the server"
            for node, moments in heard.items()
            if (longest := _longest_gap_s(moments, window)) > LARGEST_GAP_S
        ]

    @contextmanager
    def watching(self, _: Accelerator) -> Iterator[Watcher | None]:
        """What tells the condition of the devices of all nodes; ``None`` where none of them can."""
        tells = [found for found in self._found.values() if found.period_s is not None]
        if not tells or self.accelerator is None:
            yield None
            return

        def look() -> Sequence[Condition]:
            with self._lock:
                new, self._new = self._new, []
            return new

        look()
        yield Watcher(
            look=look,
            period_s=max(PERIOD_S, *(found.period_s or 0.0 for found in tells)),
            source=f"{tells[0].source} over Ray",
            advice=tells[0].advice,
        )

    # --- and when it ends ---------------------------------------------------------------------

    def failed(self, error: BaseException) -> BaseException:
        """``error``, or a better one where the cluster knows which node it was."""
        if self._trouble is not None:
            return _told(self._trouble, error)
        if self._finished or not isinstance(error, ServerError) or isinstance(error, ClusterError):
            return error
        try:
            seen = self._cluster.call_within(_SILENCE_S, serving.survey, LABEL, self._label)
        except ClusterError:
            return error
        found = serving.trouble(seen, self._used)
        if found is not None:
            return _told(found, error)
        failed = serving.failed_to_start(seen.job)
        if failed is not None:
            name, actor = failed
            error.cause = f"{name}, on node {seen.node(actor.node)}: {error.cause or 'see its log'}"
        return error

    def finish(self) -> None:
        """Leave the cluster when nothing of the server is left there. May be called again. Raises
        ClusterError for what could not be ended."""
        if self._finished:
            return
        self._finished = True
        self._over.set()
        if self._thread is not None:
            self._thread.join(_JOIN_THREAD_S)
        try:
            self._see_it_gone()
        except ClusterError:
            # Where the cluster was lost, that is told already.
            if self._trouble is None:
                raise
        finally:
            self._cluster.close()

    def give_up(self, error: BaseException) -> None:
        """:meth:`finish` after an ``error``, which also tells what could not be ended."""
        try:
            self.finish()
        except ClusterError as left:
            if not isinstance(error, ServerError):
                raise
            error.remedy = "; ".join(part for part in (error.remedy, left.summary) if part)

    def _see_it_gone(self) -> None:
        left = self._cluster.call_within(
            _CLEAN_S + _SILENCE_S, await_end, LABEL, self._label, _CLEAN_S
        )
        if left.holds or not (left.over or left.id is None):
            raise ClusterError(
                "the server has ended, but the Ray cluster still holds what it made: "
                f"{', '.join(left.holds) or f'its job {left.id}'}",
                remedy=f"end job {left.id} by hand, see `ray list actors`",
            )


def end_process(pid: int) -> Callable[[], None]:
    """Has the server's own process, which we started, end at once."""

    def end() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    return end


def _told(found: ClusterError, error: BaseException) -> ClusterError:
    """What the cluster knows, with what the server's own error shows of it."""
    if isinstance(error, ServerError):
        found.argv = found.argv or error.argv
        found.log_tail = found.log_tail or error.log_tail
        found.log_path = found.log_path or error.log_path
    return found


def _longest_gap_s(moments: Sequence[int], window: Window) -> float:
    """The longest time between two answers that reaches into ``window``."""
    known = [*moments, window.end_ns] if moments and moments[-1] < window.end_ns else moments
    gaps = [
        later - earlier
        for earlier, later in pairwise(known)
        if later > window.start_ns and earlier < window.end_ns
    ]
    return max(gaps, default=0) / 1e9


def _serving(found: Found, node: str, ranks: Sequence[RankPlace]) -> tuple[Device, ...] | None:
    """The devices of a node that serve; ``None`` where that cannot be told."""
    devices = found.accelerator.devices
    here = [rank for rank in ranks if rank.node == node]
    numbers = {number for rank in here for number in rank.devices}
    if numbers:
        return tuple(one for one in devices if str(one.visible_as or one.index) in numbers)
    whole = found.accelerator.vendor == "cpu" or len(devices) <= len(here)
    return devices if whole else None


def _together(found: Mapping[str, Found], ranks: Sequence[RankPlace]) -> Accelerator:
    """The devices that serve, of all nodes, each once."""
    first = next(iter(found.values())).accelerator
    serving_ = (_serving(told, node, ranks) or () for node, told in found.items())
    devices = {device.uuid: device for each in serving_ for device in each}
    return replace(first, devices=tuple(devices.values()))
