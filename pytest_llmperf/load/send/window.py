"""One measured window: sessions begin when they should, until all requests have been answered.

In a closed loop a session begins when another has ended. In an open loop sessions begin at
offsets fixed beforehand, whatever the server does; what then cannot go out at once (a cap on
requests in flight, no connection yet) waits in a queue, and the record shows how long.

Everything that can be done before the window is: payloads are built, connections are open, the
garbage collector is frozen. Nothing is parsed here unless memory asks for it, and nothing is ever
sent twice.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.load.planned import Session

from .backlog import Backlog
from .connect import Origin
from .health import Vitals, WorkerHealth
from .pool import Pool
from .supply import Supply
from .timer import alarm
from .wire import Connection, Exchange

TICK_S = 0.05
_TICKS_PER_REPORT = 10
#: Responses seen off, and requests sent, in one turn of the loop; what others answer is read in
#: between.
_SENT_PER_TURN = 8
#: Reading goes first: while a burst of chunks comes in, what has ended and what comes next wait for
#: a lull, but no longer than this. A request in a closed loop is timed from its writing, so waiting
#: costs it nothing; a chunk read late is measured late.
_PATIENCE_NS = 2_000_000
#: Idle connections that an open loop keeps at hand.
_RESERVE = 16
_MOST_OPENED_BEFORE = 512

#: Told (requests ended, reads so far, seconds since the start), at most twice a second.
Watcher = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When a process' sessions begin.

    In a closed loop ``slots`` of them are active, the first ones begun over ``ramp_up_ns``. In an
    open loop ``due_ns`` holds the offset of each, and ``cap`` bounds the requests in flight.
    Nothing begins later than ``duration_ns`` into the window, where that is given.
    """

    slots: int = 0
    ramp_up_ns: int = 0
    due_ns: Sequence[int] | None = None
    cap: int | None = None
    duration_ns: int | None = None

    def connections(self) -> int:
        """How many to open beforehand."""
        if self.due_ns is None:
            return self.slots
        few = min(len(self.due_ns), self.cap or len(self.due_ns))
        a_second = sum(due < 1_000_000_000 for due in self.due_ns)
        return min(few, max(a_second, 2 * _RESERVE), _MOST_OPENED_BEFORE)


class _Talk:
    """A session under way, and which of its turns comes next."""

    __slots__ = ("at", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.at = 0


class Window:
    """Sends what ``supply`` holds at its ``pace``; every request has ``timeout_s`` from its
    writing to the end of its response. Ended exchanges go to ``backlog``."""

    def __init__(
        self,
        origin: Origin,
        supply: Supply,
        pace: Pace,
        backlog: Backlog,
        *,
        timeout_s: float,
        watcher: Watcher | None = None,
    ) -> None:
        self._supply = supply
        self._pace = pace
        self._backlog = backlog
        self._timeout_ns = int(timeout_s * 1e9)
        self._watcher = watcher
        self._pool = Pool(origin, self._on_end, timeout_s=timeout_s)
        self._vitals = Vitals()
        self._talks: dict[Exchange, _Talk] = {}
        self._queue: deque[Exchange] = deque()
        self._active: set[Connection] = set()
        self._begun = 0  # of the offsets of an open loop
        self._live = 0  # sessions that have begun and not ended
        self._more = True  # whether another may begin
        self._over: deque[Connection] = deque()  # their exchanges have ended, nothing else is done
        self._held_back = False
        self._lull_awaited = False
        self._reads_seen = 0
        self._filling = False
        self._done = 0
        self._reads_done = 0
        self._ticks = 0

    async def open(self) -> None:
        """Open connections, and put aside what the garbage collector would else go through.

        Raises :class:`OSError` when a connection cannot be opened.
        """
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            await self._pool.open(self._pace.connections())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Drop every connection; needed after :meth:`open` where :meth:`run` is not called."""
        gc.enable()
        gc.unfreeze()
        await self._pool.close()

    async def run(self, start_ns: int) -> WorkerHealth:
        """Send from ``start_ns`` of the clock on, and wait for every response."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._start_ns = start_ns
        self._loop.set_exception_handler(self._fail)
        self._alarm = alarm(self._loop, self._ring)
        try:
            await self._window()
        finally:
            self._loop.set_exception_handler(None)
            self._alarm.close()
            self._timer.cancel()
            await self.close()
        return self._vitals.report(held_back=self._held_back)

    async def _window(self) -> None:
        self._arm()
        self._vitals.start()
        self._alarm.set(self._start_ns)
        await self._finished
        self._vitals.stop()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a callback, which the loop would only log, ends the window."""
        error = context.get("exception")
        if isinstance(error, Exception) and not self._finished.done():
            self._finished.set_exception(error)
        else:
            loop.default_exception_handler(context)

    # --- beginning

    def _ring(self) -> None:
        """The alarm: something is due."""
        if self._pace.due_ns is None:
            self._begin_slots()
        else:
            self._begin_due(self._pace.due_ns)

    def _begin_slots(self) -> None:
        """Start a closed loop's slots: all at once, or one after another over the ramp."""
        gap_ns = self._pace.ramp_up_ns / max(1, self._pace.slots)
        while self._begun < self._pace.slots:
            due_ns = self._start_ns + round(self._begun * gap_ns)
            if due_ns > clock.now_ns():
                self._alarm.set(due_ns)
                return
            self._begun += 1
            self._begin(None)
        self._finish_if_done()

    def _begin_due(self, offsets: Sequence[int]) -> None:
        while self._begun < len(offsets):
            due_ns = self._start_ns + offsets[self._begun]
            if due_ns > clock.now_ns():
                self._fill()
                self._alarm.set(due_ns)
                return
            self._begun += 1
            self._begin(due_ns)
        self._more = False
        self._fill()
        self._finish_if_done()

    def _begin(self, due_ns: int | None) -> None:
        """Begin another session, if there is one and time for it."""
        session = None if self._too_late(clock.now_ns()) else self._supply.take()
        if session is None:
            self._more = self._more and self._pace.due_ns is not None
            return
        self._live += 1
        self._ask(_Talk(session), due_ns)

    def _too_late(self, now: int) -> bool:
        limit = self._pace.duration_ns
        return self._pace.due_ns is None and limit is not None and now - self._start_ns >= limit

    def _ask(self, talk: _Talk, due_ns: int | None) -> None:
        """Queue a session's next turn, due now."""
        exchange = Exchange(talk.session.turns[talk.at], due_ns)
        talk.at += 1
        self._talks[exchange] = talk
        self._queue.append(exchange)
        self._fill_soon()

    # --- sending

    def _fill_soon(self) -> None:
        if not self._filling:
            self._filling = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        """Send from the queue as far as connections and the cap go."""
        self._filling = False
        for _ in range(_SENT_PER_TURN):
            if not self._queue:
                return
            if self._at_cap():
                self._held_back = True
                return
            connection = self._pool.take()
            if connection is None:
                self._open_more()
                return
            self._active.add(connection)
            connection.send(self._queue.popleft())
        if self._queue:
            self._fill_soon()

    def _at_cap(self) -> bool:
        cap = self._pace.cap
        return cap is not None and len(self._active) >= cap

    def _open_more(self) -> None:
        """As many connections as requests wait for and the cap lets go, those on their way
        counted."""
        wanted = len(self._queue)
        if self._pace.cap is not None:
            wanted = min(wanted, self._pace.cap - len(self._active))
        for _ in range(wanted - self._pool.opening):
            self._pool.open_one_more(self._fill_soon, self._refused, awaited=True)

    def _refused(self, why: str) -> None:
        if not self._queue:
            return
        exchange = self._queue.popleft()
        exchange.written_ns = exchange.ended_ns = clock.now_ns()
        exchange.outcome = "connect"
        exchange.detail = why
        self._ended(exchange)
        self._fill_soon()

    # --- ending

    def _on_end(self, connection: Connection) -> None:
        self._over.append(connection)
        if not self._lull_awaited:
            self._lull_awaited = True
            self._loop.call_soon(self._await_lull)

    def _await_lull(self) -> None:
        """See off what has ended once nothing is read for a turn, or it has waited long enough."""
        reads = self._pool.pulse.reads
        burst, self._reads_seen = reads != self._reads_seen, reads
        waited_ns = clock.now_ns() - self._over[0].exchange.ended_ns
        if not burst or waited_ns > _PATIENCE_NS:
            for _ in range(min(_SENT_PER_TURN, len(self._over))):
                self._see_off(self._over.popleft())
        self._lull_awaited = bool(self._over)
        if self._over:
            self._loop.call_soon(self._await_lull)

    def _see_off(self, connection: Connection) -> None:
        """Take back a connection, and go on with the session it served."""
        self._active.discard(connection)
        self._pool.give(connection)
        self._ended(connection.exchange)
        if self._queue:
            self._fill_soon()

    def _ended(self, exchange: Exchange) -> None:
        self._done += 1
        self._reads_done += len(exchange.stamps)
        self._backlog.add(exchange)
        self._go_on(self._talks.pop(exchange))
        self._finish_if_done()

    def _go_on(self, talk: _Talk) -> None:
        """The session's next turn, or the next session of its slot."""
        now = clock.now_ns()
        over = talk.at == len(talk.session.turns) or self._too_late(now + talk.session.pause_ns)
        if over:
            self._live -= 1
            if self._pace.due_ns is None and self._more:
                self._begin(None)
        elif talk.session.pause_ns:
            due_ns = now + talk.session.pause_ns
            self._loop.call_later(talk.session.pause_ns / 1e9, self._ask, talk, due_ns)
        else:
            self._ask(talk, None)

    def _finish_if_done(self) -> None:
        begun = self._pace.due_ns is not None or self._begun == self._pace.slots
        if self._live or (self._more and self._pace.due_ns is not None) or not begun:
            return
        if not self._finished.done():
            self._finished.set_result(None)

    # --- keeping watch

    def _arm(self) -> None:
        self._tick_due_ns = clock.now_ns() + int(TICK_S * 1e9)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now = clock.now_ns()
        self._vitals.late(now - self._tick_due_ns)
        self._end_overdue(now)
        self._supply.refill()
        self._backlog.watch(self._active)
        self._refresh()
        self._ticks += 1
        if self._watcher and self._ticks % _TICKS_PER_REPORT == 0 and now > self._start_ns:
            reads = self._reads_done + sum(len(each.exchange.stamps) for each in self._active)
            self._watcher(self._done, reads, (now - self._start_ns) / 1e9)
        self._arm()

    def _refresh(self) -> None:
        """Keep connections at hand that the server will not close under a request."""
        self._pool.drop_stale()
        if self._pace.due_ns is None or not self._more:
            return
        wanted = _RESERVE if self._pace.cap is None else self._pace.cap - len(self._active)
        for _ in range(min(wanted, _RESERVE) - self._pool.idle - self._pool.opening):
            self._pool.open_one_more(self._fill_soon, self._refused, awaited=False)

    def _end_overdue(self, now: int) -> None:
        oldest = now - self._timeout_ns
        late = [
            each
            for each in self._active
            if each.exchange.written_ns < oldest and not each.exchange.ended_ns
        ]
        for connection in late:
            connection.exchange.detail = f"no complete response within {self._timeout_ns / 1e9:g} s"
            connection.abort("timeout")
