"""Our end of a member of a Ray cluster: a child process that joined it, and does what we ask."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection, Pipe
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pytest_llmperf import clock
from pytest_llmperf.errors import ClusterError, UsageMistake

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
_ALONE = "local"

P = ParamSpec("P")
Returned = TypeVar("Returned")


def check_address(address: str, said: str) -> str:
    """``address`` as it may be given: "auto" or HOST:PORT of the cluster's head. ``said`` begins
    the message of the :class:`~pytest_llmperf.errors.UsageMistake` that is raised else."""
    host, colon, port = address.rpartition(":")
    if address == "auto" or (colon and host and port.isdecimal() and "://" not in address):
        return address
    hint = ""
    if address == _ALONE or not address:
        hint = " (no cluster is ever started here)"
    if "://" in address:
        hint = " (Ray's client and its dashboard are no way to join; this machine must be a node)"
    raise UsageMistake(
        f'{said}: expected "auto", or HOST:PORT of the head of a Ray cluster that runs '
        f"already{hint}."
    )


def check_installed(said: str) -> None:
    """Raise :class:`~pytest_llmperf.errors.UsageMistake` where Ray cannot be imported."""
    if find_spec("ray") is None:
        raise UsageMistake(
            f"{said}: Ray is not installed here; install pytest-llmperf[ray], in the version that "
            "the cluster runs."
        )


class Cluster:
    """A cluster as a child process sees it that joined it; made by :meth:`join`.

    ``session`` is part of every name that we leave in the cluster, ``address`` that of its head,
    as it was found. One call is answered at a time: who must not wait for another joins for
    himself. Every method raises :class:`~pytest_llmperf.errors.ClusterError` where the cluster or
    the child is gone, or does not answer in time.
    """

    def __init__(self, session: str, timeout_s: float) -> None:
        ours, its = Pipe()
        self.session = session
        self.address = ""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._connection: Connection[Any, Any] = ours
        self._owner = os.getpid()
        self._timeout_s = timeout_s
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
    def join(
        cls,
        address: str,
        *,
        session: str | None = None,
        package: bool = False,
        timeout_s: float = JOIN_TIMEOUT_S,
    ) -> Self:
        """Join the cluster at ``address``, "auto" or HOST:PORT.

        With ``package`` the workers of the calls' actors get this package from here, so that they
        run the very same code; what it imports they must have. Raises UsageMistake where Ray is
        not installed, and ClusterError with one sentence where the cluster cannot be joined.
        """
        check_installed(f"the Ray cluster at {address}")
        _check_answers(address)
        cluster = cls(session or secrets.token_hex(4), timeout_s)
        try:
            cluster._join(address, package)
        except BaseException:
            cluster.close()
            raise
        return cluster

    def _join(self, address: str, package: bool) -> None:
        self.address = address
        told = self._exchange(
            Join(address=address, session=self.session, package=package),
            self._timeout_s,
        )
        if isinstance(told, Refused):
            raise why_not_joined(address, told.kind, told.text)
        assert isinstance(told, Joined)  # noqa: S101 - a child says nothing else
        self.address = told.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the child, which is a driver of Ray."""
        return self._process.pid

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
        if self._said.closed:
            return ()
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").splitlines()
        return tuple(lines[-_SAID_LINES:])

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
        if self._connection.closed:
            raise ClusterError(f"the Ray cluster at {self.address} was left before")
        try:
            self._connection.send(message)
            deadline = clock.Deadline(timeout_s)
            if self._connection.poll(deadline.left):
                return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        said = self.said()
        # It would answer this question when the next one is asked.
        self._process.kill()
        self.close()
        raise ClusterError(
            f"the Ray cluster at {self.address} did not answer within {timeout_s:g} s",
            remedy="see with `ray status` whether its head is up and reachable from here",
            log_tail=said,
        )

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
