"""A server that those who are to ask cannot reach is never started."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from pytest_llmperf.cluster.crew import RayLoad
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.records import Accelerator, Device, LaunchRecord, ServerRequest
from pytest_llmperf.session.block import Block
from pytest_llmperf.session.bring_up import exposed
from pytest_llmperf.session.progress import Progress
from pytest_llmperf.session.surroundings import Surroundings


class OutOfReach:
    """A cluster whose nodes reach no address."""

    workers = 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, host: str) -> None:
        self.asked.append(host)
        raise UsageMistake(f"workers cannot reach {host}")


def test_workers_are_asked_for_before_the_device_is_taken(tmp_path: Path) -> None:
    load, launches = OutOfReach(), list[LaunchRecord]()
    device = Device(index=0, uuid="c", vendor="cpu", product="C", memory_bytes=0)
    block = Block(
        request=ServerRequest(engine="sim", model="m"),
        engine=Sim(),
        accelerator=Accelerator(devices=(device,), source="override"),
        around=Surroundings(
            progress=Progress(None),
            log_dir=tmp_path / "logs",
            cache_dir=tmp_path,
            lock_dir=tmp_path / "locks",
            launches=1,
            statistics=(),
            bounds=HealthBounds(),
            client_processes=None,
            ray=cast("RayLoad", load),
            bind="192.0.2.2",
            pin=False,
            subjects=False,
            remember=launches.append,
        ),
    )
    with pytest.raises(UsageMistake, match=r"cannot reach 192\.0\.2\.2"):
        block.open()
    assert load.asked == ["192.0.2.2"]
    assert not launches
    assert not list(tmp_path.iterdir())


def test_only_an_address_that_others_reach_is_noted() -> None:
    assert exposed("127.0.0.1") == exposed("::1") == []
    (note,) = exposed("192.0.2.2")
    assert "192.0.2.2" in note
    assert "without a key" in note
