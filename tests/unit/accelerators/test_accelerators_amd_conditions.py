"""What AMD's devices say of themselves: the library, sysfs and the tool of ROCm 6 and 7."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators import amd_conditions, amd_sysfs
from pytest_llmperf.accelerators.amd import AmdProbe, parse_rows, parse_static
from pytest_llmperf.accelerators.amd_conditions import by_sysfs, by_tool, throttle_bits
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.records import Accelerator, Device

BUS = "0000:03:00.0"


def card(**details: Any) -> Device:
    return Device(
        vendor="amd",
        product="AMD Radeon RX 7900 XTX",
        index=0,
        uuid="GPU-a",
        details={"smi_index": 0, "bus": BUS, **details},
    )


def value(amount: float, unit: str = "") -> dict[str, object]:
    return {"value": amount, "unit": unit}


# --- amd-smi ---------------------------------------------------------------------------------


def row(**more: Any) -> dict[str, Any]:
    """A Radeon card under load, in the form of ``amd-smi metric --json`` (ROCm 6.3's sources,
    ``amdsmi_commands.py``; a 7.0 answer of a Radeon AI PRO R9700 has the same names)."""
    return {
        "gpu": 0,
        "usage": {"gfx_activity": value(91, "%"), "umc_activity": value(66, "%")},
        "power": {"socket_power": value(292, "W"), "throttle_status": "THROTTLED"},
        "clock": {
            "gfx_0": {"clk": value(2774, "MHz"), "max_clk": value(0, "MHz")},
            "gfx_1": {"clk": "N/A", "max_clk": "N/A"},
            "mem_0": {"clk": value(1258, "MHz"), "max_clk": value(1259, "MHz")},
        },
        "temperature": {"edge": value(54, "C"), "hotspot": value(63, "C"), "mem": value(70, "C")},
        "energy": {"total_energy_consumption": value(0.0, "J")},
        "mem_usage": {"total_vram": value(30576, "MB"), "used_vram": value(20450, "MB")},
        "throttle": {"accumulation_counter": "N/A", "ppt_accumulated": "N/A"},
        **more,
    }


def limited(clock: int, **active: int) -> dict[str, Any]:
    """The limiters' counters of an Instinct card."""
    names = ("prochot", "ppt", "socket_thermal", "vr_thermal", "hbm_thermal")
    return {
        "accumulation_counter": clock,
        **{f"{name}_accumulated": active.get(name, 0) for name in names},
    }


def told(*answers: object) -> Callable[[], list[Condition]]:
    """What the tool tells, look after look."""
    left = [json.dumps(answer) for answer in answers]
    look = by_tool(lambda _: left.pop(0) if len(left) > 1 else left[0], [card()])
    assert look is not None
    return look


@pytest.mark.parametrize("document", [[row()], {"gpu_data": [row()]}], ids=["rocm6", "rocm7"])
def test_the_tool_tells_power_clocks_and_memory(document: object) -> None:
    (one,) = told(document)()
    assert (one.power_w, one.clock_mhz, one.memory_clock_mhz) == (292.0, 2774.0, 1258.0)
    assert (one.temperature_c, one.utilisation) == (63.0, 0.91)
    assert one.memory_used_bytes == 20450 * 2**20


def test_a_counter_that_stands_at_nothing_is_none() -> None:
    (one,) = told([row()])()
    assert one.energy_j is None
    (other,) = told([row(energy={"total_energy_consumption": value(1234.5, "J")})])()
    assert other.energy_j == 1234.5


def test_the_word_throttled_is_no_reason() -> None:
    """It is said at the power cap too, which is where a card is meant to run."""
    (one,) = told([row()])()
    assert (one.slowed, one.power_capped) == ((), None)


@pytest.mark.parametrize(
    ("active", "slowed", "capped"),
    [
        ({}, (), False),
        ({"ppt": 900}, (), True),
        ({"socket_thermal": 500}, ("thermal slowdown",), False),
        ({"hbm_thermal": 100, "prochot": 60}, ("processor hot", "memory thermal slowdown"), False),
        ({"vr_thermal": 20}, (), False),  # 2 % of the time
    ],
)
def test_limiters_are_told_by_how_long_they_were_at_work(
    active: dict[str, int], slowed: tuple[str, ...], capped: bool
) -> None:
    first = [row(throttle=limited(5000))]
    look = told(first, first, [row(throttle=limited(6000, **active))])
    assert look()[0].slowed == ()  # nothing is known of before
    (one,) = look()
    assert (one.slowed, one.power_capped) == (slowed, capped)


def test_an_old_tool_is_asked_without_what_it_does_not_know() -> None:
    def run(argv: Sequence[str]) -> str | None:
        return None if "--throttle" in argv else json.dumps([row()])

    look = by_tool(run, [card()])
    assert look is not None
    assert look()[0].power_w == 292.0


@pytest.mark.parametrize("text", [None, "", "WARNING: no access", "[]", '{"gpu_data": 7}', "[3]"])
def test_a_tool_that_says_nothing_of_use_is_not_asked(text: str | None) -> None:
    assert by_tool(lambda _: text, [card()]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["gpu", "asic", "bus", "vram", "limit", "driver", "partition", "throttle", "clock", "power"]
)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(NAMES, JSON)))
def test_no_answer_breaks_the_tools_parsers(rows: list[dict[str, Any]]) -> None:
    text = json.dumps(rows)
    for device in parse_static(parse_rows(text)):
        assert device.product
    look = by_tool(lambda _: text, [card()])
    assert look is None or len(look()) <= 1


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_is_a_device(text: str) -> None:
    assert parse_static(parse_rows(text)) == []


# --- sysfs -----------------------------------------------------------------------------------


def metrics(bits: int, size: int = 120, form: int = 1, content: int = 3) -> bytes:
    return struct.pack("<HBB", size, form, content) + bytes(108) + struct.pack("<Q", bits)


@pytest.fixture
def pci(tmp_path: Path) -> Path:
    """An RX 7900 XTX: its sensors and files as the kernel names them (amdgpu, Linux 6.8)."""
    place = tmp_path / "pci" / BUS
    sensors = place / "hwmon" / "hwmon3"
    sensors.mkdir(parents=True)
    for name, text in {
        "power1_average": "287000000",
        "power1_cap": "327000000",
        "power1_cap_default": "339000000",
        "freq1_input": "2482000000",
        "freq2_input": "1249000000",
        "temp1_label": "edge",
        "temp1_input": "61000",
        "temp2_label": "junction",
        "temp2_input": "84000",
    }.items():
        (sensors / name).write_text(f"{text}\n")
    (place / "mem_info_vram_used").write_text("28160000\n")
    (place / "gpu_busy_percent").write_text("97\n")
    return tmp_path / "pci"


@pytest.fixture
def kfd(tmp_path: Path) -> Path:
    node = tmp_path / "kfd" / "topology" / "nodes" / "1"
    node.mkdir(parents=True)
    (node / "properties").write_text("simd_count 192\nvendor_id 4098\nlocation_id 768\n")
    (node / "gpu_id").write_text("45678\n")
    for pid, amount in {"4711": "1048576", "12": "0"}.items():
        holder = tmp_path / "kfd" / "proc" / pid
        holder.mkdir(parents=True)
        (holder / "vram_45678").write_text(f"{amount}\n")
    return node.parent


def test_the_kernel_tells_as_much(kfd: Path, pci: Path) -> None:
    (pci / BUS / "gpu_metrics").write_bytes(metrics(1 << 0))
    (one,) = by_sysfs(kfd, pci, [card()])()
    assert one == Condition(
        uuid="GPU-a",
        power_capped=True,
        power_w=287.0,
        clock_mhz=2482.0,
        memory_clock_mhz=1249.0,
        temperature_c=84.0,
        memory_used_bytes=28_160_000,
        utilisation=0.97,
        processes=(4711,),
    )


def partitions(count: int, mode: str = "CPX", product: str = "AMD Instinct MI300X") -> Accelerator:
    devices = tuple(
        replace(
            card(compute_partition=mode, bus=BUS),
            product=product,
            uuid=f"GPU-{index}",
            index=index,
        )
        for index in range(count)
    )
    return Accelerator(devices=devices, source="sysfs")


@pytest.mark.parametrize(
    ("count", "mode", "product"),
    [
        (1, "SPX", "AMD Instinct MI300X"),
        (2, "DPX", "AMD Instinct MI300X"),
        (8, "CPX", "AMD Instinct MI300X"),
        (6, "CPX", "AMD Instinct MI300A"),
        (3, "TPX", "AMD Instinct MI300A"),
        (4, "CPX", "AMD Instinct MI308X"),
        (2, "DPX", "AMD Instinct MI308X"),
    ],
)
def test_the_parts_of_a_card_add_up_to_it(
    kfd: Path, pci: Path, count: int, mode: str, product: str
) -> None:
    accelerator = partitions(count, mode, product)
    by = probe(kfd, pci)
    with by.watching(accelerator) as watcher:
        assert watcher is not None
        seen = watcher.look()
    assert sum(one.power_w or 0 for one in seen) == pytest.approx(287.0)
    assert sum(one.memory_used_bytes or 0 for one in seen) == pytest.approx(28_160_000, abs=count)
    assert all(one.power_w for one in seen)
    assert by.memory_in_use(accelerator) == 28_160_000


def test_some_parts_of_a_card_do_not_know_what_they_drew(kfd: Path, pci: Path) -> None:
    by = probe(kfd, pci)
    with by.watching(partitions(3)) as watcher:
        assert watcher is not None
        seen = watcher.look()
    assert {(one.power_w, one.energy_j, one.memory_used_bytes) for one in seen} == {
        (None, None, None)
    }
    assert all("3 of the 8 parts of a card" in one.untold for one in seen)
    assert by.memory_in_use(partitions(3)) is None


def test_partitions_with_the_number_of_their_card_are_told_apart(kfd: Path, pci: Path) -> None:
    for number in (1, 2):
        node = kfd / str(number)
        node.mkdir(exist_ok=True)
        # The number of the partition is in the highest bits (Linux, ``kfd_topology.c``).
        place = 768 | (number - 1) << 28
        text = f"simd_count 76\nvendor_id 4098\nunique_id 7\nlocation_id {place}\n"
        (node / "properties").write_text(text)
    devices = amd_sysfs.devices_from_kfd(kfd, pci) or []
    assert [device.uuid[-3:] for device in devices] == ["7-0", "7-1"]
    assert {device.details["bus"] for device in devices} == {BUS}


@pytest.mark.parametrize(
    ("bits", "slowed"),
    [
        (0, ()),
        (1 << 3, ()),
        (1 << 36, ("thermal slowdown",)),
        (1 << 22, ("current limit",)),
        (1 << 47 | 1 << 40, ("thermal slowdown", "processor hot")),
        (1 << 57, ()),
    ],
)
def test_the_bits_of_the_limiters(kfd: Path, pci: Path, bits: int, slowed: tuple[str, ...]) -> None:
    (pci / BUS / "gpu_metrics").write_bytes(metrics(bits))
    assert by_sysfs(kfd, pci, [card()])()[0].slowed == slowed


@pytest.mark.parametrize(
    "table",
    [b"", b"abc", metrics(1, content=4), metrics(1, form=2), metrics(1)[:119], metrics(2**64 - 1)],
)
def test_another_table_tells_no_bits(table: bytes) -> None:
    assert throttle_bits(table) is None


def test_a_card_without_files_says_nothing(tmp_path: Path) -> None:
    assert by_sysfs(tmp_path, tmp_path, [card()])() == [Condition(uuid="GPU-a")]


def probe(kfd: Path, pci: Path, **more: Any) -> AmdProbe:
    def no_binding(name: str) -> ModuleType:
        raise ImportError(name)

    return AmdProbe(**{"run": lambda _: None, "load": no_binding, "kfd": kfd, "pci": pci, **more})


def watched(by: AmdProbe, source: str) -> Watcher | None:
    with by.watching(Accelerator(devices=(card(),), source=source)) as watcher:
        return watcher


def test_the_cheapest_that_answers_is_asked(kfd: Path, pci: Path, tmp_path: Path) -> None:
    seen = watched(probe(kfd, pci), "amd-smi")
    assert seen is not None
    assert (seen.source, seen.period_s) == ("sysfs", 1.0)
    assert "pytest-llmperf[amd]" in seen.advice
    tool = watched(probe(tmp_path, tmp_path, run=lambda _: json.dumps([row()])), "amd-smi")
    assert tool is not None
    assert tool.source == "amd-smi"
    assert watched(probe(tmp_path, tmp_path), "amd-smi") is None


def test_the_kernel_tells_the_default_cap(kfd: Path, pci: Path) -> None:
    accelerator = probe(kfd, pci).find({})
    assert accelerator is not None
    details = accelerator.devices[0].details
    assert (details["power_limit_w"], details["power_default_w"]) == (327.0, 339.0)


# --- the library -----------------------------------------------------------------------------


class SmiError(Exception):
    pass


class Library(ModuleType):
    """One MI300X, of ROCm 6.3's binding; ``table`` is what its metrics say."""

    AmdSmiException = SmiError
    AmdSmiMemoryType = SimpleNamespace(VRAM="vram")

    def __init__(self) -> None:
        super().__init__("amdsmi")
        self.open = 0
        self.table: dict[str, Any] = {
            "temperature_hotspot": 71,
            "average_gfx_activity": 98,
            "current_gfxclks": [1310, 1304, "N/A"],
            "current_uclk": 1300,
            "accumulation_counter": 1000,
            "ppt_residency_acc": 0,
            "socket_thm_residency_acc": 0,
            "indep_throttle_status": "N/A",
        }

    def amdsmi_init(self) -> None:
        self.open += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        power = {"current_socket_power": 717, "average_socket_power": "N/A"}
        energy = {"energy_accumulator": 65_536_000_000, "counter_resolution": 15.25}
        answers: dict[str, Callable[..., Any]] = {
            "amdsmi_get_processor_handles": lambda: ["first"],
            "amdsmi_get_gpu_metrics_info": lambda _: self.table,
            "amdsmi_get_power_info": lambda _: power,
            "amdsmi_get_energy_count": lambda _: energy,
            "amdsmi_get_gpu_memory_usage": lambda _handle, _kind: 300 * 2**20,
            "amdsmi_get_gpu_process_list": lambda _: [{"name": "N/A", "pid": 77}],
        }
        if name not in answers:
            raise AttributeError(name)
        return answers[name]


def test_the_library_tells_it_all() -> None:
    library = Library()
    by = probe(Path("/nowhere"), Path("/nowhere"), load=lambda _: library)
    with by.watching(Accelerator(devices=(card(),), source="amdsmi")) as watcher:
        assert watcher is not None
        assert watcher.source == "amdsmi"
        (one,) = watcher.look()
        library.table = {
            **library.table,
            "accumulation_counter": 2000,
            "ppt_residency_acc": 800,
            "socket_thm_residency_acc": 300,
        }
        (later,) = watcher.look()
        assert library.open == 1
    assert library.open == 0
    assert (one.power_w, one.clock_mhz, one.temperature_c) == (717.0, 1310.0, 71.0)
    assert one.energy_j == pytest.approx(65_536_000_000 * 15.25e-6)
    assert (one.memory_used_bytes, one.processes) == (300 * 2**20, (77,))
    assert (one.slowed, one.power_capped) == ((), False)
    assert (later.slowed, later.power_capped) == (("thermal slowdown",), True)


def test_a_library_at_work_is_not_closed_and_one_that_hangs_is_left() -> None:
    library, go_on = Library(), threading.Event()
    by = probe(Path("/nowhere"), Path("/nowhere"), load=lambda _: library, limit_s=0.05)
    with by.watching(Accelerator(devices=(card(),), source="amdsmi")) as watcher:
        assert watcher is not None
        watcher.hangs.set()
    assert library.open == 1
    library.amdsmi_shut_down = lambda: go_on.wait(60)  # type: ignore[assignment,method-assign]
    with by.watching(Accelerator(devices=(card(),), source="amdsmi")):
        pass
    go_on.set()  # only now: the end did not wait for it


def test_a_library_that_refuses_says_nothing() -> None:
    class Refusing(Library):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def refuse(*_: object) -> Any:
                raise SmiError(name)

            return (lambda: ["first"]) if name.endswith("handles") else refuse

    look = amd_conditions.by_library(Refusing(), [card(), card(smi_index=5)])
    assert look() == [Condition(uuid="GPU-a")]
