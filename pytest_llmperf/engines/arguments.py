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


def refuse(
    user: Sequence[str], reserved: Iterable[tuple[str, str]], *, abbreviated: bool = False
) -> None:
    """Raise UsageMistake if ``user`` holds a flag that is not theirs to set. ``reserved`` are
    pairs of a flag and what to do instead; ``abbreviated`` is for parsers that take the beginning
    of a flag for the whole, as argparse does."""
    names, pairs = given(user), tuple(reserved)
    exact = [pair for pair in pairs if pair[0] in names]
    begun = [pair for pair in pairs if any(begins(name, pair[0]) for name in names)]
    for flag, instead in exact or (begun if abbreviated else ()):
        raise UsageMistake(f"{flag} cannot stand in args= of llm_server: {instead}.")


def begins(word: str, flag: str) -> bool:
    """Whether ``word`` is ``flag`` or its beginning, of two letters or more."""
    return word.startswith("--") and len(word) > len("--x") and flag.startswith(word)
