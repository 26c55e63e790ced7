"""Servers as a session has them once they are up, whoever answers at their address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.records import Accelerator, Device, LaunchRecord, ServerIdentity
from pytest_llmperf.session.clients import FindCrew, who_asks
from pytest_llmperf.session.server import LiveServer

CPU = Accelerator(
    devices=(Device(index=0, uuid="cpu", vendor="cpu", product="a CPU", memory_bytes=0),),
    source="override",
)


@dataclass
class Alive:
    """A server's process, as far as it is asked."""

    log_path: Path = Path("server.log")
    argv: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()

    def died(self) -> None:
        return None


def live(
    url: str,
    *,
    engine: Engine | None = None,
    launched: bool = False,
    accelerator: Accelerator = CPU,
    crew: FindCrew | None = None,
) -> LiveServer:
    return LiveServer(
        engine=engine or Sim(),
        identity=ServerIdentity(engine="sim", version=None, model="sim", args={}),
        record=LaunchRecord(
            id="L",
            server_id="S",
            launched=launched,
            engine="sim",
            version=None,
            model="sim",
            url=url,
            argv=(),
            env=(),
            args={},
            notes=(),
            cores=None,
            started_at="",
            startup_time_s=None,
            log=None,
        ),
        url=url,
        accelerator=accelerator,
        process=cast("ServerProcess", Alive()) if launched else None,
        crew=crew or who_asks(),
    )
