"""One launch over Ray, with a cluster that says what it is told to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from pytest_llmperf.report.document import _accelerator_entry
from pytest_llmperf.session import over_ray
from pytest_llmperf.session.device import DeviceHold
from pytest_llmperf.session.devices_over_ray import allotment_over, together
from pytest_llmperf.session.over_ray import RayServing
from pytest_llmperf.session.watching import watched

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


GROUP = GroupSeen(id="g", state="CREATED", nodes=("a", "b"))
JOB = JobSeen(id="07", actors=(rank(0, "a", "0"), rank(1, "b", "1")), groups=(GROUP,))


PLANNED = replace(cards("a", 1), nodes=2, parallel={"tp": 2, "nodes": 2, "ray": 1})


@dataclass
class FakeCluster:
    """Answers by the function that is asked; an exception is raised."""

    nodes_: tuple[ClusterNode, ...] = (A, B)
    job: JobSeen = JOB
    remains: JobSeen = field(default_factory=JobSeen)
    found: dict[str, Any] = field(
        default_factory=lambda: {
            node: Found(accelerator=cards(node), source="nvml", period_s=1.0) for node in "ab"
        }
    )
    lost: bool = False
    fails: ClusterError | None = None
    closed: int = 0
    looked: threading.Event = field(default_factory=threading.Event)
    address: str = "10.0.0.1:6379"
    joules: float = 0.0
    silent: str = ""

    @property
    def left(self) -> bool:
        return self.lost

    def nodes(self) -> tuple[ClusterNode, ...]:
        return self.nodes_

    def call_within(self, _: float, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        if self.lost:
            raise ClusterError("the Ray cluster is lost", cause="its driver has ended")
        if self.fails is not None:
            raise self.fails
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
        return self.remains

    def _say(self) -> tuple[Said, ...]:
        now = clock.now_ns()
        self.joules += 3.0
        told = (
            Condition(uuid=f"GPU-{node}", energy_j=self.joules, at_ns=-1000)
            for node in ("a0", "b1")
        )
        return tuple(
            Said(node=one.uuid[4], value=[one], heard_ns=now)
            if one.uuid[4] not in self.silent
            else Said(node=one.uuid[4], missing="it did not answer within 0.8 s")
            for one in told
        )

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    monkeypatch.setattr(over_ray, "PERIOD_S", 0.01)
    return FakeCluster()


def made(cluster: FakeCluster) -> RayServing:
    return RayServing(cluster, "label", PLANNED)  # type: ignore[arg-type]


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


def test_any_device_here_may_be_taken_and_all_are_locked(tmp_path: Path) -> None:
    allotment = allotment_over(request(nodes=2), cards("a", 8), ("--tp", "4"))
    one = DeviceHold(accelerator=allotment.usual, lock_dir=tmp_path, allotment=allotment)
    for _ in range(2):
        one.take("test", no_wait)
        assert one.accelerator.count == 4
        assert len(one.descriptors) == 8
        one.give_back()


def no_wait(_: str) -> None:
    raise AssertionError("nobody has them")


def test_an_engine_asks_ray_for_devices_by_their_name_there(cluster: FakeCluster) -> None:
    npus = replace(card(0, "a"), vendor="ascend", product="Ascend 910B")
    planned = Accelerator(devices=(npus,), source="npu-smi")
    one = RayServing(cluster, "label", planned)  # type: ignore[arg-type]
    asked = ServerRequest(engine="vllm", model="m", ray="auto")
    with pytest.raises(ClusterError) as told:
        one._check_room(asked, plan())
    assert "1 NPU each" in told.value.cause
    assert "--resources" in told.value.remedy
    cluster.nodes_ = (replace(A, resources={"CPU": 8.0, "NPU": 8.0}),)
    one._check_room(asked, plan())


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


@pytest.mark.parametrize("status", [None, 1])
def test_a_server_that_never_got_room_is_told_as_such(
    cluster: FakeCluster, status: int | None
) -> None:
    cluster.job = JobSeen(id="07", groups=(replace(GROUP, state="PENDING", nodes=("", "")),))
    one = made(cluster)
    one.starting(lambda *_: None)("starting", 1.0)
    cluster.job = JobSeen(id="07", over=True, groups=(replace(GROUP, state="REMOVED"),))
    error = ServerError("not ready within 30 s", cause="its own", exit_status=status)
    assert one.failed(error) is error
    assert ("waited for room" in error.cause) == (status is None)
    assert ("timeout=" in error.remedy) == (status is None)


def test_a_head_that_is_gone_is_named(cluster: FakeCluster) -> None:
    one = made(cluster)
    one._check_room(request(nodes=2), plan("--tp", "2", "--nnodes", "2"))
    cluster.lost = True
    with pytest.raises(ClusterError) as told:
        one.starting(lambda *_: None)("x", 1.0)
    assert told.value.cause.startswith("its head, a (10.0.0.1), is gone")


def test_a_question_that_failed_is_no_head_that_is_gone(cluster: FakeCluster) -> None:
    cluster.fails = ClusterError("survey failed in the Ray cluster", cause="KeyError: 'state'")
    with pytest.raises(ClusterError) as told:
        made(cluster).starting(lambda *_: None)("x", 1.0)
    assert told.value.cause == "KeyError: 'state'"


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
    one.ready(no_kill)
    one.finish()
    assert [(each.name, each.host, each.devices) for each in one.places or ()] == [
        ("dp0 pp0 tp0", "a", ("0",)),
        ("dp0 pp0 tp1", "b", ("1",)),
    ]
    assert one.accelerator is not None
    assert [device.uuid for device in one.accelerator.devices] == ["GPU-a0", "GPU-b1"]
    assert one.accelerator.count == 2
    assert one.accelerator.nodes == 2
    told = _accelerator_entry(one.accelerator)
    assert (told["count"], len(told["devices"]), "covered" in told) == (2, 2, False)
    assert dict(one.accelerator.parallel) == {"tp": 2, "nodes": 2, "ray": 1}
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


def test_what_agents_see_is_on_our_clock_and_news(cluster: FakeCluster) -> None:
    one = made(cluster)
    one.ready(no_kill)
    with one.watching(cards("a")) as watcher:
        before = clock.now_ns()
        assert watcher is not None
        assert watcher.source == "nvml over Ray"
        first = watcher.look()
        asked = clock.now_ns()
        last = watcher.look()
    one.finish()
    at = [each.at_ns or 0 for each in first]
    assert min(at) < before < max(at)
    assert asked - 1000 <= max(each.at_ns or 0 for each in last) <= clock.now_ns()


def test_a_look_waits_no_longer_than_it_may(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_ray, "_AGENTS_S", 0.01)
    one = made(cluster)
    one._found = cluster.found
    one.accelerator = PLANNED
    with one.watching(PLANNED) as watcher:  # nobody ever asks the agents
        assert watcher is not None
        assert watcher.look() == []


def test_energy_is_told_from_before_the_first_request_until_after_the_last_token(
    cluster: FakeCluster,
) -> None:
    one = made(cluster)
    one.ready(no_kill)
    assert one.accelerator is not None
    with watched(one.accelerator, list, one.watching, one.sharing) as seen:
        begin = clock.now_ns()
        while len(seen.samples) < 5:
            clock.sleep(0.001)
        window = Window(start_ns=begin, end_ns=clock.now_ns())
    one.finish()
    told = seen.telemetry(window)
    assert told is not None
    assert [each.energy_missing for each in told.devices] == ["", ""]
    assert all(each.energy_j for each in told.devices)


def test_an_agent_that_is_silent_has_no_energy(cluster: FakeCluster) -> None:
    cluster.silent = "b"
    one = made(cluster)
    one.ready(no_kill)
    assert one.accelerator is not None
    with watched(one.accelerator, list, one.watching, one.sharing) as seen:
        window = Window(start_ns=clock.now_ns(), end_ns=clock.now_ns() + 1)
    one.finish()
    assert {each.uuid for sample in seen.samples for each in sample} == {"GPU-a0"}
    assert seen.telemetry(window) is not None


def test_process_ids_are_told_apart_by_node(cluster: FakeCluster) -> None:
    one = made(cluster)
    one.ready(no_kill)
    one.finish()
    here, own = [7, *one.pids], [7, *one.pids]
    assert here == [7, 100]
    assert one.sharing(card(0, "a"), own) == [7, 100]
    assert one.sharing(card(1, "b"), own) == [101]
    assert one.sharing(card(9, "z"), own) == [7, 100]


def test_a_foreign_process_elsewhere_is_none_of_ours_by_its_number_here(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(cluster)
    one.ready(no_kill)
    assert one.accelerator is not None
    used = Condition(uuid="GPU-b1", processes=(101, 100))

    def said() -> tuple[Said, ...]:
        return (Said(node="b", value=[used], heard_ns=clock.now_ns()),)

    monkeypatch.setattr(cluster, "_say", said)
    with watched(one.accelerator, lambda: [100], one.watching, one.sharing) as seen:
        pass
    one.finish()
    (why,) = seen.troubles(Window(start_ns=0, end_ns=2**62))
    assert "was used by process 100 as well" in why


def test_memory_of_processes_on_several_machines_is_not_added_up(cluster: FakeCluster) -> None:
    cpu = replace(card(0, "a"), vendor="cpu", product="EPYC")
    cluster.found = {
        node: Found(accelerator=Accelerator(devices=(replace(cpu, uuid=node),), source="cpuinfo"))
        for node in "ab"
    }
    one = made(cluster)
    one.ready(no_kill)
    one.finish()
    assert one.accelerator is not None
    with watched(one.accelerator, lambda: [os.getpid()], one.watching, one.sharing) as seen:
        window = Window(start_ns=0, end_ns=1)
    told = seen.telemetry(window)
    assert told is None or told.peak_memory_bytes is None


def test_a_rank_that_has_no_node_yet_is_not_told_of(cluster: FakeCluster) -> None:
    late = replace(rank(2, "", "0", "PENDING_CREATION"), pid=0)
    cluster.job = replace(JOB, actors=(*JOB.actors, late))
    one = made(cluster)
    one.ready(no_kill)
    one.finish()
    assert len(one.places or ()) == 2


def test_a_rank_that_is_lost_ends_the_server_and_is_told(cluster: FakeCluster) -> None:
    killed = threading.Event()
    one = made(cluster)
    one.ready(killed.set)
    one.check()
    cluster.job = replace(JOB, actors=(JOB.actors[0], rank(1, "b", "1", "DEAD")))
    assert killed.wait(60)
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
    cluster.remains = replace(JOB, over=True, actors=())
    one = made(cluster)
    with pytest.raises(ClusterError, match="still holds what it made: placement group g"):
        one.finish()
    one.finish()
    assert cluster.closed == 1


def test_ranks_that_end_with_their_server_are_no_loss(cluster: FakeCluster) -> None:
    one = made(cluster)
    one.ready(no_kill)
    one.let_go()
    cluster.job = replace(JOB, actors=(rank(0, "a", "0", "DEAD"), rank(1, "b", "1", "DEAD")))
    assert one._thread is not None
    one._thread.join(60)
    one.check()
    cluster.remains = replace(JOB, over=True, actors=())
    with pytest.raises(ClusterError, match="still holds what it made"):
        one.finish()


def test_a_rank_that_is_lost_as_the_server_is_stopped_kills_nothing(cluster: FakeCluster) -> None:
    one = made(cluster)
    one.let_go()
    one._lose(ClusterError("rank 1 is gone"), no_kill)
    one.check()


def test_what_is_left_is_told_though_a_rank_was_lost(cluster: FakeCluster) -> None:
    killed = threading.Event()
    one = made(cluster)
    one.ready(killed.set)
    cluster.job = replace(JOB, actors=(JOB.actors[0], rank(1, "b", "1", "DEAD")))
    assert killed.wait(60)
    cluster.remains = replace(JOB, over=True, actors=())
    with pytest.raises(ClusterError, match="still holds what it made"):
        one.finish()
    assert cluster.closed == 1


def test_a_cluster_that_is_lost_is_told_once(cluster: FakeCluster) -> None:
    killed = threading.Event()
    one = made(cluster)
    one.ready(killed.set)
    cluster.lost = True
    assert killed.wait(60)
    with pytest.raises(ClusterError, match="is lost"):
        one.check()
    one.finish()


def test_an_interrupt_stays_one_where_something_is_left(cluster: FakeCluster) -> None:
    cluster.remains = JOB
    interrupt = KeyboardInterrupt()
    made(cluster).give_up(interrupt)
    assert "still holds what it made" in interrupt.__notes__[0]


def test_after_an_error_what_is_left_is_told_beside_it(cluster: FakeCluster) -> None:
    cluster.remains = JOB
    error = ServerError("it failed", remedy="do this")
    made(cluster).give_up(error)
    assert error.remedy.startswith("do this; the server has ended, but the Ray cluster still holds")


def test_devices_that_nobody_numbered_serve_where_there_are_no_more_than_ranks() -> None:
    found = {"a": Found(accelerator=cards("a")), "b": Found(accelerator=cards("b", 1))}
    places = [
        RankPlace(name="0", node="a", host="a", address="1", devices=("1",)),
        RankPlace(name="1", node="b", host="b", address="2"),
    ]
    all_of_them = together(found, places, PLANNED)
    assert [one.uuid for one in all_of_them.devices] == ["GPU-a1", "GPU-b0"]


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
