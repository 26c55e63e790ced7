"""Finding one-token units, against tokenizers of several kinds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.compose.prompts import CHARACTERS, WORDS, Units, texts
from pytest_llmperf.load.compose.tokens import learn_pool, learn_units

Tokenizer = Callable[[str], list[str]]


class Server:
    """Counts with a tokenizer, puts two tokens of its own around, and counts how often."""

    def __init__(self, tokenizer: Tokenizer, *, has_ids: bool) -> None:
        self._tokenizer = tokenizer
        self._numbers: dict[str, int] = {}
        self._has_ids = has_ids
        self.asked = 0

    async def ids(self, text: str) -> list[int]:
        self.asked += 1
        tokens = ["<s>", *self._tokenizer(text), "</s>"]
        return [self._numbers.setdefault(token, len(self._numbers)) for token in tokens]

    async def count(self, text: str) -> int:
        return len(await self.ids(text))

    def units(self) -> Units:
        return asyncio.run(learn_units(self.count, self.ids if self._has_ids else None))


def whole_words(text: str) -> list[str]:
    """Any word with the space before it is one token; without a space it is cut in two."""
    tokens: list[str] = []
    for word in re.findall(r" ?\w+|\s", text):
        tokens += [word] if word.startswith(" ") or len(word) < 3 else [word[:2], word[2:]]
    return tokens


def short_words(text: str) -> list[str]:
    """Only words of up to four letters are whole; longer ones are cut into pieces of four."""
    tokens: list[str] = []
    for word in re.findall(r" ?\w+|\s", text):
        tokens += re.findall(r" ?\w{1,4}", word) or [word]
    return tokens


@pytest.mark.parametrize("has_ids", [True, False])
@pytest.mark.parametrize("tokenizer", [whole_words, short_words, list])
def test_texts_of_the_units_found_have_exact_lengths(tokenizer: Tokenizer, has_ids: bool) -> None:
    server = Server(tokenizer, has_ids=has_ids)
    units = server.units()
    lengths = {len(tokenizer(text)) for text in texts(units, 50, seed=1, count=20, part="measured")}
    assert lengths == {50 + len(tokenizer(units.lead))}
    assert len(units.items) >= 16


def test_common_tokenizers_are_learnt_with_few_questions() -> None:
    server = Server(whole_words, has_ids=False)
    assert len(server.units().items) >= 48
    assert server.asked <= 10


def test_a_tokenize_call_finds_all_words_with_few_questions() -> None:
    server = Server(short_words, has_ids=True)
    assert len(server.units().items) == sum(len(word) <= 4 for word in WORDS)
    assert server.asked <= 8


def test_a_byte_level_tokenizer_gets_characters() -> None:
    assert Server(list, has_ids=False).units().items == CHARACTERS


def test_the_search_ends_and_says_so_when_no_word_is_whole() -> None:
    def halves(text: str) -> list[str]:
        return [part for word in text.split() for part in (word[:1], word[1:])]

    server = Server(halves, has_ids=False)
    with pytest.raises(ServerError, match="no everyday word costs") as caught:
        server.units()
    assert 'api="completions"' in caught.value.remedy
    assert server.asked < 200


def test_the_pool_leaves_out_what_surrounds_every_text() -> None:
    server = Server(whole_words, has_ids=True)
    pool = asyncio.run(learn_pool(server.ids))
    start, *_, end = asyncio.run(server.ids("x"))
    assert start not in pool.ids
    assert end not in pool.ids
    assert len(pool.ids) >= len(WORDS) - 2
