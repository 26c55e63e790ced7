"""Command lines: our own flags under those of the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_llmperf.errors import UsageMistake

#: A flag with its values, such as ``("--port", "30000")`` or ``("--enable-metrics",)``.
Flag = tuple[str, ...]


def given(args: Sequence[str]) -> frozenset[str]:
    """The flags in ``args``, written as ``--a b`` or as ``--a=b``; underscores read as hyphens."""
    names = (word.partition("=")[0] for word in args if word.startswith("--"))
    return frozenset(name.replace("_", "-") for name in names)


def merge(
    ours: Iterable[Flag], user: Sequence[str], aliases: Iterable[frozenset[str]] = ()
) -> tuple[str, ...]:
    """``ours`` without what the user gave too, then the user's own words, untouched.

    ``aliases`` are sets of flags that mean the same or exclude each other.
    """
    taken = set(given(user))
    for group in aliases:
        if group & taken:
            taken |= group
    kept = [flag for flag in ours if flag[0].replace("_", "-") not in taken]
    return (*(word for flag in kept for word in flag), *user)


def refuse(user: Sequence[str], reserved: Iterable[tuple[str, str]]) -> None:
    """Raise UsageMistake if ``user`` holds a flag that is not theirs to set. ``reserved`` are
    pairs of a flag and what to do instead."""
    names = given(user)
    for flag, instead in reserved:
        if flag in names:
            raise UsageMistake(f"{flag} cannot stand in args= of llm_server: {instead}.")
