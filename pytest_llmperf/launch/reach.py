"""The command that starts something on another node, from a template such as ``ssh -tt {host}
{command}``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.redact import is_secret

#: It joins the words that it is given with spaces, and has a shell take them apart again.
_JOINING = frozenset({"ssh"})
COMMAND, HOST, RANK = "{command}", "{host}", "{rank}"


def check_template(template: str, where: str) -> tuple[str, ...]:
    """The words of a template; ``where`` is how it was given. Raises UsageMistake."""
    try:
        words = tuple(shlex.split(template))
    except ValueError as error:
        raise UsageMistake(f"{where}={template!r}: {error}.") from None
    if not words or COMMAND not in template or HOST not in template:
        raise UsageMistake(
            f"{where}={template!r}: expected a command with {HOST} and {COMMAND} in it, such as "
            f'"ssh -tt {HOST} {COMMAND}" or "srun -N1 -n1 -w {HOST} {COMMAND}".'
        )
    return words


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
