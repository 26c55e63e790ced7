"""Options that say which servers: references, interpreters, hosts, addresses, images."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.addresses import LOOPBACK, listening_address
from pytest_llmperf.launch.reach import check_template
from pytest_llmperf.redact import redact_joined, redact_text, redact_unread

from .option_checks import expanded, is_there

#: Where keys of endpoints are looked for; never an option, which processes and reports show.
API_KEY_VARIABLE = "LLMPERF_API_KEY"
REFERENCE_API_KEY_VARIABLE = "LLMPERF_REFERENCE_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOptions:
    """How the reference of every comparison differs from the candidate; ``None``: not at all.

    ``build`` is the command that makes an interpreter in a checkout of the merge base with ``ref``.
    """

    python: str | None = None
    args: tuple[str, ...] | None = None
    url: str | None = None
    build: tuple[str, ...] | None = None
    ref: str | None = None
    image: str | None = None

    @property
    def given(self) -> bool:
        said = (self.python, self.args, self.url, self.build, self.image)
        return any(each is not None for each in said)


def reference_options(config: pytest.Config) -> ReferenceOptions:
    python, args, url, build, image = (
        config.getoption(f"llmperf_reference_{name}")
        for name in ("python", "args", "url", "build", "image")
    )
    if url is not None and any(each is not None for each in (python, args, build, image)):
        raise UsageMistake(
            "--llmperf-reference-url names a server that runs already; it does not go together "
            "with --llmperf-reference-python, --llmperf-reference-build, "
            "--llmperf-reference-image or --llmperf-reference-args."
        )
    if image is not None and (python is not None or build is not None):
        other = "python" if python is not None else "build"
        raise UsageMistake(
            f"--llmperf-reference-image={image} brings an interpreter of its own, and "
            f"--llmperf-reference-{other} names another; give one of them."
        )
    if python is not None and build is not None:
        raise UsageMistake(
            "--llmperf-reference-build makes the interpreter that --llmperf-reference-python "
            "names; give one of them."
        )
    return ReferenceOptions(
        build=None if build is None else tuple(split_words(build, "--llmperf-reference-build")),
        ref=config.getoption("llmperf_reference_ref"),
        python=_interpreter(config, python) if python else None,
        args=None if args is None else tuple(split_words(args, "--llmperf-reference-args")),
        url=(
            check_url(url, key=REFERENCE_API_KEY_VARIABLE, where="--llmperf-reference-url: ")
            if url
            else None
        ),
        image=None if image is None else check_image(image, "--llmperf-reference-image="),
    )


def hosts(config: pytest.Config) -> tuple[str, ...]:
    text = str(config.getoption("llmperf_hosts") or config.getini("llmperf_hosts"))
    hosts = tuple(host.strip() for host in text.split(",")) if text.strip() else ()
    named = all(re.fullmatch(r"[^-\s]\S*", host) for host in hosts)
    if not named or len(set(hosts)) < len(hosts):
        raise UsageMistake(
            f"--llmperf-hosts={text}: expected the names of nodes, each once, such as "
            "--llmperf-hosts node-a,node-b."
        )
    return hosts


def node_command(config: pytest.Config) -> tuple[str, ...]:
    given = config.getoption("llmperf_node_command") or config.getini("llmperf_node_command")
    if not given:
        if len(hosts(config)) > 1:
            raise UsageMistake(
                f"--llmperf-hosts={','.join(hosts(config))} says which nodes there are; say how "
                'to reach them with --llmperf-node-command, such as "ssh -tt {host} {command}".'
            )
        return ()
    if not hosts(config):
        raise UsageMistake(
            f"--llmperf-node-command={redact_joined(str(given))!r} says how to reach nodes; say "
            "which there are with --llmperf-hosts, this machine first."
        )
    return check_template(str(given), "--llmperf-node-command")


def bind(config: pytest.Config) -> str:
    """The address of this machine that servers listen on, by its number."""
    given = config.getoption("llmperf_bind")
    text = str(given or config.getini("llmperf_bind")).strip()
    if not text:
        return LOOPBACK
    said = "--llmperf-bind=" if given else "ini value llmperf_bind = "
    try:
        return listening_address(text)
    except ValueError as why:
        raise UsageMistake(f"{said}{redact_text(text)}: {why}.") from None


def _interpreter(config: pytest.Config, text: str) -> str:
    """A path, or the name of a program that is on the search path."""
    if os.sep not in text and (found := shutil.which(text)):
        return found
    path = config.invocation_params.dir / expanded(text, f"--llmperf-reference-python={text!r}")
    if not is_there(path) or not path.is_file():
        raise UsageMistake(
            f"--llmperf-reference-python={text!r}: there is no program {path}; name the Python of "
            "the environment that has the reference in it."
        )
    return str(path)


def split_words(words: str, option: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as error:
        raise UsageMistake(
            f"{option}={redact_unread(words)!r}: {error}; close what is quoted, as in a shell."
        ) from None


def check_url(url: str, *, key: str = API_KEY_VARIABLE, where: str = "") -> str:
    """``url`` without a trailing slash; ``key`` is the variable that its key belongs into, and
    ``where`` says before a mistake how the URL was given. Raises UsageMistake for one that cannot
    be attached to."""
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageMistake(
            f"{where}{redact_text(url)!r} is not the URL of an endpoint; write http://host:port."
        )
    if parts.username or parts.password:
        raise UsageMistake(
            f"{where}the URL of {parts.hostname} holds credentials, which would show in reports; "
            f"put the key into the environment variable {key}."
        )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UsageMistake(
            f"{where}{redact_text(url)!r} holds a blank or a character that no request can; "
            "write it percent-encoded, http://host:port/path%20name."
        )
    if "?" in url or "#" in url:
        raise UsageMistake(
            f"{where}the URL of {parts.hostname} goes on after its path with '?' or '#', and the "
            "paths of the API could not follow; write http://host:port/path, and put a key into "
            f"the environment variable {key}."
        )
    return url.rstrip("/")


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None  # "http://host:port", as in a manual, or half an IPv6 address
    return None if port == 0 else parts


def check_image(image: object, where: str) -> str:
    """``image`` if it may be the name of one; ``where`` is how it was given, up to the name. Raises
    UsageMistake."""
    if isinstance(image, str) and re.match(r"[^-\s]\S*$", image):
        return image
    raise UsageMistake(
        f"{where}{image!r}: expected the name of a container image, such as "
        '"lmsysorg/sglang:latest".'
    )


def urls(values: list[str]) -> dict[str, str]:
    pairs = pairs_of_words(values, "--llmperf-url", key_optional=True)
    return {model: check_url(url, where="--llmperf-url: ") for model, url in pairs.items()}


def pairs_of_words(values: list[str], option: str, *, key_optional: bool) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        key, found, text = value.partition("=")
        bare = not found or "://" in key
        if bare and not key_optional:
            raise UsageMistake(f"{option}={redact_joined(value)!r}: expected MODEL=OTHER.")
        key, text = ("", value) if bare else (key, text)
        if not text or key in pairs or (not key and not key_optional):
            raise UsageMistake(f"{option}={redact_joined(value)!r}: {_wrong_pair(key, text)}.")
        pairs[key] = text
    return pairs


def _wrong_pair(key: str, text: str) -> str:
    if not text:
        return "there is nothing after '='; write MODEL=OTHER"
    if not key:
        return "a bare URL is given twice, or no model is named; write MODEL=OTHER"
    return f"{redact_text(key)!r} is given twice; leave one of them"
