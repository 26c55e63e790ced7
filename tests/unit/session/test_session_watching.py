"""Devices are watched while a run is measured, and only then."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.records import Accelerator, Device
from pytest_llmperf.session import watching

GPU = Accelerator(
    devices=(Device(vendor="nvidia", product="NVIDIA L4", index=0, uuid="GPU-0"),), source="test"
)
HOT = Condition(uuid="GPU-0", slowed=("power brake",), processes=(1, 2))


class Card:
    """Answers, and tells when it has been asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = False

    @contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher]:
        assert accelerator is GPU
        yield Watcher(look=self.look, period_s=0.001)
        self.let_go = True

    def look(self) -> Sequence[Condition]:
        assert not self.let_go
        self.asked.set()
        return [HOT]


def test_samples_are_taken_until_the_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    monkeypatch.setattr(watching, "watching", card.watching)
    with watching.watched(GPU, lambda: [1]) as seen:
        assert card.asked.wait(10)
    assert card.let_go
    taken = len(seen.samples)
    throttled, shared = seen.troubles
    assert throttled.startswith("throttled: NVIDIA L4 GPU-0 by power brake")
    assert shared.startswith("shared: NVIDIA L4 GPU-0 was used by process 2")
    assert len(seen.samples) == taken
    assert not [each for each in threading.enumerate() if each.name == "llmperf-watch"]


def test_nobody_to_ask_costs_no_thread() -> None:
    processor = Accelerator(
        devices=(Device(vendor="cpu", product="EPYC", index=0, uuid="0"),), source="test"
    )
    before = threading.active_count()
    with watching.watched(processor, list) as seen:
        assert threading.active_count() == before
    assert seen.troubles == []
