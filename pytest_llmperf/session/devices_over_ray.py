"""The devices of a server whose ranks Ray places: those that are planned with, and those it got."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.engines.over_ray import without_ray
from pytest_llmperf.engines.parallel import Parallel, parallel_of
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Device, RankPlace, ServerRequest

from .devices import Allotment

if TYPE_CHECKING:
    from pytest_llmperf.accelerators.sampling import Found
    from pytest_llmperf.cluster.messages import ActorSeen, ClusterNode


def allotment_over(request: ServerRequest, found: Accelerator, words: Sequence[str]) -> Allotment:
    """The devices of a server over Ray, which chooses among them itself: like those here on every
    node. ``words`` is the command line that tells how many."""
    parallel = spread_of(request.engine, words)
    nodes = request.nodes or parallel.nodes
    sizes = {**parallel.sizes, "ray": 1, **({"nodes": nodes} if nodes > 1 else {})}
    found = replace(found, parallel=sizes, nodes=nodes)
    if found.vendor == "cpu":
        return Allotment(among=found, count=len(found.devices))
    each = math.ceil(parallel.devices / nodes)
    if each > len(found.devices):
        raise UsageMistake(
            f"llm_server({request.engine!r}, ray=...): its arguments take {each} devices on each "
            f"of {nodes} nodes, and this machine, whose are alike, has {len(found.devices)}; "
            "correct args= or nodes=."
        )
    return Allotment(among=found, count=each, left_to_others=True)


def spread_of(engine: str, words: Sequence[str]) -> Parallel:
    """How the server of a command line is spread, whoever places its ranks."""
    return parallel_of(engine, without_ray(engine, words)) or Parallel(devices=1)


def place(name: str, actor: ActorSeen, node: ClusterNode) -> RankPlace:
    """Where a rank is."""
    return RankPlace(
        name=name, node=node.id, host=node.host, address=node.address, devices=actor.devices
    )


def serving_devices(
    found: Found, node: str, ranks: Sequence[RankPlace]
) -> tuple[Device, ...] | None:
    """The devices of a node that serve; ``None`` where that cannot be told."""
    devices = found.accelerator.devices
    here = [rank for rank in ranks if rank.node == node]
    numbers = {number for rank in here for number in rank.devices}
    if numbers:
        return tuple(one for one in devices if str(one.visible_as or one.index) in numbers)
    whole = found.accelerator.vendor == "cpu" or len(devices) <= len(here)
    return devices if whole else None


def together(
    found: Mapping[str, Found], ranks: Sequence[RankPlace], planned: Accelerator
) -> Accelerator:
    """The devices that serve, of all nodes, each once; spread as it was ``planned``."""
    first = next(iter(found.values())).accelerator
    serving = (serving_devices(told, node, ranks) or () for node, told in found.items())
    devices = {device.uuid: device for each in serving for device in each}
    return replace(
        first,
        devices=tuple(devices.values()),
        parallel=planned.parallel,
        nodes=len(found),
        covered=len(found),
    )
