"""The load client as the session uses it: one or more workers that do the asking.

One process absorbs what one core can. Past that, sessions are dealt out to several, on this
machine or on others, which begin at the same instant of this process' clock; what they saw is
merged by the requests' numbers, so the totals do not depend on how many they were, nor where.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError, ServerError
from pytest_llmperf.records import Json, Pass, RequestRecord, Workload

from .child import Processes
from .compose.asking import Target
from .declare.workloads import DEFAULT_CONCURRENCY, request_total
from .line import SILENCE_S
from .merge import merged_health, merged_whole

if TYPE_CHECKING:
    from .compose.prompts import Part
    from .hand import Crew, Hand
    from .messages import Command, Finished

__all__ = ["LoadClient", "LoadProgress", "Target", "processes_needed"]

#: What one process takes on by choice: past these a burst of chunks waits for its turn to be
#: stamped for milliseconds, and so do requests that are due together.
_STREAMS_EACH = 256
_RATE_EACH = 1000.0
_MANY = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """How far a pass has come. ``total`` is ``None`` where ``duration_s`` bounds it.
    ``output_tokens_so_far`` is an estimate from the reads so far, which are not tokens; for people
    to watch, never to judge."""

    done: int
    total: int | None
    elapsed_s: float
    duration_s: float | None
    output_tokens_so_far: int | None


def processes_needed(workload: Workload, cores: int) -> int:
    """How many processes a workload's load asks for, at most one for each of ``cores``."""
    streams = (workload.concurrency or 0) / _STREAMS_EACH
    rate = max(workload.rate or 0.0, workload.final_rate or 0.0) / _RATE_EACH
    return max(1, min(cores, math.ceil(max(streams, rate))))


class LoadClient:
    """Asks one target. Use as a context manager, or call :meth:`close`.

    ``crew`` finds the workers, as many as it wants or else as a workload needs and it has: by
    default processes of this machine. Raises :class:`ClientError` when a worker cannot be started
    or fails.
    """

    def __init__(
        self,
        target: Target,
        *,
        crew: Crew | None = None,
    ) -> None:
        self._target = target
        self._crew: Crew = crew or Processes()
        self._prepared: dict[Workload, int] = {}
        self._children: list[Hand] = []
        try:
            self._grow(1)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def api_fields(self) -> dict[str, Json]:
        """What is laid over the body of every request."""
        return dict(self._target.api_fields)

    @property
    def pids(self) -> tuple[int, ...]:
        """The children's process ids."""
        return tuple(child.pid for child in self._children)

    def prepare(self, workload: Workload) -> None:
        """Learn how to ask for exact lengths and try the workload once; outside any window. Does
        nothing for a workload that was prepared before.

        Raises :class:`ServerError`, quoting the server, when it will not serve the workload.
        """
        from .messages import Learnt, Prepare, Prepared

        if not self._children:
            raise ClientError("the load client is closed")
        if workload in self._prepared:
            return
        first = self._children[0]
        first.tell(Prepare(workload))
        prepared = first.hear(workload.request_timeout_s + SILENCE_S)
        if not isinstance(prepared, Prepared):
            raise ClientError("the load client answered out of turn")
        count = self._crew.wanted or processes_needed(workload, self._crew.most)
        count = min(count, _most_useful(workload))
        self._grow(count)
        self._tell_all(self._children[1:count], Learnt(workload, prepared.recipe))
        self._prepared[workload] = count

    def warm_up(self, workload: Workload, seed: int) -> Pass:
        """Send the workload's warm-up requests; no measured prompt begins like one of them."""
        return self._go(workload, seed, "warmup", None)

    def measure(
        self,
        workload: Workload,
        seed: int,
        on_progress: Callable[[LoadProgress], None] | None = None,
    ) -> Pass:
        """One measured pass; ``seed`` decides its prompts. Prepares first if need be.

        Failed requests are in the result; only a server that cannot be reached at all raises
        :class:`ServerError`.
        """
        return self._go(workload, seed, "measured", on_progress)

    def close(self) -> None:
        """End the child processes; harmless when they are gone."""
        while self._children:
            self._children.pop().close()

    # --- children

    def _grow(self, count: int) -> None:
        have = len(self._children)
        if have < count:
            new = self._crew.hire(have, count - have)
            self._children += new
            self._tell_all(new, _opening(self._target))

    def _tell_all(self, children: Sequence[Hand], command: Command) -> None:
        """Tell each the same and wait until each is ready."""
        for child in children:
            child.tell(command)
        self._await_ready(children)

    def _await_ready(self, children: Sequence[Hand]) -> None:
        from .messages import Ready

        trouble: ServerError | None = None
        for child in children:
            try:
                if not isinstance(child.hear(), Ready):
                    raise ClientError("the load client answered out of turn")
            except ServerError as error:
                trouble = error
        if trouble is not None:
            raise trouble

    # --- a pass

    def _go(
        self,
        workload: Workload,
        seed: int,
        part: Part,
        on_progress: Callable[[LoadProgress], None] | None,
    ) -> Pass:
        from .messages import Start

        if workload not in self._prepared:
            self.prepare(workload)
        children = self._children[: self._prepared[workload]]
        self._get_ready(children, workload, seed, part)
        started_at = clock.stamp().isoformat()
        start_ns = clock.now_ns() + self._crew.lead_ns
        for child in children:
            child.tell(Start(start_ns))
        meter = _Meter(workload, len(children), on_progress)
        shares = _collect(children, meter)
        spills = [child.spill.fileno() for child in children]
        records = merged_whole(shares, spills)
        if part == "measured":
            _check_complete(workload, records)
        return Pass(
            seed=seed,
            started_at=started_at,
            started_ns=start_ns,
            records=records,
            client=merged_health([share.health for share in shares], records),
        )

    def _get_ready(
        self, children: Sequence[Hand], workload: Workload, seed: int, part: Part
    ) -> None:
        from .messages import Abandon, Go
        from .send.supply import Shard

        for number, child in enumerate(children):
            shard = Shard(number=number, of=len(children))
            child.tell(Go(workload=workload, seed=seed, part=part, shard=shard))
        try:
            self._await_ready(children)
        except ServerError:
            self._tell_all(children, Abandon())
            raise


class _Meter:
    """Adds up what the processes say of their progress."""

    def __init__(
        self, workload: Workload, count: int, told: Callable[[LoadProgress], None] | None
    ) -> None:
        self._workload = workload
        self._total = request_total(workload)
        self._told = told
        self._done = [0] * count
        self._reads = [0] * count

    def note(self, number: int, done: int, reads: int, elapsed_s: float) -> None:
        self._done[number] = done
        self._reads[number] = reads
        if self._told is not None:
            self._told(
                LoadProgress(
                    done=sum(self._done),
                    total=self._total,
                    elapsed_s=elapsed_s,
                    duration_s=self._workload.duration_s,
                    output_tokens_so_far=sum(self._reads),
                )
            )


def _most_useful(workload: Workload) -> int:
    """More processes than this would have nothing to do at times."""
    closed = workload.arrivals == "closed"
    at_once = workload.concurrency or (DEFAULT_CONCURRENCY if closed else None)
    return at_once or workload.requests or _MANY


def _check_complete(workload: Workload, records: Sequence[RequestRecord]) -> None:
    wanted = request_total(workload)
    if wanted is not None and len(records) != wanted:
        raise ClientError(
            f"the load client has records of {len(records)} requests where {wanted} were to be "
            "sent; nothing it measured can be believed. This is a defect of pytest-llmperf."
        )


def _collect(children: Sequence[Hand], meter: _Meter) -> list[Finished]:
    """What each child saw; in the meantime their progress goes to ``meter``."""
    from .messages import Finished, Progress

    shares: dict[int, Finished] = {}
    while len(shares) < len(children):
        open_ones = [number for number in range(len(children)) if number not in shares]
        for number in _speaking(children, open_ones):
            match children[number].hear():
                case Progress(done, reads, elapsed_s):
                    meter.note(number, done, reads, elapsed_s)
                case Finished() as share:
                    shares[number] = share
                case _:
                    raise ClientError("the load client answered out of turn")
    return [shares[number] for number in range(len(children))]


def _speaking(children: Sequence[Hand], numbers: Sequence[int]) -> list[int]:
    """Those of ``numbers`` that have something to say, the first of them if all stay silent:
    hearing it will tell why."""
    by_descriptor = {children[number].fileno(): number for number in numbers}
    ready, _, _ = select.select(list(by_descriptor), [], [], SILENCE_S)
    return [by_descriptor[descriptor] for descriptor in ready] or [numbers[0]]


def _opening(target: Target) -> Command:
    from .messages import OpenTarget

    return OpenTarget(
        url=target.url,
        model=target.model,
        api_fields=dict(target.api_fields),
        tokenize=asdict(target.tokenize) if target.tokenize else None,
        headers=[(name, str(value)) for name, value in target.headers],
        exact_output=target.exact_output,
    )
