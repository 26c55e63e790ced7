"""What a cluster has: nodes, and what a driver's job holds on them. Called in a member.

Ray's public list of actors needs its dashboard, which many clusters are started without, and tells
neither a job's words nor an actor's devices. So the tables of its global control store are read,
as ``ray.nodes()`` does (Ray 2.60, ``_private/state.py`` and ``core/generated/gcs_pb2``). Nodes and
placement groups have public ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmperf import clock

from .member import Member
from .messages import ActorSeen, ClusterNode, GroupSeen, JobSeen

_HEAD = "node:__internal_head__"
_PAUSE_S = 0.2
_ACCELERATORS = ("GPU", "NPU", "TPU")


def nodes(_: Member) -> tuple[ClusterNode, ...]:
    """Every node, the living ones first."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    free = _free()
    seen = [_node(one, own, free) for one in ray.nodes()]
    return tuple(sorted(seen, key=lambda node: (not node.alive, not node.head, node.address)))


def _node(one: Mapping[str, Any], own: str, free: Mapping[str, Mapping[str, float]]) -> ClusterNode:
    return ClusterNode(
        id=one["NodeID"],
        host=one.get("NodeManagerHostname") or one["NodeManagerAddress"],
        address=one["NodeManagerAddress"],
        alive=one["Alive"],
        head=_HEAD in one["Resources"],
        here=one["NodeID"] == own,
        resources=_plain(one["Resources"]),
        free=_plain(free.get(one["NodeID"], {})),
        died=one.get("DeathReasonMessage") or "",
    )


def _free() -> Mapping[str, Mapping[str, float]]:
    from ray._private.state import available_resources_per_node

    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def _plain(resources: Mapping[str, float]) -> dict[str, float]:
    """Without those that name a node or a bundle."""
    return {
        name: amount
        for name, amount in resources.items()
        if not name.startswith("node:") and "_group_" not in name
    }


def job_labelled(_: Member, key: str, label: str) -> JobSeen:
    """What the latest job has whose metadata hold ``label`` under ``key``."""
    of_it = [job for job in _jobs() if dict(job.config.metadata).get(key) == label]
    if not of_it:
        return JobSeen()
    latest = max(of_it, key=lambda job: int(job.start_time))
    return _held(latest.job_id.hex(), over=bool(latest.is_dead))


def _held(job: str, *, over: bool) -> JobSeen:
    import ray

    table = ray.util.placement_group_table()
    return JobSeen(
        id=job,
        over=over,
        actors=tuple(_actor(one) for one in _actors(job)),
        groups=tuple(_group(one) for one in table.values() if _made_by(one, job)),
    )


def _jobs() -> Iterator[Any]:
    from ray.core.generated import gcs_pb2

    for raw in _tables().get_job_table(
        skip_submission_job_info_field=True, skip_is_running_tasks_field=True
    ):
        yield gcs_pb2.JobTableData.FromString(raw)


def _actors(job: str) -> Iterator[Any]:
    import ray
    from ray.core.generated import gcs_pb2

    # Of any state. Others' are left out before they are sent.
    for raw in _tables().get_actor_table(ray.JobID(bytes.fromhex(job)), None):
        yield gcs_pb2.ActorTableData.FromString(raw)


def _tables() -> Any:
    from ray._private.state import state

    return state._connect_and_get_accessor()


def _actor(one: Any) -> ActorSeen:
    states = type(one).ActorState.DESCRIPTOR.values_by_number
    return ActorSeen(
        id=one.actor_id.hex(),
        name=one.name,
        kind=one.class_name,
        state=states[one.state].name,
        node=one.address.node_id.hex() or one.node_id.hex(),
        pid=int(one.pid),
        devices=tuple(_devices(one)),
        died=" ".join(str(one.death_cause).split()),
    )


def _devices(one: Any) -> Iterator[str]:
    """The numbers that Ray gave an actor of the node's accelerators."""
    for resource in one.resource_mapping:
        if resource.name in _ACCELERATORS:
            yield from (str(each.index) for each in resource.resource_ids)


def _made_by(one: Mapping[str, Any], job: str) -> bool:
    """A placement group's id ends with that of the job that made it (Ray 2.60, id.h:
    ``PlacementGroupID::Of``)."""
    return str(one["placement_group_id"]).endswith(job)


def _group(one: Mapping[str, Any]) -> GroupSeen:
    placed: Mapping[int, str] = one.get("bundles_to_node_id") or {}
    return GroupSeen(
        id=one["placement_group_id"],
        state=one["state"],
        nodes=tuple(placed.get(at, "") for at in sorted(one["bundles"])),
    )


def await_end(member: Member, key: str, label: str, seconds: float) -> JobSeen:
    """What is left of a job whose driver has ended, as soon as that is nothing, else after so many
    seconds. Halfway Ray is told to end what it has not ended itself."""
    deadline = clock.Deadline(seconds)
    asked = False
    while True:
        seen = job_labelled(member, key, label)
        if seen.id is None or (seen.over and not seen.holds) or deadline.passed:
            return seen
        if not asked and seen.over and deadline.left < seconds / 2:
            asked = True
            _end(seen)
        clock.sleep(_PAUSE_S)


def _end(job: JobSeen) -> None:
    import ray
    from ray.util.placement_group import PlacementGroup

    for group in job.groups:
        if group.held:
            id_ = ray.PlacementGroupID(bytes.fromhex(group.id))
            ray.util.remove_placement_group(PlacementGroup(id_))
