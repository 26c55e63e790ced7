"""The load client's workers, found in a Ray cluster: our end of them."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError, ClusterError, UsageMistake
from pytest_llmperf.launch.addresses import is_loopback, is_own
from pytest_llmperf.load.line import SILENCE_S, Line
from pytest_llmperf.load.send.connect import parse_origin

from .hiring import HIRE_S, Hired, Order, hire
from .join import Cluster
from .messages import ClusterNode
from .placing import Ours, chosen, most, named, slots
from .relay import network

if TYPE_CHECKING:
    from pytest_llmperf.load.messages import Command, Reply

T = TypeVar("T")

#: Cores that were held until a moment ago take some time to be free.
_FREE_S = 10.0
#: For a worker to be ended.
_END_S = 10.0
#: What the path of a socket may have (``sun_path``), less the name of one.
_MOST_PATH = 80


@dataclass(slots=True, kw_only=True)
class RayHand:
    """One worker; see :class:`~pytest_llmperf.load.hand.Hand`."""

    hired: Hired
    socket: socket.socket
    spill: IO[bytes]
    on_end: Callable[[], None] = lambda: None

    @property
    def pid(self) -> int:
        return self.hired.pid

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def _line(self) -> Line:
        if self.socket.fileno() < 0:
            raise ClientError("the load client is closed")
        return Line(
            self.socket.fileno(),
            self.socket.fileno(),
            died=self._died,
            give_up=self.close,
            name=f"the load's worker on {self.hired.node}",
        )

    def tell(self, command: Command) -> None:
        self._line.tell(command)

    def hear(self, silence_s: float = SILENCE_S) -> Reply:
        return self._line.hear(silence_s)

    def _died(self) -> ClientError:
        return ClientError(
            f"the load's worker on {self.hired.node} is lost: what joins us to the Ray cluster has "
            "ended, as Ray's drivers do when the head is gone; nothing that it measured can be "
            "believed."
        )

    def close(self) -> None:
        """Returns once it asks no more, as far as that can be heard."""
        if self.socket.fileno() >= 0:
            _hang_up(self.socket)
            self.on_end()
        self.socket.close()
        self.spill.close()


def _hang_up(line: socket.socket) -> None:
    """Wait until the other end has hung up too, which it does when it has ended the worker."""
    deadline = clock.Deadline(_END_S)
    try:
        line.shutdown(socket.SHUT_WR)
        while not deadline.passed:
            line.settimeout(max(0.01, deadline.left))
            if not line.recv(1 << 16):
                return
    except OSError:
        return  # it has gone already, or says nothing: its job's end is the worker's


class RayCrew:
    """Workers that ask the server at ``url``; see :class:`~pytest_llmperf.load.hand.Crew`. They are
    spread over the nodes, those off the server's first: ``serving`` are addresses of the nodes that
    it runs on beside that of its own. ``ours`` is what this session has in the cluster."""

    #: News travel over a network, through processes that may have to wait for a core.
    lead_ns = 500_000_000

    def __init__(
        self,
        cluster: Cluster,
        url: str,
        *,
        wanted: int | None = None,
        serving: Collection[str] = (),
        ours: Ours | None = None,
    ) -> None:
        self._cluster = cluster
        self._origin = parse_origin(url)
        self._ours = ours or Ours()
        self.wanted = wanted
        nodes = cluster.nodes()
        self._avoided = _avoided(self._origin.host, nodes).union(serving)
        _check_within_reach(self._origin.host, nodes)
        self._found = self._free(wanted)

    @property
    def most(self) -> int:
        """As many as have a core off the server's node, or on it where there is no other."""
        return max(1, most(self._found, self._avoided))

    def _free(self, wanted: int | None) -> list[ClusterNode]:
        """A node for each worker that there can be: once there can be as many as are wanted, and
        as many of them off the server's nodes as there have ever been."""
        deadline = clock.Deadline(_FREE_S)
        while True:
            nodes = self._cluster.nodes()
            self._ours.note(nodes)
            found = slots(nodes, self._avoided)
            others = [one for one in nodes if one.alive and one.address not in self._avoided]
            awaited = sum(map(self._ours.awaited, others))
            off = sum(node.address not in self._avoided for node in found)
            if len(found) >= (wanted or 1) and off >= min(awaited, wanted or awaited):
                return found
            if deadline.passed:
                self._ours.accept(nodes)
                return found
            clock.sleep(0.2)

    def hire(self, first: int, count: int) -> Sequence[RayHand]:
        nodes = chosen(self._found, first, count)
        host = self._origin.host
        with tempfile.TemporaryDirectory(prefix="llmperf-", dir=_short_directory()) as directory:
            order = Order(
                directory=directory,
                nodes=tuple((node.id, named(node, self._found)) for node in nodes),
                host=host,
                port=self._origin.port,
                network=network() if is_loopback(host) else "",
            )
            return self._hired(order)

    def _hired(self, order: Order) -> list[RayHand]:
        numbers = range(len(order.nodes))
        with ExitStack() as until_hired, ExitStack() as lines:
            listening = [
                lines.enter_context(_listening(order.socket(number))) for number in numbers
            ]
            spills = [
                until_hired.enter_context(Path(order.spill(number)).open("w+b"))
                for number in numbers
            ]
            hired = self._cluster.call_within(HIRE_S, hire, order)
            hands = [
                RayHand(
                    hired=one,
                    socket=_accepted(line),
                    spill=spill,
                    on_end=partial(self._ours.give_back, node),
                )
                for one, (node, _), line, spill in zip(
                    hired, order.nodes, listening, spills, strict=True
                )
            ]
            for node, _ in order.nodes:
                self._ours.take(node)
            until_hired.pop_all()
        return hands


class RayLoad:
    """The cluster at ``address`` for a session's load, joined when it is first needed and again
    after it was lost. ``workers`` is how many are wanted, by default as many as a load needs."""

    def __init__(
        self,
        address: str,
        workers: int | None,
        join: Callable[[str], Cluster] = Cluster.join,
    ) -> None:
        self._workers = workers
        self._address = address
        self._join = join
        self._cluster: Cluster | None = None
        self._ours = Ours()

    def crew(self, url: str, serving: Collection[str] = ()) -> RayCrew:
        """Workers for the server at ``url``, which has ranks at the addresses ``serving``. Raises
        ClusterError where there is no cluster, and UsageMistake where some of its nodes cannot
        reach the server."""
        return self._joined(
            lambda cluster: RayCrew(
                cluster, url, wanted=self._workers, serving=serving, ours=self._ours
            )
        )

    def check(self, host: str) -> None:
        """Raise what :meth:`crew` would for a server that is yet to be started at ``host``, as far
        as its address tells."""
        self._joined(lambda cluster: _check_within_reach(host, cluster.nodes()))

    def _joined(self, do: Callable[[Cluster], T]) -> T:
        if self._cluster is not None:
            try:
                return do(self._cluster)
            except ClusterError:
                self.close()
        self._cluster, self._ours = self._join(self._address), Ours()
        return do(self._cluster)

    def close(self) -> None:
        """Leave the cluster, if it was joined."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()


def _avoided(host: str, nodes: Sequence[ClusterNode]) -> set[str]:
    """The addresses of the nodes that the server runs on."""
    here = {node.address for node in nodes if node.here and is_own(host)}
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        found = {host}
    return here | found & {node.address for node in nodes}


def _check_within_reach(host: str, nodes: Sequence[ClusterNode]) -> None:
    """Raise UsageMistake for an address that means another machine on some of the nodes."""
    if not is_loopback(host):
        return
    own = {node.address for node in nodes if node.here}
    elsewhere = [str(node) for node in nodes if node.alive and node.address not in own]
    if elsewhere:
        raise UsageMistake(
            f"--llmperf-ray: the server listens on {host}, which is this machine's own; workers on "
            f"{', '.join(elsewhere)} cannot reach it. Name the address of this machine that they "
            "reach with --llmperf-bind, or where the server is not started here with "
            "--llmperf-url; or leave --llmperf-ray out."
        )


def _short_directory() -> str:
    directory = tempfile.gettempdir()
    return directory if len(directory) <= _MOST_PATH else "/tmp"  # noqa: S108 - made by mkdtemp


def _listening(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.bind(path)
    line.listen(1)
    return line


def _accepted(line: socket.socket) -> socket.socket:
    """The member has connected before it told us that all are hired."""
    line.setblocking(False)
    connection, _ = line.accept()
    connection.setblocking(True)
    return connection
