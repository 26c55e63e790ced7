"""A process that is a driver of Ray, for one that must outlive it: ``python -m ... DESCRIPTOR``.

It joins the cluster that it is told to, answers one question after the other, and leaves when
nobody asks any more, however that comes. Nothing that it made in the cluster outlives it: all of it
belongs to its job.
"""

from __future__ import annotations

import os
import re
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
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Where Ray begins to tell in which call of which process it happened (``RayTaskError``, 2.60).
_WHERE = re.compile(r",?\s*ray::")
_LONGEST = 600


@dataclass(slots=True)
class Member:
    """What functions get that are called in a cluster. ``kept`` is theirs, from call to call."""

    session: str
    address: str
    kept: dict[str, Any] = field(default_factory=dict)

    def name(self, *parts: object) -> str:
        """A name for an actor or a placement group, by which it is known as ours."""
        return "-".join([PREFIX, self.session, *map(str, parts)])

    def actor_on(self, node: str, kind: type, *parts: object, cpus: int, **more: Any) -> Any:
        """What makes an actor of ``kind`` on a node, by its id, called :meth:`name` of ``parts``:
        its ``remote`` takes the arguments. ``more`` are options of Ray's."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return ray.remote(kind).options(
            name=self.name(*parts),
            num_cpus=cpus,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **more,
        )


def join(asked: Join) -> Member:
    """Raises whatever ``ray.init`` does. A cluster is never started: the address is given, and
    neither "local" nor nothing."""
    import ray

    if asked.address in ("", "local"):
        raise ValueError("no cluster is started here")
    context = ray.init(
        address=asked.address,
        namespace=f"{PREFIX}-{asked.session}",
        runtime_env=package_environment(),
        log_to_driver=True,
        configure_logging=True,
    )
    return Member(session=asked.session, address=str(context.address_info["gcs_address"]))


def package_environment() -> dict[str, Any]:
    """The runtime environment whose workers import this package from a copy of ours."""
    return {"py_modules": [str(Path(__file__).parents[1])]}


def said_by(error: Exception) -> str:
    """What an error says in short. Ray's go on over many lines: how it came to it stands between
    what happened, which is the first, and why, which is the last."""
    lines = [" ".join(_COLOURS.sub("", line).split()) for line in str(error).splitlines()]
    told = [line for line in lines if line]
    first, last = (_WHERE.split(told[0])[0], told[-1]) if told else ("", type(error).__name__)
    parts = [part for part in dict.fromkeys((first, last)) if part]
    between = " " if first.endswith((".", ":")) else ": "
    return between.join(parts)[:_LONGEST]


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
