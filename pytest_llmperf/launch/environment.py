"""What a server inherits from us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    }
)


def clean_environment(
    base: Mapping[str, str], extra: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """``base`` without what coverage, debuggers and pytest left in it, then ``extra`` over it."""
    kept = {
        name: value
        for name, value in base.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
    }
    return kept | dict(extra)
