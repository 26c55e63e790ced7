"""The prefix cache: nothing but common beginnings hit, and memory has an end."""

from __future__ import annotations

import http.client
import json
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.testing import CHAT_OVERHEAD_TOKENS, FakeServer, Script
from pytest_llmperf.testing.cache import PrefixCache

AMPLE = 1_000_000
PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=12)


def common(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


@given(prompts=PROMPTS, page=st.integers(1, 4))
def test_what_hits_is_the_longest_common_beginning_in_whole_pages(
    prompts: list[list[int]], page: int
) -> None:
    cache = PrefixCache(page, AMPLE)
    for index, prompt in enumerate(prompts):
        # Pages of an earlier prompt that were not full are not kept.
        full = [earlier[: len(earlier) // page * page] for earlier in prompts[:index]]
        longest = max((common(prompt, earlier) for earlier in full), default=0)
        at_most = (len(prompt) - 1) // page * page
        assert cache.take(prompt) == min(longest // page * page, at_most)


@given(prompts=PROMPTS, page=st.integers(1, 4), capacity=st.integers(1, 20))
def test_it_never_holds_more_than_its_capacity(
    prompts: list[list[int]], page: int, capacity: int
) -> None:
    cache = PrefixCache(page, capacity)
    for prompt in prompts:
        cache.take(prompt)
        assert len(cache) <= max(page, capacity)


def test_the_beginning_of_a_prompt_outlives_its_end() -> None:
    cache = PrefixCache(1, 6)
    cache.take([1, 2, 3, 4])
    cache.take([9, 8, 7, 6])
    assert cache.take([1, 2, 3, 4]) == 2


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    cache = PrefixCache(1, 4)
    cache.take([1, 2])
    cache.take([3, 4])
    cache.take([1, 2])
    cache.take([5, 6])
    assert (cache.take([1, 2]), cache.take([3, 4])) == (1, 0)


# --- behind a server


def cached(server: FakeServer, path: str, **asked: object) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(asked))
        document = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if path == "/generate":
        return int(document["meta_info"]["cached_tokens"])
    return int(document["usage"]["prompt_tokens_details"]["cached_tokens"])


def flush(server: FakeServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/flush_cache")
    assert connection.getresponse().status == 200
    connection.close()


def caching(**fields: int) -> FakeServer:
    return FakeServer(Script(ttft_ms=0, itl_ms=0, prefix_cache=True, **fields))  # type: ignore[arg-type]


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


def test_text_and_ids_share_their_beginnings_across_apis() -> None:
    with caching() as server:
        assert cached(server, "/v1/completions", prompt="abcd", max_tokens=1) == 0
        assert cached(server, "/v1/completions", prompt=[97, 98, 99, 9], max_tokens=1) == 3
        assert cached(server, "/generate", text="abX") == 2
        assert cached(server, "/generate", input_ids=[97, 98, 88, 1]) == 3
        assert [truth.cached_tokens for truth in server.truth] == [0, 3, 2, 3]


def test_a_prompt_that_was_seen_hits_but_for_its_last_token_until_a_flush() -> None:
    chat = {"messages": said("hello"), "max_tokens": 1}
    with caching() as server:
        first, again = (cached(server, "/v1/chat/completions", **chat) for _ in range(2))
        assert (first, again) == (0, 5 + CHAT_OVERHEAD_TOKENS - 1)
        flush(server)
        assert cached(server, "/v1/chat/completions", **chat) == 0


def test_the_next_turn_of_a_conversation_hits_what_came_before() -> None:
    with caching() as server:
        path = "/v1/chat/completions"
        cached(server, path, messages=said("hello"), max_tokens=1)
        assert cached(server, path, messages=said("hello", "more"), max_tokens=1) == 2 + 5


def test_pages_are_whole() -> None:
    with caching(cache_page=4) as server:
        path = "/v1/completions"
        cached(server, path, prompt=list(range(10)), max_tokens=1)
        assert cached(server, path, prompt=[*range(7), 99, 99], max_tokens=1) == 4
        assert cached(server, path, prompt=list(range(10)), max_tokens=1) == 8
        assert cached(server, path, prompt=list(range(8)), max_tokens=1) == 4
