"""What a server inherits from us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_llmperf.redact import secret_env

_DROPPED_PREFIXES = ("COV_CORE_", "COVERAGE_", "PYTEST_", "PYDEVD")
_DROPPED = frozenset(
    {
        # Each of these would slow down, stop or break a server that we measure.
        "PYTHONASYNCIODEBUG",
        "PYTHONBREAKPOINT",
        "PYTHONDEVMODE",
        "PYTHONFAULTHANDLER",
        "PYTHONINSPECT",
        "PYTHONMALLOC",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONTRACEMALLOC",
        "PYTHONVERBOSE",
        "PYTHONWARNINGS",
        # Keys of endpoints: what is started here has no use for them.
        "LLMPERF_API_KEY",
        "LLMPERF_REFERENCE_API_KEY",
    }
)


def server_environment(
    base: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """:func:`clean_environment` for a server: started with ``python -m``, it would else import
    whatever lies in the directory that pytest was called in, on both sides of a comparison."""
    return {"PYTHONSAFEPATH": "1", **clean_environment(base, extra)}


def clean_environment(
    base: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """``base`` without what coverage, debuggers and pytest left in it, then ``extra`` over it; what
    of it is secret does not show among a traceback's locals."""
    kept = {
        name: value
        for name, value in base.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
    }
    return secret_env(kept | dict(extra))
