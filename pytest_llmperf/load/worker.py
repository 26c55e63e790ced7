"""The child process that asks: ``python -m pytest_llmperf.load.worker``.

It reads commands on its standard input and writes replies on its standard output (see
:mod:`.messages`), one at a time. It lives exactly as long as its parent: it ends when its input
closes or its parent changes, so a killed test run leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import msgspec

from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import TokenizeCall, Workload

from .compose.asking import Target
from .compose.plan import Plan
from .compose.prompts import Part
from .compose.rehearsal import Recipe, Rehearsal
from .declare.workloads import longest_request
from .messages import (
    Abandon,
    Command,
    Failed,
    Finished,
    Go,
    Learnt,
    OpenTarget,
    Prepare,
    Prepared,
    Progress,
    Ready,
    Start,
    encoded,
    read_frame,
    write_frame,
)
from .read.rows import write_rows
from .read.spill import SpillWriter
from .send.backlog import Backlog
from .send.connect import Origin, parse_origin
from .send.supply import Shard, Supply
from .send.window import Pace, Window

_PARENT_CHECK_S = 1.0
_MANY_FILES = 1 << 20
Say = Callable[[object], None]


class Worker:
    """Carries out commands against one target; ``spill`` is the file for chunks."""

    def __init__(self, say: Say, spill: SpillWriter) -> None:
        self._say = say
        self._spill = spill
        self._recipes: dict[Workload, Recipe] = {}
        self._target: Target
        self._origin: Origin
        self._rehearsal: Rehearsal
        self._window: Window | None = None
        self._backlog: Backlog

    async def obey(self, command: Command) -> None:
        """Carry out one command and say how it went."""
        try:
            self._say(await self._answer(command))
        except ServerError as error:
            self._say(Failed(error.summary, error.cause, error.remedy))
        except OSError as error:
            self._say(
                Failed(
                    "the load client could not keep what it saw",
                    str(error.strerror or error),
                    "make room in the temporary directory, or name another one with TMPDIR",
                )
            )

    async def _answer(self, command: Command) -> object:
        match command:
            case OpenTarget():
                self._open(command)
            case Prepare(workload):
                recipe = await self._rehearsal.recipe(workload, longest_request(workload))
                self._recipes[workload] = recipe
                return Prepared(recipe)
            case Learnt(workload, recipe):
                self._recipes[workload] = recipe
            case Go():
                await self._get_ready(command)
            case Abandon():
                await self._let_go()
            case Start(at_ns):
                return await self._run(at_ns)
        return Ready()

    def _open(self, command: OpenTarget) -> None:
        tokenize = TokenizeCall(**command.tokenize) if command.tokenize else None
        self._target = Target(
            url=command.url,
            model=command.model,
            api_fields=command.api_fields,
            tokenize=tokenize,
            headers=tuple(command.headers),
            exact_output=command.exact_output,
        )
        self._origin = parse_origin(command.url)
        self._rehearsal = Rehearsal(self._origin, self._target)

    async def _get_ready(self, command: Go) -> None:
        workload = command.workload
        plan = Plan(
            workload,
            self._recipes[workload],
            self._target,
            self._origin,
            seed=command.seed,
            part=command.part,
        )
        shard = _dealt(command.shard, plan)
        pace = pace_of(workload, plan, shard, command.part)
        self._backlog = Backlog(self._spill)
        self._window = Window(
            self._origin,
            Supply(plan, shard, at_least=2 * max(1, pace.slots)),
            pace,
            self._backlog,
            timeout_s=workload.request_timeout_s,
            watcher=lambda done, reads, elapsed: self._say(Progress(done, reads, elapsed)),
        )
        try:
            await self._window.open()
        except OSError as error:
            self._window = None
            raise ServerError(
                f"cannot connect to {self._origin.authority}: {error}",
                remedy="check that the server still runs",
            ) from None

    async def _let_go(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            await window.close()

    async def _run(self, at_ns: int) -> Finished:
        window, self._window = self._window, None
        if window is None:
            raise RuntimeError("start without a window")
        spilled_at = self._spill.position
        health = await window.run(at_ns)
        rows = sorted(self._backlog.drain(), key=lambda row: row.index)
        rows_at = self._spill.position
        write_rows(self._spill, rows)
        return Finished(
            spilled_at=spilled_at,
            rows_at=rows_at,
            ends_at=self._spill.position,
            rows=len(rows),
            health=health,
        )


def _dealt(shard: Shard, plan: Plan) -> Shard:
    slots = plan.concurrency if plan.due_ns is None else None
    return Shard(number=shard.number, of=shard.of, slots=slots)


def pace_of(workload: Workload, plan: Plan, shard: Shard, part: Part) -> Pace:
    """When one shard's sessions of a plan begin. Warming up knows neither ramp nor time limit."""
    measured = part == "measured"
    duration_s = workload.duration_s if measured else None
    if plan.due_ns is not None:
        cap = workload.concurrency
        return Pace(
            due_ns=plan.due_ns[shard.number :: shard.of],
            cap=None if cap is None else max(1, shard.share(cap)),
        )
    slots = plan.concurrency
    if plan.sessions is not None:
        slots = min(slots, plan.sessions)
    return Pace(
        slots=shard.share(slots),
        ramp_up_ns=int(workload.ramp_up_s * 1e9) if measured else 0,
        duration_ns=None if duration_s is None else int(duration_s * 1e9),
    )


def _receive(commands: SimpleQueue[bytes], descriptor: int) -> None:
    """Hand on commands until the parent goes away, and then end this process at once."""
    parent = os.getppid()

    def read(size: int) -> bytes:
        while not select.select([descriptor], [], [], _PARENT_CHECK_S)[0]:
            if os.getppid() != parent:
                return b""
        return os.read(descriptor, size)

    while (frame := read_frame(read)) is not None:
        commands.put(frame)
    os._exit(0)


def _event_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _allow_many_sockets() -> None:
    """As many open files as the system lets us have; the usual 1,024 is few for a load client."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(OSError, ValueError):  # macOS refuses what it says it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: list[str] | None = None) -> None:
    """Serve commands until the standard input closes."""
    parser = argparse.ArgumentParser(prog="pytest_llmperf.load.worker")
    parser.add_argument("--cores", help="CPU cores to stay on, separated by commas")
    parser.add_argument("--spill", type=int, required=True, help="descriptor of the spill file")
    options = parser.parse_args(arguments)
    if options.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    _allow_many_sockets()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to decide on
    replies = os.dup(1)
    os.dup2(2, 1)  # a stray print must not end up between frames
    commands: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(commands, 0), daemon=True).start()
    worker = Worker(
        lambda message: write_frame(replies, encoded(message)), SpillWriter(options.spill)
    )
    decoder = msgspec.msgpack.Decoder(Command)
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        while True:
            runner.run(worker.obey(decoder.decode(commands.get())))


if __name__ == "__main__":
    main()
