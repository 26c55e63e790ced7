"""Starts one server, waits until it answers, watches it, and stops all of it.

We never start a server ourselves: a keeper does (see :mod:`.keeper`). It notices our end however
we end, and then leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import LaunchPlan
from pytest_llmperf.redact import redact_argv

from . import container_tool, leftovers, ports
from .container import exit_status
from .diagnose import describe_exit, diagnose, is_final
from .environment import server_environment
from .freezing import thaw
from .handle import KeeperHandle
from .job import job, seconds_to_end
from .logs import TAIL_LINES, LogFollower, last_lines, latest_progress, write_anew, write_header
from .pinning import pin_tree
from .ranks import Ranks
from .readiness import ReadinessProbe, reachable_host

_MARGIN_S = 5.0
_TELL_EVERY_S = 1.0
_DIAGNOSED_LINES = 400

Progress = Callable[[str, float], None]


class ServerProcess:
    """One running server; made by :meth:`start`, not safe for use by several threads at once.

    ``argv`` is for showing: secrets are hidden. ``url`` has no trailing slash. ``pid`` is the
    server's own, not the keeper's, in a container that of its first process, and 0 where this
    process cannot see into it. ``startup_time_s`` runs from the start of its process to the
    answer of its readiness probe.
    """

    def __init__(self, plan: LaunchPlan, log_path: Path) -> None:
        self._plan = plan
        self._owner = os.getpid()
        self._watch = clock.Stopwatch()
        self._keeper: KeeperHandle | None = None
        self._stop_asked = False
        self._stopped = False
        self.launch_id = secrets.token_hex(6)
        self._others = Ranks(plan, log_path, self.launch_id)
        self.log_path = log_path
        self.argv = redact_argv(plan.argv)
        self.pid = 0
        self.startup_time_s = 0.0
        self.url = replace(plan, host=reachable_host(plan.host)).url

    @classmethod
    def start(
        cls,
        plan: LaunchPlan,
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        on_progress: Progress | None = None,
        held_fds: Sequence[int] = (),
    ) -> ServerProcess:
        """Start a server and return once it is ready.

        ``env`` stands in for this process's environment. ``on_progress(text, seconds)`` is called
        on every change and about once a second. The locks on ``held_fds`` stay held until nothing
        of the server is left, even if we die. Raises
        :class:`~pytest_llmperf.errors.ServerError` when it does not become ready; whatever is
        raised, everything that was started has been stopped by then.
        """
        server = cls(plan, log_path)
        try:
            server._launch(os.environ if env is None else env, held_fds)
            server._await_ready(on_progress or _tell_nobody)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def pids(self) -> list[int]:
        """Of each of its ranks on this machine, as far as they are known."""
        return [*([self.pid] if self.pid else []), *self._others.local_pids]

    def alive(self) -> bool:
        """Whether the processes of all its ranks still run, as far as their keepers know."""
        if self._stopped or self._keeper is None:
            return False
        return self._first_alive() and self._others.first_dead() is None

    def _first_alive(self) -> bool:
        assert self._keeper is not None  # noqa: S101 - asked of one that was started
        self._keeper.listen()
        heard = self._keeper.heard
        return heard.failure is None and heard.status is None and not self._keeper.gone

    def died(self) -> ServerError | None:
        """``None`` while it is alive; otherwise how it ended, why, and what to try."""
        if self.alive() or self._keeper is None:
            return None
        heard = self._keeper.heard
        other = None if self._stop_asked else self._others.first_dead()
        if other is not None and (self._first_alive() or other.ended_ns < heard.ended_ns):
            return other.error(ready=bool(self.startup_time_s))
        if heard.failure is not None:
            remedy = "see that the program is installed and the command is right"
            return self._error("could not be started", cause=heard.failure, remedy=remedy)
        if self._stop_asked:
            return self._error("was stopped by this test run")
        if heard.asked or heard.status is None:
            cause = "its keeper was stopped from outside, and the server with it"
            return self._error("is gone", cause=cause, remedy="look for who ends processes here")
        status = exit_status(self._plan.container, heard.status)
        found = diagnose(self._log_end(), status, self._plan.causes)
        when = "" if self.startup_time_s else " before it was ready"
        said = f"{describe_exit(status)} after {heard.seconds:.1f} s{when}"
        return self._error(said, cause=found.cause, remedy=found.remedy)

    def kill(self) -> None:
        """End the server's own process at once; any thread may. What it leaves is for
        :meth:`stop`."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server and all its descendants, and wait until nothing of them is left.

        May be called again, and does nothing then; nor does it in a fork of the process that
        started the server. When interrupted it goes on without grace and raises the interrupt at
        the end. Raises :class:`~pytest_llmperf.errors.ServerError` if a process or a container
        could not be ended.
        """
        if self._stopped or os.getpid() != self._owner:
            return
        keeper = self._keeper
        if keeper is None:
            ports.release_port(self._plan.port)
            self._others.settle()
            return
        self._stop_asked = True
        left = self._end(keeper)
        if keeper.heard.left:
            pids = ", ".join(map(str, keeper.heard.left))
            raise self._error(
                f"left processes that could not be ended: {pids}",
                cause="they belong to another user, or hang in the kernel",
                remedy="end them by hand; a device may stay busy until then",
            )
        if keeper.heard.unended:
            raise self._error(
                "left a container that could not be ended",
                cause=keeper.heard.unended,
                remedy=f"end it by hand: {' '.join(self._plan.end)}",
            )
        if left is not None:
            raise left

    # --- starting

    def _launch(self, base: Mapping[str, str], held_fds: Sequence[int]) -> None:
        plan = self._plan
        swept = leftovers.sweep()
        if not ports.holds(plan.port):
            ports.claim_port(plan.host, plan.port)
        for path, text in plan.files:
            write_anew(path, text)
        write_header(self.log_path, plan, self.launch_id, swept)
        mark = (leftovers.MARK, self.launch_id)
        env = server_environment(base, (*plan.env, mark))
        self._watch = clock.Stopwatch()
        self._keeper = KeeperHandle.start(self.log_path, held_fds)
        self._keeper.give(
            job(
                plan.argv,
                env,
                launch_id=self.launch_id,
                log_path=self.log_path,
                grace_s=plan.stop_grace_s,
                held_fds=held_fds,
                port=plan.port,
                end=plan.end,
            )
        )
        self._others.start(base, held_fds)

    def _await_ready(self, tell: Progress) -> None:
        plan = self._plan
        keeper = self._keeper
        assert keeper is not None  # noqa: S101 - _launch has run
        deadline = clock.Deadline(plan.start_timeout_s)
        follower = LogFollower(self.log_path)
        teller = _Teller(plan, tell)
        probe = ReadinessProbe(plan.host, plan.port, plan.ready)
        try:
            readable = False
            while not probe.turn(readable):
                readable = keeper.listen(min(probe.pause_s, deadline.left), probe.socket_fd)
                if error := self.died():
                    raise error
                lines = follower.new_lines()
                if is_final(lines, plan.causes):
                    raise self._hopeless()
                teller.look(lines, self._watch.elapsed)
                if deadline.passed:
                    raise self._timed_out(probe.last_answer)
        finally:
            probe.close()
        self._note_start(keeper)
        self._check_answered_by_ours(keeper)
        self._pin()

    def _pin(self) -> None:
        cores = self._plan.cores
        if cores is None:
            return
        try:
            self._pin_to(cores)
        except OSError as error:
            if dead := self.died():
                raise dead from error
            raise self._error(
                f"could not be pinned to the cores {list(cores)}",
                cause=str(error),
                remedy="name cores that this process may use; see taskset -p",
            ) from error

    def _pin_to(self, cores: Sequence[int]) -> None:
        container = self._plan.container
        try:
            if self.pid:
                for pid in self.pids:
                    pin_tree(pid, cores)
                return
        except PermissionError:
            if container is None:
                raise
        if container is not None:
            container_tool.pin(container, cores)

    def _note_start(self, keeper: KeeperHandle) -> None:
        ready_ns = clock.now_ns()
        while not keeper.heard.pid:
            keeper.listen(_TELL_EVERY_S)
            if error := self.died():
                raise error
        self.startup_time_s = (ready_ns - keeper.heard.started_ns) / 1e9
        container = self._plan.container
        if container is None:
            self.pid = keeper.heard.pid
        else:
            self.pid = container_tool.pid_of(container, self.launch_id) or 0

    def _check_answered_by_ours(self, keeper: KeeperHandle) -> None:
        other = None
        if self.pid:
            other = ports.foreign_listener(self._plan.port, keeper.pid, self.pid)
        if error := self.died():
            raise error
        if other is not None:
            raise self._error(
                f"does not listen on port {self._plan.port}: {other} answers there",
                cause="another process took the port after it was checked",
                remedy="stop that process, or let the port be chosen freely",
            )

    def _hopeless(self) -> ServerError:
        found = diagnose(self._log_end(), None, self._plan.causes)
        said = f"will not become ready; it was ended after {self._watch.elapsed:.1f} s"
        return self._error(said, cause=found.cause, remedy=found.remedy)

    def _timed_out(self, last_answer: str) -> ServerError:
        plan = self._plan
        lines = self._log_end()
        found = diagnose(lines, None, plan.causes)
        last_line = f'; its last log line: "{lines[-1]}"' if lines else "; it logged nothing"
        asked = f"GET {plan.ready.path} wanted {plan.ready.status}, last answer: {last_answer}"
        others = f"; {self._others.last_words()}" if plan.others else ""
        return self._error(
            f"was not ready within {plan.start_timeout_s:g} s",
            cause=found.cause or f"{asked}{last_line}{others}",
            remedy=found.remedy or "give it more time with timeout=, or see where its log stops",
        )

    # --- stopping

    def _end(self, keeper: KeeperHandle) -> ServerError | None:
        """Stop all ranks at once; what could not be ended of those beside the first."""
        quickly = seconds_to_end(end=self._plan.end) + _MARGIN_S
        if self._plan.container is not None:
            # The keeper lets go on what is below it, and that is not.
            thaw(self.pid)
        try:
            # Others may wait for the first to tell them to end, for ever where it is gone.
            self._others.order("stop" if self._first_alive() else "kill")
            keeper.order("stop")
            in_time = keeper.wait(self._plan.stop_grace_s + quickly)
            left = self._others.settle()
        except BaseException:
            self._others.order("kill")
            keeper.order("kill")
            self._settle(keeper, keeper.wait(quickly))
            self._others.settle(quickly=True)
            raise
        self._settle(keeper, in_time)
        return left

    def _settle(self, keeper: KeeperHandle, in_time: bool) -> None:
        if not in_time:
            keeper.process.kill()
            keeper.process.wait()
        if not keeper.heard.finished:
            leftovers.end_marked(self.launch_id, keeper.heard.pid or None)
            leftovers.sweep()
        keeper.close()
        self._stopped = True
        ports.release_port(self._plan.port)

    # --- telling

    def _log_end(self) -> tuple[str, ...]:
        return last_lines(self.log_path, _DIAGNOSED_LINES)

    def _error(self, what: str, *, cause: str = "", remedy: str = "") -> ServerError:
        heard = None if self._keeper is None else self._keeper.heard
        rank = "rank 0 of " if self._plan.others else ""
        return ServerError(
            f"{rank}the {self._plan.engine} server {what}",
            cause=cause,
            remedy=remedy,
            argv=self.argv,
            exit_status=heard.status if heard else None,
            seconds=heard.seconds if heard and heard.seconds else self._watch.elapsed,
            log_tail=last_lines(self.log_path, TAIL_LINES),
            log_path=self.log_path,
        )


class _Teller:
    """Passes on how far the start has come: every change, and the latest about once a second."""

    def __init__(self, plan: LaunchPlan, tell: Progress) -> None:
        self._patterns = [(re.compile(step.pattern), step.text) for step in plan.progress]
        self._tell = tell
        self._text = "starting"
        self._next = clock.Deadline(0)

    def look(self, lines: Sequence[str], seconds: float) -> None:
        text = latest_progress(lines, self._patterns)
        if text is None and not self._next.passed:
            return
        self._text = self._text if text is None else text
        self._tell(self._text, seconds)
        self._next = clock.Deadline(_TELL_EVERY_S)


def _tell_nobody(_text: str, _seconds: float) -> None:
    """For callers that do not ask for progress."""
