"""When devices spoil a run, by what they said of themselves meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.accelerators import nvidia
from pytest_llmperf.accelerators.base import CLOSE_S
from pytest_llmperf.accelerators.conditions import Condition, troubles
from pytest_llmperf.accelerators.nvidia import NvidiaProbe
from pytest_llmperf.accelerators.nvidia_conditions import slowed
from pytest_llmperf.records import Accelerator, Device

UUID = "GPU-6b5bd5a1-0f5c-4a2e-9d5a-0c6a1f1d2e30"
OTHER = "GPU-77f0c3a9-6a51-43d0-8f0e-51f5b0d9a4c7"


def h100(*uuids: str) -> Accelerator:
    return Accelerator(
        devices=tuple(
            Device(
                vendor="nvidia",
                product="NVIDIA H100",
                index=index,
                uuid=uuid,
                details={"max_sm_clock_mhz": 1980.0},
            )
            for index, uuid in enumerate(uuids or (UUID,))
        ),
        source="test",
    )


def hot(uuid: str = UUID) -> Condition:
    return Condition(uuid=uuid, slowed=("hardware thermal slowdown",), clock_mhz=1200)


def well(uuid: str = UUID, clock_mhz: float = 1755, **more: Any) -> Condition:
    return Condition(uuid=uuid, clock_mhz=clock_mhz, **more)


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1, ()),  # idle
        (0x4, ()),  # the power cap is where a card is meant to run
        (0x8, ("hardware slowdown",)),
        (0x64, ("software thermal slowdown", "hardware thermal slowdown")),
        (0x80, ("power brake",)),
    ],
)
def test_only_reasons_that_spoil_a_run_count(bits: int, names: tuple[str, ...]) -> None:
    assert slowed(bits) == names


def test_a_device_that_is_too_hot_spoils_a_run() -> None:
    (why,) = troubles(h100(), [[well()], [hot()], [hot()]], own=())
    assert why.startswith("throttled: NVIDIA H100 GPU-6b5bd5a1 by hardware thermal slowdown")
    assert "in 2 of 3 samples" in why


def test_one_sample_in_many_does_not() -> None:
    assert troubles(h100(), [[hot()], *[[well()]] * 30], own=()) == []


def test_nothing_was_seen_and_nothing_is_said() -> None:
    assert troubles(h100(), [], own=()) == []
    assert troubles(h100(), [[]], own=()) == []


def test_any_device_of_several_spoils_it() -> None:
    (why,) = troubles(h100(UUID, OTHER), [[well(), hot(OTHER)]] * 2, own=())
    assert "GPU-77f0c3a9" in why


@pytest.mark.parametrize(("clock", "spoils"), [(375, True), (980, True), (1000, False)])
def test_clocks_that_are_held_down_without_a_word(clock: float, spoils: bool) -> None:
    found = troubles(h100(), [[well(clock_mhz=clock)]] * 3, own=())
    assert bool(found) is spoils
    if spoils:
        assert f"ran at {clock} of 1980 MHz" in found[0]


def test_somebody_else_on_the_device_is_named() -> None:
    shared = well(processes=(100, 4711))
    (why,) = troubles(h100(), [[well(processes=(100,))], [shared]], own=[100, 101])
    assert why.startswith("shared: NVIDIA H100 GPU-6b5bd5a1 was used by process 4711 as well")
    assert troubles(h100(), [[well(processes=(100,))]], own=[100, 101]) == []


@pytest.mark.parametrize("processes", [None, (), (4711,)])
def test_who_else_is_there_is_not_guessed_where_ours_are_hidden(
    processes: tuple[int, ...] | None,
) -> None:
    assert troubles(h100(), [[well(processes=processes)]], own=[100]) == []


# --- from the vendor's library and tool ------------------------------------------------------


class NvmlError(Exception):
    pass


class Nvml(SimpleNamespace):
    """One hot card at its power cap with two processes, and a slice that knows nothing."""

    NVMLError = NvmlError
    NVML_SUCCESS = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid == "GPU-gone":
            raise NvmlError("Not Found")
        return uuid

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:  # noqa: N802
        return int(self.known(handle, {1: 1200, 2: 2619}[clock]))

    def nvmlDeviceGetTemperature(self, handle: str, _sensor: int) -> int:  # noqa: N802
        return int(self.known(handle, 88))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(used=self.known(handle, 70 * 2**30))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self.known(handle, 97))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return int(self.known(handle, 655_250))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return int(self.known(handle, 12_345_678))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        self.known(handle, None)
        return [SimpleNamespace(pid=7), SimpleNamespace(pid=8)]

    @staticmethod
    def known(handle: str, value: Any) -> Any:
        if handle.startswith("MIG"):
            raise NvmlError("Not Supported")
        return value


def reasons_of(handle: str) -> int:
    return int(Nvml.known(handle, 0x44))


@pytest.mark.parametrize(
    "name",
    ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"],
)
def test_the_library_is_asked_under_either_of_its_names(name: str) -> None:
    library: Any = Nvml(**{name: reasons_of})
    probe = NvidiaProbe(run=lambda _: None, load=lambda _: library)
    with probe.watching(h100(UUID, "MIG-1", "GPU-gone")) as watcher:
        assert watcher is not None
        card, piece = watcher.look()
    assert card == HOT_CARD
    assert piece == Condition(uuid="MIG-1")


HOT_CARD = Condition(
    uuid=UUID,
    slowed=("hardware thermal slowdown",),
    power_capped=True,
    clock_mhz=1200.0,
    memory_clock_mhz=2619.0,
    temperature_c=88.0,
    memory_used_bytes=70 * 2**30,
    utilisation=0.97,
    power_w=655.25,
    energy_j=12_345.678,
    processes=(7, 8),
)


@pytest.mark.parametrize(
    ("returned", "watts", "over_s"),
    [(0, 612.5, 1.0), (3, 655.25, 0.0)],  # 3: NVML_ERROR_NOT_SUPPORTED, as before Ampere
)
def test_power_is_the_average_of_a_second_where_the_card_has_it(
    returned: int, watts: float, over_s: float
) -> None:
    def fields(handle: str, ids: list[int]) -> list[Any]:
        assert ids == [185]
        Nvml.known(handle, None)
        return [SimpleNamespace(nvmlReturn=returned, value=SimpleNamespace(uiVal=612_500))]

    name = "nvmlDeviceGetCurrentClocksEventReasons"
    library: Any = Nvml(**{name: reasons_of, "nvmlDeviceGetFieldValues": fields})
    probe = NvidiaProbe(run=lambda _: None, load=lambda _: library)
    before = clock.now_ns()
    with probe.watching(h100(UUID, "MIG-1")) as watcher:
        assert watcher is not None
        card, piece = watcher.look()
    assert card == replace(HOT_CARD, power_w=watts, power_over_s=over_s)
    assert piece == Condition(uuid="MIG-1")
    assert before <= (card.at_ns or 0) <= (piece.at_ns or 0) <= clock.now_ns()


def test_a_library_is_closed_but_while_it_is_at_work() -> None:
    closed: list[float] = []
    library: Any = Nvml(nvmlShutdown=lambda: closed.append(1))
    by = NvidiaProbe(run=lambda _: None, load=lambda _: library)
    with by.watching(h100()) as watcher:
        assert watcher is not None
        watcher.hangs.set()
    assert closed == []
    with by.watching(h100()):
        pass
    assert closed == [1]


def test_a_library_that_does_not_close_is_given_no_more_than_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[float] = []

    def at_most(seconds: float, call: Any) -> Any:
        given.append(seconds)
        return call()

    monkeypatch.setattr(nvidia, "within", at_most)
    library: Any = Nvml()
    with NvidiaProbe(run=lambda _: None, load=lambda _: library).watching(h100()):
        given.clear()
    assert given == [CLOSE_S]


def test_a_binding_that_does_not_know_a_question_does_not_answer_it() -> None:
    library: Any = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
    )
    with NvidiaProbe(load=lambda _: library).watching(h100()) as watcher:
        assert watcher is not None
        assert watcher.look() == [Condition(uuid=UUID)]


REST = "clocks.mem,power.draw,temperature.gpu,memory.used,utilization.gpu"
SMI = {
    f"--query-gpu=uuid,clocks_event_reasons.active,clocks.sm,{REST}": (
        f"{UUID}, 0x0000000000000024, 1410, 2619, 698.31, 86, 71680, 99\n"
        f"{OTHER}, 0x0000000000000000, 1980, 2619, 120.00, 40, 4, 0\n"
    ),
    "--query-compute-apps=gpu_uuid,pid": f"{UUID}, 7\n{UUID}, 8\n{OTHER}, 9\n",
}


def tool(answers: dict[str, str]) -> NvidiaProbe:
    def run(argv: Sequence[str]) -> str | None:
        return answers.get(argv[1])

    def no_binding(name: str) -> Any:
        raise ImportError(name)

    return NvidiaProbe(run=run, load=no_binding)


@pytest.mark.parametrize("word", ["event", "throttle"])
def test_the_tool_is_asked_under_either_of_its_names(word: str) -> None:
    answers = {asked.replace("_event_", f"_{word}_"): table for asked, table in SMI.items()}
    with tool(answers).watching(h100()) as watcher:
        assert watcher is not None
        assert watcher.look() == [
            Condition(
                uuid=UUID,
                slowed=("software thermal slowdown",),
                power_capped=True,
                clock_mhz=1410.0,
                memory_clock_mhz=2619.0,
                power_w=698.31,
                temperature_c=86.0,
                memory_used_bytes=70 * 2**30,
                utilisation=0.99,
                processes=(7, 8),
            )
        ]


def test_without_library_and_tool_nothing_is_watched() -> None:
    with tool({}).watching(h100()) as watcher:
        assert watcher is None


def test_what_the_tool_does_not_know_is_unknown() -> None:
    unknown = ", ".join([UUID, *["[N/A]"] * 7])
    answers = {next(iter(SMI)): f"{unknown}\nWarning: something\n"}
    with tool(answers).watching(h100()) as watcher:
        assert watcher is not None
        assert watcher.look() == [Condition(uuid=UUID)]
