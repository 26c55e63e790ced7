"""Which devices a server of this session runs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_llmperf.accelerators.detect import detect
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.nodes import check_nodes
from pytest_llmperf.engines.over_ray import RAY_FLAGS
from pytest_llmperf.engines.parallel import Parallel, parallel_of
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Device, ServerRequest
from pytest_llmperf.redact import redact_text
from pytest_llmperf.settings import Settings

from .device import check_as_many
from .devices import Allotment, allot, planned_words, visible_in
from .devices_over_ray import allotment_over
from .nodes import Nodes


class Placing:
    """What is here, asked once, and what of it each request may be given."""

    def __init__(self, settings: Settings, engine: Callable[[str], Engine]) -> None:
        self._settings = settings
        self._engine = engine
        self._accelerators: dict[tuple[str | None, tuple[tuple[str, str], ...]], Accelerator] = {}
        self._allotments: dict[ServerRequest, Allotment] = {}

    def check(self, request: ServerRequest | None) -> None:
        """Raise UsageMistake for devices or nodes that are not here, before any launch."""
        if request is None or request.url is not None:
            return
        parallel = parallel_of(request.engine, request.args)
        many = parallel is not None and parallel.devices > 1
        if many or request.devices is not None or request.nodes or request.ray:
            self.allotment(request)
        self.check(request.reference)

    def check_beside(self, request: ServerRequest) -> None:
        """Raise UsageMistake where a server and its reference cannot be up at once."""
        reference = request.reference
        if reference is None or request.url is not None or reference.url is not None:
            return
        ours = self.allotment(request)
        check_as_many(ours, self.allotment(reference).as_many_as(ours))

    def _parallel(self, request: ServerRequest, words: Sequence[str]) -> Parallel | None:
        """How the server of a command line is spread, over the nodes that are asked for."""
        parallel = parallel_of(request.engine, words)
        if request.nodes is None:
            return parallel
        self._check_alone(request)
        self.nodes.check(request)
        check_nodes(request.engine, request.nodes, request.args, parallel)
        return parallel and replace(parallel, nodes=request.nodes)

    def _check_alone(self, request: ServerRequest) -> None:
        """Raise UsageMistake where a server of several ranks would share its devices."""
        if self._settings.side_by_side:
            spread = f"nodes={request.nodes}" if request.ray is None else "ray=..."
            raise UsageMistake(
                f"llm_server({spread}): a server of several ranks cannot be held "
                "still as a whole; leave --llmperf-side-by-side out."
            )

    @property
    def nodes(self) -> Nodes:
        """Where the ranks of a server over several nodes run."""
        return Nodes(hosts=self._settings.hosts, command=self._settings.node_command)

    def detected(self, wanted: str | None, env: Mapping[str, str] | None = None) -> Accelerator:
        """The devices that a server with ``env`` laid over this process's would see; asked once."""
        key = (wanted, tuple(sorted((env or {}).items())))
        if key not in self._accelerators:
            self._accelerators[key] = detect(wanted, env={**os.environ, **(env or {})})
        return self._accelerators[key]

    def allotment(self, request: ServerRequest) -> Allotment:
        """The devices that a server to be launched may be given."""
        if request not in self._allotments:
            found = self.detected(request.accelerator, visible_in(request))
            ranks = 1 if self._settings.hosts else request.nodes or 1
            words = planned_words(self._engine(request.engine), request, found, ranks=ranks)
            if request.ray is not None:
                self._check_alone(request)
                if request.nodes and RAY_FLAGS[request.engine].nodes:
                    check_nodes(request.engine, request.nodes, request.args, None)
                self._allotments[request] = allotment_over(request, found, words)
                return self._allotments[request]
            parallel = self._parallel(request, words)
            self._allotments[request] = allot(request, found, parallel, os.environ, ranks=ranks)
        return self._allotments[request]


def remote(url: str, stated: str | None) -> Accelerator:
    """An endpoint's hardware: what the user states, else unknown."""
    shown = redact_text(url)
    device = Device(vendor="remote", product=stated or "remote endpoint", index=0, uuid=shown)
    return Accelerator(devices=(device,), source="stated" if stated else "attached")
