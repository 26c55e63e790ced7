"""Numbers that options say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.judging_options import shard
from pytest_llmperf.load_options import processes
from pytest_llmperf.option_values import at_least_one


@given(st.integers(min_value=1, max_value=9_999_999))
def test_the_number_of_something(number: int) -> None:
    assert at_least_one(str(number), "--of") == number
    assert processes(number) == number


@pytest.mark.parametrize("text", ["0", "-1", "", "1.5", "two", "１", "1e3", "99999999"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageMistake) as told:
        at_least_one(text, f"--of={text}", otherwise=", or auto")
    assert str(told.value) == f"--of={text}: expected a whole number of at least 1, or auto."


def test_the_clients_processes_are_at_least_one() -> None:
    assert processes(None) is None
    with pytest.raises(UsageMistake, match="--llmperf-client-processes=0: expected a whole number"):
        processes(0)


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_a_shard_is_one_of_several(index: int, of: int) -> None:
    if index <= of:
        found = shard(f" {index} / {of} ")
        assert found is not None
        assert (found.index, found.of) == (index, of)
    else:
        with pytest.raises(UsageMistake, match="expected which session of how many"):
            shard(f"{index}/{of}")
