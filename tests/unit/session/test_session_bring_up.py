"""One launch: whatever stops it, nothing of it is left, and the first reason is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from live_servers import CPU
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import (
    Accelerator,
    Device,
    HttpProbe,
    LaunchPlan,
    LaunchRecord,
    Placement,
    RankPlace,
    ServerIdentity,
)
from pytest_llmperf.session import bring_up
from pytest_llmperf.session.clients import who_asks
from pytest_llmperf.session.ranks import Ranks, RanksHere
from pytest_llmperf.session.server import LiveServer

PLAN = LaunchPlan(
    engine="sim", argv=("sim",), env=(), host="127.0.0.1", port=1, ready=HttpProbe(path="/"),
    start_timeout_s=1.0, stop_grace_s=1.0,
)  # fmt: skip
PLACEMENT = Placement(
    host="127.0.0.1", port=1, accelerator=CPU, model_path="m", served_name="m", python="python"
)
GIVEN = Accelerator(
    devices=(Device(index=5, uuid="GPU-5", vendor="nvidia", product="H100", memory_bytes=0),),
    source="nvml",
)
PLACE = RankPlace(name="tp0", node="n", host="h", address="10.0.0.1", devices=("5",))


@dataclass
class Process:
    """A server's process; each step is noted."""

    steps: list[str]
    url: str = "http://127.0.0.1:1"
    pid: int = 0
    startup_time_s: float = 2.0

    def kill(self) -> None:
        self.steps.append("kill")

    def stop(self) -> None:
        self.steps.append("stop")


class Elsewhere(RanksHere):
    """Ranks that are not here."""

    def __init__(self, steps: list[str], better: BaseException | None = None) -> None:
        self.steps = steps
        self.better = better

    def ready(self, kill: Callable[[], None]) -> None:
        self.steps.append("ready")
        self.places, self.accelerator, self.notes = (PLACE,), GIVEN, ("a note",)
        kill()

    def failed(self, error: BaseException) -> BaseException:
        return self.better or error

    def let_go(self) -> None:
        self.steps.append("let go")

    def give_up(self, _: BaseException) -> None:
        self.steps.append("give up")


@dataclass
class Launch:
    """What becomes of one that goes as far as it is let."""

    steps: list[str] = field(default_factory=list)
    remembered: list[LaunchRecord] = field(default_factory=list)

    def go(self, ranks: Ranks, *, with_subject: bool = False) -> LiveServer:
        return bring_up.launch(
            Sim(),
            PLAN,
            PLACEMENT,
            server_id="s",
            log_path=Path("server.log"),
            crew=who_asks(),
            held_fds=(),
            on_progress=lambda *_: None,
            remember=self.remembered.append,
            with_subject=with_subject,
            ranks=ranks,
        )


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    made = Launch()

    class Started:
        @staticmethod
        def start(*_: object, **__: object) -> Process:
            return Process(made.steps)

    identity = ServerIdentity(engine="sim", version="1", model="m", args={})
    monkeypatch.setattr(bring_up, "ServerProcess", Started)
    monkeypatch.setattr(bring_up, "identify", lambda *_, **__: identity)
    monkeypatch.setattr(bring_up, "_check_ours", lambda *_: None)
    return made


def raises(error: BaseException) -> Callable[..., Any]:
    def do(*_: object, **__: object) -> Any:
        raise error

    return do


def test_what_others_placed_is_what_is_told_of(launch: Launch) -> None:
    live = launch.go(Elsewhere(launch.steps))
    assert launch.steps == ["ready", "kill"]
    (record,) = launch.remembered
    assert live.record == record
    assert live.accelerator == GIVEN
    assert (record.devices, record.ranks) == (("GPU-5",), (PLACE,))
    assert record.notes[-1] == "a note"


def test_what_is_placed_here_is_as_planned(launch: Launch) -> None:
    live = launch.go(RanksHere())
    assert live.accelerator == CPU
    assert (live.record.devices, live.record.ranks) == (("cpu",), None)


@pytest.mark.parametrize("error", [ServerError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("late", ["subject", "LiveServer"])
def test_nothing_is_left_of_a_launch_that_is_stopped_at_its_end(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, late: str, error: BaseException
) -> None:
    monkeypatch.setattr(bring_up, "subject", _no_subject)
    monkeypatch.setattr(bring_up, late, raises(error))
    with pytest.raises(type(error)):
        launch.go(Elsewhere(launch.steps), with_subject=True)
    assert launch.steps == ["ready", "kill", "let go", "stop", "give up"]
    assert launch.remembered[-1].failure in {"no", "KeyboardInterrupt"}


def _no_subject(*_: object, **__: object) -> dict[str, object]:
    return {"libraries": None, "packages": None}


def test_ranks_may_know_better_why(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "_check_ours", raises(ServerError("it ended")))
    ranks = Elsewhere(launch.steps, better=ServerError("its node died"))
    with pytest.raises(ServerError, match="its node died") as told:
        launch.go(ranks)
    assert str(told.value.__cause__) == "it ended"
    assert launch.steps == ["let go", "stop", "give up"]


def test_ranks_here_have_nothing_to_say() -> None:
    here, error = RanksHere(), ServerError("x")
    assert here.failed(error) is error
    assert here.silences(None) == []
    assert here.sharing(GIVEN.devices[0], [7]) == [7]
    assert here.adjusted(PLAN) is PLAN
