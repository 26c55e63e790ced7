"""What all probes stand on: limits in time, and the choice among devices."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators.base import (
    first_answer,
    number,
    together,
    visible,
    whole,
    within,
)
from pytest_llmperf.records import Device


def device(index: int, uuid: str = "") -> Device:
    return Device(vendor="nvidia", product="X", index=index, uuid=uuid or f"GPU-{index}")


FOUR = [device(index) for index in range(4)]


def test_a_call_that_hangs_is_left_behind() -> None:
    over = threading.Event()
    assert within(0.01, over.wait) is None
    over.set()


def test_a_call_that_ends_answers_or_raises() -> None:
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 // 0)


def test_a_step_that_hangs_or_does_not_know_leaves_it_to_the_next() -> None:
    over = threading.Event()

    def hangs() -> list[Device]:
        over.wait()
        return []

    found = first_answer(
        0.01, (("library", hangs), ("tool", lambda: None), ("sysfs", lambda: FOUR[:1]))
    )
    over.set()
    assert found is not None
    assert found.source == "sysfs"


def test_no_devices_are_an_answer_too() -> None:
    assert first_answer(5.0, (("library", list), ("tool", lambda: FOUR))) is None


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,0", [2, 0]),
        ("1,1,2", [1]),
        ("0,9,1", [0]),
        ("GPU-3,GPU-0", [3, 0]),
        ("GPU-", []),  # of all: that names none
    ],
)
def test_what_a_variable_leaves(chosen: str | None, indices: list[int]) -> None:
    assert [each.index for each in visible(FOUR, chosen)] == indices


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_chooses_a_device_twice(chosen: str) -> None:
    left = visible(FOUR, chosen)
    assert len({each.uuid for each in left}) == len(left)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_is_a_strange_number(text: str) -> None:
    value, count = number(text), whole(text)
    assert value is None or -float("inf") < value < float("inf")
    assert count is None or count >= 0


def test_a_sum_needs_all_its_parts() -> None:
    assert together([1, 2]) == 3
    assert together([1, None]) is None
