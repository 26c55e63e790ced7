"""Keys of endpoints that run already: each goes to the host it is meant for, and to no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.redact import Secret
from pytest_llmperf.server_options import API_KEY_VARIABLE, REFERENCE_API_KEY_VARIABLE

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """The key of the server and that of its reference; ``None`` where there is none."""

    own: str | None = field(default=None, repr=False)
    reference: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Those that the environment names."""
        return cls(
            own=_key(environ, API_KEY_VARIABLE),
            reference=_key(environ, REFERENCE_API_KEY_VARIABLE),
        )

    def for_reference(self, url: str | None, candidate: str | None) -> str | None:
        """The reference's own key; where it has none the ``candidate``'s, if one host serves both
        at the same port."""
        if self.reference is not None or url is None or candidate is None:
            return self.reference
        return self.own if _origin(url) == _origin(candidate) else None


def _key(environ: Mapping[str, str], variable: str) -> str | None:
    """Raises :class:`~pytest_llmperf.errors.UsageMistake` for what no header can hold."""
    key = environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UsageMistake(
            f"the environment variable {variable} holds a line break or another character that no "
            "key has; set it to the key alone."
        )
    return Secret(key) if key else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
