"""One helper on each node: an actor that makes a thing there and does what it is asked with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf import clock

from .member import Member, said_by

#: For a process to be started and to have made its thing: drivers of accelerators take their time.
START_S = 60.0
_KEPT = "agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the agent on a node answered, heard at ``heard_ns`` of our clock; ``missing`` says why
    it did not, in words."""

    node: str
    value: Any = None
    heard_ns: int = 0
    missing: str = ""


class _Agent:
    """Runs on a node."""

    def __init__(self, make: Callable[..., object], args: Sequence[object]) -> None:
        self._thing = make(*args)

    def do(self, method: str) -> object:
        return getattr(self._thing, method)()


@dataclass(slots=True)
class _Asked:
    """An agent, and the answer that it owes."""

    node: str
    actor: Any
    pending: Any = None


def start(
    member: Member, nodes: Sequence[str], make: Callable[..., object], *args: object
) -> tuple[Said, ...]:
    """Have ``make(*args)`` called on each of ``nodes``, by their ids; what its ``found()`` says
    there. It takes no processors from those who serve. Agents that could not start are none."""
    started = [
        _Asked(
            node=node,
            actor=member.actor_on(node, _Agent, "agent", node[:8], cpus=0).remote(make, args),
        )
        for node in nodes
    ]
    member.kept[_KEPT] = started
    said = _all(started, "found", START_S)
    member.kept[_KEPT] = [one for one, told in zip(started, said, strict=True) if not told.missing]
    return said


def ask(member: Member, method: str, seconds: float) -> tuple[Said, ...]:
    """What ``method()`` says on each node, from those that answer within so many seconds. One that
    has not is not asked again before it has: its answer is then of no use any more."""
    return _all(member.kept.get(_KEPT, []), method, seconds)


def _all(agents: Sequence[_Asked], method: str, seconds: float) -> tuple[Said, ...]:
    import ray

    late = {one.node for one in agents if one.pending is not None and not _over(one)}
    for one in agents:
        if one.node not in late:
            one.pending = one.actor.do.remote(method)
    deadline = clock.Deadline(seconds)
    waiting = {one.pending: one for one in agents if one.node not in late}
    said = {node: Said(node=node, missing="it has not answered yet") for node in late}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=deadline.left)
        if not done:
            break
        one = waiting.pop(done[0])
        said[one.node] = _heard(one)
    for one in waiting.values():
        missing = f"it did not answer within {seconds:g} s"
        said[one.node] = Said(node=one.node, missing=missing)
    return tuple(said[one.node] for one in agents)


def _over(one: _Asked) -> bool:
    """Whether what was asked before has been answered meanwhile."""
    import ray

    if not ray.wait([one.pending], timeout=0)[0]:
        return False
    one.pending = None
    return True


def _heard(one: _Asked) -> Said:
    import ray
    from ray.exceptions import RayError

    heard_ns = clock.now_ns()
    reference, one.pending = one.pending, None
    try:
        value = ray.get(reference)
    except (RayError, ImportError) as error:
        return Said(node=one.node, missing=said_by(error))
    return Said(node=one.node, value=value, heard_ns=heard_ns)
