"""Prompts of an exact number of tokens, each decided by a seed and its own number alone; pure.

A prompt is a sequence of units that each cost one token: token ids, words, or single characters
where the tokenizer works byte by byte. No two prompts of a pass begin alike as far as the pool
allows, so that a prefix cache finds nothing; prompts for warming up begin with units that measured
ones never begin with. What follows the beginning is cut out of one long supply, which is drawn
once: that costs microseconds a prompt, and any process makes the same prompt for the same number.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pytest_llmperf.load.declare.lengths import uniform

Part = Literal["measured", "warmup"]
T = TypeVar("T")

#: Every fourth unit may begin only prompts that are not measured.
_RESERVED_EVERY = 4
#: Units drawn for a supply.
_SUPPLY = 1 << 16

_WORD_LIST = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work government number
night point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member law
car city community name president team minute idea body information back parent face others
level office door health person art war history party result change morning reason research girl
guy moment air teacher force education foot boy age policy music market sense nation plan
college interest death experience effect use class control field development role effort rate
heart drug show leader light voice wife police mind price report decision son view relationship
town road arm difference value building action season society tax director position player
record paper space ground form event official matter center couple site project activity star
table need court oil situation cost industry figure street image phone data picture practice
piece land product doctor wall patient worker news test movie north love support technology step
baby computer type attention film tree source organization hair look century evidence window
culture chance brother energy period course summer plant opportunity term letter condition
choice rule daughter south floor campaign material population call economy hospital church risk
fire future bank
"""

#: Everyday words, which most tokenizers know whole.
WORDS: tuple[str, ...] = tuple(_WORD_LIST.split())

CHARACTERS: tuple[str, ...] = tuple(string.ascii_lowercase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Texts that each add one token when put behind others, with ``joint`` before them.

    ``lead`` opens every text, so that no unit ever stands first, where many tokenizers cut words
    differently; what it costs is part of a recipe's overhead.
    """

    items: tuple[str, ...]
    joint: str
    lead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdPool:
    """Token ids of ordinary text, for APIs that take a prompt as ids."""

    ids: tuple[int, ...]


class Sequences(Generic[T]):
    """Sequences of units by number: number ``n`` of equal ``key``, ``part`` and ``items`` is always
    the same.

    The first units of each, taken as the digits of its number, never repeat while they can count
    that far.
    """

    def __init__(self, items: Sequence[T], *, key: str, part: Part) -> None:
        name = f"{part}:{key}"
        chance = random.Random(name)
        self._first = _share(items, part)
        self._later = list(items)
        chance.shuffle(self._first)
        chance.shuffle(self._later)
        self._supply = chance.choices(self._later, k=_SUPPLY)
        self._name = name.encode()

    def starting(self, number: int, length: int) -> list[T]:
        """Sequence ``number``, which begins like no other one."""
        rest, digit = divmod(number, len(self._first))
        beginning = [self._first[digit]]
        while rest:
            rest, digit = divmod(rest, len(self._later))
            beginning.append(self._later[digit])
        more = length - len(beginning)
        if more <= 0:
            return beginning[:length]
        return beginning + self.following(str(number), more)

    def following(self, label: str, length: int) -> list[T]:
        """Units to put behind others, decided by ``label``; may begin like any."""
        at = uniform(self._name, label, 0, _SUPPLY - 1)
        cut = self._supply[at : at + length]
        while len(cut) < length:
            cut += self._supply[: length - len(cut)]
        return cut


def texts(units: Units, tokens: int, *, seed: int, count: int, part: Part) -> list[str]:
    """``count`` texts of the lead and ``tokens`` units each."""
    sequences = Sequences(units.items, key=str(seed), part=part)
    return [as_text(units, sequences.starting(number, tokens)) for number in range(count)]


def as_text(units: Units, sequence: Sequence[str]) -> str:
    """The text of a sequence of units."""
    return units.joint.join([units.lead, *sequence])


def id_lists(pool: IdPool, tokens: int, *, seed: int, count: int, part: Part) -> list[list[int]]:
    """``count`` lists of ``tokens`` token ids each."""
    sequences = Sequences(pool.ids, key=str(seed), part=part)
    return [sequences.starting(number, tokens) for number in range(count)]


def _share(items: Sequence[T], part: Part) -> list[T]:
    """The units that may begin a prompt of one part; a pool too small to divide is shared."""
    if len(items) < 2 * _RESERVED_EVERY:
        return list(items)
    return [
        item
        for index, item in enumerate(items)
        if (index % _RESERVED_EVERY == 0) == (part == "warmup")
    ]
