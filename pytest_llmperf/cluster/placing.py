"""On which nodes the workers of the load client go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
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
    rounds = zip_longest(*([node] * _free(node) for node in nodes))
    return [node for node in chain.from_iterable(rounds) if node is not None]


def _free(node: ClusterNode) -> int:
    return int(node.free.get("CPU", 0))


@dataclass(slots=True)
class Ours:
    """The cores that workers of ours hold, and how many each node had for us. Ray takes a while to
    say that a core is free again."""

    _held: Counter[str] = field(default_factory=Counter)
    _most: dict[str, int] = field(default_factory=dict)

    def take(self, node: str) -> None:
        """One more, on the node with this id."""
        self._held[node] += 1

    def give_back(self, node: str) -> None:
        """One less."""
        self._held[node] -= 1

    def note(self, nodes: Iterable[ClusterNode]) -> None:
        """How it is now, which may be more than it was."""
        for node in nodes:
            self._most[node.id] = max(self._had(node), self._most.get(node.id, 0))

    def accept(self, nodes: Iterable[ClusterNode]) -> None:
        """How it is now, for good: others have the rest."""
        self._most |= {node.id: self._had(node) for node in nodes}

    def _had(self, node: ClusterNode) -> int:
        return min(_free(node) + self._held[node.id], int(node.resources.get("CPU", 0)))

    def awaited(self, node: ClusterNode) -> int:
        """How many cores it will have free."""
        return self._most.get(node.id, 0) - self._held[node.id]


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
