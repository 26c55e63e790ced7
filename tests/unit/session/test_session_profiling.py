"""A pass under a profiler: what is sent, on which launch, and what becomes of trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from live_servers import CPU, live
from pytest_llmperf.engines.base import Engine, Extras
from pytest_llmperf.engines.profiler import SGLANG, STEPS, Profiler
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.records import (
    Accelerator,
    Json,
    Run,
    ServerRequest,
    Vendor,
    Workload,
)
from pytest_llmperf.session import profiling as passes
from pytest_llmperf.session.block import Block
from pytest_llmperf.session.profiling import REQUEST_TIMEOUT_S, Profiling, Wanted, shortened
from pytest_llmperf.session.progress import Progress
from pytest_llmperf.session.server import LiveServer
from pytest_llmperf.session.surroundings import Surroundings
from pytest_llmperf.testing import FakeServer, Script

WORKLOAD = Workload(
    name="chat",
    input_tokens=8,
    output_tokens=8,
    concurrency=2,
    requests=40,
    warmup_requests=1,
    runs=3,
)


class Profiled(Sim):
    extras = Extras(profiler=SGLANG)


class AtLaunch(Sim):
    extras = Extras(profiler=Profiler(body=SGLANG.body, at_launch=True))


@dataclass
class Live:
    """A launch that sends nothing, with a profiler that is really asked."""

    url: str
    runs: dict[Workload, list[Run]] = field(default_factory=dict)
    accelerator: Accelerator = CPU
    sent: list[Workload] = field(default_factory=list)
    warmed: list[Workload] = field(default_factory=list)
    stopped: int = 0

    def warm_up(self, workload: Workload) -> float:
        self.warmed.append(workload)
        return 0.0

    def send(self, workload: Workload, begin: Callable[[], None]) -> None:
        begin()
        self.sent.append(workload)

    def stop(self) -> None:
        self.stopped += 1


def block(live: Live | None, place: Path, engine: Engine | None = None, **request: Any) -> Block:
    around = Surroundings(
        progress=Progress(None),
        log_dir=place,
        cache_dir=place,
        lock_dir=None,
        launches=1,
        statistics=(),
        bounds=HealthBounds(),
        subjects=False,
        client_processes=None,
        pin=True,
        remember=lambda _: None,
    )
    return Block(
        request=ServerRequest(**{"engine": "sim", "model": "m", **request}),
        engine=engine or Profiled(),
        accelerator=CPU,
        around=around,
        live=cast("LiveServer | None", live),
    )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(Script(profiler="works")) as running:
        yield running


def profiling(place: Path, home: Path | None = None) -> Profiling:
    return Profiling(directory=lambda: place, home=home)


def wanted(
    test: str = "t.py::test_a[x::y/1]", workload: Workload = WORKLOAD, **more: Any
) -> Wanted:
    return Wanted(**{"test": test, "workload": workload, "compared": False, **more})


# --- what is sent ------------------------------------------------------------------------------


def test_a_closed_loop_sends_two_requests_for_each_in_flight() -> None:
    short = shortened(WORKLOAD)
    assert (short.requests, short.duration_s, short.runs) == (4, None, 1)
    assert (short.input_tokens, short.output_tokens, short.concurrency) == (8, 8, 2)
    assert shortened(replace(WORKLOAD, requests=3)).requests == 3


def test_no_request_is_waited_for_longer_than_a_minute() -> None:
    assert shortened(WORKLOAD).request_timeout_s == REQUEST_TIMEOUT_S < WORKLOAD.request_timeout_s
    assert shortened(replace(WORKLOAD, request_timeout_s=5.0)).request_timeout_s == 5.0


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"arrivals": "poisson", "rate": 4.0}, 10.0),
        ({"arrivals": "poisson", "rate": 0.2}, 20.0),
        ({"arrivals": "poisson", "rate": 0.001}, 60.0),
        ({"requests": None, "duration_s": 300.0}, 10.0),
        ({"requests": None, "duration_s": 4.0}, 4.0),
        ({"turns": 4, "turn_input_tokens": 8}, 10.0),
    ],
)
def test_other_loads_are_bounded_by_time(fields: dict[str, Any], seconds: float) -> None:
    short = shortened(replace(WORKLOAD, **fields))
    assert (short.requests, short.duration_s) == (None, seconds)


def test_the_pass_is_no_run(server: FakeServer) -> None:
    """What begins is begun when the workload was tried, and before any of its requests."""
    up = live(server.url, engine=Profiled())
    tried: list[int] = []
    up.send(shortened(WORKLOAD), begin=lambda: tried.append(len(server.truth)))
    assert len(server.truth) - tried[0] == 4
    assert {each.asked_tokens for each in server.truth[tried[0] :]} == {8}
    assert up.runs == {}


# --- where -------------------------------------------------------------------------------------


def test_the_launch_that_was_measured_is_taken_as_it_is(server: FakeServer, tmp_path: Path) -> None:
    live = Live(server.url, runs={WORKLOAD: []})
    candidate = block(live, tmp_path)
    made = profiling(tmp_path / "r-profiles", tmp_path)
    made.want(candidate.id, wanted())
    made.make(candidate, None)
    (found,) = made.drain()
    assert live.warmed == []
    assert live.sent == [shortened(WORKLOAD)]
    assert (found.test, found.side, found.own_launch) == (
        "t.py::test_a[x::y/1]",
        "candidate",
        False,
    )
    (path,) = found.traces
    assert path.startswith("r-profiles/test_a-x-y-1")
    assert (tmp_path / path).is_file()
    assert list(tmp_path.glob("profile-*")) == []
    assert made.drain() == []


def test_a_workload_that_is_new_to_a_launch_warms_it_up(server: FakeServer, tmp_path: Path) -> None:
    live = Live(server.url)
    candidate = block(live, tmp_path)
    made = profiling(tmp_path / "p")
    made.want(candidate.id, wanted())
    made.make(candidate, None)
    assert live.warmed == [WORKLOAD]


def test_over_ray_each_node_would_keep_its_own_traces(tmp_path: Path) -> None:
    candidate = block(Live("http://127.0.0.1:9"), tmp_path, engine=Profiled(), ray="auto")
    made = profiling(tmp_path / "p")
    made.want(candidate.id, wanted())
    made.make(candidate, None)
    (found,) = made.drain()
    assert found.reason.startswith("its ranks run in a Ray cluster")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["at-launch", "container"])
def test_where_it_must_be_told_before_a_launch_is_made_for_it(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    up, own = Live(server.url, runs={WORKLOAD: []}), Live(server.url)
    opened: list[Block] = []

    def opening(self: Block) -> LiveServer:
        opened.append(self)
        self.launched += 1
        self.live = cast("LiveServer", own)
        return self.live

    monkeypatch.setattr(Block, "open", opening)
    if case == "container":
        candidate = block(up, tmp_path, image="i")
    else:
        candidate = block(up, tmp_path, AtLaunch())
    made = profiling(tmp_path / "p")
    made.want(candidate.id, wanted())
    made.make(candidate, None)
    (found,) = made.drain()
    assert found.own_launch
    assert (up.stopped, up.sent) == (1, [])
    assert (own.stopped, own.sent) == (1, [shortened(WORKLOAD)])
    (one,) = opened
    assert one is not candidate
    assert one.around.profiles is not None
    assert candidate.launched == one.launched  # their logs have other names
    assert candidate.around.profiles is None


def test_the_reference_is_profiled_for_tests_that_were_compared(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Live(server.url, runs={WORKLOAD: []}), Live(server.url)
    monkeypatch.setattr(Block, "open", lambda self: theirs)
    candidate = block(ours, tmp_path)
    reference = replace(block(None, tmp_path), side="reference")
    other = replace(WORKLOAD, seed=1)
    made = profiling(tmp_path / "p")
    made.want(candidate.id, wanted("a", compared=True))
    made.want(candidate.id, wanted("b", other))
    made.make(candidate, reference)
    assert [(each.test, each.side) for each in made.drain()] == [
        ("a", "candidate"),
        ("b", "candidate"),
        ("a", "reference"),
    ]
    assert ours.stopped == 1  # before another one is started on the device
    assert theirs.sent == [shortened(WORKLOAD)]


# --- trouble -----------------------------------------------------------------------------------


def refused(made: Profiling, candidate: Block) -> str:
    made.want(candidate.id, wanted())
    made.make(candidate, None)
    (found,) = made.drain()
    assert (found.traces, found.seconds) == ((), None)
    return found.reason


def test_what_runs_elsewhere_and_what_has_no_profiler_is_not_asked(tmp_path: Path) -> None:
    endpoint = block(None, tmp_path, url="http://127.0.0.1:9")
    assert refused(profiling(tmp_path), endpoint).startswith("it was running already")
    assert refused(profiling(tmp_path), block(None, tmp_path, Sim())) == (
        "the engine 'sim' has no profiler that can be asked"
    )


def test_a_refusal_quotes_the_server(tmp_path: Path) -> None:
    with FakeServer(Script()) as without:
        told = refused(profiling(tmp_path), block(Live(without.url), tmp_path))
    assert told.startswith("POST /start_profile answered 404 ")
    assert "no such path" in told


def test_a_stop_that_is_refused_matters_where_it_did_not_stop_itself(
    server: FakeServer, tmp_path: Path
) -> None:
    """The double stops nothing of its own accord: STEPS of 0 are over at once."""

    def body(place: Path, _: Vendor) -> dict[str, Json]:
        return {"output_dir": str(place), "num_steps": 0}

    for itself in (True, False):

        class Other(Sim):
            extras = Extras(profiler=Profiler(body=body, stops_itself=itself))

        made = profiling(tmp_path / "p")
        candidate = block(Live(server.url), tmp_path, Other())
        made.want(candidate.id, wanted())
        made.make(candidate, None)
        (found,) = made.drain()
        assert bool(found.traces) is itself
        if not itself:
            assert found.reason == "POST /stop_profile answered 500 Internal Server Error"


def test_a_profiler_without_a_trace_is_told(server: FakeServer, tmp_path: Path) -> None:
    class Elsewhere(Sim):
        extras = Extras(profiler=replace(SGLANG, traces=("*.nothing",)))

    told = refused(profiling(tmp_path), block(Live(server.url), tmp_path, Elsewhere()))
    assert told == "the profiler has left no trace"


def test_an_error_ends_a_side_and_keeps_what_was_made(server: FakeServer, tmp_path: Path) -> None:
    class Dying(Live):
        def send(self, workload: Workload, begin: Callable[[], None]) -> None:
            if self.sent:
                raise ServerError("the server ended", log_path=Path("x.log"))
            super().send(workload, begin)

    candidate = block(Dying(server.url), tmp_path)
    made = profiling(tmp_path / "p")
    for seed in range(3):
        made.want(candidate.id, wanted(f"t{seed}", replace(WORKLOAD, seed=seed)))
    made.make(candidate, None)
    first, *others = made.drain()
    assert first.traces
    assert [each.reason for each in others] == ["the server ended (log: x.log)"] * 2


def test_after_some_time_no_other_pass_begins(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_S", 0.0)
    told = refused(profiling(tmp_path), block(Live(server.url), tmp_path))
    assert told == "others had taken 0 s, the most for a server"


def test_what_was_forgotten_is_not_made(server: FakeServer, tmp_path: Path) -> None:
    live = Live(server.url)
    candidate = block(live, tmp_path)
    made = profiling(tmp_path)
    made.want(candidate.id, wanted())
    made.forget()
    made.make(candidate, None)
    assert (made.drain(), live.sent) == ([], [])


def test_traces_of_an_earlier_session_make_room(server: FakeServer, tmp_path: Path) -> None:
    live = Live(server.url)
    candidate = block(live, tmp_path)
    made = profiling(tmp_path / "p")
    for _ in range(2):
        made.want(candidate.id, wanted())
        made.make(candidate, None)
    assert len(list((tmp_path / "p").rglob("*.trace.json.gz"))) == 1


def test_the_steps_are_few() -> None:
    assert STEPS <= 64
