"""Which of the devices found a server is given, and how it is told.

A server that uses fewer devices than there are takes, locks and is reported with those only. The
choice is ours, among the free ones, unless the test or the surroundings have made it: then nothing
is said to the server that they have not said themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.parallel import SPREADS, Parallel
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.addresses import LOOPBACK
from pytest_llmperf.models.sizes import size_of
from pytest_llmperf.records import Accelerator, Device, Placement, ServerRequest, Vendor

#: The variables by which each vendor's runtime is told what to show, the one to set first.
VARIABLES: Mapping[Vendor, tuple[str, ...]] = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    # HIP reads the first of them that is set; engines refuse two that differ.
    "amd": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "ascend": ("ASCEND_RT_VISIBLE_DEVICES",),
    "intel": ("ZE_AFFINITY_MASK",),
}
#: Passed into a container one by one, and counted from 0 there: a choice made outside means others.
_PASSED_ONE_BY_ONE = frozenset[Vendor]({"nvidia", "ascend"})
#: More ways to choose devices than anyone waits for.
_MOST_GROUPS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """So many devices of ``among``, for one server after the other; ``tell`` is whether the server
    has to be told which they are. ``ranks`` of the server on this machine share them. ``open`` is
    whether nothing says how many it uses, ``left_to_others`` whether somebody else chooses: then
    any of ``among`` may be taken."""

    among: Accelerator
    count: int
    tell: bool = False
    ranks: int = 1
    open: bool = False
    left_to_others: bool = False

    def as_many_as(self, other: Allotment) -> Allotment:
        """With as many as what it is compared with, where nothing says how many."""
        same = self.among.vendor == other.among.vendor
        if not (self.open and same and other.count < self.count):
            return self
        return replace(self, count=other.count, tell=True)

    @property
    def usual(self) -> Accelerator:
        """What it is before a choice is made: devices of one product are alike."""
        return self.of(self.among.devices[: self.count])

    def of(self, devices: Sequence[Device]) -> Accelerator:
        return replace(self.among, devices=tuple(devices))

    def held(self, chosen: Accelerator) -> Accelerator:
        """What nobody else may use while the server runs on ``chosen``."""
        return self.among if self.left_to_others else chosen

    def shares(self, chosen: Accelerator) -> list[Accelerator]:
        """What each rank on this machine has of ``chosen``; a processor is everyone's."""
        if chosen.vendor not in VARIABLES:
            return [chosen] * self.ranks
        each = len(chosen.devices) // self.ranks
        firsts = range(0, each * self.ranks, each)
        return [self.of(chosen.devices[first : first + each]) for first in firsts]

    def groups(self, prefer: Sequence[Device] = ()) -> list[Accelerator]:
        """The choices there are, the best first: of ``prefer``, then neighbours that begin at a
        multiple of their number (they share links and memory), other neighbours, all others."""
        if self.left_to_others:
            return [self.usual]
        liked = [device for device in prefer if device in self.among.devices]
        every = self._in_order(liked[: self.count]) if liked else None
        groups = dict.fromkeys(islice(self._groups(), _MOST_GROUPS))
        first = {every: None} if every else {}
        return [self.of([self.among.devices[at] for at in group]) for group in {**first, **groups}]

    def _in_order(self, liked: Sequence[Device]) -> tuple[int, ...]:
        at = [self.among.devices.index(device) for device in liked]
        others = (each for each in range(len(self.among.devices)) if each not in at)
        return tuple(sorted([*at, *islice(others, self.count - len(at))]))

    def _groups(self) -> Iterator[tuple[int, ...]]:
        places = range(len(self.among.devices))
        for step in (self.count, 1):
            for first in range(0, len(places) - self.count + 1, step):
                yield tuple(places[first : first + self.count])
        yield from combinations(places, self.count)

    def variables(
        self, chosen: Accelerator, environ: Mapping[str, str], *, contained: bool = False
    ) -> dict[str, str]:
        """What a server has to find in its environment so that it sees ``chosen``; nothing where
        it sees no others. ``contained`` is whether it runs in a container."""
        if not self.tell or (contained and chosen.vendor in _PASSED_ONE_BY_ONE):
            return {}
        names = VARIABLES.get(chosen.vendor, ())
        told = [name for name in names if name in environ] or names[:1]
        text = ",".join(device.visible_as or str(device.index) for device in chosen.devices)
        # CUDA would else count the fastest device first (its programming guide, 13.4, under
        # environment variables), and what we count are slots.
        by_slot = chosen.vendor == "nvidia" and not any(name in environ for name in names)
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if by_slot else {}
        return {**order, **dict.fromkeys(told, text)}


def allot(
    request: ServerRequest,
    found: Accelerator,
    parallel: Parallel | None,
    environ: Mapping[str, str],
    *,
    ranks: int = 1,
) -> Allotment:
    """The devices of ``found`` that ``request`` is to have, of whose ranks so many run here.

    ``parallel`` is what the command line says, ``None`` where that cannot be told: then all that
    are visible are taken. ``environ`` is what this process was started with. Raises UsageMistake
    for devices that are not here.
    """
    nodes = parallel.nodes if parallel else request.nodes or 1
    sizes = {**(parallel.sizes if parallel else {}), **({"nodes": nodes} if nodes > 1 else {})}
    found = replace(found, parallel=sizes, nodes=max(1, nodes // ranks))
    if found.vendor not in VARIABLES:
        return Allotment(among=found, count=len(found.devices), ranks=ranks)
    if ranks > 1 and parallel is not None:
        # All of it is here, and each rank sees its own share only.
        parallel = replace(parallel, nodes=1)
    chosen = _chosen(request, found, parallel, environ)
    if chosen.count % ranks:
        raise UsageMistake(
            f"llm_server(nodes={ranks}): {ranks} ranks on this machine cannot share "
            f"{_devices(chosen.count)} alike; correct args= or devices=."
        )
    return replace(chosen, ranks=ranks, tell=chosen.tell or ranks > 1)


def _chosen(
    request: ServerRequest,
    found: Accelerator,
    parallel: Parallel | None,
    environ: Mapping[str, str],
) -> Allotment:
    names = [name for name in VARIABLES[found.vendor] if name in dict(request.env)]
    if request.devices is not None:
        if names:
            raise UsageMistake(
                f"llm_server(devices={_shown(request)}) chooses devices and so does {names[0]} in "
                "env=; give one of them."
            )
        return _as_asked(request, found, parallel)
    if parallel is None:
        return Allotment(among=found, count=len(found.devices), open=not names)
    return _as_spread(parallel, found, [*names, *_inherited(found.vendor, environ)])


def planned_words(
    engine: Engine, request: ServerRequest, found: Accelerator, *, ranks: int = 1
) -> tuple[str, ...]:
    """The command line that tells how a server would be spread over ``found``, with so many of its
    ranks here: the engine's own where it may add to what the test says, as a recipe does."""
    if found.vendor not in VARIABLES or request.engine not in SPREADS:
        return request.args
    placement = Placement(
        host=LOOPBACK,
        port=0,
        accelerator=_at_most(request, found, ranks),
        model_path=request.model or "",
        served_name=request.model or engine.name,
        python=request.python or sys.executable,
        size=size_of(request.model or ""),
    )
    return engine.plan(request, placement).argv


def _at_most(request: ServerRequest, found: Accelerator, ranks: int) -> Accelerator:
    """As many devices and nodes as the test asks for, which are alike: a recipe is for so many."""
    asked = request.devices
    count = len(asked) if isinstance(asked, tuple) else asked
    devices = found.devices if count is None else found.devices[: max(1, count)]
    return replace(found, devices=devices, nodes=max(1, (request.nodes or 1) // ranks))


def _inherited(vendor: Vendor, environ: Mapping[str, str]) -> list[str]:
    return [name for name in VARIABLES[vendor] if name in environ]


def _as_asked(request: ServerRequest, found: Accelerator, parallel: Parallel | None) -> Allotment:
    wanted = request.devices
    if isinstance(wanted, int):
        chosen = Allotment(among=found, count=wanted, tell=wanted < len(found.devices))
        _check_enough(f"llm_server(devices={wanted})", wanted, found)
    else:
        devices = tuple(_named(entry, found) for entry in wanted or ())
        if len(set(map(id, devices))) < len(devices):
            raise UsageMistake(f"llm_server(devices={_shown(request)}) names a device twice.")
        among = replace(found, devices=devices)
        chosen = Allotment(among=among, count=len(devices), tell=devices != found.devices)
    if parallel is not None and parallel.here != chosen.count:
        raise UsageMistake(
            f"llm_server(devices={_shown(request)}) gives the server {_devices(chosen.count)}, but "
            f"its arguments spread it over {parallel.here}; correct args= (such as --tp) or "
            "devices=."
        )
    return chosen


def _as_spread(parallel: Parallel, found: Accelerator, chosen_by: Sequence[str]) -> Allotment:
    needed = parallel.here
    if parallel.placed:
        last = parallel.first + (needed - 1) * parallel.step
        _check_enough("the server's arguments", last + 1, found)
        devices = found.devices[parallel.first : last + 1 : parallel.step]
        return Allotment(among=replace(found, devices=devices), count=needed)
    _check_enough("the server's arguments", needed, found, chosen_by)
    if chosen_by:
        # They see all that the variable leaves, and take them from its beginning.
        among = replace(found, devices=found.devices[:needed])
        return Allotment(among=among, count=needed)
    return Allotment(among=found, count=needed, tell=needed < len(found.devices))


def _check_enough(who: str, needed: int, found: Accelerator, chosen_by: Sequence[str] = ()) -> None:
    here = len(found.devices)
    if needed <= here:
        return
    hidden = f" that {chosen_by[0]} leaves" if chosen_by else ""
    have = f"{here} × {found.product}"
    raise UsageMistake(
        f"{who} ask{'' if who.endswith('arguments') else 's'} for {_devices(needed)}, and here "
        f"{'are' if here > 1 else 'is'} {have}{hidden}; use fewer (--tp, --dp, --pp, "
        "devices=) or another machine."
    )


def _named(entry: str, found: Accelerator) -> Device:
    if entry.isdecimal():
        matching = found.devices[int(entry) : int(entry) + 1]
    else:
        matching = tuple(each for each in found.devices if each.uuid.startswith(entry))
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(f"{at} ({device.uuid})" for at, device in enumerate(found.devices))
    raise UsageMistake(
        f"llm_server(devices=...): {entry!r} is {'several devices' if matching else 'no device'} "
        f"here; the visible ones are {known}."
    )


def _shown(request: ServerRequest) -> str:
    said = request.devices
    return repr(",".join(said) if isinstance(said, tuple) else said)


def _devices(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


def visible_in(request: ServerRequest) -> dict[str, str]:
    """What ``env=`` of a request says of devices: it decides what is found for that server."""
    known = {name for names in VARIABLES.values() for name in names} | {"ROCR_VISIBLE_DEVICES"}
    return {name: value for name, value in request.env if name in known}


def for_container(request: ServerRequest, vendor: Vendor) -> ServerRequest:
    """``request`` without a choice of devices that would be made again inside: only the chosen
    ones are passed in."""
    if request.image is None or vendor not in _PASSED_ONE_BY_ONE:
        return request
    kept = tuple(pair for pair in request.env if pair[0] not in VARIABLES[vendor])
    return replace(request, env=kept)
