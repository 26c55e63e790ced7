"""Finding out what costs one token on a server, by asking it about everyday words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

from pytest_llmperf.errors import ServerError

from .prompts import CHARACTERS, WORDS, IdPool, Units

#: Token ids of a text, from the server's tokenize call.
Ids = Callable[[str], Awaitable[list[int]]]
#: How many tokens the server counts for a text; a constant may be added to every text.
Count = Callable[[str], Awaitable[int]]

_ENOUGH_WORDS = 48
_GROUP = 16
#: Texts counted in the search for one-token words, at most.
_MAX_COUNTS = 160
_LEAD = "a"


async def learn_pool(ids: Ids) -> IdPool:
    """Ids of ordinary text, without those that the tokenizer puts around any text."""
    forward = await ids(" ".join(WORDS))
    backward = await ids(" ".join(reversed(WORDS)))
    if not forward or not backward:
        raise ServerError("the server's tokenize call gives no tokens for ordinary words")
    around = {a for a, b in ((forward[0], backward[0]), (forward[-1], backward[-1])) if a == b}
    return IdPool(ids=tuple(sorted(set(forward) - around)))


async def learn_units(count: Count, ids: Ids | None) -> Units:
    """Words that cost one token each, or characters where the tokenizer works byte by byte.

    The cost of a list is what a text grows by when it is repeated, so whatever the server puts
    around a text cancels out. ``ids``, where the server has a tokenize call, saves most of the
    asking. Raises :class:`ServerError` when no word costs one token.
    """
    if await _growth(count, WORDS) == sum(len(word) + 1 for word in WORDS):
        return Units(items=CHARACTERS, joint="", lead=_LEAD)
    words = await _whole_words(ids) if ids else []
    if not words or await _growth(count, words) != len(words):
        words = await _search(count)
    if not words:
        raise ServerError(
            "no everyday word costs this server's tokenizer one token",
            remedy='use api="completions" with an engine that has a tokenize call',
        )
    return Units(items=tuple(words), joint=" ", lead=_LEAD)


async def _growth(count: Count, words: Sequence[str]) -> int:
    """What a text costs more for having ``words`` twice."""
    text = " ".join(words)
    return await count(f"{_LEAD} {text} {text}") - await count(f"{_LEAD} {text}")


async def _whole_words(ids: Ids) -> list[str]:
    """Words of one token each by the ids of one text, with line feeds between the words.

    Only a guess: whether a line feed is one token, and keeps words apart, is for the caller to
    check.
    """
    listed = await ids("\n".join(["", *(f" {word}" for word in WORDS), ""]))
    feed = max(set(listed), key=listed.count, default=-1)
    starts = [at for at, token in enumerate(listed) if token == feed]
    sizes = [b - a - 1 for a, b in pairwise(starts)]
    if len(sizes) != len(WORDS):
        return []
    return [word for word, size in zip(WORDS, sizes, strict=True) if size == 1]


async def _search(count: Count) -> list[str]:
    """Words of one token each, by halving groups that cost more than they have words."""
    groups = [WORDS[at : at + _GROUP] for at in range(0, len(WORDS), _GROUP)][::-1]
    found: list[str] = []
    counts = 0
    while groups and len(found) < _ENOUGH_WORDS and counts < _MAX_COUNTS:
        group = groups.pop()
        counts += 2
        if await _growth(count, group) == len(group):
            found += group
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return found
