"""What must not be shown: keys, tokens and passwords, wherever something is told or written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"

# "max_total_tokens", "--tokenizer-path" and "ssl_keyfile" are no secrets; "HF_TOKEN" is one.
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|credential|api_?key"
    r"|(?:^|[^a-z0-9])(?:key|keys|token|auth|authorization)$",
    re.IGNORECASE,
)
_IN_TEXT = (
    (re.compile(r"(?<=://)[^/@\s]+(?=@)"), HIDDEN),
    (re.compile(r"(?<=://)([^\s?'\"]*)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),
    (re.compile(r"\b(Bearer|bearer|Basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
)
# A flag or an assignment, and its value with whatever of it is quoted.
_NAMED_IN_TEXT = re.compile(
    r"(?<![^\s'\"])(?:(--?[A-Za-z][\w-]*)([= ])|([A-Za-z_]\w*)(=))(?!--)"
    r"(?:'[^']*'|\"[^\"]*\"|\S)+"
)


def is_secret(name: str) -> bool:
    """Whether a variable, option or field of this name may hold a secret."""
    return _SECRET_NAME.search(name.replace("-", "_")) is not None


def redact_text(text: str) -> str:
    """``text`` without the credentials and queries of URLs and those of authorization headers."""
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text


def redact_argv(argv: Iterable[str]) -> tuple[str, ...]:
    """A command line whose secret options and assignments have their values hidden."""
    shown: list[str] = []
    hide_next = False
    for word in argv:
        name, assigned, _ = word.partition("=")
        if hide_next and not word.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = not assigned and word.startswith("-") and is_secret(word)
        one_word = word.split() == [word]
        secret = bool(assigned) and is_secret(name) and name.split() == [name]
        plain = redact_text(word) if one_word else _redact_command(word)
        shown.append(f"{name}={HIDDEN}" if secret else plain)
    return tuple(shown)


def _redact_command(word: str) -> str:
    """A word that may be a whole command, as ssh and ``sh -c`` are given one."""
    try:
        words = shlex.split(word)
    except ValueError:
        words = []
    if words and shlex.join(words) == word:
        word = shlex.join(redact_argv(words))
    return redact_joined(word)


def redact_joined(command: str) -> str:
    """The same for a command line that somebody joined with spaces, quoted or not."""

    def shown(found: re.Match[str]) -> str:
        name, between = found[1] or found[3], found[2] or found[4]
        return f"{name}{between}{HIDDEN}" if is_secret(name) else found[0]

    return redact_text(_NAMED_IN_TEXT.sub(shown, command))


def redact_env(env: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The same for environment variables."""
    return tuple((name, _redacted(name, value)) for name, value in env)


def redact_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the texts of secret names hidden, at any depth."""
    return {str(name): _redacted(str(name), value) for name, value in values.items()}


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact_mapping(value)
    if isinstance(value, list | tuple):
        return [_redacted(name, item) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and is_secret(name) else redact_text(value)
    return value
