"""Alarms: never early, called once, replaced by a later one, silent once closed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from pytest_llmperf import clock
from pytest_llmperf.load.send.timer import Alarm, FileAlarm, LoopAlarm, alarm

Maker = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Alarm]
MAKERS: list[Maker] = [LoopAlarm] + ([FileAlarm] if sys.platform == "linux" else [])
MS = 1_000_000


def rung(make: Maker, use: Callable[[Alarm], None], *, wait_s: float = 0.1) -> list[int]:
    """When the alarm rang while ``use`` had set it."""
    times: list[int] = []

    async def run() -> None:
        one = make(asyncio.get_running_loop(), lambda: times.append(clock.now_ns()))
        use(one)
        await asyncio.sleep(wait_s)
        one.close()

    asyncio.run(run())
    return times


@pytest.mark.parametrize("make", MAKERS)
def test_it_rings_once_and_not_before_its_time(make: Maker) -> None:
    due = 0

    def use(one: Alarm) -> None:
        nonlocal due
        due = clock.now_ns() + 20 * MS
        one.set(due)

    times = rung(make, use)
    assert len(times) == 1
    # The loop's timers are allowed to be early by their resolution; the file's are not.
    early = 2 * MS if make is LoopAlarm else 0
    assert times[0] >= due - early


@pytest.mark.parametrize("make", MAKERS)
def test_a_time_that_has_passed_rings_at_once(make: Maker) -> None:
    assert len(rung(make, lambda one: one.set(clock.now_ns() - MS))) == 1
    assert len(rung(make, lambda one: one.set(0))) == 1


@pytest.mark.parametrize("make", MAKERS)
def test_a_later_setting_replaces_the_first(make: Maker) -> None:
    def use(one: Alarm) -> None:
        one.set(clock.now_ns() + 5 * MS)
        one.set(clock.now_ns() + 20 * MS)

    assert len(rung(make, use)) == 1


@pytest.mark.parametrize("make", MAKERS)
def test_a_closed_one_stays_silent(make: Maker) -> None:
    def use(one: Alarm) -> None:
        one.set(clock.now_ns() + 5 * MS)
        one.close()
        one.close()

    assert rung(make, use) == []


def test_the_platform_decides() -> None:
    async def kind() -> type[Alarm]:
        one = alarm(asyncio.get_running_loop(), lambda: None)
        one.close()
        return type(one)

    assert asyncio.run(kind()) is (FileAlarm if sys.platform == "linux" else LoopAlarm)
