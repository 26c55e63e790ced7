"""``pytest-llmperf baseline``: the accepted levels of a store, and who moved them why."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.records import Level, Observation
from pytest_llmperf.store import MOST_SESSIONS, acceptable, moment, new_id, open_sessions

from . import accounts, git
from .history import histories
from .retire import add_retire
from .where import add_store, opened
from .words import Commands, command, count


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "baseline",
        "accept, list, show, compare and prune what a store remembers",
        example='pytest-llmperf baseline accept test_chat --reason "sglang 0.5.23 is slower here"',
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add_accept(actions)
    _add_list(actions)
    _add_show(actions)
    _add_diff(actions)
    _add_prune(actions)
    add_retire(actions, _text)


# --- accept -----------------------------------------------------------------------------------


def _add_accept(actions: Commands) -> None:
    parser = command(
        actions,
        "accept",
        "make what was observed last the level that later sessions are judged by",
        example='pytest-llmperf baseline accept test_chat --reason "faster attention kernel"',
        more="Without --last: the sessions since the last level that had the same subject as the\n"
        f"newest one, at most {MOST_SESSIONS}. Old levels are kept.",
    )
    parser.set_defaults(run=_accept)
    parser.add_argument(
        "names", nargs="*", metavar="KEY|SUBSTRING", help="of keys or tests; without any, all keys"
    )
    parser.add_argument("--reason", required=True, type=_text, help="why, for those who come later")
    parser.add_argument("--last", type=_whole, metavar="N", help="the last N sessions instead")
    parser.add_argument("--author", type=_text, help="who (default: as git is configured)")
    add_store(parser)


def _accept(arguments: argparse.Namespace) -> int:
    author = git.author_or(arguments.author)
    with opened(arguments.store) as store:
        chosen = [
            (history, sessions)
            for history in histories(store, arguments.names)
            if (sessions := acceptable(history.level, history.sessions, arguments.last))
        ]
        if not chosen:
            raise LlmPerfError(
                "nothing to accept: no session is newer than the accepted levels. Run pytest with "
                "the store first, or give --last N to accept sessions of before."
            )
        for history, sessions in chosen:
            level = _level(history.key, sessions, arguments.reason, author)
            store.accept(level)
            print(*accounts.accepted(history, sessions), sep="\n")
            left = len(history.since(history.level)) - len(sessions)
            if arguments.last is None and left > 0:
                print(
                    f"  {left} earlier sessions since the last level ran something else and were "
                    f"left out; --last {left + len(sessions)} takes them too"
                )
    return 0


def _level(key: str, sessions: Iterable[Observation], reason: str, author: str) -> Level:
    return Level(
        id=new_id(),
        key=key,
        created=datetime.now(UTC).isoformat(),
        observations=tuple(session.id for session in sessions),
        reason=reason,
        author=author,
        commit=git.commit(),
    )


# --- list, show, diff -------------------------------------------------------------------------


def _add_list(actions: Commands) -> None:
    parser = command(
        actions,
        "list",
        "every key with its sessions, its level and its newest value",
        example="pytest-llmperf baseline list --store sqlite:///perf.db",
    )
    parser.set_defaults(run=_list)
    add_store(parser)


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments.store) as store:
        found = histories(store)
    print(*(accounts.listed(found) or ["The store is empty."]), sep="\n")
    return 0


def _add_show(actions: Commands) -> None:
    parser = command(
        actions,
        "show",
        "everything that the store remembers of a key",
        example="pytest-llmperf baseline show test_chat",
    )
    parser.set_defaults(run=_show)
    parser.add_argument("name", metavar="KEY", help="the key, or a part of it or of the test")
    add_store(parser)


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments.store) as store:
        for history in histories(store, [arguments.name]):
            print(*accounts.shown(history), "", sep="\n")
    return 0


def _add_diff(actions: Commands) -> None:
    parser = command(
        actions,
        "diff",
        "the newest session against the accepted level, and what else changed",
        example="pytest-llmperf baseline diff test_chat",
        more="It shows figures and judges nothing; `pytest-llmperf trend` and the gates judge.",
    )
    parser.set_defaults(run=_diff)
    parser.add_argument("names", nargs="*", metavar="KEY", help="default: all keys")
    add_store(parser)


def _diff(arguments: argparse.Namespace) -> int:
    with opened(arguments.store) as store:
        found = histories(store, arguments.names)
    for history in found:
        print(*accounts.differing(history), "", sep="\n")
    if not found:
        print("The store is empty.")
    return 0


# --- prune ------------------------------------------------------------------------------------


def _add_prune(actions: Commands) -> None:
    parser = command(
        actions,
        "prune",
        "forget old sessions",
        example="pytest-llmperf baseline prune --older-than 365",
        more="What a level rests on is kept, however old, and so are pairs with a release that are "
        "not decided yet.",
    )
    parser.set_defaults(run=_prune)
    parser.add_argument("--older-than", required=True, type=_whole, metavar="DAYS")
    add_store(parser)


def _prune(arguments: argparse.Namespace) -> int:
    limit = datetime.now(UTC) - timedelta(days=arguments.older_than)
    with opened(arguments.store) as store:
        undecided = open_sessions(store.observations())
        gone = store.prune(lambda one: moment(one.created) >= limit or one.id in undecided)
        left = len(store.observations())
    print(f"{count(gone, 'session')} removed, {left:,} left.")
    return 0


# --- shared -----------------------------------------------------------------------------------


def _whole(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 99999")
    return int(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it must not be empty")
    return text.strip()
