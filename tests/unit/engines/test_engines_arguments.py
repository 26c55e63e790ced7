from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.engines.arguments import Flag, merge, refuse
from pytest_llmperf.engines.arguments import given as flags_given
from pytest_llmperf.errors import UsageMistake

OURS: tuple[Flag, ...] = (("--a", "1"), ("--b",), ("--long-name", "x"))


@pytest.mark.parametrize(
    ("user", "merged"),
    [
        ((), ("--a", "1", "--b", "--long-name", "x")),
        (("--a", "2"), ("--b", "--long-name", "x", "--a", "2")),
        (("--a=2",), ("--b", "--long-name", "x", "--a=2")),
        (("--long_name", "y", "--b"), ("--a", "1", "--long_name", "y", "--b")),
        (("value", "-a"), ("--a", "1", "--b", "--long-name", "x", "value", "-a")),
    ],
)
def test_what_the_user_gives_replaces_ours(user: tuple[str, ...], merged: tuple[str, ...]) -> None:
    assert merge(OURS, user) == merged


def test_an_alias_replaces_ours_too() -> None:
    assert merge(OURS, ("--c", "3"), (frozenset({"--a", "--c"}),))[:1] == ("--b",)
    assert merge(OURS, ("--d", "3"), (frozenset({"--a", "--c"}),))[:2] == ("--a", "1")


@given(st.lists(st.sampled_from(["--a", "--a=5", "--b", "7", "--long-name=z", "--other"])))
def test_no_flag_stands_twice_and_the_users_words_stay(user: list[str]) -> None:
    merged = merge(OURS, user)
    assert list(merged[len(merged) - len(user) :]) == user
    kept = merged[: len(merged) - len(user)]
    assert not flags_given(kept) & flags_given(user)


def test_a_reserved_flag_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageMistake, match=r"--port cannot stand in args= of llm_server: we do"):
        refuse(("--port=1",), (("--port", "we do"),))
    refuse(("--ports",), (("--port", "we do"),))


KEPT = (("--port", "we do"), ("--served-model-name", "no"), ("--api-keys", "none"))


@pytest.mark.parametrize(
    ("word", "flag"),
    [
        ("--por", "--port"),
        ("--po=9000", "--port"),
        ("--served-model", "--served-model-name"),
        ("--served_model", "--served-model-name"),
        ("--api-key", "--api-keys"),
    ],
)
def test_the_beginning_of_a_reserved_flag_is_refused_where_it_stands_for_it(
    word: str, flag: str
) -> None:
    with pytest.raises(UsageMistake, match=f"{flag} cannot stand in args="):
        refuse((word, "1"), KEPT, abbreviated=True)
    refuse((word, "1"), KEPT)


@pytest.mark.parametrize("word", ["--port-range", "--api-server-count", "--p", "-po", "--", "por"])
def test_other_flags_are_the_users(word: str) -> None:
    refuse((word, "1"), KEPT, abbreviated=True)


def test_a_flag_in_full_is_told_before_one_that_it_begins() -> None:
    reserved = (("--model-path", "first"), ("--model", "second"))
    with pytest.raises(UsageMistake, match=r"^--model cannot stand in .* second"):
        refuse(("--model", "m"), reserved, abbreviated=True)
