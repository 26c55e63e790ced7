"""Keys of endpoints that run already: each goes to the host it is meant for, and to no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

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
            own=environ.get(API_KEY_VARIABLE) or None,
            reference=environ.get(REFERENCE_API_KEY_VARIABLE) or None,
        )

    def for_reference(self, url: str | None, candidate: str | None) -> str | None:
        """The reference's own key; where it has none the ``candidate``'s, if one host serves both
        at the same port."""
        if self.reference is not None or url is None or candidate is None:
            return self.reference
        return self.own if _origin(url) == _origin(candidate) else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
