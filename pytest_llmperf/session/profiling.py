"""One more pass under the engine's own profiler, for gates that have failed.

It is made when the last test of a server has ended, before the server is: then every gate of its
tests is decided, no comparison goes on, and nothing will be measured on what was profiled. What
goes wrong with it is told in a sentence and changes no verdict.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.engines.base import extras_of
from pytest_llmperf.engines.profiler import Profiler
from pytest_llmperf.errors import LlmPerfError, ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.records import Json, Profile, Workload
from pytest_llmperf.redact import redact_text
from pytest_llmperf.report.words import short

from .block import Block
from .server import LiveServer

#: A profiler is started in a moment, and may write for long when it is stopped.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 120.0
#: The most that is waited for any request of the pass.
REQUEST_TIMEOUT_S = 60.0
#: What is sent: of a closed loop so many requests for each that is in flight, of any other load
#: what begins within so many seconds, or in the time that a few requests take to arrive.
WAVES = 2
SEND_S = 10.0
_FEW_ARRIVALS = 4
#: When the passes of one side have taken so long, no other is begun: where everything fails, the
#: first few tell as much as all of them.
MOST_S = 600.0
_OK = 200
_LONGEST_NAME = 60
_QUOTED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A test whose gate failed, and whether it was compared with a reference."""

    test: str
    workload: Workload
    compared: bool


@dataclass(slots=True, kw_only=True)
class Profiling:
    """What failed gates ask for, and what came of it.

    ``directory`` says where the traces go, when there are some. Their ways in the report begin at
    ``home``; without one they are told in full.
    """

    directory: Callable[[], Path]
    home: Path | None
    _wanted: dict[str, dict[str, Wanted]] = field(default_factory=dict)
    _made: list[Profile] = field(default_factory=list)

    def want(self, server_id: str, wanted: Wanted) -> None:
        """Note a test of a server; one that is run again counts once."""
        self._wanted.setdefault(server_id, {})[wanted.test] = wanted

    def forget(self) -> None:
        """Make none of what was noted: somebody wants the session to end."""
        self._wanted.clear()

    def drain(self) -> list[Profile]:
        """What was made since the last call."""
        made, self._made = self._made, []
        return made

    def make(self, candidate: Block, reference: Block | None) -> None:
        """Profile what tests of ``candidate`` have asked for, and their ``reference``."""
        wanted = list(self._wanted.pop(candidate.id, {}).values())
        if wanted:
            self._side(candidate, wanted, candidate)
        compared = [each for each in wanted if each.compared]
        if reference is not None and compared:
            self._side(reference, compared, candidate)

    def _side(self, block: Block, wanted: Sequence[Wanted], candidate: Block) -> None:
        """One pass for each workload, one record for each test."""
        passes: dict[Workload, Profile] = {}
        reason = ""
        try:
            self._passes(block, wanted, candidate, passes)
        except Exception as error:  # whatever it is, the gates are decided and stay so
            reason = _sentence(error)
        for each in wanted:
            nothing = _record(block, each, reason=reason)
            self._made.append(replace(passes.get(each.workload, nothing), test=each.test))

    def _passes(
        self,
        block: Block,
        wanted: Sequence[Wanted],
        candidate: Block,
        passes: dict[Workload, Profile],
    ) -> None:
        """Fill ``passes``; raises for the first that does not come to its end."""
        profiler = _profiler_of(block)
        scratch = Path(tempfile.mkdtemp(prefix="profile-", dir=block.around.log_dir))
        progress = block.around.progress
        try:
            with _server(block, profiler, scratch, candidate) as server:
                enough = clock.Deadline(MOST_S)
                for each in wanted:
                    if each.workload in passes:
                        continue
                    if enough.passed:
                        raise ServerError(f"others had taken {MOST_S:.0f} s, the most for a server")
                    progress.say(f"{each.test} ── profiling the {block.side}")
                    passes[each.workload] = self._pass(block, server, profiler, each, scratch)
        finally:
            progress.clear()
            # What a container has left there may not be ours to remove.
            shutil.rmtree(scratch, ignore_errors=True)

    def _pass(
        self, block: Block, server: _Server, profiler: Profiler, wanted: Wanted, scratch: Path
    ) -> Profile:
        before, watch = _traces(profiler, scratch), clock.Stopwatch()
        complaint = _run(server.live, profiler, wanted.workload, scratch)
        fresh = sorted(_traces(profiler, scratch) - before)
        if not fresh:
            raise ServerError(f"the profiler has left no trace{complaint}")
        folder = self.directory() / _name(block, wanted)
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier session with this report
        folder.mkdir(parents=True)
        traces = [_kept(path, folder / _flat(path, scratch)) for path in fresh]
        return replace(
            _record(block, wanted),
            traces=tuple(self._way(path) for path in traces),
            seconds=watch.elapsed,
            own_launch=server.is_own,
        )

    def _way(self, path: Path) -> str:
        """How the report tells where a file is."""
        return str(path) if self.home is None else Path(os.path.relpath(path, self.home)).as_posix()


# --- where ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    live: LiveServer
    #: Whether it was started to be profiled.
    is_own: bool


def _profiler_of(block: Block) -> Profiler:
    """Raises ServerError where there is none, or none that we may ask."""
    if block.attached:
        raise ServerError("it was running already, and only what is started here is profiled")
    if block.request.ray is not None:
        raise ServerError("its ranks run in a Ray cluster, and each node would keep its own traces")
    profiler = extras_of(block.engine).profiler
    if profiler is None:
        raise ServerError(f"the engine {block.engine.name!r} has no profiler that can be asked")
    return profiler


@contextmanager
def _server(block: Block, profiler: Profiler, scratch: Path, candidate: Block) -> Iterator[_Server]:
    """The launch that is up, on which nothing will be measured any more, or one of its own, which
    is none of those that the report tells of."""
    on_purpose = profiler.at_launch or block.request.image is not None
    if block.live is not None and not on_purpose:
        yield _Server(live=block.live, is_own=False)
        return
    candidate.close()
    block.close()
    around = replace(block.around, profiles=scratch, remember=lambda _: None)
    own = replace(block, around=around, stage="a launch to be profiled")
    own.device.like = block.device
    try:
        yield _Server(live=own.open(), is_own=True)
    finally:
        block.launched = own.launched
        own.close()


# --- a pass --------------------------------------------------------------------------------------


def _run(live: LiveServer, profiler: Profiler, workload: Workload, scratch: Path) -> str:
    """Send ``workload`` with the profiler on; what there is to complain of, should no trace be
    found. Raises ServerError and ClientError."""
    if workload not in live.runs:
        live.warm_up(workload)
    body = profiler.body and profiler.body(scratch, live.accelerator.vendor)
    start = partial(_ask, live, profiler.start, body, timeout_s=START_TIMEOUT_S)
    live.send(shortened(workload), begin=start)
    try:
        _ask(live, profiler.stop, timeout_s=STOP_TIMEOUT_S)
    except _Refused as refused:
        if not profiler.stops_itself:
            raise
        return f": {refused}"
    return ""


def shortened(workload: Workload) -> Workload:
    """As much of ``workload`` as the steps of a trace take, within minutes at the most."""
    timeout_s = min(workload.request_timeout_s, REQUEST_TIMEOUT_S)
    less = replace(workload, runs=1, ramp_up_s=0.0, request_timeout_s=timeout_s)
    if workload.requests and workload.arrivals == "closed" and workload.turns == 1:
        few = WAVES * (workload.concurrency or 1)
        return replace(less, requests=min(workload.requests, few))
    span_s = SEND_S
    if workload.rate:
        span_s = min(REQUEST_TIMEOUT_S, max(span_s, _FEW_ARRIVALS / workload.rate))
    return replace(less, requests=None, duration_s=min(span_s, workload.duration_s or span_s))


class _Refused(ServerError):
    """The server answered, and did not do it."""


def _ask(
    live: LiveServer, path: str, body: Mapping[str, Json] | None = None, *, timeout_s: float
) -> None:
    asked = None if body is None else dict(body)
    status, said = http.call("POST", live.url + path, body=asked, timeout_s=timeout_s)
    if status != _OK:
        quoted = redact_text(said[:_QUOTED].decode("utf-8", "replace")).strip()
        raise _Refused(f"POST {path} answered {status} {quoted}".rstrip())


# --- files and words -----------------------------------------------------------------------------


def _traces(profiler: Profiler, scratch: Path) -> set[Path]:
    return {path for pattern in profiler.traces for path in scratch.rglob(pattern)}


def _flat(path: Path, scratch: Path) -> str:
    """One name for a file in directories; ranks may leave files of one name in several."""
    return "-".join(path.relative_to(scratch).parts)


def _kept(path: Path, place: Path) -> Path:
    shutil.copyfile(path, place)
    return place


def _name(block: Block, wanted: Wanted) -> str:
    """A directory's name that tells the test and the side, and is no other pass's."""
    named = re.sub(r"[^\w.-]+", "-", short(wanted.test))[:_LONGEST_NAME].strip("-.")
    told = f"{wanted.test} {block.id} {wanted.workload.identity}"
    return f"{named}-{sha256(told.encode()).hexdigest()[:8]}-{block.side}"


def _record(block: Block, wanted: Wanted, *, reason: str = "") -> Profile:
    return Profile(
        test=wanted.test,
        server_id=block.id,
        side=block.side,
        workload=wanted.workload.name,
        reason=reason,
    )


def _sentence(error: Exception) -> str:
    """The first line of what happened; of what we do not raise, its kind as well."""
    said = (str(error).splitlines() or [""])[0]
    if not isinstance(error, LlmPerfError):
        said = f"{type(error).__name__}: {said}"
    log = getattr(error, "log_path", None)
    return f"{said} (log: {log})" if log else said
