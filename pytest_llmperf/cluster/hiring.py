"""Starting workers of the load client on nodes of a cluster. Called in a member."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError

from .ferry import LOST_S, Ferry, Unheard
from .member import Member, said_by
from .relay import Place, Relay

#: For all of them, each a process that has to be started with a copy of this package.
START_S = 90.0
_CONNECT_S = 5.0
_END_S = 3.0
#: Nobody need wait longer for :func:`hire`.
HIRE_S = START_S + _END_S + 20.0
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
    deadline = clock.Deadline(START_S)
    try:
        places = _placed(order, calls, deadline)
        _check_reach(order, calls, deadline)
        for number, call in enumerate(calls):
            _set_out(order, number, call)
    except BaseException:
        end(calls)
        raise
    return tuple(
        Hired(node=name, pid=place.pid)
        for place, (_, name) in zip(places, order.nodes, strict=True)
    )


class Calls:
    """Calls to one actor; see :class:`~.ferry.Remote`."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        # Asked for at once, so that workers start beside each other.
        self.place = actor.place.remote()

    def __call__(self, method: str, *args: Any, within_s: float = LOST_S) -> Any:
        return self.get(self.ask(method, *args), within_s)

    def ask(self, method: str, *args: Any) -> Any:
        """The reference to an answer."""
        return getattr(self.actor, method).remote(*args)

    def get(self, reference: Any, within_s: float) -> Any:
        """Raises :class:`~.ferry.Unheard`."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            return ray.get(reference, timeout=within_s)
        except GetTimeoutError:
            raise Unheard(f"it did not answer within {within_s:g} s") from None
        except RayError as error:
            raise Unheard(said_by(error)) from None


def end(calls: Sequence[Calls]) -> None:
    """End actors and with them their workers, whatever state they are in."""
    import ray

    closing = [call.ask("close") for call in calls]
    ray.wait(closing, num_returns=len(closing), timeout=_END_S)
    for call in calls:
        ray.kill(call.actor, no_restart=True)


def _started(member: Member, order: Order, number: int) -> Calls:
    node, _ = order.nodes[number]
    member.kept[_HIRED] = made = member.kept.get(_HIRED, 0) + 1
    actor = member.actor_on(node, Relay, "load", made, cpus=1, max_concurrency=_CALLS_AT_ONCE)
    return Calls(actor.remote())


def _placed(order: Order, calls: Sequence[Calls], deadline: clock.Deadline) -> list[Place]:
    """Where they are, once all have started."""
    places: list[Place] = []
    for call, (_, name) in zip(calls, order.nodes, strict=True):
        try:
            places.append(call.get(call.place, deadline.left))
        except Unheard as why:
            said = f"it was not there within {deadline.seconds:g} s" if deadline.passed else why
            raise ClientError(
                f"a worker of the load could not be started on {name}: {said}"
            ) from None
        if order.network and places[-1].network != order.network:
            raise ClientError(
                f"the server listens on {order.host}, which is another machine's own on {name}; "
                "have it listen on an address of its network: --llmperf-bind where it is started "
                "here, else --llmperf-url."
            )
    return places


def _check_reach(order: Order, calls: Sequence[Calls], deadline: clock.Deadline) -> None:
    asked = [call.ask("reach", order.host, order.port, _CONNECT_S) for call in calls]
    for call, reference, (_, name) in zip(calls, asked, order.nodes, strict=True):
        try:
            unreached = call.get(reference, max(deadline.left, _CONNECT_S))
        except Unheard as why:
            raise ClientError(f"the load's worker on {name} is lost: {why}") from None
        if unreached:
            raise ClientError(
                f"the server at {order.host}:{order.port} cannot be reached from {name}: "
                f"{unreached}; have it listen on an address that all nodes reach, by "
                "--llmperf-bind where it is started here, and see that no firewall is between."
            )


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
                end([call])

    threading.Thread(target=carry, daemon=True).start()
