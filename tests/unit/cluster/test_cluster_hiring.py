"""Hiring workers, with a Ray that has its actors in this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster import hiring
from pytest_llmperf.cluster.crew import RayCrew
from pytest_llmperf.cluster.hiring import Order
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.member import Member
from pytest_llmperf.cluster.messages import ClusterNode
from pytest_llmperf.cluster.relay import Place, Relay
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.testing import FakeServer, Script
from tiny_load import TINY, target

#: As Ray 2.60 tells it, less some lines of how it came to that.
CREATION = """The actor died because of an error raised in its creation task, \x1b[36mray::Relay.__init__()\x1b[39m (pid=7, ip=10.0.0.1)
  File "relay.py", line 9, in <module>
    import msgspec
ModuleNotFoundError: No module named 'msgspec'
"""  # noqa: E501


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
        self.ended_at_once: list[int] = []
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

    def wait(self, references: list[Future[Any]], *, num_returns: int, timeout: float) -> None:
        assert num_returns == len(references)
        self.ended_at_once.append(num_returns)
        wait(references, timeout)

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        assert no_restart
        actor.end()


@pytest.fixture
def ray(install: Callable[..., None]) -> Ray:
    double = Ray()
    install(double, RayError=RayError, GetTimeoutError=GetTimeoutError)
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


def crew(url: str, nodes: int = 2, wanted: int | None = None) -> RayCrew:
    return RayCrew(cast("Cluster", Here(nodes)), url, wanted=wanted)


def test_workers_are_actors_on_their_nodes_and_end_with_the_client(ray: Ray) -> None:
    with FakeServer(Script(ttft_ms=5, itl_ms=1)) as server:
        with LoadClient(target(server), crew=crew(server.url, wanted=2)) as client:
            pass_ = client.measure(TINY, 1)
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
        keyed = replace(target(server), headers=headers)
        with LoadClient(keyed, crew=crew(server.url, wanted=1)) as client:
            assert all(record.ok for record in client.measure(TINY, 1).records)
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


def test_all_workers_have_one_time_to_start_and_end_together(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = clock.now_ns()
    waited: list[float] = []
    get = Ray.get

    def slow(double: Ray, reference: Future[Any], timeout: float) -> Any:
        nonlocal now_ns
        now_ns += 40 * 10**9
        waited.append(timeout)
        return get(double, reference, 60.0)

    monkeypatch.setattr(clock, "now_ns", lambda: now_ns)
    monkeypatch.setattr(Ray, "get", slow)
    nodes = tuple((f"id-{n}", f"h{n}") for n in range(3))
    order = Order(directory="", nodes=nodes, host="127.0.0.1", port=1)
    with pytest.raises(ClientError, match="cannot be reached from h0"):
        hiring.hire(Member(session="abc", address="here:1"), order)
    assert waited == pytest.approx([90.0, 50.0, 10.0, 5.0])
    assert ray.ended_at_once == [3]
    assert all(actor.killed for actor in ray.actors)


def test_a_worker_that_is_not_there_in_time_is_named(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiring, "START_S", 0.0)

    def late(*_: object, **__: object) -> None:
        raise GetTimeoutError

    monkeypatch.setattr(Ray, "get", late)
    order = Order(directory="", nodes=(("id-0", "h0"),), host="127.0.0.1", port=1)
    with pytest.raises(ClientError, match=r"not be started on h0: it was not there within 0 s"):
        hiring.hire(Member(session="abc", address="here:1"), order)
    assert all(actor.killed for actor in ray.actors)


def test_an_actor_that_does_not_start_is_told_with_its_node(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, value: Any) -> Any:
        if name == "place":
            raise RayError(CREATION)
        return value

    ray.tampered = broken
    with (
        FakeServer() as server,
        pytest.raises(
            ClientError,
            match=r"started on h0 .*: The actor died because of an error raised in its creation "
            "task: ModuleNotFoundError: No module named 'msgspec'",
        ),
    ):
        LoadClient(Target(url=server.url, model="sim"), crew=crew(server.url))
    assert all(actor.killed for actor in ray.actors)
