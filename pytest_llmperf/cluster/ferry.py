"""Between one of our sockets and a worker on a node of a cluster: to whoever holds the other end,
the worker looks as if it ran here.

Its clock is set by ours: the instant at which a pass begins is said in its time, and what it saw
comes back in ours. Files that it is to read are brought to it, and what it has seen is brought here
piece by piece, so that nothing is ever held in memory as a whole. Runs in a member of the cluster,
in a thread for each worker.
"""

from __future__ import annotations

import os
import select
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pytest_llmperf import clock
from pytest_llmperf.load.alignment import Alignment, Beat, Sighting, sighting
from pytest_llmperf.load.messages import (
    Command,
    Failed,
    Finished,
    Go,
    Learnt,
    Lost,
    Prepare,
    Progress,
    Reply,
    Start,
    encoded,
    read_frame,
    write_frame,
)
from pytest_llmperf.load.read.reading import RequestRow
from pytest_llmperf.load.read.rows import read_rows, write_rows
from pytest_llmperf.load.read.spill import SpillReader, SpillWriter, aligned_end
from pytest_llmperf.records import Chunks, Workload

#: How long a worker may keep a question for news, if there are none.
POLL_S = 0.5
#: A worker that cannot be heard for so long is given up: more than a link may be down for.
LOST_S = 20.0
_BEATS = 16
#: Small against the object stores that nodes have.
_PIECE_BYTES = 4 * 2**20


class Unheard(Exception):
    """A worker is gone or does not answer; the text says which."""


class Remote(Protocol):
    """A :class:`~.relay.Relay` from afar."""

    def __call__(self, method: str, *args: Any, within_s: float = LOST_S) -> Any:
        """What the method returns. Raises :class:`Unheard`."""


class Ferry:
    """``node`` names where the worker is, ``line`` and ``spill`` are what the other end has."""

    def __init__(self, remote: Remote, node: str, line: socket.socket, spill: int) -> None:
        self._remote = remote
        self._node = node
        self._line = line
        self._spill = spill
        self._before: Sighting | None = None
        self._brought: dict[str, str] = {}
        self._silent_ns = 0

    def run(self) -> None:
        """Carry messages until the other end hangs up or the worker is lost."""
        decoder = msgspec.msgpack.Decoder(Command)
        try:
            while (frame := read_frame(self._line.recv)) is not None:
                self._carry(decoder.decode(frame))
        except Unheard as why:
            self._say_at_last(f"the load's worker on {self._node} is lost: {why}")
        except (BrokenPipeError, ConnectionResetError, _HungUp):
            return
        except Exception as error:  # whatever it is, who waits for the worker must hear of it
            self._say_at_last(
                f"what brings us news of the load's worker on {self._node} has failed: "
                f"{type(error).__name__}: {error}"
            )

    def _say_at_last(self, text: str) -> None:
        try:
            self._say(Lost(f"{text}; nothing that it measured can be believed."))
        except OSError:
            return  # nobody waits for it any more

    def _say(self, reply: Reply) -> None:
        write_frame(self._line.fileno(), encoded(reply))

    # --- what is said to the worker

    def _carry(self, command: Command) -> None:
        match command:
            case Prepare(workload):
                command = Prepare(self._there(workload))
            case Learnt(workload, recipe):
                command = Learnt(self._there(workload), recipe)
            case Go():
                command = msgspec.structs.replace(command, workload=self._there(command.workload))
            case Start(at_ns):
                self._begin(at_ns)
                return self._bring_news(about=command)
        self._remote("tell", encoded(command))
        return self._bring_news(about=command)

    def _begin(self, at_ns: int) -> None:
        """Have a pass begin at ``at_ns`` of our clock."""
        if self._before is None:
            raise RuntimeError("start without a sighting of the clock")
        self._remote("tell", encoded(Start(at_ns - self._before.offset_ns)))
        late_ns = clock.now_ns() - at_ns
        if late_ns > 0:
            raise Unheard(f"it was told to begin {late_ns / 1e6:.0f} ms after the others had")

    def _there(self, workload: Workload) -> Workload:
        """The workload as the worker can read it: with the path that its file has there."""
        source = workload.source
        if source is None:
            return workload
        if source.sha256 not in self._brought:
            self._brought[source.sha256] = self._bring_there(Path(source.path), source.sha256)
        there = replace(source, path=self._brought[source.sha256])
        return replace(workload, source=there)

    def _bring_there(self, path: Path, name: str) -> str:
        at, there = 0, ""
        with path.open("rb") as file:
            while (piece := file.read(_PIECE_BYTES)) or not at:
                there = self._remote("keep", name, at, piece)
                at += len(piece)
                if not piece:
                    break
        return there

    # --- what it says

    def _bring_news(self, about: Command) -> None:
        """Hand on replies up to the last one to a command."""
        self._silent_ns = 0
        for reply in self._heard():
            if isinstance(about, Go):
                self._before = self._sight()
            if isinstance(reply, Finished):
                self._bring(reply)
            else:
                self._say(reply)
            if not isinstance(reply, Progress):
                return

    def _heard(self) -> Iterator[Reply]:
        decoder = msgspec.msgpack.Decoder(Reply)
        last_ns = clock.now_ns()
        while True:
            self._check_wanted()
            frame, why = self._remote("hear", POLL_S, within_s=POLL_S + LOST_S)
            now_ns = clock.now_ns()
            self._silent_ns = max(self._silent_ns, now_ns - last_ns)
            last_ns = now_ns
            if why:
                raise Unheard(why)
            if frame is not None:
                yield decoder.decode(frame)

    def _check_wanted(self) -> None:
        """Stop where the other end has hung up. It says nothing while it waits for a reply."""
        if select.select([self._line], [], [], 0)[0] and not self._line.recv(1, socket.MSG_PEEK):
            raise _HungUp

    def _sight(self) -> Sighting:
        return sighting([self._beat() for _ in range(_BEATS)])

    def _beat(self) -> Beat:
        asked_ns = clock.now_ns()
        told_ns = self._remote("now")
        return Beat(asked_ns=asked_ns, told_ns=told_ns, heard_ns=clock.now_ns())

    # --- what it saw

    def _bring(self, finished: Finished) -> None:
        """Have all that it saw in our file, by our clock, before saying that it is there."""
        if self._before is None:
            raise RuntimeError("the end of a pass that was not begun")
        alignment = Alignment(before=self._before, after=self._sight())
        try:
            brought = self.settle(finished, alignment)
        except OSError as error:
            said = error.strerror or str(error)
            remedy = "make room in the temporary directory, or name another one with TMPDIR"
            return self._say(Failed(f"what was seen on {self._node} cannot be kept", said, remedy))
        brought.health = msgspec.structs.replace(
            finished.health,
            node=self._node,
            clock_offset_ms=alignment.before.offset_ns / 1e6,
            clock_drift_ms=alignment.drift_ns / 1e6,
            clock_error_ms=alignment.error_ns / 1e6,
            silent_s=self._silent_ns / 1e9,
        )
        return self._say(brought)

    def settle(self, finished: Finished, alignment: Alignment) -> Finished:
        """A copy of it, behind all that is in our file already."""
        begins = aligned_end(self._spill)
        base = finished.spilled_at - begins
        self._fetch(finished.spilled_at, finished.rows_at, self._spill, begins)
        with tempfile.TemporaryFile() as aside:
            self._fetch(finished.rows_at, finished.ends_at, aside.fileno(), 0)
            theirs = SpillReader(aside.fileno(), base=finished.rows_at)
            columns = SpillReader(self._spill, base=base, writable=True)
            writer = SpillWriter(self._spill, finished.rows_at - base)
            rows = read_rows(theirs, finished.rows_at, finished.rows)
            write_rows(writer, (_in_our_time(row, columns, alignment) for row in rows))
        return msgspec.structs.replace(finished, ends_at=writer.position + base, base=base)

    def _fetch(self, begin: int, end: int, file: int, at: int) -> None:
        while begin < end:
            piece = self._remote("read", begin, min(_PIECE_BYTES, end - begin))
            if not piece:
                raise Unheard("what it saw is not all there")
            begin += len(piece)
            with memoryview(piece) as view:
                while view:
                    done = os.pwrite(file, view, at)
                    at, view = at + done, view[done:]


class _HungUp(Exception):
    """Nobody is at the other end any more."""


def _in_our_time(row: RequestRow, columns: SpillReader, alignment: Alignment) -> RequestRow:
    """All times of a request by the same shift, lest what lies between them changes."""
    shift_ns = alignment.shift_ns(row.written_ns)
    row.written_ns += shift_ns
    row.ended_ns += shift_ns
    if row.scheduled_ns is not None:
        row.scheduled_ns += shift_ns
    _shift(columns.chunks(row.chunks_at, row.chunk_count), shift_ns)
    return row


def _shift(chunks: Chunks, shift_ns: int) -> None:
    import numpy as np

    if len(chunks):
        np.asarray(chunks.at_ns)[:] += shift_ns
