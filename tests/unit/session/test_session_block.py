"""What one test's launch measures for others, and whose trouble it is when that fails."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_llmperf.declared import server_from
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ClientError, ServerError
from pytest_llmperf.launch import ports
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.records import Accelerator, Device, LaunchPlan, Run, ServerRequest, Workload
from pytest_llmperf.session.block import Block
from pytest_llmperf.session.devices import Allotment
from pytest_llmperf.session.nodes import Nodes
from pytest_llmperf.session.progress import Progress
from pytest_llmperf.session.ranks import RanksHere
from pytest_llmperf.session.server import LiveServer
from pytest_llmperf.session.surroundings import Surroundings

MINE = Workload(
    name="mine",
    input_tokens=8,
    output_tokens=4,
    concurrency=1,
    requests=1,
    warmup_requests=1,
    runs=1,
)
BAD = replace(MINE, name="bad")
GOOD = replace(MINE, name="good")


@dataclass
class Live:
    """A server that cannot be asked for one workload, and may be dead."""

    error: Exception
    death: ServerError | None = None
    runs: dict[Workload, list[Run]] = field(default_factory=dict)
    fingerprint: None = None
    ranks: RanksHere = field(default_factory=RanksHere)

    def measure(self, workload: Workload, *_: Any, **__: Any) -> list[Run]:
        if workload == BAD:
            raise self.error
        return self.runs.setdefault(workload, [])

    def check(self) -> None:
        if self.death is not None:
            raise self.death


def block(live: Live | None) -> Block:
    return Block(
        request=ServerRequest(engine="sim", model="m"),
        engine=Sim(),
        accelerator=Accelerator(
            devices=(Device(index=0, uuid="c", vendor="cpu", product="C", memory_bytes=0),),
            source="override",
        ),
        around=Surroundings(
            progress=Progress(None),
            log_dir=Path(),
            cache_dir=Path(),
            lock_dir=None,
            launches=2,
            statistics=(),
            bounds=HealthBounds(),
            subjects=False,
            client_processes=None,
            pin=True,
            remember=lambda _: None,
        ),
        planned=[BAD, GOOD],
        live=cast("LiveServer", live),
    )


@pytest.mark.parametrize("error", [ServerError("refused"), ClientError("the client fell over")])
def test_what_fails_for_another_test_is_left_to_that_test(error: Exception) -> None:
    live = Live(error)
    block(live)._measure_others(2)
    assert list(live.runs) == [GOOD]


@pytest.mark.parametrize("error", [ServerError("cut"), ClientError("cut")])
def test_a_dead_server_is_told_at_once(error: Exception) -> None:
    live = Live(error, death=ServerError("the server ended"))
    with pytest.raises(ServerError, match="the server ended"):
        block(live)._measure_others(2)


def test_a_port_of_ranks_is_given_back_once() -> None:
    one = block(None)
    one._meeting = ports.claim_port("127.0.0.1")
    port = one._meeting
    one.close()
    assert not ports.holds(port)
    ports.claim_port("127.0.0.1", port)  # by another server, by and by
    one.close()
    assert ports.holds(port)
    ports.release_port(port)


def test_a_launch_that_fails_keeps_no_port_of_its_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[LaunchPlan] = []

    def fail(_: Any, plan: LaunchPlan, *__: Any, **___: Any) -> None:
        plans.append(plan)
        raise ServerError("no")

    class Spread(Sim):
        name = "sglang"

    monkeypatch.setattr("pytest_llmperf.session.block.launch", fail)
    one = block(None)
    one.request = server_from("sglang", model="m", nodes=2)
    one.engine, one.around = Spread(), replace(one.around, lock_dir=tmp_path, nodes=Nodes())
    one.allotment = Allotment(among=one.accelerator, count=1, ranks=2)
    with pytest.raises(ServerError, match="no"):
        one.open()
    (plan,) = plans
    (other,) = plan.others
    assert other.port
    assert not any(map(ports.holds, (plan.port, other.port)))
    assert not ports._claims


def test_a_port_is_given_back_though_ranks_cannot_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(RanksHere):
        def give_up(self, _: BaseException) -> None:
            raise ServerError("an actor is left")

    def fail(*_: Any, **__: Any) -> None:
        raise ClientError("no")

    monkeypatch.setattr("pytest_llmperf.session.block.launch", fail)
    monkeypatch.setattr(Block, "_join", lambda *_: Stuck())
    one = block(None)
    one.around = replace(one.around, lock_dir=tmp_path)
    with pytest.raises(ServerError, match="an actor is left"):
        one.open()
    assert not ports._claims


@pytest.mark.parametrize("alike", [True, False])
def test_what_the_server_was_given_is_told_where_it_is_remembered_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    one = block(None)
    one.around = replace(one.around, lock_dir=tmp_path)
    product = one.accelerator.product if alike else "D"
    other = Device(index=5, uuid="d", vendor="cpu", product=product, memory_bytes=0)
    live = Live(ServerError(""))
    live.ranks = RanksHere()
    live.ranks.accelerator = replace(one.accelerator, devices=(other,))
    monkeypatch.setattr("pytest_llmperf.session.block.launch", lambda *_, **__: live)
    one._launch()
    assert one.accelerator.devices[0].uuid == ("d" if alike else "c")
    one.device.give_back()
    for port in list(ports._claims):
        ports.release_port(port)
