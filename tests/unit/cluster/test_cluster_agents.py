"""Helpers on nodes, over a double of Ray that answers when it is told to."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster import agents
from pytest_llmperf.cluster.member import Member


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
        node = self.said["scheduling_strategy"]
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
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    double = Ray()
    strategies: Any = types.ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node
    errors: Any = types.ModuleType("ray.exceptions")
    errors.RayError = RayError
    monkeypatch.setitem(sys.modules, "ray", double)
    monkeypatch.setitem(sys.modules, "ray.util", types.ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
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
    assert before <= one.asked_ns <= one.heard_ns <= clock.now_ns()


def test_one_that_cannot_start_is_told_and_not_asked(ray: Ray, member: Member) -> None:
    ray.broken["b"] = "a trace\n  of it\nModuleNotFoundError: No module named 'psutil'\n"
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


def test_nobody_is_asked_where_nobody_was_started(ray: Ray, member: Member) -> None:
    assert agents.ask(member, "look", 1.0) == ()
