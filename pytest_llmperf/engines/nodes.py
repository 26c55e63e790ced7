"""Engines that can be spread over several nodes, and how the rank of each node is told its part.

SGLang 0.5.23 (``srt/entrypoints/engine.py``, ``srt/arg_groups/validation_hook.py``): every rank
gets the same command but for its number, the first answers requests and ends the others, each of
which answers ``/health`` on a port of its own; tensor and pipeline parallelism must divide by the
number of nodes, and replicas (``--dp-size``) stay on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pytest_llmperf.errors import UsageMistake

from .arguments import refuse
from .parallel import Parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFlags:
    """The flags of an engine for the number of nodes, the number of this one (from 0), and where
    the first of them is met; ``port`` is what a rank listens on."""

    nodes: str
    rank: str
    address: str
    port: str
    also: tuple[str, ...] = ()


NODE_FLAGS: Mapping[str, NodeFlags] = MappingProxyType(
    {
        "sglang": NodeFlags(
            nodes="--nnodes",
            rank="--node-rank",
            address="--dist-init-addr",
            port="--port",
            also=("--nccl-init-addr",),
        ),
    }
)


def check_nodes(
    engine: str, nodes: int, args: Sequence[str], parallel: Parallel | None
) -> NodeFlags:
    """The flags for spreading ``engine`` over ``nodes``; raises
    :class:`~pytest_llmperf.errors.UsageMistake` where that cannot be."""
    flags = NODE_FLAGS.get(engine)
    said = f"llm_server({engine!r}, nodes={nodes})"
    if flags is None:
        known = ", ".join(NODE_FLAGS)
        raise UsageMistake(
            f"{said}: of the engines only {known} is started on several nodes; start this one "
            "yourself and attach to it with --llmperf-url."
        )
    own = (flags.nodes, flags.rank, flags.address, *flags.also)
    instead = "nodes= says it to every rank; leave one of the two out"
    refuse(args, [(flag, instead) for flag in own], abbreviated=True)
    if parallel is not None and parallel.devices % nodes:
        raise UsageMistake(
            f"{said}: its arguments spread it over {parallel.devices} device"
            f"{'' if parallel.devices == 1 else 's'}, which {nodes} nodes cannot share alike; "
            "correct --tp or --pp-size."
        )
    if parallel is not None and _replicas(parallel) > 1:
        raise UsageMistake(f"{said}: its replicas (--dp-size) must be on one node.")
    return flags


def _replicas(parallel: Parallel) -> int:
    sizes = parallel.sizes
    return parallel.devices // (sizes.get("tp", 1) * sizes.get("pp", 1))


def rank_words(
    flags: NodeFlags,
    argv: Sequence[str],
    *,
    rank: int,
    nodes: int,
    address: str,
    port: int | None = None,
) -> tuple[str, ...]:
    """The command of one rank: ``argv``, which is that of all, and which part is its own.
    ``address`` is ``host:port`` of the first; ``port`` is what this one listens on instead."""
    words = list(argv)
    if port is not None:
        words[words.index(flags.port) + 1] = str(port)
    own = ((flags.nodes, str(nodes)), (flags.rank, str(rank)), (flags.address, address))
    return (*words, *(word for pair in own for word in pair))
