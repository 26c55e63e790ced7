"""Our end of a member of a Ray cluster: a child process that joined it, and does what we ask."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pytest_llmperf import clock
from pytest_llmperf.engines.over_ray import check_installed
from pytest_llmperf.errors import ClusterError
from pytest_llmperf.reading import end_of

from .messages import Answer, Ask, ClusterNode, Join, Joined, Refused
from .reasons import why_not_joined

#: Ray gives up finding a cluster after 30 s or so (RAY_gcs_server_request_timeout_seconds), and
#: takes two to join one.
JOIN_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 30.0
CONNECT_S = 10.0
#: To leave, and to be gone.
LEAVE_TIMEOUT_S = 10.0
_SAID_LINES = 15

P = ParamSpec("P")
Returned = TypeVar("Returned")


class Cluster:
    """A cluster as a child process sees it that joined it; made by :meth:`join`.

    ``session`` is part of every name that we leave in the cluster, ``address`` that of its head,
    as it was found. Threads may share it: one call is answered at a time, and who must not wait for
    another joins for himself. Every method raises :class:`~pytest_llmperf.errors.ClusterError`
    where the cluster or the child is gone, or does not answer in time.
    """

    def __init__(self, timeout_s: float) -> None:
        ours, its = Pipe()
        self.session = secrets.token_hex(4)
        self.address = ""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._connection: Connection[Any, Any] = ours
        self._owner = os.getpid()
        self._timeout_s = timeout_s
        self._asking = threading.Lock()
        self._owed = 0
        try:
            self._process = subprocess.Popen(
                _command(its.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(its.fileno(),),
                env=_environment(),
                # Ctrl-C is ours to handle: the child leaves when we hang up.
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            ours.close()
            raise
        finally:
            its.close()

    @classmethod
    def join(cls, address: str, *, timeout_s: float = JOIN_TIMEOUT_S) -> Self:
        """Join the cluster at ``address``, "auto" or HOST:PORT.

        The workers of the calls' actors get this package from here, so that they run the very same
        code; what it imports they must have. Raises UsageMistake where Ray is not installed, and
        ClusterError with one sentence where the cluster cannot be joined.
        """
        check_installed(f"the Ray cluster at {address}")
        _check_answers(address)
        cluster = cls(timeout_s)
        try:
            cluster._join(address)
        except BaseException:
            cluster.close()
            raise
        return cluster

    def _join(self, address: str) -> None:
        self.address = address
        told = self._exchange(Join(address=address, session=self.session), self._timeout_s)
        if isinstance(told, Refused):
            raise why_not_joined(address, told.kind, told.text)
        assert isinstance(told, Joined)  # noqa: S101 - a child says nothing else
        self.address = told.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        function: Callable[Concatenate[Any, P], Returned],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Returned:
        """What ``function(member, ...)`` returns in the child, see :class:`.member.Member`; it is
        found there by its module and name. Errors of this package are raised here as they are."""
        return self.call_within(CALL_TIMEOUT_S, function, *args, **kwargs)

    def call_within(
        self,
        timeout_s: float,
        function: Callable[Concatenate[Any, P], Returned],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Returned:
        """:meth:`call` with a time limit of its own. A call that takes longer ends the child, and
        with it all that it holds in the cluster."""
        asked = Ask(function=function, args=args, kwargs=kwargs)
        name = function.__qualname__
        told = self._exchange(asked, timeout_s)
        if isinstance(told, Refused):
            raise ClusterError(
                f"{name} failed in the Ray cluster at {self.address}",
                cause=f"{told.kind}: {told.text}",
                log_tail=self.said(),
            )
        assert isinstance(told, Answer)  # noqa: S101 - a child says nothing else
        if isinstance(told.value, Exception):
            raise told.value
        returned: Returned = told.value
        return returned

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Every node that the cluster knows of, also those that are gone."""
        from .state import nodes

        return self.call(nodes)

    def said(self) -> tuple[str, ...]:
        """The last lines that Ray and the child printed."""
        return () if self._said.closed else tuple(end_of(self._said).splitlines()[-_SAID_LINES:])

    @property
    def left(self) -> bool:
        """Whether nothing can be asked any more: it was left, or lost."""
        return self._connection.closed

    def close(self) -> None:
        """Leave the cluster: what the child held there ends with it. Harmless when called again,
        or in a fork."""
        if os.getpid() != self._owner or self._said.closed:
            return
        self._connection.close()
        try:
            self._process.wait(LEAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _exchange(self, message: object, timeout_s: float) -> object:
        """The answer to ``message``. Answers that nobody has waited for, since something was raised
        here meanwhile, come before it and are thrown away."""
        with self._asking:
            if self.left:
                raise ClusterError(f"the Ray cluster at {self.address} was left before")
            deadline = clock.Deadline(timeout_s)
            with self._whole():
                self._connection.send(message)
                self._owed += 1
            while self._connection.poll(deadline.left):
                with self._whole():
                    answer = self._connection.recv()
                    self._owed -= 1
                if not self._owed:
                    return answer
            said = self.said()
            self._end()
        raise ClusterError(
            f"the Ray cluster at {self.address} did not answer within {timeout_s:g} s",
            remedy="see with `ray status` whether its head is up and reachable from here",
            log_tail=said,
        )

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A message that is interrupted halfway leaves nothing that makes sense."""
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """Leave without waiting: the child is at something that nobody wants any more."""
        self._process.kill()
        self.close()

    def _gone(self) -> ClusterError:
        try:
            status: int | None = self._process.wait(LEAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = None
        said = self.said()
        self.close()
        return ClusterError(
            f"the Ray cluster at {self.address} is lost",
            cause="its head is gone or cannot be reached: Ray ends its drivers then "
            f"(ours ended with status {status})",
            remedy="see whether the head's machine is up, and look into its gcs_server.out",
            log_tail=said,
        )


def _check_answers(address: str) -> None:
    """Raise ClusterError where nobody listens: Ray would go on trying for a minute, and not say
    why."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise why_not_joined(address, type(error).__name__, str(error)) from None


def _command(descriptor: int) -> list[str]:
    # -P: the directory we happen to be in must not shadow the standard library.
    return [sys.executable, "-P", "-m", "pytest_llmperf.cluster.member", str(descriptor)]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        # Nothing is told about those who run tests here.
        "RAY_USAGE_STATS_ENABLED": "0",
    }
