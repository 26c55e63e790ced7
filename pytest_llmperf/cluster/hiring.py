"""Starting workers of the load client on nodes of a cluster. Called in a member."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ClientError

from .ferry import LOST_S, Ferry, Unheard
from .member import Member
from .relay import Place, Relay

#: For a process that has to be started, with a copy of this package.
START_S = 90.0
_CONNECT_S = 5.0
_END_S = 3.0
_CALLS_AT_ONCE = 4
#: How many were hired before, for names that no two have.
_HIRED = "load workers hired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted: a worker on each of ``nodes``, ids and names, that can reach ``host`` and
    ``port``. Where those mean another machine on every machine, ``network`` names ours. Sockets
    and spill files lie in ``directory``."""

    directory: str
    nodes: tuple[tuple[str, str], ...]
    host: str
    port: int
    network: str = ""

    def socket(self, number: int) -> str:
        """Where the worker's other end listens."""
        return str(Path(self.directory, f"{number}.sock"))

    def spill(self, number: int) -> str:
        """The file for what it sees."""
        return str(Path(self.directory, f"{number}.spill"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hired:
    """``node`` names where a worker is, ``pid`` is of its process there."""

    node: str
    pid: int


def hire(member: Member, order: Order) -> tuple[Hired, ...]:
    """A worker on each node. Raises :class:`~pytest_llmperf.errors.ClientError`, naming the node,
    with none of them left."""
    calls = [_started(member, order, number) for number in range(len(order.nodes))]
    try:
        places = [
            _placed(order, name, call) for call, (_, name) in zip(calls, order.nodes, strict=True)
        ]
        for number, call in enumerate(calls):
            _set_out(order, number, call)
    except BaseException:
        for call in calls:
            call.end()
        raise
    return tuple(
        Hired(node=name, pid=place.pid)
        for place, (_, name) in zip(places, order.nodes, strict=True)
    )


class Calls:
    """Calls to one actor; see :class:`~.ferry.Remote`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        # Asked for at once, so that workers start beside each other.
        self.place = actor.place.remote()

    def __call__(self, method: str, *args: Any, within_s: float = LOST_S) -> Any:
        return self.get(getattr(self._actor, method).remote(*args), within_s)

    def get(self, reference: Any, within_s: float) -> Any:
        """Raises :class:`~.ferry.Unheard`."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            return ray.get(reference, timeout=within_s)
        except GetTimeoutError:
            raise Unheard(f"it did not answer within {within_s:g} s") from None
        except RayError as error:
            raise Unheard(_in_short(error)) from None

    def end(self) -> None:
        """End the actor and with it the worker, whatever state they are in."""
        import ray

        ray.wait([self._actor.close.remote()], timeout=_END_S)
        ray.kill(self._actor, no_restart=True)


def _in_short(error: Exception) -> str:
    """Ray's errors go on over many lines, of which the first say most."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:600] or type(error).__name__


def _started(member: Member, order: Order, number: int) -> Calls:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node, _ = order.nodes[number]
    member.kept[_HIRED] = made = member.kept.get(_HIRED, 0) + 1
    actor = ray.remote(Relay).options(
        name=member.name("load", made),
        num_cpus=1,
        max_concurrency=_CALLS_AT_ONCE,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    return Calls(actor.remote())


def _placed(order: Order, name: str, call: Calls) -> Place:
    try:
        place: Place = call.get(call.place, START_S)
        unreached = call("reach", order.host, order.port, _CONNECT_S)
    except Unheard as why:
        raise ClientError(f"a worker of the load could not be started on {name}: {why}") from None
    if order.network and place.network != order.network:
        raise ClientError(
            f"the server listens on {order.host}, which is another machine's own on {name}; have "
            "it listen on an address of its network and name that with --llmperf-url."
        )
    if unreached:
        raise ClientError(
            f"the server at {order.host}:{order.port} cannot be reached from {name}: {unreached}; "
            "have it listen on an address that all nodes reach."
        )
    return place


def _set_out(order: Order, number: int, call: Calls) -> None:
    """Connect a worker with its other end."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(order.socket(number))
    spill = Path(order.spill(number)).open("r+b")  # noqa: SIM115 - closed by the thread

    def carry() -> None:
        with line, spill:
            try:
                Ferry(call, order.nodes[number][1], line, spill.fileno()).run()
            finally:
                call.end()

    threading.Thread(target=carry, daemon=True).start()
