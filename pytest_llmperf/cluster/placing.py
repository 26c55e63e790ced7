"""On which nodes the workers of the load client go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, zip_longest

from pytest_llmperf.errors import UsageMistake

from .messages import ClusterNode


def slots(nodes: Sequence[ClusterNode], avoided: Collection[str]) -> list[ClusterNode]:
    """A node for each worker that there is a free core for, in the order in which they are to be
    given out: one on each node in turn, and those on the ``avoided`` addresses last."""
    alive = [node for node in nodes if node.alive]
    others = [node for node in alive if node.address not in avoided]
    serving = [node for node in alive if node.address in avoided]
    return [*_in_turn(others), *_in_turn(serving)]


def named(node: ClusterNode, among: Sequence[ClusterNode]) -> str:
    """What a node is called; with its id where several have one name, as on one machine."""
    alike = {other.id for other in among if str(other) == str(node)}
    return str(node) if len(alike) < 2 else f"{node}, node {node.id[:8]}"


def _in_turn(nodes: Sequence[ClusterNode]) -> list[ClusterNode]:
    rounds = zip_longest(*([node] * int(node.free.get("CPU", 0)) for node in nodes))
    return [node for node in chain.from_iterable(rounds) if node is not None]


def most(found: Sequence[ClusterNode], avoided: Collection[str]) -> int:
    """How many workers there are to be where nobody said: as many as are off the serving nodes, or
    on them where there is no other place."""
    off = sum(node.address not in avoided for node in found)
    return off or len(found)


def chosen(found: Sequence[ClusterNode], first: int, count: int) -> list[ClusterNode]:
    """The nodes of ``count`` workers from the number ``first`` on.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where there are not so many cores.
    """
    if first + count > len(found):
        raise UsageMistake(
            f"--llmperf-ray-workers: {first + count} workers need a free core each, and the "
            f"cluster has {len(found)} on {len({node.id for node in found})} nodes; ask for "
            "fewer, or wait until others have let go of theirs."
        )
    return list(found[first : first + count])
