"""A server whose ranks Ray runs: what it is told, watching all of it, leaving nothing behind."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

from pytest_llmperf import clock
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.accelerators.sampling import Found, Sampler
from pytest_llmperf.cluster import agents, serving
from pytest_llmperf.cluster.agents import Said
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.messages import JobSeen
from pytest_llmperf.cluster.serving import Survey
from pytest_llmperf.cluster.state import await_end
from pytest_llmperf.engines.over_ray import LABEL, RAY_FLAGS, environment
from pytest_llmperf.errors import ClusterError, ServerError
from pytest_llmperf.metrics.energy import LARGEST_GAP_S, Window
from pytest_llmperf.records import Accelerator, Device, LaunchPlan, RankPlace, ServerRequest

from .devices_over_ray import place, serving_devices, spread_of, together
from .ranks import Progress

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
_STATED = {"GPU": "--num-gpus=..."}
_STATED_ELSE = "--resources=..."


class RayServing:
    """The part of one launch that is in the cluster; made by :meth:`join`. See
    :class:`~.ranks.Ranks`.

    Used by one thread, but for the one that it starts itself: what both change is behind ``_news``.
    ``accelerator`` are the devices of all nodes that serve, ``None`` where an agent could not tell;
    ``notes`` say why. ``planned`` is what was expected of them.
    """

    def __init__(self, cluster: Cluster, label: str, planned: Accelerator) -> None:
        self._cluster = cluster
        self._label = label
        self._planned = planned
        self._used: set[str] = set()
        self._waits = False
        self._head = ""
        self._next = clock.Deadline(0.0)
        self._thread: threading.Thread | None = None
        self._finished = False
        self._found: dict[str, Found] = {}
        self._names: dict[str, str] = {}
        self._here = ""
        self._pids: dict[str, list[int]] = {}
        self._news = threading.Condition()
        self._over = False
        self._trouble: ClusterError | None = None
        self._heard: dict[str, list[Said]] = {}
        self._new: list[Condition] = []
        self._asked_ns = 0
        self._wanted_ns = 0
        self.places: tuple[RankPlace, ...] | None = None
        self.accelerator: Accelerator | None = None
        self.notes: tuple[str, ...] = ()

    @classmethod
    def join(
        cls, request: ServerRequest, plan: LaunchPlan, planned: Accelerator, label: str
    ) -> RayServing:
        """Join the cluster of ``request`` and see that there is room for the server of ``plan``;
        ``label`` is what it will be known by. Raises ClusterError."""
        cluster = Cluster.join(request.ray or "")
        try:
            one = cls(cluster, label, planned)
            one._check_room(request, plan)
        except BaseException:
            cluster.close()
            raise
        return one

    def _check_room(self, request: ServerRequest, plan: LaunchPlan) -> None:
        flags = RAY_FLAGS[request.engine]
        parallel = spread_of(request.engine, plan.argv)
        resource = flags.resource(self._planned.vendor)
        needed = (request.nodes or parallel.nodes) if flags.nodes else 1
        each = math.ceil(parallel.devices / needed) if flags.nodes else 1
        found = self._cluster.nodes()
        self._head = next((str(node) for node in found if node.head), "")
        lacks = serving.lacking(
            found, needed=needed, bundle={"CPU": 1, resource: each}, here=flags.here
        )
        if lacks:
            raise ClusterError(
                f"the Ray cluster at {self._cluster.address} has no room for the server",
                cause=lacks,
                remedy="correct args= and nodes=, or start nodes with as many "
                f"(`ray start {_STATED.get(resource, _STATED_ELSE)}` says how many a node has)",
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
                self._waits = any(group.state == "PENDING" for group in seen.job.groups)
                text = "waiting for room in the Ray cluster" if self._waits else text
            tell(text, seconds)

        return told

    def _look(self, *, method: str = "") -> Survey:
        """Look once; raises what is wrong."""
        try:
            seen = self._cluster.call_within(
                _SILENCE_S, serving.survey, LABEL, self._label, method=method, seconds=_AGENTS_S
            )
        except ClusterError as error:
            if self._cluster.left:
                head = f"its head, {self._head}, " if self._head else "its head "
                error.cause = f"{head}is gone, or cannot be reached from here"
            raise
        found = serving.trouble(seen, self._used)
        self._used |= seen.used
        if found is not None:
            raise found
        return seen

    def ready(self, kill: Callable[[], None]) -> None:
        """A thread looks after the ranks from here on, and calls ``kill`` where one is lost: the
        server would go on and answer nobody."""
        seen = self._look()
        nodes = {node.id: node for node in seen.nodes}
        self._names = {id_: str(node) for id_, node in nodes.items()}
        self._here = next((node.id for node in seen.nodes if node.here), "")
        # One that Ray has not placed yet is none that the server waits for.
        placed = [(name, one) for name, one in serving.ranks(seen.job) if one.node in nodes]
        alive = [(name, actor) for name, actor in placed if actor.alive]
        for _, actor in alive:
            self._pids.setdefault(actor.node, []).append(actor.pid)
        self.places = tuple(place(name, actor, nodes[actor.node]) for name, actor in alive)
        self._start_agents(self.places)
        self._thread = threading.Thread(
            target=self._watch, args=(kill,), name="llmperf-ray", daemon=True
        )
        self._thread.start()

    @property
    def pids(self) -> Sequence[int]:
        """The ranks on this machine."""
        return self._pids.get(self._here, ())

    def sharing(self, device: Device, here: Sequence[int]) -> Sequence[int]:
        """Process ids mean another process on each machine."""
        on = [node for node, told in self._found.items() if device in told.accelerator.devices]
        return here if self._here in on or not on else self._pids.get(on[0], ())

    def _start_agents(self, ranks: Sequence[RankPlace]) -> None:
        nodes = list(dict.fromkeys(rank.node for rank in ranks))
        said = self._cluster.call_within(
            agents.START_S + _SILENCE_S, agents.start, nodes, Sampler, self._planned.vendor
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
            if serving_devices(found, node, ranks) is None
        )
        if not self.notes:
            self.accelerator = together(self._found, ranks, self._planned)

    # --- while it serves ----------------------------------------------------------------------

    def _watch(self, kill: Callable[[], None]) -> None:
        while self._goes_on():
            asked_ns = clock.now_ns()
            try:
                self._keep(self._look(method="look").said, asked_ns)
            except ClusterError as error:
                self._lose(error, kill)
                return

    def _goes_on(self) -> bool:
        """Whether to look again: after a while, or as soon as somebody wants to know."""
        with self._news:
            self._news.wait_for(lambda: self._over or self._asked_ns < self._wanted_ns, PERIOD_S)
            return not self._over

    def _lose(self, error: ClusterError, kill: Callable[[], None]) -> None:
        with self._news:
            if not self._over:
                self._trouble = error
                self._news.notify_all()
                kill()

    def let_go(self) -> None:
        """What is lost of the ranks from here on is so because their server is stopped."""
        with self._news:
            self._over = True
            self._news.notify_all()

    def _keep(self, said: Sequence[Said], asked_ns: int) -> None:
        with self._news:
            for one in said:
                if one.missing:
                    continue
                self._heard.setdefault(one.node, []).append(replace(one, value=None))
                self._new += (
                    replace(each, at_ns=one.heard_ns + (each.at_ns or 0)) for each in one.value
                )
            self._asked_ns = asked_ns
            self._news.notify_all()

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
        with self._news:
            return any(said[-1].heard_ns < since_ns for said in self._heard.values())

    def silences(self, window: Window | None) -> list[str]:
        """Which nodes could not be reached for a while in ``window``, in words."""
        if window is None:
            return []
        with self._news:
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

        self._taken()
        self._await_news()  # energy is told from before the first request
        yield Watcher(
            look=self._watched,
            period_s=max(PERIOD_S, *(found.period_s or 0.0 for found in tells)),
            source=f"{tells[0].source} over Ray",
            advice=tells[0].advice,
        )

    def _watched(self) -> Sequence[Condition]:
        """The devices as they are now, and as they were since the last call."""
        self._await_news()
        return self._taken()

    def _await_news(self) -> None:
        """Until the agents have been asked once more, for as long as a look may take."""
        with self._news:
            self._wanted_ns = wanted_ns = clock.now_ns()
            self._news.notify_all()
            self._news.wait_for(
                lambda: self._asked_ns >= wanted_ns or self._over or self._trouble is not None,
                PERIOD_S + _AGENTS_S,
            )

    def _taken(self) -> Sequence[Condition]:
        with self._news:
            new, self._new = self._new, []
        return new

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
        elif self._waits and error.exit_status is None:
            error.cause = "it still waited for room in the Ray cluster: others hold what it needs"
            error.remedy = "see `ray status` for who they are, or give it more time with timeout="
        return error

    def finish(self) -> None:
        """Leave the cluster when nothing of the server is left there. May be called again. Raises
        ClusterError for what could not be ended."""
        if self._finished:
            return
        self._finished = True
        self.let_go()
        if self._thread is not None:
            self._thread.join(_JOIN_THREAD_S)
        try:
            left = self._left()
        except ClusterError:
            # Where the cluster was lost, that is told already.
            if self._trouble is None:
                raise
            return
        finally:
            self._cluster.close()
        _check_gone(left)

    def give_up(self, error: BaseException) -> None:
        """:meth:`finish` after an ``error``, which also tells what could not be ended."""
        try:
            self.finish()
        except ClusterError as left:
            if isinstance(error, ServerError):
                error.remedy = "; ".join(part for part in (error.remedy, left.summary) if part)
            elif isinstance(error, Exception):
                raise
            else:
                error.add_note(str(left))

    def _left(self) -> JobSeen:
        return self._cluster.call_within(
            _CLEAN_S + _SILENCE_S, await_end, LABEL, self._label, _CLEAN_S
        )


def _check_gone(left: JobSeen) -> None:
    if left.holds or not (left.over or left.id is None):
        raise ClusterError(
            "the server has ended, but the Ray cluster still holds what it made: "
            f"{', '.join(left.holds) or f'its job {left.id}'}",
            remedy=f"end job {left.id} by hand, see `ray list actors`",
        )


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
