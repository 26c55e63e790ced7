from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_llmperf.accelerators import host
from pytest_llmperf.accelerators.fingerprint import beneath, block, environment
from pytest_llmperf.accelerators.fingerprint import host as host_facts
from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

H100: dict[str, Scalar] = {
    "driver": "570.124.06",
    "power_limit_w": 700.0,
    "mig": False,
    "ecc": True,
    "max_sm_clock_mhz": 1980.0,
    "vbios": "96.00.A5.00.01",
}


def made(
    vendor: Vendor, product: str, *details: Mapping[str, Scalar], gib: float = 80
) -> Accelerator:
    devices = tuple(
        Device(
            vendor=vendor,
            product=product,
            index=index,
            uuid=f"{vendor}-{index}",
            memory_bytes=round(gib * 2**30),
            details=detail,
        )
        for index, detail in enumerate(details or ({},))
    )
    return Accelerator(devices=devices, source="test")


def test_the_environment_says_what_must_match() -> None:
    facts = environment(made("nvidia", "NVIDIA H100 80GB HBM3", H100, H100))
    assert facts["vendor"] == "nvidia"
    assert facts["product"] == "NVIDIA H100 80GB HBM3"
    assert (facts["count"], facts["memory_gib"]) == (2, 80)
    assert (facts["power_limit_w"], facts["mig"], facts["ecc"]) == (700, False, True)
    assert "driver" not in facts
    assert "vbios" not in facts
    assert facts["cpu_cores_allowed"] == len(host.cores_allowed())


def test_devices_that_differ_do_not_pass_for_equal() -> None:
    facts = environment(made("nvidia", "X", {"power_limit_w": 700.0}, {"power_limit_w": 500.0}))
    assert facts["power_limit_w"] == "700, 500"


@pytest.mark.parametrize(
    "other",
    [
        made("nvidia", "NVIDIA H100 PCIe", H100),
        made("nvidia", "NVIDIA H100 NVL", H100, gib=94),
        made("nvidia", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", H100, gib=10),
        made("nvidia", "NVIDIA H100 80GB HBM3", H100, H100),
        made("nvidia", "NVIDIA H100 80GB HBM3", {**H100, "power_limit_w": 500.0}),
        made("nvidia", "NVIDIA H100 80GB HBM3", {**H100, "mig": True}),
        made("amd", "NVIDIA H100 80GB HBM3", H100),
    ],
)
def test_what_is_not_the_same_hardware_differs(other: Accelerator) -> None:
    assert environment(other) != environment(made("nvidia", "NVIDIA H100 80GB HBM3", H100))


def test_a_partition_is_part_of_it() -> None:
    whole: dict[str, Scalar] = {"compute_partition": "SPX", "memory_partition": "NPS1"}
    facts = environment(made("amd", "AMD Instinct MI300X", whole))
    assert (facts["compute_partition"], facts["memory_partition"]) == ("SPX", "NPS1")


@pytest.mark.parametrize("watts", [449.7, 450.0, 452.2])
def test_fractions_of_a_watt_are_one_class(watts: float) -> None:
    facts = environment(made("nvidia", "NVIDIA GeForce RTX 4090", {"power_limit_w": watts}))
    assert facts["power_limit_w"] == 450


@pytest.mark.parametrize("watts", [285, 300, 320, 339, 355, 450, 575, 600, 700, 750])
def test_no_class_begins_at_a_cap_that_cards_have(watts: float) -> None:
    keys = [
        environment(made("nvidia", "X", {"power_limit_w": watts + off}))["power_limit_w"]
        for off in (-0.9, -0.01, 0, 0.01, 0.9)
    ]
    assert len(set(keys)) == 1


def test_an_unknown_cap_is_not_the_same_as_a_known_one() -> None:
    facts = environment(made("nvidia", "NVIDIA T400", {"power_limit_w": None}))
    assert facts["power_limit_w"] is None


def test_on_a_processor_the_number_of_pinned_cores_counts() -> None:
    here = made("cpu", "AMD EPYC")
    assert environment(here)["cpu_cores_pinned"] is None
    assert environment(here, pinned=(0, 1, 2))["cpu_cores_pinned"] == 3
    assert environment(here, pinned=(4, 5, 6)) == environment(here, pinned=(0, 1, 2))
    assert "cpu_cores_pinned" not in environment(made("nvidia", "NVIDIA L4"))


def test_a_remote_endpoint_has_nothing_of_this_host() -> None:
    assert set(environment(made("remote", "SambaNova SN40L"))) == {
        "vendor",
        "product",
        "count",
        "memory_gib",
    }


def test_a_block_is_the_machine_and_its_devices() -> None:
    here = made("nvidia", "NVIDIA L4", H100, H100)
    turned = Accelerator(devices=here.devices[::-1], source="other")
    assert block(here) == {"machine": host.machine_id(), "devices": "nvidia-0, nvidia-1"}
    assert block(turned) == block(here)
    assert block(made("nvidia", "NVIDIA L4", H100)) != block(here)


def test_the_block_of_an_endpoint_is_not_this_machine() -> None:
    assert block(made("remote", "SambaNova SN40L")) == {"machine": None, "devices": "remote-0"}


def test_beneath_a_server_lie_driver_and_kernel() -> None:
    facts = beneath(made("nvidia", "NVIDIA L4", H100))
    assert (facts["driver"], facts["vbios"]) == ("570.124.06", "96.00.A5.00.01")
    assert facts["kernel"]
    assert "driver" not in beneath(made("cpu", "AMD EPYC"))
    assert beneath(made("remote", "SambaNova SN40L")) == {}


def test_the_hosts_facts_are_plain_values() -> None:
    facts = host_facts()
    assert facts["hostname"]
    assert facts["memory_gib"]
    assert all(isinstance(value, str | int | float | None) for value in facts.values())
