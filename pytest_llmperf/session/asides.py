"""What is asked of a server beside the load: its counters, its metrics page, a first request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pytest_llmperf import clock
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.counters import Counters, grown, read_counters
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.records import Json, Workload

PAGE_TIMEOUT_S = 10.0
T = TypeVar("T")
#: How long counters may lag behind the answers they count.
SETTLE_S = 2.0
_POLL_S = 0.05
#: Prompt of the first request where the workload does not say how long its prompts are.
_TYPICAL_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Asides:
    """Asks one server; never while a window is open."""

    engine: Engine
    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def page(self) -> str | None:
        """The server's own metrics, as it prints them; ``None`` where it has none."""
        path = self.engine.metrics_path
        if path is None:
            return None
        status, body = http.call(
            "GET", self.url + path, timeout_s=PAGE_TIMEOUT_S, headers=dict(self.headers)
        )
        return body.decode("utf-8", "replace") if status == 200 else None

    def counters(self) -> Counters | None:
        """The server's counters now; ``None`` where it has none or does not show them."""
        names = self.engine.counters
        if names is None:
            return None
        page = self.page()
        return None if page is None else read_counters(page, names)

    def growth(self, before: Counters | None, *, sent: int, succeeded: int) -> Counters | None:
        """What the counters grew by in a run of ``sent`` requests that has just ended.

        Engines count a little later than they answer, so wait until every success is counted, if
        they count requests.
        ``None`` where that does not happen, where others were served meanwhile, and where the
        server was started anew.
        """
        if before is None:
            return None
        deadline = clock.Deadline(SETTLE_S)
        while (after := self.counters()) is not None:
            found = grown(before, after)
            if found is None or found.requests is None:
                return found
            if found.requests > sent:
                return None
            if found.requests >= succeeded:
                return found
            if deadline.passed:
                return None
            clock.sleep(_POLL_S)
        return None

    def first_answer_ms(self, workload: Workload, model: str) -> float | None:
        """How long the server takes for one token; ``None`` when it refuses.

        Why it refuses is left to the load client, which tries the workload itself.
        """
        path, content = _one_token(workload, model)
        began = clock.now_ns()
        status, _ = http.call(
            "POST",
            self.url + path,
            body=content,
            timeout_s=workload.request_timeout_s,
            headers=dict(self.headers),
        )
        return (clock.now_ns() - began) / 1e6 if status == 200 else None


def _one_token(workload: Workload, model: str) -> tuple[str, Json]:
    text = " a" * (workload.input_tokens or _TYPICAL_TOKENS)
    asked: dict[str, Json] = {"model": model, "max_tokens": 1, "temperature": 0.0, "stream": False}
    if workload.api == "chat":
        return "/v1/chat/completions", asked | {"messages": [{"role": "user", "content": text}]}
    return "/v1/completions", asked | {"prompt": text}


def attempt(ask: Callable[[], T], check: Callable[[], None]) -> T | None:
    """What ``ask`` finds, or ``None`` when the server does not answer it although it lives.

    A run that was measured is not lost for a page about it; ``check`` raises for a dead server.
    """
    try:
        return ask()
    except ServerError:
        check()
        return None
