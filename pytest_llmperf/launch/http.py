"""Control calls to a server: a small client on the standard library, never used to measure."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, cast
from urllib.parse import urlsplit

from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.records import Json
from pytest_llmperf.redact import redact_text

from .addresses import is_own

#: Of a page with metrics, the largest that is asked for, some MiB are much.
_LARGEST = 64 << 20
_REMEDY = "see whether the server is still running and the address is right"
#: What a server says to who has no key, or the wrong one.
_DENIED = (401, 403)
_REMEDY_TLS = (
    "see that the certificate is valid and made for this name, and where it is signed by an "
    "authority of your own, name that one's file in SSL_CERT_FILE"
)


def call(
    method: str,
    url: str,
    *,
    body: Json = None,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """(status, body) of one request; any status is an answer.

    ``body`` is sent as JSON. ``timeout_s`` bounds each wait for the network. Raises
    :class:`~pytest_llmperf.errors.ServerError` when there is no answer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageMistake(f"{redact_text(url)!r} is not an http or https address.")
    request = urllib.request.Request(url, method=method)  # noqa: S310
    for name, value in (headers or {}).items():
        # A key is for this host, not for one that it may send us on to.
        request.add_unredirected_header(name, value)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        return _answer(_opener(url), request, timeout_s)
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(
            f"{method} {redact_text(url)} got no answer: {reason}",
            remedy=_REMEDY_TLS if isinstance(reason, ssl.SSLError) else _REMEDY,
        ) from error


def _answer(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout_s: float
) -> tuple[int, bytes]:
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return response.status, _body(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _body(error)


def _body(response: Any) -> bytes:
    """All of it; without a limit a server could answer until our memory is full."""
    if response.length is not None and response.length <= _LARGEST:
        whole: bytes = response.read()  # tells where it breaks off, as a bounded one does not
        return whole
    body: bytes = response.read(_LARGEST) if response.length is None else b""
    if response.length or len(body) == _LARGEST:
        raise ValueError(f"its answer is longer than the {_LARGEST:,} bytes that are read of one")
    return body


def get_json(url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> Json:
    """The JSON document at ``url``.

    Raises :class:`~pytest_llmperf.errors.ServerError` for no answer, another status than 200, or a
    body that is not JSON.
    """
    status, body = call("GET", url, timeout_s=timeout_s, headers=headers)
    shown = redact_text(body[:200].decode("utf-8", errors="replace"))
    if status != 200:
        raise ServerError(
            f"GET {redact_text(url)} answered {status}, expected 200: {shown}",
            remedy=_about_keys(headers) if status in _DENIED else "",
        )
    try:
        return cast(Json, json.loads(body))
    except (ValueError, RecursionError) as error:
        raise ServerError(f"GET {redact_text(url)} did not answer with JSON: {shown}") from error


def _about_keys(headers: Mapping[str, str] | None) -> str:
    names = "LLMPERF_API_KEY, or LLMPERF_REFERENCE_API_KEY for a reference"
    if any(name.lower() == "authorization" for name in headers or ()):
        return f"the key that was sent is not the one it takes: see {names}"
    return f"it wants a key: put it into the environment as {names}"


def _opener(url: str) -> urllib.request.OpenerDirector:
    if is_own(urlsplit(url).hostname or ""):
        # A proxy of the environment is for the world outside.
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()
