"""Hiring workers, with a Ray that has its actors in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llmperf.cluster.crew import RayCrew
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.member import Member
from pytest_llmperf.cluster.messages import ClusterNode
from pytest_llmperf.cluster.relay import Place, Relay
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.records import TokenizeCall, Workload
from pytest_llmperf.testing import FakeServer, Script

TOKENIZE = TokenizeCall(path="/tokenize", text_field="prompt", tokens_field="tokens")
WORKLOAD = Workload(
    name="tiny",
    input_tokens=24,
    output_tokens=8,
    concurrency=4,
    requests=12,
    warmup_requests=2,
    runs=1,
    request_timeout_s=60,
)


class RayError(Exception):
    pass


class GetTimeoutError(RayError, TimeoutError):
    pass


class Actor:
    """One relay, whose methods are called by threads."""

    def __init__(self, options: dict[str, Any], tampered: Callable[[str, Any], Any]) -> None:
        self.options = options
        self.killed = False
        self.asked: list[str] = []
        self._relay = Relay()
        self._pool = ThreadPoolExecutor(options["max_concurrency"])
        self._tampered = tampered

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            return self._tampered(name, getattr(self._relay, name)(*args))

        def remote(*args: Any) -> Future[Any]:
            self.asked.append(name)
            return self._pool.submit(call, *args)

        return SimpleNamespace(remote=remote)

    def end(self) -> None:
        self.killed = True
        self._pool.shutdown()
        self._relay.close()


class Ray(ModuleType):
    """As much of Ray as hiring needs."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.actors: list[Actor] = []
        self.tampered: Callable[[str, Any], Any] = lambda _, value: value

    def remote(self, kind: type) -> Any:
        assert kind is Relay

        def options(**options: Any) -> Any:
            def make() -> Actor:
                self.actors.append(Actor(options, self.tampered))
                return self.actors[-1]

            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def get(self, reference: Future[Any], timeout: float) -> Any:
        try:
            return reference.result(timeout)
        except Late:
            raise GetTimeoutError from None

    def wait(self, references: list[Future[Any]], timeout: float) -> None:
        references[0].result(timeout)

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        assert no_restart
        actor.end()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    double = Ray()
    exceptions = ModuleType("ray.exceptions")
    strategies = ModuleType("ray.util.scheduling_strategies")
    exceptions.__dict__.update(RayError=RayError, GetTimeoutError=GetTimeoutError)
    strategies.__dict__["NodeAffinitySchedulingStrategy"] = lambda node, soft: (node, soft)
    monkeypatch.setitem(sys.modules, "ray", double)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return double


class Here:
    """A cluster whose member is this process."""

    def __init__(self, nodes: int) -> None:
        self.member = Member(session="abc", address="here:1")
        self._nodes = nodes

    def nodes(self) -> tuple[ClusterNode, ...]:
        return tuple(
            ClusterNode(
                id=f"id-{n}", host=f"h{n}", address="10.0.0.1", alive=True, here=n == 0,
                free={"CPU": 1.0},
            )
            for n in range(self._nodes)
        )  # fmt: skip

    def call_within(self, timeout_s: float, function: Callable[..., Any], *args: Any) -> Any:
        return function(self.member, *args)


def crew(url: str, nodes: int = 2) -> RayCrew:
    return RayCrew(cast("Cluster", Here(nodes)), url)


def test_workers_are_actors_on_their_nodes_and_end_with_the_client(ray: Ray) -> None:
    with FakeServer(Script(ttft_ms=5, itl_ms=1)) as server:
        target = Target(url=server.url, model="sim", tokenize=TOKENIZE)
        with LoadClient(target, processes=2, crew=crew(server.url)) as client:
            pass_ = client.measure(WORKLOAD, 1)
            assert not any(actor.killed for actor in ray.actors)
        assert all(actor.killed for actor in ray.actors)
    assert all(record.ok for record in pass_.records)
    assert [worker.node for worker in pass_.client.workers or ()] == [
        "h0 (10.0.0.1)",
        "h1 (10.0.0.1)",
    ]
    options = [actor.options for actor in ray.actors]
    assert [each["scheduling_strategy"] for each in options] == [("id-0", False), ("id-1", False)]
    assert [each["name"] for each in options] == ["llmperf-abc-load-1", "llmperf-abc-load-2"]
    assert all(each["num_cpus"] == 1 for each in options)


def test_a_key_is_in_nothing_that_the_cluster_lists(ray: Ray) -> None:
    with FakeServer(Script(ttft_ms=5, itl_ms=1, api_key="sesame-open")) as server:
        headers = (("Authorization", "Bearer sesame-open"),)
        target = Target(url=server.url, model="sim", tokenize=TOKENIZE, headers=headers)
        with LoadClient(target, processes=1, crew=crew(server.url)) as client:
            assert all(record.ok for record in client.measure(WORKLOAD, 1).records)
    assert "sesame" not in repr([(actor.options, actor.asked) for actor in ray.actors])


def test_a_server_that_a_node_cannot_reach_is_named_and_no_actor_stays(ray: Ray) -> None:
    with FakeServer() as server:
        url = server.url
    with pytest.raises(ClientError, match=r"cannot be reached from h0 \(10.0.0.1\)"):
        LoadClient(Target(url=url, model="sim"), crew=crew(url))
    assert ray.actors
    assert all(actor.killed for actor in ray.actors)


def test_another_machines_loopback_is_not_taken_for_ours(ray: Ray) -> None:
    """Nodes may have one address and still be machines of their own: containers, for one."""

    def elsewhere(_: str, value: Any) -> Any:
        return replace(value, network="another") if isinstance(value, Place) else value

    ray.tampered = elsewhere
    with (
        FakeServer() as server,
        pytest.raises(ClientError, match="another machine's own on h0"),
    ):
        LoadClient(Target(url=server.url, model="sim"), crew=crew(server.url))
    assert all(actor.killed for actor in ray.actors)


def test_an_actor_that_does_not_start_is_told_with_its_node(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, value: Any) -> Any:
        if name == "place":
            raise RayError("The actor died.\n\n  No module named 'msgspec'")
        return value

    ray.tampered = broken
    with (
        FakeServer() as server,
        pytest.raises(ClientError, match=r"started on h0 .*: The actor died. No module named"),
    ):
        LoadClient(Target(url=server.url, model="sim"), crew=crew(server.url))
    assert all(actor.killed for actor in ray.actors)
