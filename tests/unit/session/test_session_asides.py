"""Questions beside the load, asked of the fake server and of servers that lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.engines.endpoint import Endpoint
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.records import Json, Workload
from pytest_llmperf.session import asides as room
from pytest_llmperf.session.asides import Asides, attempt
from pytest_llmperf.testing import FakeServer, Script

WORKLOAD = Workload(
    name="tiny",
    input_tokens=8,
    output_tokens=4,
    concurrency=1,
    requests=1,
    warmup_requests=1,
    runs=1,
    request_timeout_s=10.0,
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(Script(ttft_ms=5, itl_ms=1, max_context_tokens=64)) as running:
        yield running


def ask(server: FakeServer, tokens: int = 4) -> None:
    body: Json = {"model": "sim", "prompt": "one two", "max_tokens": tokens}
    status, _ = http.call("POST", f"{server.url}/v1/completions", body=body, timeout_s=10)
    assert status == 200


def of(server: FakeServer) -> Asides:
    return Asides(engine=Sim(), url=server.url)


def test_counters_grow_by_what_was_asked(server: FakeServer) -> None:
    ask(server)
    before = of(server).counters()
    for _ in range(3):
        ask(server, tokens=5)
    grown = of(server).growth(before, sent=3, succeeded=3)
    assert grown is not None
    assert (grown.requests, grown.output_tokens, grown.prompt_tokens) == (3, 15, 21)


def test_an_engine_without_a_page_has_no_counters(server: FakeServer) -> None:
    attached = Asides(engine=Endpoint(), url=server.url)
    assert attached.page() is None
    assert attached.counters() is None
    assert attached.growth(None, sent=1, succeeded=1) is None


def test_where_others_were_served_meanwhile_nothing_is_told(server: FakeServer) -> None:
    ask(server)
    before = of(server).counters()
    ask(server)
    ask(server)
    assert of(server).growth(before, sent=1, succeeded=1) is None


@dataclass(frozen=True)
class Slow(Asides):
    """Shows one request more each time it is asked."""

    shown: Iterator[float] = field(default_factory=lambda: iter(()))

    def counters(self) -> Counters | None:
        value = next(self.shown, None)
        return None if value is None else Counters(requests=value)


def lagging(*shown: float) -> Slow:
    return Slow(engine=Sim(), url="http://127.0.0.1:1", shown=iter(shown))


def test_counters_that_lag_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_POLL_S", 0.0)
    before = Counters(requests=10)
    assert lagging(10, 11, 12).growth(before, sent=2, succeeded=2) == Counters(requests=2)
    # A failed request may count or not.
    assert lagging(11).growth(before, sent=2, succeeded=1) == Counters(requests=1)


def test_counters_that_never_come_up_to_date_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "SETTLE_S", 0.0)
    assert lagging(*[11] * 99).growth(Counters(requests=10), sent=2, succeeded=2) is None
    assert lagging(11).growth(Counters(requests=10), sent=2, succeeded=2) is None  # and no page


def test_a_server_that_was_started_anew_tells_nothing() -> None:
    assert lagging(2).growth(Counters(requests=10), sent=2, succeeded=2) is None


@pytest.mark.parametrize("api", ["chat", "completions", "generate"])
def test_the_first_answer_is_timed(server: FakeServer, api: str) -> None:
    took = of(server).first_answer_ms(replace(WORKLOAD, api=api), "sim")  # type: ignore[arg-type]
    assert took is not None
    assert took >= 5
    (truth,) = server.truth
    assert truth.prompt_tokens >= 8


def test_a_refused_first_request_has_no_time(server: FakeServer) -> None:
    assert of(server).first_answer_ms(replace(WORKLOAD, input_tokens=1000), "sim") is None
    assert of(server).first_answer_ms(replace(WORKLOAD, input_tokens=None), "sim") is None


def test_no_answer_from_a_living_server_loses_nothing_and_a_dead_one_is_told() -> None:
    def unanswered() -> int:
        raise ServerError("no answer")

    def dead() -> None:
        raise ServerError("it died")

    assert attempt(lambda: 5, dead) == 5
    assert attempt(unanswered, lambda: None) is None
    with pytest.raises(ServerError, match="it died"):
        attempt(unanswered, dead)
