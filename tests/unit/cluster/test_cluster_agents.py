"""Helpers on nodes, over a double of Ray that answers when it is told to."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster import agents
from pytest_llmperf.cluster.member import Member, said_by


class RayError(Exception):
    """Ray's."""


@dataclass(eq=False)
class Ref:
    value: Any = None
    ready: bool = True


@dataclass
class Ray:
    """As much of Ray as agents use. ``slow`` are the nodes whose calls are not answered."""

    slow: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def remote(self, kind: type) -> Remote:
        return Remote(self, kind)

    def wait(
        self, refs: Sequence[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        done = [ref for ref in refs if ref.ready][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value


@dataclass
class Remote:
    ray: Ray
    kind: type
    said: dict[str, Any] = field(default_factory=dict)

    def options(self, **said: Any) -> Remote:
        self.ray.made.append(said)
        return Remote(self.ray, self.kind, said)

    def remote(self, *args: Any) -> Any:
        node, _ = self.said["scheduling_strategy"]
        if node in self.ray.broken:
            thing: Any = None
        else:
            thing = self.kind(*args)

        def do(method: str) -> Ref:
            self.ray.calls.append(node)
            if node in self.ray.broken:
                return Ref(RayError(self.ray.broken[node]))
            if node in self.ray.slow:
                return Ref("too late", ready=False)
            return Ref(thing.do(method))

        return types.SimpleNamespace(do=types.SimpleNamespace(remote=do))


@pytest.fixture
def ray(install: Callable[..., None]) -> Ray:
    double = Ray()
    install(double, RayError=RayError)
    return double


class Thing:
    def __init__(self, word: str) -> None:
        self._word = word

    def found(self) -> str:
        return f"found {self._word}"

    def look(self) -> str:
        return f"saw {self._word}"


@pytest.fixture
def member() -> Member:
    return Member(session="s", address="10.0.0.1:6379")


def test_there_is_one_on_each_node_and_it_takes_no_processor(ray: Ray, member: Member) -> None:
    said = agents.start(member, ["aaaaaaaaaa", "bbbbbbbbbb"], Thing, "it")
    assert [(one.node, one.value) for one in said] == [
        ("aaaaaaaaaa", "found it"),
        ("bbbbbbbbbb", "found it"),
    ]
    assert [one["name"] for one in ray.made] == [
        "llmperf-s-agent-aaaaaaaa",
        "llmperf-s-agent-bbbbbbbb",
    ]
    assert all(one["num_cpus"] == 0 for one in ray.made)


def test_what_they_say_is_stamped_by_our_clock(ray: Ray, member: Member) -> None:
    agents.start(member, ["a"], Thing, "it")
    before = clock.now_ns()
    (one,) = agents.ask(member, "look", 1.0)
    assert one.value == "saw it"
    assert before <= one.heard_ns <= clock.now_ns()


def test_one_that_cannot_start_is_told_and_not_asked(ray: Ray, member: Member) -> None:
    ray.broken["b"] = (
        "\x1b[36mray::_Agent.do()\x1b[39m (pid=7, ip=10.0.0.2)\n"
        '  File "agents.py", line 34, in __init__\n'
        "ModuleNotFoundError: No module named 'psutil'\n"
    )
    said = agents.start(member, ["a", "b"], Thing, "it")
    assert [one.missing for one in said] == ["", "ModuleNotFoundError: No module named 'psutil'"]
    assert [one.node for one in agents.ask(member, "look", 1.0)] == ["a"]


def test_one_that_is_silent_is_told_and_left_alone_until_it_answers(
    ray: Ray, member: Member
) -> None:
    agents.start(member, ["a", "b"], Thing, "it")
    ray.slow.add("b")
    said = agents.ask(member, "look", 0.5)
    assert [one.missing for one in said] == ["", "it did not answer within 0.5 s"]
    ray.slow.clear()
    ray.calls.clear()
    said = agents.ask(member, "look", 0.5)
    assert [one.missing for one in said] == ["", "it has not answered yet"]
    assert ray.calls == ["a"]
    member.kept["agents"][1].pending.ready = True
    said = agents.ask(member, "look", 0.5)
    assert [one.value for one in said] == ["saw it", "saw it"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "RuntimeError"),
        ("one line", "one line"),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: Relay\n"
            "\tpid: 7\nThe actor is dead because its node has died. Node Id: ab\n",
            "The actor died unexpectedly before finishing this task. The actor is dead because its "
            "node has died. Node Id: ab",
        ),
    ],
)
def test_an_error_is_told_by_what_happened_and_why(text: str, said: str) -> None:
    assert said_by(RuntimeError(text)) == said


def test_nobody_is_asked_where_nobody_was_started(ray: Ray, member: Member) -> None:
    assert agents.ask(member, "look", 1.0) == ()
