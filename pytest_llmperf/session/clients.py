"""The load clients of a server that is up: one at a time, started anew where requests say more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.engines.base import Engine, extras_of
from pytest_llmperf.load.child import Processes
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.records import Json, Workload

if TYPE_CHECKING:
    from pytest_llmperf.cluster.crew import RayLoad
    from pytest_llmperf.load.hand import Crew

#: Finds who asks the server at a URL, which has ranks at the addresses beside it.
FindCrew = Callable[[str, Collection[str]], "Crew"]


def who_asks(
    ray: RayLoad | None = None,
    *,
    processes: int | None = None,
    cores: tuple[int, ...] | None = None,
) -> FindCrew:
    """Workers of the cluster where there is one, else ``processes`` of this machine on ``cores``;
    ``None``: as many as a load needs, on any."""
    if ray is not None:
        return ray.crew
    return lambda *_: Processes(cores, wanted=processes)


@dataclass(slots=True, kw_only=True)
class Clients:
    """Who asks at ``target``, where ``engine`` answers; its fields are laid over per workload."""

    engine: Engine
    target: Target
    crew: Callable[[], Crew]
    _kept: LoadClient | None = None

    @contextmanager
    def asking(self, workload: Workload, *, kept: bool = False) -> Iterator[LoadClient]:
        """A client for ``workload``, closed again unless it is ``kept`` for the turns to come: to
        start one and to try the workload takes longer than a short run."""
        fields = self.fields(workload)
        client, self._kept = self._kept, None
        if client is not None and client.api_fields != fields:
            client.close()
            client = None
        client = client or self._new(fields)
        try:
            yield client
        except BaseException:
            client.close()
            raise
        if kept:
            self._kept = client
        else:
            client.close()

    def fields(self, workload: Workload) -> dict[str, Json]:
        """What every request of ``workload`` says beside what is asked."""
        fields = dict(self.engine.exact_length)
        if workload.shares_prefixes:
            return fields
        return fields | dict(extras_of(self.engine).uncached)

    def _new(self, fields: Mapping[str, Json]) -> LoadClient:
        return LoadClient(replace(self.target, api_fields=fields), crew=self.crew())

    def close(self) -> None:
        """End the one that was kept."""
        client, self._kept = self._kept, None
        if client is not None:
            client.close()
