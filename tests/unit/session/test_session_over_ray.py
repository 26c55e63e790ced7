"""One launch over Ray, with a cluster that says what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.accelerators.sampling import Found
from pytest_llmperf.cluster import agents, serving
from pytest_llmperf.cluster.agents import Said
from pytest_llmperf.cluster.messages import ActorSeen, ClusterNode, GroupSeen, JobSeen
from pytest_llmperf.cluster.serving import Survey
from pytest_llmperf.cluster.state import await_end
from pytest_llmperf.errors import ClusterError, ServerError, UsageMistake
from pytest_llmperf.metrics.energy import Window
from pytest_llmperf.records import (
    Accelerator,
    Device,
    HttpProbe,
    LaunchPlan,
    RankPlace,
    ServerRequest,
)
from pytest_llmperf.session import over_ray
from pytest_llmperf.session.over_ray import RayServing, allotment_over

S = 1_000_000_000


def card(number: int, node: str) -> Device:
    return Device(
        vendor="nvidia", product="NVIDIA H100", index=number, uuid=f"GPU-{node}{number}",
        visible_as=str(number),
    )  # fmt: skip


def cards(node: str, count: int = 2) -> Accelerator:
    return Accelerator(devices=tuple(card(at, node) for at in range(count)), source="nvml")


A = ClusterNode(
    id="a", host="a", address="10.0.0.1", alive=True, head=True, here=True,
    resources={"CPU": 8.0, "GPU": 2.0},
)  # fmt: skip
B = ClusterNode(id="b", host="b", address="10.0.0.2", alive=True, resources=A.resources)


def rank(number: int, node: str, device: str, state: str = "ALIVE") -> ActorSeen:
    return ActorSeen(
        id=f"i{number}", name=f"sglang_x_dp0_pp0_tp{number}_pg1", kind="SchedulerActor",
        state=state, node=node, pid=100 + number, devices=(device,),
    )  # fmt: skip


GROUP = GroupSeen(id="g", state="CREATED", bundles=({"GPU": 1.0},) * 2, nodes=("a", "b"))
JOB = JobSeen(id="07", actors=(rank(0, "a", "0"), rank(1, "b", "1")), groups=(GROUP,))


@dataclass
class FakeCluster:
    """Answers by the function that is asked; an exception is raised."""

    nodes_: tuple[ClusterNode, ...] = (A, B)
    job: JobSeen = JOB
    left: JobSeen = field(default_factory=JobSeen)
    found: dict[str, Any] = field(
        default_factory=lambda: {
            node: Found(accelerator=cards(node), source="nvml", period_s=1.0) for node in "ab"
        }
    )
    lost: bool = False
    closed: int = 0
    looked: threading.Event = field(default_factory=threading.Event)
    address: str = "10.0.0.1:6379"

    def nodes(self) -> tuple[ClusterNode, ...]:
        return self.nodes_

    def call_within(self, _: float, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        if self.lost:
            raise ClusterError("the Ray cluster is lost")
        if function is serving.survey:
            said = self._say() if more.get("method") else ()
            self.looked.set()
            return Survey(job=self.job, nodes=self.nodes_, said=said)
        if function is agents.start:
            return tuple(
                Said(node=node, **{"missing" if isinstance(told, str) else "value": told})
                for node, told in self.found.items()
            )
        assert function is await_end
        return self.left

    def _say(self) -> tuple[Said, ...]:
        now = clock.now_ns()
        seen = Condition(uuid="GPU-a0", power_w=300.0, at_ns=-1000)
        return (
            Said(node="a", value=[seen], asked_ns=now, heard_ns=now),
            Said(node="b", missing="it did not answer within 0.8 s"),
        )

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    monkeypatch.setattr(over_ray, "PERIOD_S", 0.01)
    return FakeCluster()


def made(cluster: FakeCluster) -> RayServing:
    return RayServing(cluster, "label", "nvidia")  # type: ignore[arg-type]


def request(**more: Any) -> ServerRequest:
    return ServerRequest(engine="sglang", model="r1", ray="auto", **more)


def plan(*words: str) -> LaunchPlan:
    return LaunchPlan(
        engine="sglang", argv=("python", "--use-ray", *words), env=(("A", "1"),), host="127.0.0.1",
        port=1, ready=HttpProbe(path="/"), start_timeout_s=1.0, stop_grace_s=1.0,
    )  # fmt: skip


def no_kill() -> None:
    raise AssertionError("nothing was lost")


# --- where it goes ------------------------------------------------------------------------------


def test_its_devices_are_like_those_here_on_every_node() -> None:
    chosen = allotment_over(request(nodes=2), cards("a", 8), ("--use-ray", "--tp", "16"))
    assert chosen.usual.count == 16
    assert dict(chosen.usual.parallel) == {"tp": 16, "nodes": 2, "ray": 1}
    assert chosen.variables(chosen.usual, {}) == {}


def test_over_ray_or_not_is_part_of_what_is_compared() -> None:
    assert dict(allotment_over(request(), cards("a"), ()).usual.parallel) == {"ray": 1}


def test_more_devices_than_a_node_has_are_refused() -> None:
    with pytest.raises(UsageMistake, match="take 8 devices on each of 2 nodes"):
        allotment_over(request(nodes=2), cards("a", 4), ("--tp", "16"))


def test_a_cluster_without_room_is_told_before_anything_starts(cluster: FakeCluster) -> None:
    cluster.nodes_ = (A, replace(B, resources={"CPU": 8.0}))
    with pytest.raises(ClusterError, match="has no room for the server") as told:
        made(cluster)._check_room(request(nodes=2), plan("--tp", "4", "--nnodes", "2"))
    assert "b (10.0.0.2): 8 CPU and 0 GPU" in told.value.cause


def test_a_plan_is_told_of_the_cluster(cluster: FakeCluster) -> None:
    told = made(cluster).adjusted(plan())
    env = dict(told.env)
    assert env["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert '"env_vars": {"A": "1"}' in env["RAY_JOB_CONFIG_JSON_ENV_VAR"]
    assert told.notes == ("its ranks run in the Ray cluster at 10.0.0.1:6379",)


# --- while it starts ----------------------------------------------------------------------------


def test_a_node_that_dies_while_it_starts_ends_the_start(cluster: FakeCluster) -> None:
    said: list[str] = []
    tell = made(cluster).starting(lambda text, _: said.append(text))
    tell("loading", 1.0)
    cluster.nodes_ = (A, replace(B, alive=False, died="it was pulled out"))
    clock.sleep(0.02)
    with pytest.raises(ClusterError, match=r"node b \(10\.0\.0\.2\) of the Ray cluster died"):
        tell("loading", 2.0)
    assert said == ["loading"]


def test_waiting_for_room_is_told(cluster: FakeCluster) -> None:
    cluster.job = JobSeen(id="07", groups=(replace(GROUP, state="PENDING", nodes=("", "")),))
    said: list[str] = []
    made(cluster).starting(lambda text, _: said.append(text))("starting", 1.0)
    assert said == ["waiting for room in the Ray cluster"]


def test_a_head_that_is_gone_is_named(cluster: FakeCluster) -> None:
    one = made(cluster)
    one._check_room(request(nodes=2), plan("--tp", "2", "--nnodes", "2"))
    cluster.lost = True
    with pytest.raises(ClusterError) as told:
        one.starting(lambda *_: None)("x", 1.0)
    assert told.value.cause.startswith("its head, a (10.0.0.1), is gone")


def test_an_error_of_the_server_gets_the_node_it_happened_on(cluster: FakeCluster) -> None:
    own = replace(rank(1, "b", "1", "DEAD"), died="creation_task_failure_context {}")
    cluster.job = replace(JOB, actors=(JOB.actors[0], own))
    error = ServerError("the sglang server exited", cause="out of memory", exit_status=1)
    assert made(cluster).failed(error) is error
    assert error.cause == "dp0 pp0 tp1, on node b (10.0.0.2): out of memory"


def test_a_dead_node_explains_a_server_that_ended(cluster: FakeCluster) -> None:
    cluster.nodes_ = (A, replace(B, alive=False))
    error = ServerError("the sglang server exited", argv=("x",), log_tail=("a", "b"))
    better = made(cluster).failed(error)
    assert isinstance(better, ClusterError)
    assert "node b (10.0.0.2)" in better.summary
    assert (better.argv, better.log_tail) == (("x",), ("a", "b"))


def test_a_cluster_that_is_lost_leaves_the_error_as_it_was(cluster: FakeCluster) -> None:
    cluster.lost = True
    error = ServerError("the sglang server exited")
    assert made(cluster).failed(error) is error


# --- while it serves ----------------------------------------------------------------------------


def test_ranks_are_told_with_their_nodes_and_devices(cluster: FakeCluster) -> None:
    one = made(cluster)
    places = one.ready(no_kill)
    one.finish()
    assert [(each.name, each.host, each.devices) for each in places] == [
        ("dp0 pp0 tp0", "a", ("0",)),
        ("dp0 pp0 tp1", "b", ("1",)),
    ]
    assert one.pids == (100, 101)
    assert one.accelerator is not None
    assert [device.uuid for device in one.accelerator.devices] == ["GPU-a0", "GPU-b1"]
    assert cluster.closed == 1


def test_a_node_whose_devices_are_not_seen_leaves_no_sum(cluster: FakeCluster) -> None:
    cluster.found["b"] = "No module named 'psutil'"
    one = made(cluster)
    one.ready(no_kill)
    one.finish()
    assert one.accelerator is None
    assert one.notes == ("the devices of node b (10.0.0.2) are not seen: No module named 'psutil'",)
    with one.watching(cards("a")) as watcher:
        assert watcher is None


def test_what_agents_see_is_on_our_clock(cluster: FakeCluster) -> None:
    one = made(cluster)
    one.ready(no_kill)
    with one.watching(cards("a")) as watcher:
        assert watcher is not None
        assert watcher.source == "nvml over Ray"
        cluster.looked.clear()
        assert cluster.looked.wait(5)
        deadline = clock.Deadline(5)
        while not (seen := watcher.look()) and not deadline.passed:
            clock.sleep(0.01)
    one.finish()
    assert seen[0].at_ns is not None
    assert 0 <= clock.now_ns() - seen[0].at_ns < 60 * S


def test_a_rank_that_is_lost_ends_the_server_and_is_told(cluster: FakeCluster) -> None:
    killed = threading.Event()
    one = made(cluster)
    one.ready(killed.set)
    one.check()
    cluster.job = replace(JOB, actors=(JOB.actors[0], rank(1, "b", "1", "DEAD")))
    assert killed.wait(5)
    with pytest.raises(ClusterError, match=r"dp0 pp0 tp1 of the server, on node b"):
        one.check()
    one.finish()
    assert cluster.closed == 1


def test_a_silent_node_spoils_a_run(cluster: FakeCluster) -> None:
    one = made(cluster)
    one._names = {"b": "b (10.0.0.2)"}
    moments = (0, 1 * S, 2 * S, 8 * S, 9 * S)
    one._heard = {"b": [Said(node="b", heard_ns=at) for at in moments]}
    assert one.silences(Window(start_ns=0, end_ns=2 * S)) == []
    assert one.silences(Window(start_ns=8 * S, end_ns=9 * S)) == []
    (said,) = one.silences(Window(start_ns=1 * S, end_ns=5 * S))
    assert said.startswith("node b (10.0.0.2) could not be reached for 6.0 s")
    (said,) = one.silences(Window(start_ns=8 * S, end_ns=20 * S))
    assert said.startswith("node b (10.0.0.2) could not be reached for 11.0 s")
    assert one.silences(None) == []


def test_a_silent_node_is_waited_for(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(cluster)
    one._heard = {"b": [Said(node="b", heard_ns=0)]}
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        one._heard["b"].append(Said(node="b", heard_ns=100 * S))

    monkeypatch.setattr(clock, "now_ns", lambda: 100 * S)
    monkeypatch.setattr(clock, "sleep", sleep)
    one.settle()
    assert len(slept) == 1


# --- and when it ends ---------------------------------------------------------------------------


def test_what_is_left_in_the_cluster_is_told(cluster: FakeCluster) -> None:
    cluster.left = replace(JOB, over=True, actors=())
    one = made(cluster)
    with pytest.raises(ClusterError, match="still holds what it made: placement group g"):
        one.finish()
    one.finish()
    assert cluster.closed == 1


def test_after_an_error_what_is_left_is_told_beside_it(cluster: FakeCluster) -> None:
    cluster.left = JOB
    error = ServerError("it failed", remedy="do this")
    made(cluster).give_up(error)
    assert error.remedy.startswith("do this; the server has ended, but the Ray cluster still holds")


def test_devices_that_nobody_numbered_serve_where_there_are_no_more_than_ranks() -> None:
    found = {"a": Found(accelerator=cards("a")), "b": Found(accelerator=cards("b", 1))}
    places = [
        RankPlace(name="0", node="a", host="a", address="1", devices=("1",)),
        RankPlace(name="1", node="b", host="b", address="2"),
    ]
    together = over_ray._together(found, places)
    assert [one.uuid for one in together.devices] == ["GPU-a1", "GPU-b0"]


def test_which_of_many_devices_serve_is_not_guessed(cluster: FakeCluster) -> None:
    cluster.job = replace(JOB, actors=(JOB.actors[0], replace(JOB.actors[1], devices=())))
    one = made(cluster)
    one.ready(no_kill)
    one.finish()
    assert one.accelerator is None
    assert one.notes == (
        "which of the devices of node b (10.0.0.2) serve is not known: Ray does not tell, and "
        "there are more than ranks",
    )
