"""What an engine is to this package: data about how to start a server and how to talk to it.

An engine starts nothing, opens nothing and reads no files. It says what to run; others run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pytest_llmperf.records import (
    Api,
    HttpCall,
    Json,
    LaunchPlan,
    Placement,
    ServerIdentity,
    ServerRequest,
    TokenizeCall,
    WeightFormat,
)

from .counters import CounterNames
from .profiler import Profiler


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What few engines need: the optional attribute ``extras`` of one.

    ``weights`` is the form of the tiny models that it loads. ``uncached`` are fields for the body
    of a request that keep it out of the prefix cache, where nothing can empty that; they are left
    out where hits are meant. ``more_info_paths`` are paths like ``info_paths`` that need not
    answer, and then are missing from what ``identify`` gets. ``profiler`` is its own, where it has
    one.
    """

    weights: WeightFormat = "safetensors"
    uncached: Mapping[str, Json] = field(default_factory=dict)
    more_info_paths: tuple[str, ...] = ()
    profiler: Profiler | None = None


def extras_of(engine: Engine) -> Extras:
    """The ``extras`` of ``engine``; the defaults where it has none."""
    extras = getattr(engine, "extras", None)
    return extras if isinstance(extras, Extras) else Extras()


@runtime_checkable
class Engine(Protocol):
    """One kind of server. Plain class attributes will do for every member that is no method.

    To offer an engine of your own, write a class with these members and hand an instance to the
    ``pytest_llmperf_engines`` hook under the name that tests will use. It may have ``extras``, too,
    see :class:`Extras`.
    """

    @property
    def name(self) -> str:
        """How tests ask for it, e.g. ``"sglang"``."""

    @property
    def info_paths(self) -> tuple[str, ...]:
        """Paths to GET once the server is ready; :meth:`identify` gets what they answer."""

    @property
    def apis(self) -> tuple[Api, ...]:
        """The APIs that it can be asked through."""

    @property
    def exact_length(self) -> Mapping[str, Json]:
        """Fields to add to the body of a request so that exactly ``max_tokens`` tokens come back;
        empty where the server knows none, and then fewer are no failure."""

    @property
    def flush(self) -> HttpCall | None:
        """The request that empties the prefix cache while nothing runs; ``None`` if there is
        none."""

    @property
    def tokenize(self) -> TokenizeCall | None:
        """How to have a text turned into token ids, without a begin mark; ``None`` if it cannot."""

    @property
    def metrics_path(self) -> str | None:
        """Where a server started by :meth:`plan` answers with metrics in Prometheus' text format;
        ``None`` if nowhere."""

    @property
    def counters(self) -> CounterNames | None:
        """What the counters at :attr:`metrics_path` are called; ``None`` if there are none."""

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """The command, environment and probes for ``request`` at ``placement``.

        What the user gave in ``request.args`` and ``request.env`` wins over the engine's own
        choices, but for address, port and model, which ``placement`` decides. Raises
        :class:`~pytest_llmperf.errors.UsageMistake` for a request that cannot be met.
        """

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """What the server says it is, from the parsed answers by path of :attr:`info_paths`.

        Each of them has answered; without an answer the launch fails before. Secrets are left out
        of ``args``.
        """

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """Why the server that answered is not the one that was planned, as one sentence, or
        ``None`` when it is. A port taken by another server is found out here."""
