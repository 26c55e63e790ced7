"""A server over several nodes: from its own plan to one that holds every rank."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_llmperf.engines.nodes import NodeFlags, rank_words
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.addresses import LOOPBACK
from pytest_llmperf.launch.ports import claim_port, release_port
from pytest_llmperf.launch.reach import reaching
from pytest_llmperf.records import LaunchPlan, Rank, ServerRequest
from pytest_llmperf.redact import redact_argv

HERE = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Where ranks run: on ``hosts``, of which the first is this machine, reached by ``command``.
    Without hosts all of them run here."""

    hosts: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def check(self, request: ServerRequest) -> None:
        """Raise UsageMistake for more nodes than there are."""
        if request.nodes and self.hosts and request.nodes > len(self.hosts):
            raise UsageMistake(
                f"llm_server(nodes={request.nodes}): --llmperf-hosts names {len(self.hosts)}: "
                f"{', '.join(self.hosts)}; add the others, the first being this machine."
            )


def over_nodes(
    plan: LaunchPlan,
    flags: NodeFlags,
    count: int,
    nodes: Nodes,
    shares: Sequence[Mapping[str, str]],
) -> tuple[LaunchPlan, int]:
    """``plan`` for the first of ``count`` ranks, with all the others, and the port at which they
    meet, which is claimed and to be released by the caller.

    ``shares`` are, by rank, the variables that tell it its devices on this machine; what of them
    the plan holds is that of the first, and nothing to a rank on another node. Where one port
    cannot be had none is kept.
    """
    # Ranks of this machine alone need no network to meet.
    host = nodes.hosts[0] if nodes.hosts else LOOPBACK
    ports = [_claim_meeting(host)]
    try:
        if not nodes.hosts:
            ports += (claim_port(plan.host) for _ in range(1, count))
        return _with_ranks(plan, flags, count, nodes, shares, host, ports), ports[0]
    except BaseException:
        for port in ports:
            release_port(port)
        raise


def _claim_meeting(host: str) -> int:
    try:
        return claim_port(host)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageMistake(
            f"--llmperf-hosts: the first, {host!r}, is not known here by that name ({error}); give "
            "the name or address of this machine by which the other nodes reach it."
        ) from None


def _with_ranks(
    plan: LaunchPlan,
    flags: NodeFlags,
    count: int,
    nodes: Nodes,
    shares: Sequence[Mapping[str, str]],
    host: str,
    ports: Sequence[int],
) -> LaunchPlan:
    """``ports`` are the one on ``host`` at which they meet, then those of the others here."""
    meeting = ports[0]
    address = f"[{host}]:{meeting}" if ":" in host else f"{host}:{meeting}"

    def words(rank: int, port: int | None = None) -> tuple[str, ...]:
        return rank_words(flags, plan.argv, rank=rank, nodes=count, address=address, port=port)

    common = {name: value for name, value in plan.env if name not in shares[0]}
    others = []
    for number in range(1, count):
        if nodes.hosts:
            env, on = tuple(sorted(common.items())), nodes.hosts[number]
            argv = reaching(nodes.command, words(number), env, host=on, rank=number)
            others.append(Rank(number=number, host=on, argv=argv, env=(), local=False))
        else:
            port = ports[number]
            own = tuple(sorted({**common, **shares[number]}.items()))
            argv = words(number, port)
            others.append(Rank(number=number, host=HERE, argv=argv, env=own, local=True, port=port))
    notes = [
        f"rank {one.number}, on {one.host}: {shlex.join(redact_argv(one.argv))}" for one in others
    ]
    return replace(plan, argv=words(0), others=tuple(others), notes=(*plan.notes, *notes))
