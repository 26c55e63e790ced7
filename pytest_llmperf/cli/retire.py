"""``pytest-llmperf baseline retire``: gates that were renamed or taken away on purpose."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from pytest_llmperf.errors import LlmPerfError, nearest
from pytest_llmperf.records import Level
from pytest_llmperf.store import new_id

from . import git
from .history import History, histories
from .where import add_store, opened
from .words import Commands, command, count


def add_retire(actions: Commands, text: Callable[[str], str]) -> None:
    parser = command(
        actions,
        "retire",
        "say that gates are gone on purpose, so that --llmperf-require misses them no more",
        example='pytest-llmperf baseline retire tests/test_speed.py::test_old --reason "renamed"',
        more="What was observed is kept. A gate that is judged again is known again.",
    )
    parser.set_defaults(run=_retire)
    parser.add_argument(
        "name", metavar="KEY|TEST", help="the key, or the test's node id; other names do not count"
    )
    parser.add_argument(
        "--gate", action="append", metavar="METRIC", help="this gate only (default: all of them)"
    )
    parser.add_argument("--reason", required=True, type=text, help="why, for those who come later")
    parser.add_argument("--author", type=text, help="who (default: as git is configured)")
    add_store(parser)


def _retire(arguments: argparse.Namespace) -> int:
    author = git.author_or(arguments.author)
    with opened(arguments.store) as store:
        for history in _named(histories(store), arguments.name):
            gates = _gates(history, arguments.gate)
            store.accept(_level(history, gates, arguments.reason, author))
            print(f"{history.newest.test}: {count(len(gates), 'gate')} retired ({history.key})")
            print(*(f"  {metric}" for metric in gates), sep="\n")
    return 0


def _named(found: list[History], name: str) -> list[History]:
    """Exactly what was named: one test too many would be missed by nobody."""
    chosen = [each for each in found if name in (each.key, each.newest.test)]
    if not chosen:
        tests = {each.newest.test for each in found}
        hint = nearest(name, tests) if tests else " The store is empty."
        raise LlmPerfError(f"nothing in the store is called {name!r}.{hint}")
    return chosen


def _gates(history: History, asked: list[str] | None) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(m for session in history.sessions for m in session.gates))
    for metric in asked or ():
        if metric not in known:
            raise LlmPerfError(
                f"{history.newest.test} has never had a gate on {metric!r}.{nearest(metric, known)}"
            )
    return tuple(asked) if asked else known


def _level(history: History, gates: tuple[str, ...], reason: str, author: str) -> Level:
    """The level stays what it was; without one, the newest session stands for it."""
    held = history.under(history.level) or history.sessions[-1:]
    return Level(
        id=new_id(),
        key=history.key,
        created=datetime.now(UTC).isoformat(),
        observations=tuple(session.id for session in held),
        reason=reason,
        author=author,
        commit=git.commit(),
        retired=gates,
    )
