from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.accelerators.amd import AmdProbe, parse_rows, parse_static
from pytest_llmperf.accelerators.amd_sysfs import gfx_name, product_name
from pytest_llmperf.records import Accelerator


def no_binding(name: str) -> ModuleType:
    raise ImportError(name)


def mi300x(number: int) -> dict[str, Any]:
    return {
        "gpu": number,
        "asic": {
            "market_name": "AMD Instinct MI300X",
            "vendor_id": "0x1002",
            "vendor_name": "Advanced Micro Devices Inc. [AMD/ATI]",
            "device_id": "0x74a1",
            "rev_id": "0x00",
            "num_compute_units": 304,
            "target_graphics_version": "gfx942",
        },
        "bus": {"bdf": f"0000:{number + 5:02x}:00.0", "max_pcie_width": 16},
        "limit": {
            "ppt0": {
                "max_power_limit": {"value": 750, "unit": "W"},
                "socket_power_limit": {"value": 700, "unit": "W"},
            },
            "ppt1": {"max_power_limit": "N/A", "socket_power_limit": "N/A"},
        },
        "driver": {"name": "amdgpu", "version": "6.14.14"},
        "vram": {"type": "HBM", "vendor": "HYNIX", "size": {"value": 196592, "unit": "MB"}},
        "partition": {"compute_partition": "SPX", "memory_partition": "NPS1", "partition_id": 0},
    }


NAVI31 = {
    "gpu": 0,
    "asic": {
        "market_name": "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]",
        "device_id": "0x744c",
        "rev_id": "0xC8",
        "target_graphics_version": "gfx1100",
    },
    "bus": {"bdf": "0000:03:00.0"},
    "limit": {"max_power": {"value": 339, "unit": "W"}, "current_power": {"value": 327}},
    "driver": {"driver_name": "amdgpu", "driver_version": "6.7.0"},
    "vram": {"type": "GDDR6", "size": {"value": 24560, "unit": "MB"}},
    "partition": {"compute_partition": "N/A", "memory_partition": "N/A"},
}
# amd-smi's order is not HIP's.
LISTED = [
    {"gpu": 0, "bdf": "0000:05:00.0", "node_id": 3, "hip_id": 1, "hip_uuid": "GPU-bbbb"},
    {"gpu": 1, "bdf": "0000:06:00.0", "node_id": 2, "hip_id": 0, "hip_uuid": "GPU-aaaa"},
]


def smi(answers: Mapping[str, object]) -> AmdProbe:
    """``answers`` by the words after ``amd-smi``; anything else fails as an old version does."""

    def run(argv: Sequence[str]) -> str | None:
        key = " ".join(argv[1:-1])
        return json.dumps(answers[key]) if key in answers else None

    return AmdProbe(run=run, load=no_binding, kfd=Path("/nowhere"), pci=Path("/nowhere"))


def found(probe: AmdProbe, **env: str) -> Accelerator:
    accelerator = probe.find(env)
    assert accelerator is not None
    return accelerator


TWO = smi({"static": {"gpu_data": [mi300x(0), mi300x(1)]}, "list -e": LISTED})


def test_static_information_becomes_a_device() -> None:
    accelerator = found(TWO)
    assert (accelerator.product, accelerator.count) == ("AMD Instinct MI300X", 2)
    assert accelerator.source == "amd-smi"
    details = accelerator.devices[0].details
    assert accelerator.devices[0].memory_bytes == 196592 * 2**20
    assert (details["gfx"], details["driver"]) == ("gfx942", "6.14.14")
    assert details["power_limit_w"] == 700.0
    assert (details["compute_partition"], details["memory_partition"]) == ("SPX", "NPS1")


def test_devices_stand_in_the_order_of_the_runtime() -> None:
    devices = found(TWO).devices
    assert [device.uuid for device in devices] == ["GPU-aaaa", "GPU-bbbb"]
    assert [device.details["smi_index"] for device in devices] == [1, 0]
    assert [device.index for device in devices] == [0, 1]


def test_without_enumeration_the_kernels_nodes_give_the_order() -> None:
    old = [{"gpu": row["gpu"], "node_id": row["node_id"], "uuid": "x"} for row in LISTED]
    devices = found(smi({"static": [mi300x(0), mi300x(1)], "list": old})).devices
    assert [device.details["smi_index"] for device in devices] == [1, 0]


@pytest.mark.parametrize(
    ("env", "uuids"),
    [
        ({"HIP_VISIBLE_DEVICES": "1"}, ["GPU-bbbb"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["GPU-bbbb"]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, ["GPU-aaaa"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-bbbb", "HIP_VISIBLE_DEVICES": "0"}, ["GPU-bbbb"]),
        ({"ROCR_VISIBLE_DEVICES": "1,0"}, ["GPU-bbbb", "GPU-aaaa"]),
    ],
)
def test_variables_choose_one_after_the_other(env: dict[str, str], uuids: list[str]) -> None:
    assert [device.uuid for device in found(TWO, **env).devices] == uuids


def test_a_chip_sold_under_several_names_is_told_by_its_revision() -> None:
    device = parse_static([NAVI31])[0]
    assert device.product == "AMD Radeon RX 7900 XTX"
    assert device.details["driver"] == "6.7.0"
    assert device.details["power_limit_w"] == 327.0
    assert device.details["compute_partition"] is None


def test_graphics_of_the_processor_are_no_accelerator() -> None:
    graphics = mi300x(1) | {"vram": {"size": {"value": 512, "unit": "MB"}}}
    graphics["asic"] = graphics["asic"] | {"market_name": "AMD Radeon Graphics"}
    assert smi({"static": [graphics]}).find({}) is None
    assert found(smi({"static": [graphics, mi300x(0)]})).count == 1


def test_a_text_that_is_not_json_is_no_answer() -> None:
    assert parse_rows("WARNING: User is missing the following required groups: render\n") == []
    assert smi({}).find({}) is None


def test_memory_in_use_is_of_the_devices_used() -> None:
    used = [
        {"gpu": 0, "mem_usage": {"used_vram": {"value": 283, "unit": "MB"}}},
        {"gpu": 1, "mem_usage": {"used_vram": {"value": 90, "unit": "MB"}}},
    ]
    probe = smi({"metric --mem-usage": {"gpu_data": used}})
    assert probe.memory_in_use(found(TWO, HIP_VISIBLE_DEVICES="0")) == 90 * 2**20
    assert probe.memory_in_use(found(TWO)) == 373 * 2**20
    assert smi({"metric --mem-usage": used[:1]}).memory_in_use(found(TWO)) is None


# --- the library -----------------------------------------------------------------------------


class SmiError(Exception):
    pass


class FakeAmdSmi(ModuleType):
    """One MI355X, whose library has no enumeration yet and whose card tells no power limit."""

    AmdSmiException = SmiError
    AmdSmiMemoryType = SimpleNamespace(VRAM="vram")
    driver = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Callable[..., Any]] = {
            "amdsmi_init": self.start,
            "amdsmi_shut_down": lambda: None,
            "amdsmi_get_processor_handles": lambda: ["first"],
            "amdsmi_get_gpu_memory_total": lambda _handle, _kind: 294896 * 2**20,
            "amdsmi_get_gpu_memory_usage": lambda _handle, _kind: 298 * 2**20,
            "amdsmi_get_power_cap_info": self.refuse,
            "amdsmi_get_gpu_asic_info": lambda _: {"market_name": "AMD Instinct MI355X"},
            "amdsmi_get_gpu_device_bdf": lambda _: "0000:05:00.0",
            "amdsmi_get_gpu_driver_info": lambda _: {"driver_version": "6.16.6"},
            "amdsmi_get_gpu_compute_partition": lambda _: "SPX",
            "amdsmi_get_gpu_memory_partition": lambda _: "NPS1",
            "amdsmi_get_gpu_device_uuid": lambda _: "f8ff75a3-0000-1000-80ff-eb47a027de4d",
        }
        if name not in answers:
            raise AttributeError(name)
        return answers[name]

    def start(self) -> None:
        if not self.driver:
            raise SmiError("AMDSMI_STATUS_DRIVER_NOT_LOADED")

    @staticmethod
    def refuse(_handle: str) -> dict[str, int]:
        raise SmiError("AMDSMI_STATUS_NOT_SUPPORTED")


def library(module: FakeAmdSmi) -> AmdProbe:
    return AmdProbe(run=lambda _: None, load=lambda _: module, kfd=Path("/nowhere"))


def test_the_library_gives_the_same_facts() -> None:
    probe = library(FakeAmdSmi("amdsmi"))
    accelerator = found(probe)
    device = accelerator.devices[0]
    assert (accelerator.source, device.product) == ("amdsmi", "AMD Instinct MI355X")
    assert device.uuid == "f8ff75a3-0000-1000-80ff-eb47a027de4d"
    assert device.memory_bytes == 294896 * 2**20
    assert (device.details["driver"], device.details["power_limit_w"]) == ("6.16.6", None)
    assert probe.memory_in_use(accelerator) == 298 * 2**20


def test_a_library_without_a_driver_is_no_answer() -> None:
    module = FakeAmdSmi("amdsmi")
    module.driver = False
    assert library(module).find({}) is None


def test_a_library_that_hangs_is_left_for_the_tool() -> None:
    over = threading.Event()

    class Hanging(FakeAmdSmi):
        def start(self) -> None:
            over.wait()

    accelerator = found(replace(TWO, load=lambda _: Hanging("amdsmi"), limit_s=0.2))
    over.set()
    assert (accelerator.source, accelerator.count) == ("amd-smi", 2)


def test_a_binding_of_another_rocm_is_left_for_the_tool() -> None:
    def broken(name: str) -> ModuleType:
        raise OSError("libamd_smi.so: cannot open shared object file")

    assert found(replace(TWO, load=broken)).source == "amd-smi"


# --- sysfs -----------------------------------------------------------------------------------

PROPERTIES = """\
cpu_cores_count 0
simd_count 192
gfx_target_version 110000
vendor_id 4098
device_id 29772
location_id 768
domain 0
drm_render_minor 128
unique_id 9004149066219862957
"""


@pytest.fixture
def sysfs(tmp_path: Path) -> AmdProbe:
    nodes, pci = tmp_path / "nodes", tmp_path / "pci"
    processor, card = nodes / "0", nodes / "1"
    bus = pci / "0000:03:00.0"
    for directory in (processor, card, bus):
        directory.mkdir(parents=True)
    (processor / "properties").write_text("cpu_cores_count 32\nsimd_count 0\nvendor_id 0\n")
    (card / "properties").write_text(PROPERTIES)
    (bus / "revision").write_text("0xc8\n")
    (bus / "mem_info_vram_total").write_text(f"{24560 * 2**20}\n")
    (bus / "mem_info_vram_used").write_text("28160000\n")
    return AmdProbe(run=lambda _: None, load=no_binding, kfd=nodes, pci=pci)


def test_the_kernel_alone_tells_product_and_memory(sysfs: AmdProbe) -> None:
    accelerator = found(sysfs)
    device = accelerator.devices[0]
    assert (accelerator.source, accelerator.count) == ("sysfs", 1)
    assert (device.product, device.uuid) == ("AMD Radeon RX 7900 XTX", "GPU-7cf529dea4b33bad")
    assert device.memory_bytes == 24560 * 2**20
    assert (device.details["gfx"], device.details["bus"]) == ("gfx1100", "0000:03:00.0")
    assert sysfs.memory_in_use(accelerator) == 28_160_000


def test_a_hidden_node_is_passed_over(sysfs: AmdProbe, tmp_path: Path) -> None:
    (tmp_path / "nodes" / "2").mkdir()  # another container's: its properties cannot be read
    assert found(sysfs).count == 1


@pytest.mark.parametrize(
    ("version", "name"), [(110000, "gfx1100"), (90402, "gfx942"), (90010, "gfx90a")]
)
def test_architectures_are_written_as_usual(version: int, name: str) -> None:
    assert gfx_name(version) == name


def test_an_unknown_product_is_named_by_what_is_known() -> None:
    assert product_name("0x9999", "0x00", "gfx1300") == "AMD gfx1300 (0x9999)"


# --- partitions ------------------------------------------------------------------------------

GIB = 2**30


def partitioned(
    place: Path, banks: Sequence[Sequence[tuple[int, int]]], mode: str = "CPX"
) -> AmdProbe:
    """An MI300X of 192 GiB in partitions, in the form of ``/sys/class/kfd/kfd/topology`` and of the
    PCI device (Linux: ``kfd_topology.c``, ``amdgpu_gfx.c``, ``amdgpu_vram_mgr.c``): each
    partition is a node with banks of its own (heap type, bytes), its number in the highest bits of
    the place; the PCI device has the card's total."""
    nodes, bus = place / "nodes", place / "pci" / "0000:0c:00.0"
    bus.mkdir(parents=True)
    (bus / "current_compute_partition").write_text(f"{mode}\n")
    (bus / "current_memory_partition").write_text("NPS4\n")
    (bus / "mem_info_vram_total").write_text(f"{192 * GIB}\n")
    for number, own in enumerate(banks):
        node = nodes / str(number + 2)
        node.mkdir(parents=True)
        (node / "properties").write_text(
            "cpu_cores_count 0\nsimd_count 152\nmem_banks_count 1\nvendor_id 4098\n"
            f"device_id 29857\nlocation_id {0x0C00 | number << 28}\ndomain 0\n"
            f"gfx_target_version 90402\nunique_id {7000 + number}\nnum_xcc 1\n"
        )
        for at, (heap, size) in enumerate(own):
            bank = node / "mem_banks" / str(at)
            bank.mkdir(parents=True)
            text = f"heap_type {heap}\nsize_in_bytes {size}\nflags 0\nwidth 8192\n"
            (bank / "properties").write_text(text + "mem_clk_max 1300\n")
    return AmdProbe(run=lambda _: None, load=no_binding, kfd=nodes, pci=place / "pci")


@pytest.mark.parametrize(
    ("mode", "count", "gib"), [("CPX", 8, 24), ("QPX", 4, 48), ("DPX", 2, 96), ("SPX", 1, 192)]
)
def test_a_partition_has_a_part_of_the_memory(
    tmp_path: Path, mode: str, count: int, gib: int
) -> None:
    probe = partitioned(tmp_path, [[(1, gib * GIB)]] * count, mode)
    devices = found(probe).devices
    assert [device.memory_bytes for device in devices] == [gib * GIB] * count
    assert {device.details["memory_partition"] for device in devices} == {"NPS4"}


@pytest.mark.parametrize(
    "banks",
    [
        pytest.param([[], []], id="not told"),
        pytest.param([[(0, GIB)], [(0, GIB)]], id="the host's"),
        pytest.param([[(1, GIB)], [(1, 2 * GIB)]], id="not alike"),
    ],
)
def test_the_memory_of_a_partition_may_be_unknown(
    tmp_path: Path, banks: list[list[tuple[int, int]]]
) -> None:
    devices = found(partitioned(tmp_path, banks)).devices
    assert [device.memory_bytes for device in devices] == [None, None]


def test_what_processors_do_not_see_counts_too(tmp_path: Path) -> None:
    probe = partitioned(tmp_path, [[(1, 8 * GIB), (2, 16 * GIB), (4, 65536)]] * 2)
    assert {device.memory_bytes for device in found(probe).devices} == {24 * GIB}


def test_the_tools_tell_the_cards_memory_of_its_first_partition(tmp_path: Path) -> None:
    """``rocm_smi.cc`` of amdsmi (October 2024) asks the compute driver only where the PCI device
    has no total."""
    kernel = partitioned(tmp_path, [[(1, 24 * GIB)]] * 2)
    cpx = {"compute_partition": "CPX", "memory_partition": "NPS4"}
    rows = [
        mi300x(at)
        | {"partition": cpx, "vram": {"size": {"value": size, "unit": "MB"}}}
        | {"bus": {"bdf": f"0000:0c:00.{at}"}}
        for at, size in enumerate((196608, 24576))
    ]
    probe = AmdProbe(run=smi({"static": rows}).run, load=no_binding, kfd=kernel.kfd)
    assert [device.memory_bytes for device in found(probe).devices] == [24 * GIB] * 2
