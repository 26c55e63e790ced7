"""The other ranks of a server that is spread over nodes, each with a keeper of its own.

A rank on this machine is ended like any server, however this process ends. One on another node is
reached by a command such as ``ssh -tt``: what we keep is that command, and the rank ends with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import FailureCause, LaunchPlan, Rank
from pytest_llmperf.redact import redact_argv

from . import leftovers, ports
from .diagnose import describe_exit, diagnose
from .environment import server_environment
from .handle import KeeperHandle
from .job import job, seconds_to_end
from .logs import TAIL_LINES, last_lines, write_header

_MARGIN_S = 5.0
_DIAGNOSED_LINES = 400

#: What the commands that reach other nodes say of themselves.
NODE_CAUSES = (
    FailureCause(
        pattern=r"(?i)could not resolve hostname|name or service not known|invalid node name",
        cause="the node is not known by that name",
        remedy="correct --llmperf-hosts",
    ),
    FailureCause(
        pattern=r"Permission denied \((?:publickey|password)|Host key verification failed",
        cause="ssh was not let in without a question",
        remedy="set up a key for that node, and accept its host key once by hand",
    ),
    FailureCause(
        pattern=r"(?i)connect to host \S+ port \d+: ",
        cause="the node cannot be reached",
        remedy="see that it is up and that its ssh port is open from here",
    ),
    FailureCause(
        pattern=r"srun: error: ",
        cause="srun refused or lost the step",
        remedy="see that the allocation holds that node and leaves room for one more step "
        "(--overlap)",
    ),
)


class RankProcess:
    """One of the others; made by :meth:`start`. ``pid`` is 0 until it runs."""

    def __init__(self, rank: Rank, plan: LaunchPlan, log_path: Path, launch_id: str) -> None:
        self.rank = rank
        self.log_path = log_path.with_name(f"{log_path.stem}-rank{rank.number}{log_path.suffix}")
        self._plan = plan
        self._launch_id = f"{launch_id}-{rank.number}"
        self._keeper: KeeperHandle | None = None
        self._settled = False

    def start(self, base: Mapping[str, str], held_fds: Sequence[int]) -> None:
        """Start it; it is ready when the whole server is."""
        rank = self.rank
        if rank.port and not ports.holds(rank.port):
            ports.claim_port(self._plan.host, rank.port)
        write_header(self.log_path, self._plan.of_rank(rank), self._launch_id)
        env = server_environment(base, (*rank.env, (leftovers.MARK, self._launch_id)))
        self._keeper = KeeperHandle.start(self.log_path, held_fds)
        self._keeper.give(
            job(
                rank.argv,
                env,
                launch_id=self._launch_id,
                log_path=self.log_path,
                grace_s=self._plan.stop_grace_s,
                held_fds=held_fds,
                port=rank.port,
            )
        )

    @property
    def pid(self) -> int:
        return self._keeper.heard.pid if self._keeper else 0

    @property
    def name(self) -> str:
        """ "rank 1 of the sglang server, on node-b"."""
        return f"rank {self.rank.number} of the {self._plan.engine} server, on {self.rank.host},"

    def dead(self) -> bool:
        """Whether it has ended, as far as its keeper knows."""
        if self._keeper is None:
            return False
        self._keeper.listen()
        heard = self._keeper.heard
        return heard.failure is not None or heard.status is not None or self._keeper.gone

    @property
    def ended_ns(self) -> float:
        """When it ended; that of one which never started is the very beginning."""
        heard = self._keeper.heard if self._keeper else None
        if heard is None or heard.failure is not None:
            return 0.0
        return heard.ended_ns

    def error(self, *, ready: bool) -> ServerError:
        """How it ended, why, and what to try."""
        assert self._keeper is not None  # noqa: S101 - it is dead, so it was started
        heard = self._keeper.heard
        if heard.failure is not None:
            remedy = "see that the program is installed and the command is right"
            return self._told("could not be started", cause=heard.failure, remedy=remedy)
        if heard.status is None or heard.asked:
            cause = "its keeper was stopped from outside, and the rank with it"
            return self._told("is gone", cause=cause, remedy="look for who ends processes here")
        causes = (*self._plan.causes, *(NODE_CAUSES if not self.rank.local else ()))
        found = diagnose(last_lines(self.log_path, _DIAGNOSED_LINES), heard.status, causes)
        when = "" if ready else " before the server was ready"
        said = f"{describe_exit(heard.status)} after {heard.seconds:.1f} s{when}"
        # The cause is the line that is seen first, and often alone.
        cause = found.cause and f"rank {self.rank.number}, on {self.rank.host}: {found.cause}"
        return self._told(said, cause=cause, remedy=found.remedy)

    def _told(self, what: str, *, cause: str = "", remedy: str = "") -> ServerError:
        heard = self._keeper.heard if self._keeper else None
        return ServerError(
            f"{self.name} {what}",
            cause=cause,
            remedy=remedy,
            argv=redact_argv(self.rank.argv),
            exit_status=heard.status if heard else None,
            seconds=heard.seconds if heard else None,
            log_tail=last_lines(self.log_path, TAIL_LINES),
            log_path=self.log_path,
        )

    def order(self, word: str) -> None:
        """Tell it to "stop" or to be "kill"ed, and do not wait."""
        if self._keeper is not None and not self._settled:
            self._keeper.order(word)

    def settle(self, seconds: float) -> ServerError | None:
        """Wait until nothing of it is left, at most about so long; what could not be ended."""
        keeper = self._keeper
        if self._settled or keeper is None:
            ports.release_port(self.rank.port)
            return None
        if not keeper.wait(seconds + seconds_to_end() + _MARGIN_S):
            keeper.process.kill()
            keeper.process.wait()
        if not keeper.heard.finished:
            leftovers.end_marked(self._launch_id, keeper.heard.pid or None)
            leftovers.sweep()
        keeper.close()
        self._settled = True
        ports.release_port(self.rank.port)
        if not keeper.heard.left:
            return None
        return self._told(
            f"left processes that could not be ended: {', '.join(map(str, keeper.heard.left))}",
            cause="they belong to another user, or hang in the kernel",
            remedy="end them by hand; a device may stay busy until then",
        )


class Ranks:
    """All others of a server; empty for most."""

    def __init__(self, plan: LaunchPlan, log_path: Path, launch_id: str) -> None:
        self._each = [RankProcess(rank, plan, log_path, launch_id) for rank in plan.others]
        self._grace_s = plan.stop_grace_s
        self._owner = os.getpid()

    def start(self, base: Mapping[str, str], held_fds: Sequence[int]) -> None:
        for one in self._each:
            one.start(base, held_fds)

    @property
    def local_pids(self) -> list[int]:
        """Of those on this machine that run."""
        return [one.pid for one in self._each if one.rank.local and one.pid]

    def first_dead(self) -> RankProcess | None:
        """Of those that have ended the one that did so first: the others followed it."""
        return min((one for one in self._each if one.dead()), key=_ended, default=None)

    def order(self, word: str) -> None:
        for one in self._each:
            one.order(word)

    def settle(self, *, quickly: bool = False) -> ServerError | None:
        """Wait until nothing of them is left; the first that could not be ended."""
        deadline = clock.Deadline(0.0 if quickly else self._grace_s)
        errors = [one.settle(deadline.left) for one in self._each]
        return next((error for error in errors if error is not None), None)

    def last_words(self) -> str:
        """What each of them logged last, for a server that does not get ready."""
        said = []
        for one in self._each:
            lines = last_lines(one.log_path, 1)
            what = f'"{lines[0]}"' if lines else "nothing"
            said.append(f"rank {one.rank.number} on {one.rank.host} logged last: {what}")
        return "; ".join(said)


def _ended(one: RankProcess) -> float:
    return one.ended_ns
