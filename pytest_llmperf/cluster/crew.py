"""The load client's workers, found in a Ray cluster: our end of them."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError, ClusterError, UsageMistake
from pytest_llmperf.load.line import SILENCE_S, Line

from .hiring import Hired, Order, hire
from .join import Cluster
from .messages import ClusterNode
from .placing import chosen, most, named, slots
from .relay import here

if TYPE_CHECKING:
    from pytest_llmperf.load.messages import Command, Reply

#: A worker's process has to be started, with a copy of this package.
HIRE_TIMEOUT_S = 120.0
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
    spread over the nodes, those off the server's first."""

    #: News travel over a network, through processes that may have to wait for a core.
    lead_ns = 500_000_000

    def __init__(self, cluster: Cluster, url: str, *, wanted: int | None = None) -> None:
        self._cluster = cluster
        self._server = _server(url)
        nodes = cluster.nodes()
        self._avoided = _avoided(self._server[0], nodes)
        if is_loopback(self._server[0]):
            _check_here(url, nodes)
        self._found = self._free(wanted or 1)

    @property
    def most(self) -> int:
        """As many as have a core off the server's node, or on it where there is no other."""
        return max(1, most(self._found, self._avoided))

    def _free(self, wanted: int) -> list[ClusterNode]:
        """A node for each worker that there can be, once there can be so many."""
        deadline = clock.Deadline(_FREE_S)
        while True:
            found = slots(self._cluster.nodes(), self._avoided)
            if len(found) >= wanted or deadline.passed:
                return found
            clock.sleep(0.2)

    def hire(self, first: int, count: int) -> Sequence[RayHand]:
        nodes = chosen(self._found, first, count)
        host, port = self._server
        with tempfile.TemporaryDirectory(prefix="llmperf-", dir=_short_directory()) as directory:
            order = Order(
                directory=directory,
                nodes=tuple((node.id, named(node, self._found)) for node in nodes),
                host=host,
                port=port,
                network=here(os.getpid()).network if is_loopback(host) else "",
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
            hired = self._cluster.call_within(HIRE_TIMEOUT_S, hire, order)
            hands = [
                RayHand(hired=one, socket=_accepted(line), spill=spill)
                for one, line, spill in zip(hired, listening, spills, strict=True)
            ]
            until_hired.pop_all()
        return hands


class RayLoad:
    """The cluster at ``address`` for a session's load, joined when it is first needed and again
    after it was lost. ``workers`` is how many are wanted, by default as many as a load needs."""

    def __init__(
        self,
        address: str,
        workers: int | None,
        join: Callable[[str], Cluster] = lambda address: Cluster.join(address, package=True),
    ) -> None:
        self.workers = workers
        self._address = address
        self._join = join
        self._cluster: Cluster | None = None

    def crew(self, url: str) -> RayCrew:
        """Workers for the server at ``url``. Raises ClusterError where there is no cluster, and
        UsageMistake where none of its nodes can reach the server."""
        if self._cluster is not None:
            try:
                return RayCrew(self._cluster, url, wanted=self.workers)
            except ClusterError:
                self.close()
        self._cluster = self._join(self._address)
        return RayCrew(self._cluster, url, wanted=self.workers)

    def close(self) -> None:
        """Leave the cluster, if it was joined."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()


def is_loopback(host: str) -> bool:
    """Whether an address means another machine on every machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _server(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _avoided(host: str, nodes: Sequence[ClusterNode]) -> set[str]:
    """The addresses of the nodes that the server runs on."""
    if is_loopback(host):
        return {node.address for node in nodes if node.here}
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        found = {host}
    return found & {node.address for node in nodes}


def _check_here(url: str, nodes: Sequence[ClusterNode]) -> None:
    own = {node.address for node in nodes if node.here}
    elsewhere = [str(node) for node in nodes if node.alive and node.address not in own]
    if elsewhere:
        raise UsageMistake(
            f"--llmperf-ray: the server listens on {url}, which is this machine's own; workers on "
            f"{', '.join(elsewhere)} cannot reach it. Have it listen on an address of its network "
            "and name that with --llmperf-url, or leave --llmperf-ray out."
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
