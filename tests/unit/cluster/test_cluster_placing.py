"""Where workers of the load go, and what is said where they cannot."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf import clock
from pytest_llmperf.cluster.crew import RayCrew, RayLoad
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.messages import ClusterNode
from pytest_llmperf.cluster.placing import Ours, chosen, most, slots
from pytest_llmperf.errors import ClusterError, UsageMistake
from pytest_llmperf.launch import addresses


def node(number: int, free: float, *, alive: bool = True, here: bool = False) -> ClusterNode:
    return ClusterNode(
        id=f"id-{number}",
        host=f"host-{number}",
        address=f"10.0.0.{number}",
        alive=alive,
        here=here,
        resources={"CPU": max(2.0, free)},
        free={"CPU": free},
    )


def test_one_on_each_node_in_turn_and_the_servers_own_last() -> None:
    nodes = [node(1, 2), node(2, 1.5), node(3, 3), node(4, 0.5), node(5, 9, alive=False)]
    found = slots(nodes, {"10.0.0.1"})
    assert [each.id for each in found] == ["id-2", "id-3", "id-3", "id-3", "id-1", "id-1"]
    assert most(found, {"10.0.0.1"}) == 4
    assert most(slots(nodes[:1], {"10.0.0.1"}), {"10.0.0.1"}) == 2
    assert most([], set()) == 0


@given(st.lists(st.integers(0, 6), max_size=6), st.sets(st.integers(0, 5)))
def test_every_free_core_is_given_out_once(free: list[int], serving: set[int]) -> None:
    nodes = [node(number, count) for number, count in enumerate(free)]
    avoided = {f"10.0.0.{number}" for number in serving}
    found = slots(nodes, avoided)
    assert sorted(each.id for each in found) == sorted(
        each.id for each, count in zip(nodes, free, strict=True) for _ in range(count)
    )
    off = [each.address not in avoided for each in found]
    assert off == sorted(off, reverse=True)


def test_more_workers_than_cores_are_refused_with_both_numbers() -> None:
    found = slots([node(1, 1), node(2, 1)], set())
    assert [each.id for each in chosen(found, 1, 1)] == ["id-2"]
    with pytest.raises(UsageMistake, match=r"3 workers need a free core each.* has 2 on 2 nodes"):
        chosen(found, 1, 2)


class Joined:
    """A cluster with these nodes; ``lost`` says that it is gone."""

    def __init__(self, *nodes: ClusterNode) -> None:
        self._nodes = nodes
        self.lost = False
        self.closed = False

    def nodes(self) -> tuple[ClusterNode, ...]:
        if self.lost:
            raise ClusterError("the Ray cluster is lost")
        return self._nodes

    def close(self) -> None:
        self.closed = True


def crew(url: str, *nodes: ClusterNode, **more: Any) -> RayCrew:
    return RayCrew(cast("Cluster", Joined(*nodes)), url, **more)


@pytest.mark.parametrize("url", ["http://127.0.0.1:30000", "http://[::1]:1", "http://localhost:1"])
def test_a_server_that_only_this_machine_reaches_has_no_workers_elsewhere(url: str) -> None:
    here = node(1, 2, here=True)
    assert crew(url, here).most == 2
    with pytest.raises(
        UsageMistake, match=r"workers on host-2 \(10.0.0.2\) cannot reach it"
    ) as why:
        crew(url, here, node(2, 1))
    assert "--llmperf-bind" in str(why.value)
    assert "--llmperf-url" in str(why.value)


def test_a_server_that_is_yet_to_be_started_is_told_the_same() -> None:
    here = node(1, 2, here=True)
    load = RayLoad("head:6379", None, lambda _: cast("Cluster", Joined(here, node(2, 1))))
    load.check("10.0.0.9")
    with pytest.raises(UsageMistake, match=r"workers on host-2 \(10.0.0.2\) cannot reach it"):
        load.check("127.0.0.1")
    alone = RayLoad("head:6379", None, lambda _: cast("Cluster", Joined(here)))
    alone.check("127.0.0.1")


def test_workers_are_off_the_servers_node_where_there_is_another() -> None:
    nodes = (node(1, 4, here=True), node(2, 1), node(3, 1))
    assert crew("http://10.0.0.1:30000", *nodes).most == 2
    assert crew("http://10.0.0.9:30000", *nodes).most == 6


def test_a_server_on_another_card_of_this_machine_is_on_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "own_addresses", lambda: ("10.0.0.1", "192.0.2.7"))
    nodes = (node(1, 4, here=True), node(2, 1))
    assert crew("http://192.0.2.7:30000", *nodes).most == 1


def test_ranks_of_the_server_are_avoided_wherever_they_are() -> None:
    nodes = (node(1, 4), node(2, 2), node(3, 1))
    url = "http://10.0.0.1:30000"
    assert crew(url, *nodes).most == 3
    assert crew(url, *nodes, serving=["10.0.0.2"]).most == 1
    assert crew(url, *nodes, serving=["10.0.0.2", "10.0.0.3"]).most == 7  # nowhere else


# --- cores of ours ------------------------------------------------------------------------------


class Freeing(Joined):
    """Says only after some looks that a core is free again."""

    def __init__(self, *looks: tuple[ClusterNode, ...]) -> None:
        super().__init__()
        self._looks = list(looks)

    def nodes(self) -> tuple[ClusterNode, ...]:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long has been slept; nobody really sleeps."""
    slept: list[float] = []
    began = clock.now_ns()
    monkeypatch.setattr(clock, "sleep", slept.append)
    monkeypatch.setattr(clock, "now_ns", lambda: began + int(sum(slept) * 1e9))
    return slept


@pytest.mark.parametrize("wanted", [None, 1, 2])
def test_the_next_client_waits_for_the_cores_of_the_last_one(
    time: list[float], wanted: int | None
) -> None:
    """Else its workers would go on the server's own node, or be fewer with every test."""
    full = (node(1, 2, here=True), node(2, 1), node(3, 1))
    taken = (node(1, 2, here=True), node(2, 0), node(3, 0))
    cluster = Freeing(full)
    load = RayLoad("head:6379", wanted, lambda _: cast("Cluster", cluster))
    url = "http://10.0.0.1:30000"
    load.crew(url)
    assert time == []
    for held in ("id-2", "id-3"):
        load._ours.take(held)
        load._ours.give_back(held)
    cluster._looks = [taken, taken, taken, full]
    assert load.crew(url).most == 2
    assert len(time) == 2


def test_what_others_have_taken_is_waited_for_once(time: list[float]) -> None:
    cluster = Freeing((node(1, 2, here=True), node(2, 2)))
    load = RayLoad("head:6379", None, lambda _: cast("Cluster", cluster))
    url = "http://10.0.0.1:30000"
    load.crew(url)
    cluster._looks = [(node(1, 2, here=True), node(2, 1))]
    assert load.crew(url).most == 1
    waited = sum(time)
    assert waited > 5
    assert load.crew(url).most == 1
    assert sum(time) == waited


def test_a_client_that_is_kept_open_has_its_cores(time: list[float]) -> None:
    cluster = Freeing((node(1, 2, here=True), node(2, 2)))
    load = RayLoad("head:6379", None, lambda _: cast("Cluster", cluster))
    url = "http://10.0.0.1:30000"
    load.crew(url)
    load._ours.take("id-2")
    cluster._looks = [(node(1, 2, here=True), node(2, 1))]
    assert load.crew(url).most == 1
    assert time == []


def test_no_node_ever_had_more_cores_than_it_has() -> None:
    """Ray takes a while to say that a core is taken, too."""
    ours = Ours()
    ours.take("id-1")
    ours.note([node(1, 2)])
    assert ours.awaited(node(1, 0)) == 1


def test_a_cluster_that_was_lost_is_joined_again() -> None:
    made: list[Joined] = []

    def join(address: str) -> Cluster:
        assert address == "head:6379"
        made.append(Joined(node(1, 1)))
        return cast("Cluster", made[-1])

    load = RayLoad("head:6379", None, join)
    load.crew("http://10.0.0.9:1")
    load.crew("http://10.0.0.9:1")
    assert len(made) == 1
    made[0].lost = True
    load.crew("http://10.0.0.9:1")
    assert [each.closed for each in made] == [True, False]
    load.close()
    load.close()
    assert made[1].closed
