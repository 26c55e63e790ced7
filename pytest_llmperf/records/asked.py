"""What is asked of a server in one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: ``chat`` and ``completions`` are OpenAI's; ``generate`` is SGLang's own, with token ids.
Api = Literal["chat", "completions", "generate"]
#: ``closed``: a new request when one ends. The others are open loops, which never wait.
Arrivals = Literal["closed", "constant", "poisson", "gamma", "trace"]
SourceKind = Literal["sharegpt", "prompts", "ids", "trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One per-request objective: ``metric`` (a per-request latency) of at most ``limit_ms``."""

    metric: str
    limit_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that requests are read from. ``sha256`` is of its bytes when it was declared, so
    that a changed file is another workload."""

    kind: SourceKind
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of a server in one run.

    **What.** ``input_tokens`` and ``output_tokens`` are the exact lengths of each request, or
    their means where ``length_spread`` is not 0: each length is then drawn uniformly from
    ``mean * (1 - spread)`` to ``mean * (1 + spread)``. ``None``: ``source`` says. The first
    ``shared_prefix_tokens`` of the input are one of ``prefixes`` texts that requests share. With
    ``turns`` above 1 a session asks so many times, each time with all that was said before and
    ``turn_input_tokens`` more, ``think_time_s`` after the last answer. ``seed`` decides every
    prompt, length and arrival.

    **When.** In a closed loop ``concurrency`` sessions are active at any time, the first of them
    started over ``ramp_up_s``. In an open loop ``rate`` is sessions per second (with
    ``final_rate`` it changes linearly to that over the run), ``burstiness`` the shape of gamma
    arrivals (below 1: bursts; 1: Poisson), and ``concurrency``, where given, a cap on requests in
    flight. ``trace_speed`` divides the times of a trace.

    **How much.** ``requests`` measured in one run, or all that begin within ``duration_s``;
    ``warmup_requests`` are sent and discarded before, ``runs`` is the number of passes per
    launch. ``flush`` empties the server's prefix cache before each.

    **How.** ``temperature`` is always sent explicitly; ``stream`` asks for a stream of events;
    ``slo`` are the objectives that goodput counts by.
    """

    name: str
    input_tokens: int | None
    output_tokens: int | None
    concurrency: int | None
    requests: int | None
    warmup_requests: int
    runs: int
    seed: int = 0
    temperature: float = 0.0
    api: Api = "chat"
    request_timeout_s: float = 600.0
    stream: bool = True
    arrivals: Arrivals = "closed"
    rate: float | None = None
    final_rate: float | None = None
    burstiness: float = 1.0
    trace_speed: float = 1.0
    ramp_up_s: float = 0.0
    duration_s: float | None = None
    source: Source | None = None
    length_spread: float = 0.0
    shared_prefix_tokens: int = 0
    prefixes: int = 1
    turns: int = 1
    turn_input_tokens: int = 0
    think_time_s: float = 0.0
    flush: bool = True
    slo: tuple[Slo, ...] = ()

    @property
    def identity(self) -> str:
        """All that it says, alike wherever a file of requests may lie."""
        source = self.source and replace(self.source, path="")
        return repr(replace(self, source=source))

    @property
    def shares_prefixes(self) -> bool:
        """Whether hits in the server's prefix cache are meant."""
        shared = self.shared_prefix_tokens > 0 or self.turns > 1 or not self.flush
        return shared or self.source is not None
