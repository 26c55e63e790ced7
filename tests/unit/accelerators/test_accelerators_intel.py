"""Intel's GPUs: ``xpu-smi`` 1.x and 2.x, sysfs of i915 and xe, and the affinity mask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators import intel_conditions, names
from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.accelerators.fingerprint import environment
from pytest_llmperf.accelerators.intel import IntelProbe, level_zero, parse_list, parse_page
from pytest_llmperf.accelerators.intel_conditions import by_sysfs, by_tool
from pytest_llmperf.records import Accelerator, Device

BUS = "0000:17:00.0"


def listed(*rows: Mapping[str, Any]) -> str:
    return json.dumps({"device_list": list(rows)})


def b60(**more: Any) -> dict[str, Any]:
    """A row of ``xpu-smi discovery -j`` (intel/xpumanager, ``cmd_discovery.cpp`` of June 2026, and
    the same names in the answer of 1.3 in its issue 127)."""
    return {
        "device_function_type": "physical",
        "device_id": 0,
        "device_name": "Intel(R) Arc(TM) Pro B60 Graphics",
        "device_type": "GPU",
        "drm_device": "/dev/dri/card0",
        "pci_bdf_address": BUS,
        "pci_device_id": "0xe211",
        "uuid": "00000000-0000-0017-0000-0000e2118086",
        "vendor_name": "Intel(R) Corporation",
        **more,
    }


#: What the page of one card adds; 1.x calls the clock differently.
PAGE = {
    "device_id": 0,
    "driver_version": "7B7A46009E666C4D10E1134",
    "memory_ecc_state": "disabled",
    "memory_physical_size_byte": "25669140480",
    "number_of_tiles": "1",
}
MAX_1550 = {
    **PAGE,
    "device_name": "Intel(R) Data Center GPU Max 1550",
    "memory_physical_size_byte": str(128 << 30),
    "number_of_tiles": "2",
    "memory_ecc_state": "enabled",
    "core_clock_rate_mhz": "1600",
}


def tool(answers: Mapping[str, str], **more: Any) -> IntelProbe:
    """``answers`` by the words after ``xpu-smi``."""
    nowhere = Path("/nowhere")
    run = {"run": lambda argv: answers.get(" ".join(argv[1:]))}
    return IntelProbe(**{**run, "drm": nowhere, "pci": nowhere, **more})


def found(probe: IntelProbe, **env: str) -> Accelerator:
    accelerator = probe.find(env)
    assert accelerator is not None
    return accelerator


@pytest.mark.parametrize(
    ("page", "clock"),
    [
        ({"device_list": [{**PAGE, "core_clock_rate_mhz": "2400"}]}, 2400.0),
        ({**PAGE, "core_clock_rate": "2400 MHz"}, 2400.0),
        ({}, None),
    ],
    ids=["1.x", "2.x", "silent"],
)
def test_both_forms_of_the_page_are_read(page: Mapping[str, Any], clock: float | None) -> None:
    probe = tool({"discovery -j": listed(b60()), "discovery -d 0 -j": json.dumps(page)})
    accelerator = found(probe)
    device = accelerator.devices[0]
    assert (accelerator.source, accelerator.product) == (
        "xpu-smi",
        "Intel(R) Arc(TM) Pro B60 Graphics",
    )
    assert device.memory_bytes == (25669140480 if page else None)
    assert device.details["max_sm_clock_mhz"] == clock
    assert device.details["ecc"] is (False if page else None)


def test_cards_of_one_kind_are_asked_for_one_page() -> None:
    asked: list[str] = []

    def run(argv: Sequence[str]) -> str:
        asked.append(" ".join(argv[1:]))
        second = b60(device_id=1, pci_bdf_address="0000:02:00.0")
        return json.dumps(PAGE) if "-d" in argv else listed(b60(), second)

    devices = found(tool({}, run=run)).devices
    assert asked == ["discovery -j", "discovery -d 0 -j"]
    # In the order of the bus, as Level Zero counts them.
    assert [device.details["smi_index"] for device in devices] == [1, 0]


def test_a_number_for_a_name_is_looked_up() -> None:
    unnamed = b60(device_name="Intel(R) Graphics [0xe211]")
    assert found(tool({"discovery -j": listed(unnamed)})).product == (
        "Intel(R) Arc(TM) Pro B60 Graphics"
    )
    other = b60(device_name="Intel(R) Graphics [0xe2ff]", pci_device_id="0xe2ff")
    assert found(tool({"discovery -j": listed(other)})).product == "Intel unknown (0xe2ff)"


def test_graphics_of_the_processor_are_no_accelerator() -> None:
    built_in = b60(pci_bdf_address="0000:00:02.0")
    assert tool({"discovery -j": listed(built_in)}).find({}) is None
    assert tool({"discovery -j": '{"device_list": null}'}).find({}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_is_a_device(text: str) -> None:
    assert parse_list(text) == []
    assert tool({"discovery -j": text}).find({}) is None


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["device_id", *b60(), *PAGE]), JSON))
def test_no_answer_breaks_the_parsers(row: dict[str, Any]) -> None:
    text = listed(row)
    answers = {"discovery -j": text, f"discovery -d {row.get('device_id')} -j": text}
    accelerator = tool(answers).find({})
    assert (accelerator is None) is (not parse_list(text))
    assert isinstance(parse_page(text), dict)


# --- the affinity mask -----------------------------------------------------------------------


def two_tiles(index: int) -> Device:
    return Device(
        vendor="intel",
        product="Intel(R) Data Center GPU Max 1550",
        index=index,
        uuid=f"XPU-{index}",
        memory_bytes=128 << 30,
        details={"tiles": 2},
    )


@pytest.mark.parametrize(
    ("env", "left"),
    [
        ({}, {0: 2, 1: 2}),
        ({"ZE_AFFINITY_MASK": "0,1"}, {0: 2}),
        ({"ZE_AFFINITY_MASK": "3"}, {1: 1}),
        ({"ZE_AFFINITY_MASK": "2,0"}, {0: 1, 1: 1}),
        ({"ZE_AFFINITY_MASK": "9"}, {}),
        ({"ZE_AFFINITY_MASK": ""}, {0: 2, 1: 2}),
        ({"ZE_AFFINITY_MASK": "9,3"}, {1: 1}),
        ({"ZE_AFFINITY_MASK": "1", "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}, {1: 2}),
        ({"ZE_AFFINITY_MASK": "0.1,1", "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}, {0: 1, 1: 2}),
        ({"ZE_AFFINITY_MASK": "0.1", "ZE_FLAT_DEVICE_HIERARCHY": "FLAT"}, {}),
    ],
)
def test_the_mask_counts_tiles_or_cards(env: dict[str, str], left: dict[int, int]) -> None:
    devices = level_zero([two_tiles(0), two_tiles(1)], env)
    assert {device.index: device.details["tiles"] for device in devices} == left
    for device in devices:
        assert device.memory_bytes == left[device.index] * (64 << 30)


@pytest.mark.parametrize("hierarchy", ["FLAT", "COMPOSITE"])
def test_a_card_can_be_asked_for_again(hierarchy: str) -> None:
    env = {"ZE_FLAT_DEVICE_HIERARCHY": hierarchy}
    cards = [two_tiles(0), two_tiles(1)]
    second = level_zero(cards, env)[1]
    assert second.visible_as is not None
    again = level_zero(cards, {**env, "ZE_AFFINITY_MASK": second.visible_as})
    assert [(each.index, each.details["tiles"]) for each in again] == [(1, 2)]


def test_half_a_card_has_another_key() -> None:
    def key(**env: str) -> object:
        devices = level_zero([two_tiles(0)], env)
        return environment(Accelerator(devices=tuple(devices), source="test"))

    assert key(ZE_AFFINITY_MASK="0") != key()


# --- sysfs -----------------------------------------------------------------------------------


def card(root: Path, *, kind: str = "0xe211", bus: str = BUS, driver: str = "xe") -> Path:
    """A card as the kernel shows it: a link from ``drm`` to its place on the bus."""
    place = root / "pci" / bus
    for directory in (place / "hwmon" / "hwmon2", place / "tile0" / "gt0" / "freq0" / "throttle"):
        directory.mkdir(parents=True)
    (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    (place / "driver").symlink_to(root / "drivers" / driver)
    (place / "vendor").write_text("0x8086\n")
    (place / "device").write_text(f"{kind}\n")
    (place / "tile0" / "physical_vram_size_bytes").write_text(f"{24 << 30}\n")
    sensors = place / "hwmon" / "hwmon2"
    for name, text in {
        "name": driver,
        "energy1_input": "5000000",
        "power1_max": "150000000",
        "power1_rated_max": "200000000",
        "temp2_input": "67000",
    }.items():
        (sensors / name).write_text(f"{text}\n")
    (place / "tile0" / "gt0" / "freq0" / "act_freq").write_text("2400\n")
    drm = root / "drm" / f"card{len(list(root.glob('drm/*')))}"
    drm.mkdir(parents=True)
    (drm / "device").symlink_to(place)
    return place


def kernel(root: Path) -> IntelProbe:
    return tool({}, drm=root / "drm", pci=root / "pci")


def test_the_kernel_alone_tells_product_memory_and_caps(tmp_path: Path) -> None:
    card(tmp_path)
    accelerator = found(kernel(tmp_path))
    device = accelerator.devices[0]
    assert (accelerator.source, device.product) == ("sysfs", "Intel(R) Arc(TM) Pro B60 Graphics")
    assert device.memory_bytes == 24 << 30
    assert (device.details["power_limit_w"], device.details["power_default_w"]) == (150.0, 200.0)


@pytest.mark.parametrize(
    "other", [{"bus": "0000:00:02.0"}, {"driver": "vfio-pci"}], ids=["built-in", "given-away"]
)
def test_what_is_no_accelerator_is_passed_over(tmp_path: Path, other: dict[str, str]) -> None:
    card(tmp_path, **other)
    assert kernel(tmp_path).find({}) is None


def test_tool_and_kernel_call_a_card_the_same(tmp_path: Path) -> None:
    card(tmp_path)
    by_name = found(tool({"discovery -j": listed(b60())}, pci=tmp_path / "pci"))
    by_kernel = found(kernel(tmp_path))
    assert by_name.devices[0].uuid == by_kernel.devices[0].uuid
    assert by_name.product == by_kernel.product


def test_power_is_the_energy_between_two_looks(tmp_path: Path) -> None:
    place = card(tmp_path)
    look = by_sysfs(tmp_path / "pci", found(kernel(tmp_path)).devices)
    (first,) = look()
    (place / "hwmon" / "hwmon2" / "energy1_input").write_text("9000000\n")
    (second,) = look()
    assert (first.energy_j, first.power_w, second.energy_j) == (5.0, None, 9.0)
    assert second.power_w is not None
    assert second.power_derived
    assert second.power_w * second.power_over_s == pytest.approx(4.0)
    assert (second.clock_mhz, second.temperature_c) == (2400.0, 67.0)


def test_the_sensors_of_a_tile_are_not_those_of_its_card(tmp_path: Path) -> None:
    place = card(tmp_path, driver="i915")
    for name, of in (("hwmon1", "i915_gt0"), ("hwmon3", "i915_gt1")):
        (place / "hwmon" / name).mkdir()
        (place / "hwmon" / name / "name").write_text(f"{of}\n")
        (place / "hwmon" / name / "energy1_input").write_text("1000000\n")
        (place / "hwmon" / name / "power1_max").write_text("1000000\n")
    devices = found(kernel(tmp_path)).devices
    assert devices[0].details["power_limit_w"] == 150.0
    assert by_sysfs(tmp_path / "pci", devices)()[0].energy_j == 5.0


@pytest.mark.parametrize(("mask", "joules"), [("0,1", 5.0), ("1", None)])
def test_some_tiles_of_a_card_do_not_know_what_they_drew(
    tmp_path: Path, mask: str, joules: float | None
) -> None:
    place = card(tmp_path)
    (place / "tile1").mkdir()
    with kernel(tmp_path).watching(found(kernel(tmp_path), ZE_AFFINITY_MASK=mask)) as watcher:
        assert watcher is not None
        (one,) = watcher.look()
    assert one.energy_j == joules
    assert ("1 of the 2 parts of a card" in one.untold) is (joules is None)


@pytest.mark.parametrize(
    ("reason", "slowed", "capped"),
    [
        ("reason_thermal", ("thermal slowdown",), None),
        ("reason_prochot", ("processor hot",), None),
        ("reason_pl1", (), True),
    ],
)
def test_the_driver_tells_why_it_is_slow(
    tmp_path: Path, reason: str, slowed: tuple[str, ...], capped: bool | None
) -> None:
    place = card(tmp_path)
    (place / "tile0" / "gt0" / "freq0" / "throttle" / reason).write_text("1\n")
    (one,) = by_sysfs(tmp_path / "pci", found(kernel(tmp_path)).devices)()
    assert (one.slowed, one.power_capped) == (slowed, capped)


def test_i915_keeps_its_files_elsewhere(tmp_path: Path) -> None:
    place = card(tmp_path, driver="i915")
    parts = place / "drm" / "card0" / "gt" / "gt0"
    parts.mkdir(parents=True)
    (parts / "throttle_reason_thermal").write_text("1\n")
    (parts / "throttle_reason_pl1").write_text("0\n")
    (one,) = by_sysfs(tmp_path / "pci", found(kernel(tmp_path)).devices)()
    assert (one.slowed, one.power_capped) == (("thermal slowdown",), False)


# --- xpu-smi stats ---------------------------------------------------------------------------

#: 1.x (statistics of intel/xpumanager v1.2); 2.x (``cmd_stats.cpp`` of June 2026).
STATS_1 = {
    "device_id": 0,
    "device_level": [
        {"metrics_type": "XPUM_STATS_POWER", "value": 44.69},
        {"metrics_type": "XPUM_STATS_MEMORY_USED", "value": 229.1875},
    ],
    "tile_level": [
        {
            "tile_id": 0,
            "data_list": [
                {"metrics_type": "XPUM_STATS_GPU_FREQUENCY", "value": 1550},
                {"metrics_type": "XPUM_STATS_GPU_CORE_TEMPERATURE", "value": 53.0},
                {"metrics_type": "XPUM_STATS_GPU_UTILIZATION", "value": 98.5},
            ],
        }
    ],
}


def shape(current: float) -> dict[str, float]:
    return {"avg": 0.0, "min": 0.0, "max": 0.0, "current": current}


STATS_2 = {
    "device_index": 0,
    "pci_bdf": BUS,
    "power": {"gpu_power_w": {"tile_0": shape(44.69)}, "energy_consumed_j": 4.5},
    "frequency": {"gpu_frequency_mhz": {"tile_0": shape(1550)}},
    "temperature": {"gpu_core_celsius": {"tile_0": shape(53.0)}},
    "memory": {"used_mib": {"tile_0": shape(229.1875)}},
    "utilization": {"gpu_percent": {"tile_0": 98.5}},
}


@pytest.mark.parametrize("stats", [STATS_1, STATS_2, [STATS_2]], ids=["1.x", "2.x", "2.x-list"])
def test_both_forms_of_statistics_are_read(stats: object) -> None:
    answers = {"discovery -j": listed(b60()), "stats -d 0 -j": json.dumps(stats)}
    probe = tool(answers)
    accelerator = found(probe)
    with probe.watching(accelerator) as watcher:
        assert watcher is not None
        assert watcher.source == "xpu-smi"
        (one,) = watcher.look()
    assert one == Condition(
        uuid=accelerator.devices[0].uuid,
        power_w=44.69,
        clock_mhz=1550.0,
        temperature_c=53.0,
        memory_used_bytes=round(229.1875 * 2**20),
        utilisation=0.985,
    )
    assert probe.memory_in_use(accelerator) == one.memory_used_bytes


def tile(**figures: float) -> dict[str, object]:
    rows = [{"metrics_type": f"XPUM_STATS_{name}", "value": n} for name, n in figures.items()]
    return {"data_list": rows}


def test_power_and_memory_of_tiles_add_up() -> None:
    (of_tiles, of_card, unsure) = (
        by_tool(lambda _, stats=stats: json.dumps(stats), [one_card()])()[0]  # type: ignore[misc]
        for stats in (
            {"tile_level": [TILE, TILE]},
            {"device_level": tile(POWER=500)["data_list"], "tile_level": [TILE, TILE]},
            {"tile_level": [TILE, tile(POWER=200)]},
        )
    )
    assert (of_tiles.power_w, of_tiles.memory_used_bytes) == (400, 6 << 30)
    assert (of_card.power_w, of_tiles.clock_mhz) == (500, 1550)
    assert (unsure.power_w, unsure.memory_used_bytes) == (400, None)


TILE = tile(POWER=200, MEMORY_USED=3072, GPU_FREQUENCY=1550)


def one_card() -> Device:
    return Device(vendor="intel", product="X", index=0, uuid="XPU-0", details={"smi_index": 0})


@pytest.mark.parametrize("text", ["", "Error: no device", "[]", '{"error": "device not found"}'])
def test_without_statistics_nothing_is_watched(text: str) -> None:
    probe = tool({"discovery -j": listed(b60()), "stats -d 0 -j": text})
    accelerator = found(probe)
    with probe.watching(accelerator) as watcher:
        assert watcher is None
    assert probe.memory_in_use(accelerator) is None


def test_what_hangs_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is up and waits to be measured meanwhile."""
    waited: list[float] = []

    def never(seconds: float, _: object) -> None:
        waited.append(seconds)

    monkeypatch.setattr(intel_conditions, "within", never)
    with tool({"stats -d 0 -j": "{}"}).watching(Accelerator(devices=(one_card(),), source="x")) as (
        watcher
    ):
        assert watcher is None
    assert len(waited) == 2
    assert sum(waited) <= 10


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from([*STATS_1, *STATS_2]), JSON))
def test_no_statistics_break_the_look(stats: dict[str, Any]) -> None:
    device = Device(vendor="intel", product="X", index=0, uuid="XPU-0", details={"smi_index": 0})
    assert len(by_tool(lambda _: json.dumps(stats), [device])()) <= 1


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "product", "rank"),
    [
        ("Arc B580", "Intel(R) Arc(TM) B580 Graphics", 2),
        ("B580", "Intel(R) Arc(TM) B580 Graphics", 2),
        ("Arc Pro B60", "Intel(R) Arc(TM) Pro B60 Graphics", 2),
        ("Max 1550", "Intel(R) Data Center GPU Max 1550", 2),
        ("Data Center GPU Max 1550", "Intel(R) Data Center GPU Max 1550", 2),
        ("Max 1100", "Intel(R) Data Center GPU Max 1550", None),
        ("Flex 140", "Intel(R) Data Center GPU Flex 170", None),
        ("B60", "Intel(R) Arc(TM) Pro B60 Graphics", None),
        ("xpu", "Intel(R) Arc(TM) B580 Graphics", 1),
        ("intel", "Intel(R) Arc(TM) B580 Graphics", 1),
        ("cuda", "Intel(R) Arc(TM) B580 Graphics", None),
    ],
)
def test_names_of_intels_products(on: str, product: str, rank: int | None) -> None:
    device = Device(vendor="intel", product=product, index=0, uuid="u")
    assert names.match_rank(on, Accelerator(devices=(device,), source="test")) == rank
