"""Devices are watched while a run is measured, and only then."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_llmperf import clock
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.metrics.energy import Window
from pytest_llmperf.records import Accelerator, Device
from pytest_llmperf.session import watching

GPU = Accelerator(
    devices=(Device(vendor="nvidia", product="NVIDIA L4", index=0, uuid="GPU-0"),), source="test"
)
PROCESSOR = Accelerator(
    devices=(Device(vendor="cpu", product="EPYC", index=0, uuid="CPU-0"),), source="test"
)
HOT = Condition(uuid="GPU-0", slowed=("power brake",), processes=(1, 2))
ALWAYS = Window(start_ns=0, end_ns=2**62)


@dataclass
class Card:
    """Answers, and tells when it has been asked so often."""

    often: int = 3
    asked: threading.Event = field(default_factory=threading.Event)
    looks: int = 0
    let_go: bool = False

    @contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher]:
        assert accelerator is GPU
        yield Watcher(look=self.look, period_s=0.001, source="nvml")
        self.let_go = True

    def look(self) -> Sequence[Condition]:
        assert not self.let_go
        self.looks += 1
        if self.looks == self.often:
            self.asked.set()
        return [HOT]


def left() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "llmperf-watch"]


def test_samples_are_taken_until_the_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    monkeypatch.setattr(watching, "watching", card.watching)
    with watching.watched(GPU, lambda: [1]) as seen:
        assert card.asked.wait(60)
    assert card.let_go
    assert seen.watcher is not None
    assert not seen.watcher.hangs.is_set()
    taken = len(seen.samples)
    throttled, shared = seen.troubles(ALWAYS)
    assert throttled.startswith("throttled: NVIDIA L4 GPU-0 by power brake")
    assert shared.startswith("shared: NVIDIA L4 GPU-0 was used by process 2")
    assert len(seen.samples) == taken == card.looks
    assert not left()


def test_nobody_to_ask_costs_no_thread() -> None:
    remote = Accelerator(
        devices=(Device(vendor="remote", product="endpoint", index=0, uuid="0"),), source="test"
    )
    before = threading.active_count()
    with watching.watched(remote, list) as seen:
        assert threading.active_count() == before
    assert seen.troubles(ALWAYS) == []
    assert seen.telemetry(ALWAYS) is None


def test_the_first_sample_comes_before_the_run_and_the_last_one_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Event()

    def look() -> list[Condition]:
        asked.set()
        return [Condition(uuid="GPU-0")]

    watcher = Watcher(look=look, period_s=3600)
    monkeypatch.setattr(watching, "watching", lambda _: nullcontext(watcher))
    with watching.watched(GPU, list) as seen:
        assert asked.wait(60)
        begun = clock.now_ns()
        ended = clock.now_ns()
    (first,), (last,) = seen.samples
    assert (first.at_ns or 0) < begun <= ended < (last.at_ns or 0)


def test_a_sample_keeps_the_moment_that_its_device_gave_it() -> None:
    given = Condition(uuid="GPU-0", at_ns=5)
    stamped = watching._stamped([given, Condition(uuid="GPU-1")], 7)
    assert [one.at_ns for one in stamped] == [5, 7]


def test_only_what_was_seen_within_the_run_spoils_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "watching", Card().watching)
    with watching.watched(GPU, lambda: [1]) as seen:
        pass
    seen.samples[:] = [[Condition(uuid="GPU-0", at_ns=n, slowed=("heat",))] for n in (1, 99)]
    assert seen.troubles(Window(start_ns=2, end_ns=98)) == []
    assert len(seen.troubles(Window(start_ns=2, end_ns=99))) == 1
    assert seen.troubles(None) == []


def test_a_driver_that_hangs_holds_up_no_run_and_speaks_for_no_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def look() -> list[Condition]:
        begun.set()
        assert go_on.wait(30)
        return [HOT]

    watcher = Watcher(look=look, period_s=0.001)
    monkeypatch.setattr(watching, "watching", lambda _: nullcontext(watcher))
    monkeypatch.setattr(watching, "_LET_GO_S", 0.05)
    with watching.watched(GPU, list) as seen:
        assert begun.wait(60)
    assert watcher.hangs.is_set()
    (thread,) = left()
    assert seen.samples == []
    telemetry = seen.telemetry(ALWAYS)
    assert telemetry is not None
    assert telemetry.energy_missing.startswith("no answer came while the run lasted")
    go_on.set()
    thread.join(60)
    assert not thread.is_alive()
    assert seen.samples == []


def test_a_slow_driver_is_waited_for_as_long_as_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    waited: list[float | None] = []

    class Thread(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            waited.append(timeout)
            super().join(60)

    def look() -> list[Condition]:
        begun.set()
        return [HOT]

    monkeypatch.setattr(threading, "Thread", Thread)
    watcher = Watcher(look=look, period_s=3600)
    monkeypatch.setattr(watching, "watching", lambda _: nullcontext(watcher))
    with watching.watched(GPU, list) as seen:
        assert begun.wait(60)
        while not seen.samples or not seen.took_s:
            threading.Event().wait(0.001)
        seen.took_s = 7.0
    assert waited == [watching._LET_GO_S + 7.0]


def test_telemetry_tells_who_was_asked_and_what_that_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card()
    monkeypatch.setattr(watching, "watching", card.watching)
    with watching.watched(GPU, list) as seen:
        assert card.asked.wait(60)
    telemetry = seen.telemetry(ALWAYS)
    assert telemetry is not None
    assert (telemetry.source, telemetry.period_s) == ("nvml", 0.001)
    seen.cpu_s = 0.5
    seen.watcher = Watcher(look=card.look, period_s=2.0)
    seen.samples[:] = [[Condition(uuid="GPU-0", at_ns=n)] for n in range(10)]
    priced = seen.telemetry(ALWAYS)
    assert priced is not None
    assert priced.cpu_share == 0.025
    assert [device.samples for device in priced.devices] == [10]
    assert seen.telemetry(None) is None


def test_one_that_may_be_asked_too_seldom_says_what_to_do() -> None:
    seen = watching.Seen(GPU, list)
    seen.watcher = Watcher(
        look=list, period_s=5.0, source="npu-smi", advice="install the newer one"
    )
    seen.samples.append([Condition(uuid="GPU-0", at_ns=1, power_w=100.0)])
    telemetry = seen.telemetry(ALWAYS)
    assert telemetry is not None
    assert telemetry.energy_missing == (
        "npu-smi is asked every 5 s, and energy needs a sample every 3 s: install the newer one"
    )


# --- memory of a server on the processor -----------------------------------------------------


def status(proc: Path, pid: int, text: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "status").write_text(text)


def test_the_peaks_of_processes_add_up(tmp_path: Path) -> None:
    status(tmp_path, 1, "Name:\tpython\nVmPeak:\t  9000 kB\nVmHWM:\t   100 kB\nVmRSS:\t 50 kB\n")
    status(tmp_path, 2, "Name:\tpython\nVmHWM:\t    28 kB\n")
    status(tmp_path, 3, "Name:\tkthreadd\n")
    assert watching.peak_resident([1, 2, 3, 4], tmp_path) == 128 * 1024
    assert watching.peak_resident([3, 4], tmp_path) is None
    assert watching.peak_resident([], tmp_path) is None


def test_the_kernel_tells_of_this_process() -> None:
    peak = watching.peak_resident([os.getpid()])
    assert peak is not None
    assert peak > 1_000_000


def test_a_server_on_the_processor_has_the_memory_of_its_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "watching", lambda _: nullcontext(None))
    with watching.watched(PROCESSOR, lambda: [os.getpid()]) as seen:
        pass
    telemetry = seen.telemetry(ALWAYS)
    assert telemetry is not None
    assert telemetry.peak_memory_of == "processes"
    assert (telemetry.peak_memory_bytes or 0) > 1_000_000
    assert telemetry.devices == ()
    with watching.watched(PROCESSOR, list) as seen:
        pass
    assert seen.telemetry(ALWAYS) is None
