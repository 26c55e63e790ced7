"""What must not be shown: keys, tokens and passwords, wherever something is told or written."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
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
# What programs print of their settings: Python's repr, a dictionary's, JSON, a line of YAML.
_PRINTED = re.compile(
    r"(?P<name>[\w-]{1,100})(?P<between>['\"]?\s{0,4}[=:]\s{0,4})"
    r"(?P<value>\[[^\]\n]*\]|'[^'\n]*'|\"[^\"\n]*\"|[^\s,;)\]}'\"]+)"
)
#: What a secret's place may say without giving anything away.
_NOTHING = frozenset({"None", "null", "none", "true", "false", "True", "False", "''", '""'})
#: Shorter values of variables are words that other texts may hold as well.
_TELLING = 12
# A flag or an assignment, and its value with whatever of it is quoted.
_NAMED_IN_TEXT = re.compile(
    r"(?<![^\s'\"])(?:(--?[A-Za-z][\w-]*)([= ])|([A-Za-z_]\w*)(=))(?!--)"
    r"(?:'[^']*'|\"[^\"]*\"|\S)+"
)


class Secret(str):
    """A text whose ``repr`` does not show it: tracebacks with locals and records print that."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def secret_env(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with the values of secret names as :class:`Secret`."""
    return {name: Secret(value) if is_secret(name) else value for name, value in env.items()}


def secret_words(argv: Sequence[str]) -> tuple[str, ...]:
    """``argv`` with every word that :func:`redact_argv` would hide as :class:`Secret`."""
    shown = redact_argv(argv)
    return tuple(
        word if word == plain else Secret(word) for word, plain in zip(argv, shown, strict=True)
    )


# A word as a shell reads it, quotes and all, or what ends a command.
_WORD = re.compile(
    r"(?:[^\s;&|()<>`'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\")+|[;&|()`\n]", re.DOTALL
)
_ENDS = frozenset(";&|()`\n")


def is_secret(name: str) -> bool:
    """Whether a variable, option or field of this name may hold a secret."""
    return _SECRET_NAME.search(name.replace("-", "_")) is not None


def redact_text(text: str) -> str:
    """``text`` without the credentials and queries of URLs, those of authorization headers, and
    the secrets that our own environment holds, which servers like to repeat."""
    for value in _in_environment():
        text = text.replace(value, HIDDEN)
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text


def redact_printed(text: str) -> str:
    """A line of a log: :func:`redact_text`, and the values of what has a secret's name, however a
    program prints its settings."""

    def shown(found: re.Match[str]) -> str:
        name, between = found["name"], found["between"]
        # "argument --api-key: expected one argument" assigns nothing.
        if name.startswith("-") and "=" not in between:
            return found[0]
        hidden = is_secret(name) and found["value"] not in _NOTHING
        return f"{name}{between}{HIDDEN}" if hidden else found[0]

    return _without_values_of_flags(_PRINTED.sub(shown, redact_text(text)))


def _in_environment() -> list[str]:
    """The longest first, for one may be a part of another."""
    found = {
        value for name, value in os.environ.items() if len(value) >= _TELLING and is_secret(name)
    }
    return sorted(found, key=len, reverse=True)


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
        plain = redact_text(word) if one_word else redact_joined(word)
        shown.append(f"{name}={HIDDEN}" if secret else plain)
    return tuple(shown)


def _without_values_of_flags(text: str) -> str:
    def shown(found: re.Match[str]) -> str:
        if found[1] is None or found[2] != " " or not is_secret(found[1]):
            return found[0]
        return f"{found[1]} {HIDDEN}"

    return _NAMED_IN_TEXT.sub(shown, text)


def redact_joined(command: str) -> str:
    """The same for a command line that somebody joined with spaces, quoted or not; also of the
    commands that are words of it, as ssh and ``sh -c`` are given one."""

    def shown(found: re.Match[str]) -> str:
        name, between = found[1] or found[3], found[2] or found[4]
        return f"{name}{between}{HIDDEN}" if is_secret(name) else found[0]

    return redact_text(_NAMED_IN_TEXT.sub(shown, _as_a_shell_reads_it(command)))


def _as_a_shell_reads_it(command: str) -> str:
    """``command`` with secrets hidden word by word; every other word stays as it is written."""
    hide_next = False

    def shown(found: re.Match[str]) -> str:
        nonlocal hide_next
        written = found[0]
        word = "" if written in _ENDS else _unquoted(written)
        hidden, hide_next = hide_next and not word.startswith("--") and bool(word), False
        if hidden:
            return HIDDEN
        name, assigned, _ = word.partition("=")
        hide_next = not assigned and word.startswith("-") and is_secret(word)
        if assigned and is_secret(name) and name.split() == [name]:
            return f"{name}={HIDDEN}"
        # Quotes make words shorter when they go, so this ends.
        inner = _as_a_shell_reads_it(word) if len(word) < len(written) else word
        return written if inner == word else shlex.quote(inner)

    return _WORD.sub(shown, command)


def _unquoted(written: str) -> str:
    try:
        return "".join(shlex.split(written))
    except ValueError:
        return written  # not what a shell takes for a word


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
