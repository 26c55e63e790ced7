"""Sessions dealt out to processes and built ahead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.planned import Asked, Session, Turn
from pytest_llmperf.load.send import supply as supply_module
from pytest_llmperf.load.send.supply import Shard, Supply


class Counted:
    """A plan that remembers which sessions were built."""

    due_ns: Sequence[int] | None = None

    def __init__(self, sessions: int | None, payload: bytes = b"x") -> None:
        self.sessions = sessions
        self.payload = payload
        self.built: list[int] = []

    def session(self, number: int) -> Session:
        self.built.append(number)
        asked = Asked(output_tokens=1, api="chat")
        return Session(turns=(Turn(index=number, payload=self.payload, asked=asked),))


def taken(supply: Supply, most: int = 10_000) -> list[int]:
    found: list[int] = []
    while len(found) < most and (session := supply.take()) is not None:
        found.append(session.turns[0].index)
    return found


@given(st.integers(0, 50), st.integers(1, 7))
def test_shards_together_take_each_session_once(total: int, of: int) -> None:
    shards = [Shard(number=number, of=of) for number in range(of)]
    dealt = [taken(Supply(Counted(total), shard, at_least=1)) for shard in shards]
    assert sorted(chain.from_iterable(dealt)) == list(range(total))
    assert [shard.share(total) for shard in shards] == [len(each) for each in dealt]


def test_few_sessions_are_all_built_before_the_first_is_taken() -> None:
    plan = Counted(100)
    supply = Supply(plan, Shard(), at_least=1)
    assert len(plan.built) == 100
    assert taken(supply) == list(range(100))


def test_large_ones_are_built_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply_module, "_AHEAD_BYTES", 1000)
    plan = Counted(None, payload=b"x" * 100)
    supply = Supply(plan, Shard(), at_least=4)
    assert len(plan.built) == 10
    taken(supply, 6)
    supply.refill()
    assert len(plan.built) == 16


def test_every_slot_has_a_session_however_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply_module, "_AHEAD_BYTES", 10)
    plan = Counted(None, payload=b"x" * 100)
    Supply(plan, Shard(), at_least=4)
    assert len(plan.built) == 4


def test_a_session_that_was_not_ready_is_built_when_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supply_module, "_AHEAD_BYTES", 1)
    supply = Supply(Counted(None), Shard(), at_least=2)
    assert taken(supply, 5) == [0, 1, 2, 3, 4]


def test_no_more_than_a_few_thousand_are_built_ahead() -> None:
    plan = Counted(1_000_000)
    Supply(plan, Shard(), at_least=1)
    assert len(plan.built) == 4096


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 60))
def test_slots_and_not_processes_have_equal_shares(slots: int, of: int, total: int) -> None:
    """A process with two slots gets twice the sessions of one with one slot."""
    shards = [Shard(number=number, of=of, slots=slots) for number in range(of)]
    dealt = [list(shard.sessions(total)) for shard in shards]
    assert sorted(chain.from_iterable(dealt)) == list(range(total))
    for shard, mine in zip(shards, dealt, strict=True):
        each = [sum(n % slots == slot for n in mine) for slot in range(slots)]
        held = [count for slot, count in enumerate(each) if slot % of == shard.number]
        assert sum(held) == len(mine)
        assert max(held, default=0) - min(held, default=0) <= 1
