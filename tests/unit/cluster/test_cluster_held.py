"""What is wrong with a server in a cluster, from what its tables say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.cluster.messages import ActorSeen, ClusterNode, GroupSeen, JobSeen
from pytest_llmperf.cluster.serving import (
    Survey,
    death,
    failed_to_start,
    lacking,
    rank_name,
    ranks,
    trouble,
)

A = ClusterNode(
    id="a", host="a", address="10.0.0.1", alive=True, head=True, here=True,
    resources={"CPU": 8.0, "GPU": 8.0},
)  # fmt: skip
B = ClusterNode(
    id="b", host="b", address="10.0.0.2", alive=True, resources={"CPU": 8.0, "GPU": 8.0}
)
OWN = 'creation_task_failure_context { formatted_exception_string: "RuntimeError" }'
KILLED = (
    'actor_died_error_context { error_message: "The actor died unexpectedly before finishing this '
    'task.\\nIt was killed." owner_id: "x" }'
)


def actor(rank: int, node: str, **more: object) -> ActorSeen:
    seen = ActorSeen(
        id=f"id{rank}",
        name=f"sglang_scheduler_node10.0.0.1_dp0_pp0_tp{rank}_pg12345678_bundle0",
        kind="SchedulerActor",
        state="ALIVE",
        node=node,
        pid=100 + rank,
    )
    return replace(seen, **more)  # type: ignore[arg-type]


def seen(*actors: ActorSeen, nodes: tuple[ClusterNode, ...] = (A, B), over: bool = False) -> Survey:
    group = GroupSeen(id="g", state="CREATED", nodes=("a", "b"))
    return Survey(job=JobSeen(id="01", over=over, actors=actors, groups=(group,)), nodes=nodes)


def test_nothing_is_wrong_with_a_server_that_is_well() -> None:
    assert trouble(seen(actor(0, "a"), actor(1, "b")), used=()) is None


def test_a_node_that_died_is_named_with_the_ranks_that_it_held() -> None:
    gone = replace(B, alive=False, died="health check failed")
    error = trouble(seen(actor(0, "a"), actor(1, "b", state="DEAD"), nodes=(A, gone)), used=())
    assert error is not None
    assert (
        error.summary == "node b (10.0.0.2) of the Ray cluster died, with dp0 pp0 tp1 of the server"
    )
    assert error.cause == "health check failed"


def test_a_node_that_the_server_was_on_is_named_when_the_tables_have_forgotten() -> None:
    forgotten = Survey(job=JobSeen(), nodes=(A, replace(B, alive=False)))
    assert trouble(forgotten, used=()) is None
    error = trouble(forgotten, used={"b"})
    assert error is not None
    assert error.summary == "node b (10.0.0.2) of the Ray cluster died"
    assert error.cause == "Ray heard no more of it"


def test_a_node_of_somebody_else_may_die() -> None:
    other = ClusterNode(id="c", host="c", address="10.0.0.3", alive=False)
    assert trouble(seen(actor(0, "a"), actor(1, "b"), nodes=(A, B, other)), used={"a"}) is None


def test_a_rank_that_is_gone_is_named_with_its_node() -> None:
    error = trouble(seen(actor(0, "a"), actor(1, "b", state="DEAD", died=KILLED)), used=())
    assert error is not None
    assert error.summary == "dp0 pp0 tp1 of the server, on node b (10.0.0.2), is gone"
    assert error.cause == "The actor died unexpectedly before finishing this task."


def test_ranks_of_a_server_that_ended_are_no_trouble_of_the_cluster() -> None:
    assert trouble(seen(actor(0, "a", state="DEAD"), over=True), used=()) is None


def test_ranks_that_ray_ended_after_their_server_are_no_trouble() -> None:
    gone = "The actor is dead because all references to the actor were removed."
    dead = [actor(rank, "a", state="DEAD", died=gone) for rank in (0, 1)]
    assert trouble(seen(*dead), used=()) is None
    assert trouble(seen(actor(0, "a"), dead[1]), used=()) is not None


@pytest.mark.parametrize("others", ["ALIVE", "DEAD"])
def test_ranks_that_the_server_ends_are_no_trouble_of_the_cluster(others: str) -> None:
    """The first of them is told of while the others are still there."""
    by_engine = "The actor is dead because it was killed by `ray.kill`."
    ended = actor(1, "b", state="DEAD", died=by_engine)
    assert trouble(seen(actor(0, "a", state=others, died=KILLED), ended), used=()) is None
    gone = replace(B, alive=False)
    assert trouble(seen(actor(0, "a"), ended, nodes=(A, gone)), used=()) is not None


def test_an_error_of_the_engine_is_left_to_its_log() -> None:
    survey = seen(actor(0, "a"), actor(1, "b", state="DEAD", died=OWN))
    assert trouble(survey, used=()) is None
    failed = failed_to_start(survey.job)
    assert failed is not None
    assert failed[0] == "dp0 pp0 tp1"
    assert survey.node(failed[1].node) == "b (10.0.0.2)"


def test_ranks_that_a_server_ends_because_another_failed_are_not_what_is_wrong() -> None:
    ended = actor(0, "a", state="DEAD", died=KILLED)
    failed = actor(1, "b", state="DEAD", died=OWN)
    assert trouble(seen(ended, failed), used=()) is None
    assert trouble(seen(ended, actor(1, "b")), used=()) is not None


def test_ranks_are_in_the_order_of_their_numbers() -> None:
    job = JobSeen(id="1", actors=tuple(actor(rank, "a") for rank in (10, 2, 0)))
    assert [name for name, _ in ranks(job)] == ["dp0 pp0 tp0", "dp0 pp0 tp2", "dp0 pp0 tp10"]


@pytest.mark.parametrize(
    ("name", "kind", "called"),
    [
        ("sglang_scheduler_nodeX_dpNone_pp1_tp3_pg1_bundle0", "SchedulerActor", "pp1 tp3"),
        ("", "vllm.v1.executor.RayWorkerWrapper", "RayWorkerWrapper 4"),
    ],
)
def test_actors_are_called_what_they_are(name: str, kind: str, called: str) -> None:
    assert rank_name(actor(0, "a", name=name, kind=kind), 4) == called


def test_a_death_without_words_is_told_without() -> None:
    assert death(actor(0, "a")) == ""


# --- room ---------------------------------------------------------------------------------------


def test_there_is_room() -> None:
    assert lacking((A, B), needed=2, bundle={"CPU": 1, "GPU": 8}, here=True) == ""


def test_too_few_nodes_are_told_with_what_there_is() -> None:
    said = lacking((A, replace(B, alive=False)), needed=2, bundle={"CPU": 1, "GPU": 8}, here=True)
    assert said == (
        "the server needs 2 nodes with 1 CPU and 8 GPU each, and the cluster has "
        "a (10.0.0.1): 8 CPU and 8 GPU"
    )


def test_the_first_rank_must_be_here() -> None:
    bare = replace(A, resources={"CPU": 8.0})
    said = lacking((bare, B), needed=1, bundle={"CPU": 1, "GPU": 8}, here=True)
    assert said == (
        "the server's first rank must be on the node that drivers here join, a (10.0.0.1), which "
        "has not 1 CPU and 8 GPU"
    )
    assert lacking((bare, B), needed=1, bundle={"CPU": 1, "GPU": 8}, here=False) == ""


def test_what_a_job_holds_is_told() -> None:
    job = seen(actor(0, "a"), actor(1, "b", state="DEAD")).job
    assert job.holds == (
        "sglang_scheduler_node10.0.0.1_dp0_pp0_tp0_pg12345678_bundle0",
        "placement group g",
    )
