"""A process that is a driver of Ray, for one that must outlive it: ``python -m ... DESCRIPTOR``.

It joins the cluster that it is told to, answers one question after the other, and leaves when
nobody asks any more, however that comes. Nothing that it made in the cluster outlives it: all of it
belongs to its job.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import LlmPerfError

from .messages import Answer, Ask, Join, Joined, Refused

#: All names of ours in a cluster begin so.
PREFIX = "llmperf"
#: Leaving tells the cluster at once what it would else find out; it must not hold anybody up.
_LEAVE_S = 5.0


@dataclass(slots=True)
class Member:
    """What functions get that are called in a cluster. ``kept`` is theirs, from call to call."""

    session: str
    address: str
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Of every named thing that we make."""
        return f"{PREFIX}-{self.session}"

    def name(self, *parts: object) -> str:
        """A name for an actor or a placement group, by which it is known as ours."""
        return "-".join([PREFIX, self.session, *map(str, parts)])


def join(asked: Join) -> Member:
    """Raises whatever ``ray.init`` does. A cluster is never started: the address is given, and
    neither "local" nor nothing."""
    import ray

    if asked.address in ("", "local"):
        raise ValueError("no cluster is started here")
    context = ray.init(
        address=asked.address,
        namespace=f"{PREFIX}-{asked.session}",
        runtime_env=package_environment() if asked.package else None,
        log_to_driver=True,
        configure_logging=True,
    )
    return Member(session=asked.session, address=str(context.address_info["gcs_address"]))


def package_environment() -> dict[str, Any]:
    """The runtime environment whose workers import this package from a copy of ours."""
    return {"py_modules": [str(Path(__file__).parents[1])]}


def main(descriptor: int) -> None:
    """Does not return."""
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        _serve(connection)
    except (EOFError, OSError):
        pass  # whoever asked has gone, which is how it ends
    finally:
        _leave()


def _serve(connection: Connection[Any, Any]) -> None:
    asked = connection.recv()
    try:
        member = join(asked)
    except Exception as error:
        connection.send(_refused(error))
        return
    connection.send(Joined(address=member.address))
    while True:
        try:
            asked = connection.recv()
        except (EOFError, OSError):
            raise
        except Exception as error:  # what is asked of us is not to be found here
            connection.send(_refused(error))
        else:
            connection.send(_answer(member, asked))


def _answer(member: Member, asked: Ask) -> Answer | Refused:
    try:
        return Answer(value=asked.function(member, *asked.args, **asked.kwargs))
    except LlmPerfError as error:
        return Answer(value=error)
    except Exception as error:
        return _refused(error)


def _refused(error: Exception) -> Refused:
    return Refused(kind=type(error).__name__, text=str(error))


def _leave() -> None:
    """Ray's own ending may wait for a head that is gone."""
    import ray

    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LEAVE_S)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    # Run by its name, so that what it is sent finds the very same classes.
    from pytest_llmperf.cluster import member as myself

    myself.main(int(sys.argv[1]))
