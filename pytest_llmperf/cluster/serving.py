"""A server whose ranks are actors in a cluster: a look at all of it, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.errors import ClusterError

from . import agents
from .agents import Said
from .member import Member
from .messages import ActorSeen, ClusterNode, JobSeen
from .state import job_labelled, nodes

#: What an actor could not be made because of is the engine's own error, and stands in its log.
_OWN_ERROR = "creation_task_failure_context"
_MESSAGE = re.compile(r'error_message: "(.*?)(?:\\n|"$|" )')
#: Why Ray ends actors (2.60, gcs_actor_manager.cc): of themselves, once their driver has; at once,
#: where the engine asks for it because one rank has failed (vLLM's ray_executor.py, SGLang's
#: srt/ray/engine.py), and where it shuts down.
_LET_GO = re.compile(r"references to the actor were removed|owner has died")
_KILLED = "killed by `ray.kill`"
#: What SGLang 0.5.23 calls its actors, see ``srt/ray/engine.py``.
_SGLANG = re.compile(r"_dp(?P<dp>\w+?)_pp(?P<pp>\d+)_tp(?P<tp>\d+)_pg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One look: what the job has, what became of the nodes, what the agents said."""

    job: JobSeen
    nodes: tuple[ClusterNode, ...]
    said: tuple[Said, ...] = ()

    @property
    def used(self) -> frozenset[str]:
        """The ids of the nodes that anything of the job is on."""
        on = [actor.node for actor in self.job.actors]
        on += (node for group in self.job.groups for node in group.nodes)
        return frozenset(node for node in on if node)

    def node(self, id_: str) -> str:
        """A node's name, for people."""
        return next((str(node) for node in self.nodes if node.id == id_), f"node {id_[:8]}")

    @property
    def head(self) -> str:
        return next((str(node) for node in self.nodes if node.head), "")


def survey(
    member: Member, key: str, label: str, *, method: str = "", seconds: float = 0.0
) -> Survey:
    """Look at the job with ``label``; with a ``method`` the agents are asked it, for so long."""
    said = agents.ask(member, method, seconds) if method else ()
    return Survey(job=job_labelled(member, key, label), nodes=nodes(member), said=said)


def rank_name(actor: ActorSeen, number: int) -> str:
    """What an actor is to the server, such as "dp0 pp0 tp1"."""
    found = _SGLANG.search(actor.name)
    if found is None:
        return f"{actor.kind.rpartition('.')[2]} {number}"
    # Nobody has a number of its own among replicas that share their attention.
    parts = {name: value for name, value in found.groupdict().items() if value != "None"}
    return " ".join(f"{name}{value}" for name, value in parts.items())


def ranks(job: JobSeen) -> list[tuple[str, ActorSeen]]:
    """The actors of a job with their names, in the order of those."""
    named = [(rank_name(actor, at), actor) for at, actor in enumerate(job.actors)]
    return sorted(named, key=lambda pair: [int(n) for n in re.findall(r"\d+", pair[0])])


def trouble(seen: Survey, used: Collection[str]) -> ClusterError | None:
    """What is wrong with the server in the cluster; ``None`` where nothing is, or the server itself
    has ended and tells why. ``used`` are the nodes that it was seen on before."""
    by_node: dict[str, list[str]] = {}
    for name, actor in ranks(seen.job):
        by_node.setdefault(actor.node, []).append(name)
    for node in seen.nodes:
        if node.id in {*used, *seen.used} and not node.alive:
            return _node_died(node, by_node.get(node.id, ()))
    if seen.job.over or _let_go(seen.job) or failed_to_start(seen.job):
        return None  # the server ends the ranks itself, also where one has raised an error
    for name, actor in ranks(seen.job):
        if not actor.alive:
            return ClusterError(
                f"{name} of the server, on node {seen.node(actor.node)}, is gone",
                cause=death(actor) or "Ray does not say why",
                remedy="look for what ends processes there, such as the kernel for want of memory",
            )
    return None


def _let_go(job: JobSeen) -> bool:
    """Whether the server ended a rank, or Ray all of them because their driver ended, which it
    finds out about later."""
    dead = [actor for actor in job.actors if not actor.alive]
    if any(_KILLED in actor.died for actor in dead):
        return True
    return 0 < len(dead) == len(job.actors) and all(_LET_GO.search(one.died) for one in dead)


def _node_died(node: ClusterNode, names: Sequence[str]) -> ClusterError:
    held = f", with {', '.join(names)} of the server" if names else ""
    return ClusterError(
        f"node {node} of the Ray cluster died{held}",
        cause=node.died or "Ray heard no more of it",
        remedy="see whether that machine and its network are up, and start its Ray node again",
    )


def failed_to_start(job: JobSeen) -> tuple[str, ActorSeen] | None:
    """The rank in which the engine raised an error while it was made."""
    found = ((name, one) for name, one in ranks(job) if _OWN_ERROR in one.died)
    return next(found, None)


def death(actor: ActorSeen) -> str:
    """Why an actor is gone, in Ray's words."""
    found = _MESSAGE.search(actor.died)
    return found[1].strip() if found else ""


def lacking(
    seen: Sequence[ClusterNode], *, needed: int, bundle: Mapping[str, float], here: bool
) -> str:
    """Why a cluster has no room for ``needed`` nodes with a ``bundle`` each, even when nobody else
    uses it, in words; "" where it has. With ``here`` this machine must be one of them."""
    fit = [
        node
        for node in seen
        if node.alive and all(node.resources.get(n, 0) >= amount for n, amount in bundle.items())
    ]
    wanted = _words(bundle)
    if len(fit) < needed:
        has = "; ".join(f"{node}: {_words(node.resources, bundle)}" for node in seen if node.alive)
        nodes_ = f"{needed} node{'s' if needed > 1 else ''}"
        return f"the server needs {nodes_} with {wanted} each, and the cluster has {has}"
    if here and not any(node.here for node in fit):
        joined = next((str(node) for node in seen if node.here), "none")
        return (
            f"the server's first rank must be on the node that drivers here join, {joined}, which "
            f"has not {wanted}"
        )
    return ""


def _words(resources: Mapping[str, float], only: Collection[str] | None = None) -> str:
    names = resources if only is None else only
    return " and ".join(f"{resources.get(name, 0):g} {name}" for name in names)
