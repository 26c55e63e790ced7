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
# Tokens of vocabularies: "eos_token", "pad_token_id".
_OF_VOCABULARY = re.compile(r"(?:^|[_-])(?:eos|bos|pad|unk|mask|sep|cls)_token(?:_id)?$", re.I)
# What services of CI call a key and is none: that of a step, of a group, of a cache.
_HARMLESS_VARIABLE = re.compile(r"(?:_STEP|_GROUP|CACHE|_PUBLIC)_KEY$", re.I)
_IN_TEXT = (
    # A password may hold "/" and "@"; "host:1/a@b" has a port there.
    (
        re.compile(
            r"(?<=://)[^/@\s:?#'\"\[]*:(?!\d*(?:[/?#,;)\]\s'\"]|$))(?:(?!://)[^\s'\"])*(?=@)"
        ),
        HIDDEN,
    ),
    (re.compile(r"(?<=://)[^/@\s]+(?=@)"), HIDDEN),
    # Each address is looked through once: the next one begins where this one's query is not found.
    (re.compile(r"(?<=://)((?:(?!://)[^\s?'\"])*+)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),
    (re.compile(r"\b(Bearer|bearer)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(r"(authorization['\"]?\s{0,4}[:=]\s{0,4}['\"]?basic)\s+[\w.~+/=-]+", re.I),
        rf"\1 {HIDDEN}",
    ),
)
_QUOTED = r"'(?:[^'\\\n]|\\.)*+'|\"(?:[^\"\\\n]|\\.)*+\""
# A name in quotes with a text or a list, in JSON or in what Python prints; and in JSON in JSON.
_IN_JSON = re.compile(
    rf"(?P<before>(?P<mark>['\"])(?P<name>[\w-]{{1,100}})(?P=mark)\s{{0,4}}:\s{{0,4}})"
    rf"(?:{_QUOTED}|\[[^\]]{{0,10000}}+\])"
)
_IN_INNER_JSON = re.compile(
    r"(?P<before>(?P<mark>\\{1,7}\")(?P<name>[\w-]{1,100})(?P=mark)\s{0,4}:\s{0,4})"
    r"(?P=mark).+?(?<!\\)(?P=mark)"
)
# What programs print of their settings: Python's repr, a dictionary's, JSON, a line of YAML.
_PRINTED = re.compile(r"(?P<name>[\w-]{1,100})(?P<between>['\"]?\s{0,4}[=:]\s{0,4})")
# A text, a list, a mapping, a tuple or a call; what is not closed goes on to the end of the line.
_VALUE = re.compile(
    rf"{_QUOTED}"
    rf"|[\w.]*+(?:\[(?:[^\]\n'\"]|{_QUOTED})*+\]|\((?:[^)\n'\"]|{_QUOTED})*+\)"
    rf"|\{{(?:[^}}\n'\"]|{_QUOTED})*+\}})"
    r"|[\w.]*+[\[({'\"][^\n]*|[^\s,;)\]}'\"]+"
)
# "Missing key: model.layers.0" and "time per output token: 12 ms" tell what happened.
_TOLD = re.compile(r"\w (?:keys?|token)\s{0,4}:", re.IGNORECASE)
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
_NAME = re.compile(r"[\w.-]+")
_HEADER = re.compile(r"(?P<name>[\w-]{1,100}):\s{0,4}(?=\S)")


def is_secret(name: str) -> bool:
    """Whether a variable, option or field of this name may hold a secret."""
    name = name.replace("-", "_")
    return bool(_SECRET_NAME.search(name)) and not _OF_VOCABULARY.search(name)


def redact_text(text: str) -> str:
    """``text`` without the credentials and queries of URLs, those of authorization headers, and
    the secrets that our own environment holds, which servers like to repeat."""
    return _by_form(_without_repeated(text))


def _without_repeated(text: str) -> str:
    for value in _in_environment():
        text = text.replace(value, HIDDEN)
    return text


def _by_form(text: str) -> str:
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return _without_json(text)


def _without_json(text: str) -> str:
    """``text`` with the texts of secret names in JSON hidden, so that it stays JSON."""

    def shown(found: re.Match[str]) -> str:
        value = found[0][len(found["before"]) :]
        if not is_secret(found["name"]) or value in _NOTHING:
            return found[0]
        return f"{found['before']}{found['mark']}{HIDDEN}{found['mark']}"

    return _IN_INNER_JSON.sub(shown, _IN_JSON.sub(shown, text))


def redact_printed(text: str) -> str:
    """A line of a log: :func:`redact_text`, and the values of what has a secret's name, however a
    program prints its settings."""
    text = redact_text(text)
    shown, at = [], 0
    for found in _PRINTED.finditer(text):
        if found.start() < at or not _assigns_a_secret(found):
            continue
        value = _VALUE.match(text, found.end())
        if value is not None and value[0] not in _NOTHING:
            shown += [text[at : found.end()], HIDDEN]
            at = value.end()
    return _without_values_of_flags("".join([*shown, text[at:]]))


def _assigns_a_secret(found: re.Match[str]) -> bool:
    name, between = found["name"], found["between"]
    # "argument --api-key: expected one argument" assigns nothing.
    if name.startswith("-") and "=" not in between:
        return False
    return is_secret(name) and not _TOLD.match(found.string, max(found.start() - 2, 0))


def _in_environment() -> list[str]:
    """The longest first, for one may be a part of another."""
    found = {value.strip() for name, value in os.environ.items() if _may_be_repeated(name, value)}
    return sorted((each for each in found if len(each) >= _TELLING), key=len, reverse=True)


def _may_be_repeated(name: str, value: str) -> bool:
    if not is_secret(name) or _HARMLESS_VARIABLE.search(name):
        return False
    # "SSH_KEY" may say where a key lies. For a text too long for a path this is false.
    return os.sep not in value or not os.access(value.strip(), os.F_OK)


def redact_argv(argv: Iterable[str], *, repeated: bool = True) -> tuple[str, ...]:
    """A command line whose secret options and assignments have their values hidden; and, unless
    ``repeated`` is false, what :func:`redact_text` knows from our own environment."""
    shown: list[str] = []
    hide_next = False
    for given in argv:
        word = _without_repeated(given) if repeated else given
        if hide_next and not word.startswith("--"):
            shown.append(HIDDEN)
            hide_next = False
            continue
        hide_next = "=" not in word and word.startswith("-") and is_secret(word)
        shown.append(_hidden_in(word) or _plain(word))
    return tuple(shown)


def _plain(word: str) -> str:
    if word.split() == [word]:
        return _by_form(word)
    name, assigned, command = word.partition("=")
    if assigned and name.startswith("-") and name.split() == [name]:
        return f"{name}={_joined(command)}"
    return _joined(word)


def _hidden_in(word: str) -> str | None:
    """``--api-key=x``, ``--env=HF_TOKEN=x`` and ``X-Api-Key: x`` without the value; ``None`` for
    a word that is none of them."""
    start = 0
    while (end := word.find("=", start)) >= 0:
        name = word[start:end]
        if name.split() != [name] or (start and not _NAME.fullmatch(name)):
            break
        if is_secret(name):
            return f"{word[: end + 1]}{HIDDEN}"
        start = end + 1
    header = _HEADER.match(word, start)
    if header is None or not is_secret(header["name"]):
        return None
    return f"{word[: header.end()]}{HIDDEN}"


def _without_values_of_flags(text: str) -> str:
    def shown(found: re.Match[str]) -> str:
        if found[1] is None or found[2] != " " or not is_secret(found[1]):
            return found[0]
        return f"{found[1]} {HIDDEN}"

    return _NAMED_IN_TEXT.sub(shown, text)


def redact_joined(command: str) -> str:
    """The same for a command line that somebody joined with spaces, quoted or not; also of the
    commands that are words of it, as ssh and ``sh -c`` are given one."""
    return _joined(_without_repeated(command))


def redact_unread(command: str) -> str:
    """The same for what no shell would read: where a quote is open, nobody knows where a secret
    ends, so nothing of it is shown if it holds any."""
    return command if redact_joined(command) == command else HIDDEN


def _joined(command: str) -> str:
    def shown(found: re.Match[str]) -> str:
        name, between = found[1] or found[3], found[2] or found[4]
        return f"{name}{between}{HIDDEN}" if is_secret(name) else found[0]

    return _by_form(_NAMED_IN_TEXT.sub(shown, _as_a_shell_reads_it(command)))


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
        hide_next = "=" not in word and word.startswith("-") and is_secret(word)
        if (hidden_in := _hidden_in(word)) is not None:
            return hidden_in if " " not in hidden_in else shlex.quote(hidden_in)
        # Quotes make words shorter when they go, so this ends.
        inner = _inner(word) if len(word) < len(written) else word
        return written if inner == word else shlex.quote(inner)

    return _WORD.sub(shown, _without_json(command))


def _inner(word: str) -> str:
    name, assigned, command = word.partition("=")
    if assigned and name.startswith("-") and name.split() == [name]:
        return f"{name}={_as_a_shell_reads_it(command)}"
    return _as_a_shell_reads_it(word)


def _unquoted(written: str) -> str:
    try:
        return "".join(shlex.split(written))
    except ValueError:
        return written  # not what a shell takes for a word


def redact_env(
    env: Iterable[tuple[str, str]], *, repeated: bool = True
) -> tuple[tuple[str, str], ...]:
    """The same for environment variables."""
    return tuple((name, _redacted(name, value, repeated)) for name, value in env)


def redact_mapping(values: Mapping[str, Any], *, repeated: bool = True) -> dict[str, Any]:
    """``values`` with the texts of secret names hidden, at any depth. Subjects are compared across
    machines, and are to be shown without what is ``repeated`` from one's own environment."""
    return {str(name): _redacted(str(name), value, repeated) for name, value in values.items()}


def _redacted(name: str, value: Any, repeated: bool) -> Any:
    if isinstance(value, Mapping):
        return redact_mapping(value, repeated=repeated)
    if isinstance(value, list | tuple):
        return [_redacted(name, item, repeated) for item in value]
    if isinstance(value, str):
        if value and (is_secret(name) or isinstance(value, Secret)):
            return HIDDEN
        return redact_text(value) if repeated else _by_form(value)
    return value
