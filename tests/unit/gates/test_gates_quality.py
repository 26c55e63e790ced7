"""Whether two servers say the same, by the yardstick of what launches of one side say."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.gates.quality import (
    answers_line,
    apart,
    compare_answers,
    compare_outputs,
    mcnemar,
    outputs_line,
    text_lines,
)
from pytest_llmperf.records import Fingerprint, OutputQuality, Reply


def said(words: str, by: float = 0.0) -> Fingerprint:
    """Two replies: the words, and always the same ones; log-probabilities lower ``by``."""
    return tuple(
        Reply(text=text, tokens=tuple(text.split()), logprobs=(-0.5 - by,) * len(text.split()))
        for text in (words, "always the same")
    )


def silent(words: str) -> Fingerprint:
    """Without tokens."""
    return (Reply(text=words),)


def test_equal_outputs_are_no_finding() -> None:
    found = compare_outputs([said("a b c")] * 4, [said("a b c")] * 4)
    assert found is not None
    assert (found.outside, found.sure, outputs_line(found)) == (False, False, None)
    assert (found.apart.prompt, found.apart.changed, found.apart.logprob) == (None, 0, 0)


def test_the_first_place_that_differs_is_named() -> None:
    found = apart(said("a b c d"), said("a b x d"), told=True)
    assert (found.prompt, found.position, found.unit) == (1, 3, "token")
    assert found.changed == pytest.approx(2 / 7)


def test_a_shorter_answer_differs_where_it_ends() -> None:
    found = apart(said("a b"), said("a b c"), told=True)
    assert (found.prompt, found.position) == (1, 3)


def test_words_that_no_launch_of_one_side_says_are_outside() -> None:
    found = compare_outputs([said("a b c")] * 4, [said("a x c")] * 4)
    assert found is not None
    assert found.sure
    assert found.chance == pytest.approx(2 / math.comb(8, 4))
    line = outputs_line(found)
    assert line == "outputs differ from token 2 of prompt 1 on"


def test_words_that_one_side_is_not_sure_of_itself_are_inside() -> None:
    ours = [said("a b c"), said("a x c"), said("a b c"), said("a x c")]
    found = compare_outputs(ours, [said("a y c")] * 4)
    assert found is not None
    assert not found.outside


def test_log_probabilities_alone_can_be_outside() -> None:
    theirs = [said("a b", by) for by in (0.0, 0.0005, 0.001, 0.0)]
    found = compare_outputs([said("a b", 0.8)] * 4, theirs)
    assert found is not None
    assert found.sure
    line = outputs_line(found)
    assert line == "log-probs differ by 0.8, between launches of one side by at most 0.001"


def test_twice_as_far_as_launches_of_one_side_is_inside() -> None:
    theirs = [said("a b", by) for by in (0.0, 0.1, 0.2, 0.1)]
    found = compare_outputs([said("a b", 0.5)] * 4, theirs)
    assert found is not None
    assert not found.outside  # 0.3 from the nearest, 0.2 within


def test_rounding_is_no_finding() -> None:
    found = compare_outputs([said("a b", 0.0009)] * 4, [said("a b")] * 4)
    assert found is not None
    assert not found.outside


def test_equal_texts_without_log_probabilities_are_no_finding() -> None:
    found = compare_outputs([silent("a b")] * 4, [silent("a b")] * 4)
    assert found is not None
    assert not found.outside
    assert found.apart.logprob is None
    assert found.logprob_within is None


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (1, 8), (3, 3)])
def test_few_launches_are_never_sure(ours: int, theirs: int) -> None:
    found = compare_outputs([said("a b")] * ours, [said("x y")] * theirs)
    assert found is not None
    assert (found.outside, found.sure) == (True, False)


def test_a_side_that_tells_no_tokens_is_compared_by_text() -> None:
    with_tokens = (Reply(text="a b c", tokens=("a", "b", "c"), logprobs=(0.0,) * 3),)
    found = compare_outputs([silent("a x c")] * 4, [with_tokens] * 4)
    assert found is not None
    assert (found.apart.unit, found.apart.position, found.apart.logprob) == ("character", 3, None)
    assert outputs_line(found) == "outputs differ from character 3 of prompt 1 on"


def test_an_empty_answer_does_not_hide_the_tokens_of_others() -> None:
    empty = Reply(text="")
    ours, theirs = ((*said(words), empty) for words in ("a b", "a c"))
    found = compare_outputs([ours] * 4, [theirs] * 4)
    assert found is not None
    assert (found.apart.unit, found.apart.position) == ("token", 2)


def test_without_launches_on_a_side_nothing_is_known() -> None:
    assert compare_outputs([], [said("a")]) is None


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@given(st.lists(WORDS, min_size=2, max_size=4), st.lists(WORDS, min_size=2, max_size=4))
def test_sides_that_share_what_they_say_are_never_outside(
    ours: list[str], theirs: list[str]
) -> None:
    shared = [said(words) for words in (*ours, theirs[0])]
    found = compare_outputs(shared, [said(words) for words in theirs])
    assert found is not None
    assert not found.outside


@given(st.lists(WORDS, min_size=4, max_size=4))
def test_equal_launches_are_told_apart_no_more_often_than_promised(words: list[str]) -> None:
    """Of all ways to deal four launches to two sides."""
    launches = [said(each) for each in words]
    deals = [chosen for chosen in product((0, 1), repeat=4) if sum(chosen) == 2]
    found = []
    for chosen in deals:
        sides = [[e for e, c in zip(launches, chosen, strict=True) if c == side] for side in (1, 0)]
        found.append(compare_outputs(*sides))
    outside = [each for each in found if each is not None and each.outside]
    assert len(outside) / len(deals) <= 2 / math.comb(4, 2)


# --- questions -------------------------------------------------------------------------------


def test_mcnemar_is_exact() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(10, 0) == pytest.approx(2**-10)
    assert mcnemar(13, 1) == pytest.approx(15 / 2**14)


@settings(deadline=None)  # the import counts
@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_agrees_with_the_binomial(lost: int, won: int) -> None:
    from scipy.stats import binom

    assert mcnemar(lost, won) == pytest.approx(binom.sf(lost - 1, lost + won, 0.5))


def test_lost_answers_are_told_when_they_are_too_many_for_chance() -> None:
    theirs = [True] * 20
    few, many = [False] * 3 + [True] * 17, [False] * 12 + [True] * 8
    assert answers_line(compare_answers(few, theirs), 0.01) is None
    line = answers_line(compare_answers(many, theirs), 0.01)
    assert line is not None
    assert line.startswith(
        "gsm8k: 8 of 20 questions answered rightly, by the reference 20; 12 were"
    )


def test_without_a_reference_there_is_a_score_and_no_verdict() -> None:
    found = compare_answers([True, False], None)
    assert (found.asked, found.right, found.p_value) == (2, 1, None)
    assert answers_line(found, 0.01) is None


# --- the load's own texts --------------------------------------------------------------------


def texts(
    repetition: float | None = 0.5, distinct: int = 8, reason: str = "length"
) -> OutputQuality:
    return OutputQuality(
        answered=40,
        without_text=0,
        finish_reasons={reason: 40},
        sampled=8,
        distinct=distinct,
        repetition=repetition,
    )


def test_texts_alike_are_no_finding() -> None:
    assert text_lines([texts(0.5), texts(0.9)], [texts(0.52), texts(0.5)]) == ()
    assert text_lines([texts(None)], [texts(0.5)]) == ()
    assert text_lines([], [texts()]) == ()


def test_a_babbling_model_is_told_by_its_reference() -> None:
    (line,) = text_lines([texts(0.95), texts(0.9)], [texts(0.5), texts(0.6)])
    assert line.startswith("responses repeat themselves: 92 % of a text is repetition")
    assert text_lines([texts(0.95)], [texts(0.95)]) == ()


def test_one_answer_for_every_prompt_is_told_by_its_reference() -> None:
    (line,) = text_lines([texts(distinct=1)], [texts()])
    assert "all responses that were looked at are the same text" in line
    assert text_lines([texts(distinct=1)], [texts(distinct=1)]) == ()


def test_another_way_to_end_is_told_of() -> None:
    (line,) = text_lines([texts(reason="stop")], [texts()])
    assert line == "responses end by stop, the reference's by length"
    assert text_lines([texts(reason="stop"), texts()], [texts()]) == ()
