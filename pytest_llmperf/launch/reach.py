"""The command that starts something on another node, from a template such as ``ssh -tt {host}
{command}``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import PurePath

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.redact import is_secret, redact_joined, redact_unread

#: It joins the words that it is given with spaces, and has a shell take them apart again.
_JOINING = frozenset({"ssh"})
#: The options of OpenSSH's ssh(1) that take a value (9.9).
_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_FORCED = re.compile(r"\s*RequestTTY(?:\s*=\s*|\s+)force\s*", re.IGNORECASE)
COMMAND, HOST, RANK = "{command}", "{host}", "{rank}"


def check_template(template: str, where: str) -> tuple[str, ...]:
    """The words of a template; ``where`` is how it was given. Raises UsageMistake."""
    try:
        words = tuple(shlex.split(template))
    except ValueError as error:
        raise UsageMistake(
            f"{where}={redact_unread(template)!r}: {error}; close what is quoted, as in a shell."
        ) from None
    shown = redact_joined(template)
    if not words or COMMAND not in template or HOST not in template:
        raise UsageMistake(
            f"{where}={shown!r}: expected a command with {HOST} and {COMMAND} in it, such as "
            f'"ssh -tt {HOST} {COMMAND}" or "srun -N1 -n1 -w {HOST} {COMMAND}".'
        )
    if PurePath(words[0]).name in _JOINING and not _has_terminal(words):
        raise UsageMistake(
            f"{where}={shown!r}: without a terminal there, a rank outlives the ssh that started "
            'it and keeps its devices; write "ssh -tt" (one -t does nothing where ssh itself has '
            "no terminal)."
        )
    return words


def _has_terminal(words: Sequence[str]) -> bool:
    """Whether an ssh asks for a terminal there without having one itself: by -t given twice, or
    by RequestTTY=force."""
    asked = 0
    rest = iter(words[1:])
    for word in takewhile(lambda each: COMMAND not in each, rest):
        options = word[1:] if word.startswith("-") else ""
        for at, letter in enumerate(options, 1):
            if letter in _WITH_VALUE:
                value = options[at:] or next(rest, "")
                if letter == "o" and _FORCED.fullmatch(value):
                    return True
                break
            asked += letter == "t"
    return asked > 1


def reaching(
    template: Sequence[str],
    argv: Sequence[str],
    env: Iterable[tuple[str, str]],
    *,
    host: str,
    rank: int,
) -> tuple[str, ...]:
    """The words that run ``argv`` with ``env`` on ``host``.

    Of the environment everything is told but secrets, which a command line would show to all users
    of both machines: they have to be set on the node.
    """
    told = [f"{name}={value}" for name, value in env if not is_secret(name)]
    words = ["env", *told, *argv] if told else list(argv)
    joined = shlex.join(words)
    alone = [joined] if PurePath(template[0]).name in _JOINING else words
    found: list[str] = []
    for word in template:
        if word == COMMAND:
            found += alone
        else:
            plain = word.replace(HOST, host).replace(RANK, str(rank))
            found.append(plain.replace(COMMAND, joined))
    return tuple(found)
