"""What a load client is asked in a benchmark, and what it says it saw: one form for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load, as every client can be asked for it: streamed chat requests of fixed lengths.

    ``concurrency`` is the number in flight in a closed loop; ``rate`` is requests/s of Poisson
    arrivals instead, where ``concurrency`` is the most that may be in flight. ``model_dir`` holds
    a tokenizer and a configuration, for clients that count tokens themselves. ``core`` is the CPU
    core the client and all its processes must stay on; ``scratch`` is an empty directory.
    """

    url: str
    model: str
    model_dir: Path
    requests: int
    concurrency: int
    rate: float | None = None
    input_tokens: int = 64
    output_tokens: int = 128
    seed: int = 1
    core: int = 1
    scratch: Path = field(default_factory=Path)
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client reports, in its own words put into one form; ``None``: it does not say.

    Times in ms. ``output_tokens`` and ``throughput`` (tok/s) are the client's own claims.
    Of an open loop, ``offered_rate`` is requests/s by the client's own schedule, and
    ``send_delay_p99`` how late requests went out behind it.
    ``cpu_s`` is CPU time of all its processes over its whole life, ``window_cpu_s`` that of the
    measured window where it can be told apart, ``peak_rss_bytes`` the most memory that all its
    processes held together.
    """

    client: str
    version: str
    succeeded: int
    failed: int
    output_tokens: int | None
    duration_s: float | None
    throughput: float | None
    ttft_mean: float | None = None
    ttft_p99: float | None = None
    tpot_mean: float | None = None
    itl_mean: float | None = None
    itl_p99: float | None = None
    e2e_mean: float | None = None
    e2e_p99: float | None = None
    request_rate: float | None = None
    offered_rate: float | None = None
    send_delay_p99: float | None = None
    cpu_s: float | None = None
    window_cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    note: str = ""


class Client(Protocol):
    """A load client that can be asked for a :class:`Load`."""

    name: str

    def run(self, load: Load) -> Seen:
        """Carry the load out. Raises :class:`RuntimeError` quoting the client when it fails."""
