"""Where workers of the load go, and what is said where they cannot."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.cluster.crew import RayCrew, RayLoad, is_loopback
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.messages import ClusterNode
from pytest_llmperf.cluster.placing import chosen, most, slots
from pytest_llmperf.errors import ClusterError, UsageMistake


def node(number: int, free: float, *, alive: bool = True, here: bool = False) -> ClusterNode:
    return ClusterNode(
        id=f"id-{number}",
        host=f"host-{number}",
        address=f"10.0.0.{number}",
        alive=alive,
        here=here,
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
    assert "--llmperf-url" in str(why.value)


def test_workers_are_off_the_servers_node_where_there_is_another() -> None:
    nodes = (node(1, 4, here=True), node(2, 1), node(3, 1))
    assert crew("http://10.0.0.1:30000", *nodes).most == 2
    assert crew("http://10.0.0.9:30000", *nodes).most == 6


def test_what_is_this_machines_own() -> None:
    own = ("127.0.0.1", "127.1.2.3", "::1", "localhost", "a.localhost")
    assert all(is_loopback(host) for host in own)
    assert not any(is_loopback(host) for host in ("10.0.0.1", "0.0.0.0", "node-1", ""))


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
