from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators.nvidia import (
    FIELDS,
    MORE_FIELDS,
    NvidiaProbe,
    devices_from_proc,
    devices_from_rows,
    parse_csv,
    parse_memory_used,
    parse_slices,
)
from pytest_llmperf.records import Accelerator

H100 = """\
0, GPU-6b5bd5a1-0f5c-4a2e-9d5a-0c6a1f1d2e30, NVIDIA H100 80GB HBM3, 81559, 570.124.06, 700.00, \
Disabled, Enabled, 1980, 96.00.A5.00.01
1, GPU-77f0c3a9-6a51-43d0-8f0e-51f5b0d9a4c7, NVIDIA H100 80GB HBM3, 81559, 570.124.06, 700.00, \
Disabled, Enabled, 1980, 96.00.A5.00.01
"""
DESKTOP = """\
0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA T400, 2048, 550.54.15, [N/A], [N/A], [N/A], \
1425, 90.17.59.00.18
1, GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee, NVIDIA GeForce RTX 4090, 24564, 550.54.15, 450.00, \
[N/A], [N/A], 3105, 95.02.3C.40.90
"""


def no_binding(name: str) -> ModuleType:
    raise ImportError(name)


def smi(answer: str | None) -> NvidiaProbe:
    def run(argv: Sequence[str]) -> str | None:
        assert argv[0] == "nvidia-smi"
        return answer

    return NvidiaProbe(run=run, load=no_binding)


def found(probe: NvidiaProbe, **env: str) -> Accelerator:
    accelerator = probe.find(env)
    assert accelerator is not None
    return accelerator


def test_the_table_becomes_devices() -> None:
    accelerator = found(smi(H100))
    assert (accelerator.count, accelerator.source) == (2, "nvidia-smi")
    first = accelerator.devices[0]
    assert first.product == "NVIDIA H100 80GB HBM3"
    assert first.uuid == "GPU-6b5bd5a1-0f5c-4a2e-9d5a-0c6a1f1d2e30"
    assert first.memory_bytes == 81559 * 2**20
    assert first.details["driver"] == "570.124.06"
    assert first.details["power_limit_w"] == 700.0
    assert (first.details["mig"], first.details["ecc"]) == (False, True)


def test_what_a_card_does_not_know_is_unknown() -> None:
    details = found(smi(DESKTOP), CUDA_VISIBLE_DEVICES="0").devices[0].details
    assert (details["power_limit_w"], details["mig"], details["ecc"]) == (None, None, None)


def test_of_two_products_the_one_with_more_memory_counts() -> None:
    accelerator = found(smi(DESKTOP))
    assert [device.product for device in accelerator.devices] == ["NVIDIA GeForce RTX 4090"]


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        ("GPU-77f0", [1]),
        ("GPU-77f0c3a9-6a51-43d0-8f0e-51f5b0d9a4c7, 0", [1, 0]),
        ("0,7,1", [0]),
    ],
)
def test_the_variable_chooses(chosen: str, indices: list[int]) -> None:
    accelerator = found(smi(H100), CUDA_VISIBLE_DEVICES=chosen)
    assert [device.index for device in accelerator.devices] == indices


@pytest.mark.parametrize("chosen", ["", "-1", "5", "GPU-nobody", "GPU-"])
def test_a_choice_of_nothing_hides_all(chosen: str) -> None:
    assert smi(H100).find({"CUDA_VISIBLE_DEVICES": chosen}) is None


@pytest.mark.parametrize("answer", [None, "", "NVIDIA-SMI has failed because it could not ...\n"])
def test_no_tool_no_device(answer: str | None) -> None:
    assert smi(answer).find({}) is None


def test_warnings_between_the_rows_are_left_out() -> None:
    assert len(parse_csv("WARNING: infoROM is corrupted at gpu 0000:1B:00.0\n" + H100)) == 2


def test_memory_in_use_is_of_the_devices_used() -> None:
    accelerator = found(smi(H100), CUDA_VISIBLE_DEVICES="1")
    table = f"GPU-6b5bd5a1-0f5c-4a2e-9d5a-0c6a1f1d2e30, 5000\n{accelerator.devices[0].uuid}, 17\n"
    assert smi(table).memory_in_use(accelerator) == 17 * 2**20


def test_memory_in_use_is_unknown_when_a_device_is_missing() -> None:
    assert parse_memory_used("GPU-a, 1\n", ["GPU-a", "GPU-b"]) is None
    assert parse_memory_used("GPU-a, [N/A]\n", ["GPU-a"]) is None


# --- NVML ------------------------------------------------------------------------------------


class NvmlError(Exception):
    pass


class FakeNvml(ModuleType):
    """Two L40S and a slice of an H100; knows no ECC mode."""

    NVMLError = NvmlError
    NVML_CLOCK_SM = 1

    def __init__(self, *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.driver = driver
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NvmlError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: f"GPU-{index}",
            "nvmlDeviceGetHandleByUUID": self.by_uuid,
            "nvmlDeviceGetUUID": lambda handle: handle.encode(),
            "nvmlDeviceGetName": self.name_of,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=46068 * 2**20, used=2**20),
            "nvmlSystemGetDriverVersion": lambda: b"560.35.03",
            "nvmlDeviceGetPowerManagementLimit": lambda _: 350_000,
            "nvmlDeviceGetMigMode": lambda _: [0, 0],
            "nvmlDeviceGetEccMode": self.unknown,
            "nvmlDeviceGetMaxClockInfo": lambda _handle, _clock: 2520,
            "nvmlDeviceGetVbiosVersion": lambda _: "95.02.66.00.02",
        }
        if name not in answers:  # as of an older binding
            raise AttributeError(name)
        return answers[name]

    @staticmethod
    def by_uuid(uuid: str) -> str:
        if "gone" in uuid:
            raise NvmlError("Not Found")
        return uuid

    @staticmethod
    def name_of(handle: str) -> str:
        return "NVIDIA L40S" if handle.startswith("GPU") else "NVIDIA H100 80GB HBM3 MIG 1g.10gb"

    @staticmethod
    def unknown(_handle: str) -> list[int]:
        raise NvmlError("Not Supported")


def nvml(module: FakeNvml) -> NvidiaProbe:
    return NvidiaProbe(run=lambda _: None, load=lambda _: module)


def test_nvml_gives_the_same_facts() -> None:
    module = FakeNvml()
    accelerator = found(nvml(module), CUDA_VISIBLE_DEVICES="1")
    device = accelerator.devices[0]
    assert (accelerator.source, device.uuid, device.index) == ("nvml", "GPU-1", 1)
    assert device.product == "NVIDIA L40S"
    assert device.memory_bytes == 46068 * 2**20
    assert device.details["power_limit_w"] == 350.0
    assert device.details["ecc"] is None
    assert device.details["mig"] is False
    assert nvml(module).memory_in_use(accelerator) == 2**20
    assert module.open == 0


def test_a_slice_chosen_by_uuid_is_the_device() -> None:
    accelerator = found(nvml(FakeNvml()), CUDA_VISIBLE_DEVICES="MIG-abc")
    assert accelerator.product == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert nvml(FakeNvml()).find({"CUDA_VISIBLE_DEVICES": "MIG-gone"}) is None


def test_without_a_driver_the_tool_is_asked() -> None:
    probe = NvidiaProbe(run=lambda _: H100, load=lambda _: FakeNvml(driver=False))
    assert found(probe).source == "nvidia-smi"


# --- what more is good to know ---------------------------------------------------------------

#: The same two cards, asked with all columns (driver 570, the columns' names from its help).
MORE = "".join(
    f"{line}, 700.00, {persistence}, 00000000:{bus}:00.0\n"
    for line, persistence, bus in zip(
        H100.splitlines(), ("Enabled", "Disabled"), ("1B", "43"), strict=True
    )
)


def answering(answers: Mapping[str, str]) -> NvidiaProbe:
    """By the first word after ``nvidia-smi``; anything else fails, as an unknown column does."""
    return NvidiaProbe(run=lambda argv: answers.get(argv[1]), load=no_binding)


def query(fields: Sequence[str]) -> str:
    return f"--query-gpu={','.join(fields)}"


def test_default_cap_and_persistence_are_told() -> None:
    first, second = found(answering({query(MORE_FIELDS): MORE})).devices
    assert first.details["power_default_w"] == 700.0
    assert (first.details["persistence"], second.details["persistence"]) == (True, False)
    assert first.details["bus"] == "00000000:1B:00.0"


def test_a_driver_that_does_not_know_them_is_asked_for_less() -> None:
    (first, _) = found(smi(H100)).devices
    assert first.details["power_default_w"] is None


# --- MIG -------------------------------------------------------------------------------------

#: The form of NVIDIA's MIG User Guide (r450 and later); a card in MIG mode, and its slices.
SLICED = H100.replace("Disabled, Enabled", "Enabled, Enabled", 1)
LISTED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-6b5bd5a1-0f5c-4a2e-9d5a-0c6a1f1d2e30)
  MIG 3g.40gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.10gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-77f0c3a9-6a51-43d0-8f0e-51f5b0d9a4c7)
"""


def sliced(**env: str) -> Accelerator | None:
    return answering({query(FIELDS): SLICED, "-L": LISTED}).find(env)


@pytest.mark.parametrize(
    ("chosen", "product"),
    [
        ("0", "NVIDIA H100 80GB HBM3 MIG 3g.40gb"),
        ("MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        ("1", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_a_sliced_card_is_its_slice_and_never_the_whole(chosen: str, product: str) -> None:
    accelerator = sliced(CUDA_VISIBLE_DEVICES=chosen)
    assert accelerator is not None
    assert [device.product for device in accelerator.devices] == [product]


def test_a_sliced_card_without_slices_is_no_device() -> None:
    cards = devices_from_rows(parse_csv(SLICED))
    assert parse_slices("GPU 0: ... (UUID: GPU-x)\n", cards) == {}
    probe = answering({query(FIELDS): SLICED})
    assert probe.find({"CUDA_VISIBLE_DEVICES": "0"}) is None


class Sliced(FakeNvml):
    """Both cards in MIG mode; the first place is empty, the second holds a slice."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        more: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetMigMode": lambda handle: [int(handle.startswith("GPU")), 1],
            "nvmlDeviceGetMaxMigDeviceCount": lambda _: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": self.slice_of,
        }
        return more[name] if name in more else super().__getattr__(name)

    def slice_of(self, handle: str, index: int) -> str:
        if index != 1:
            raise NvmlError("Not Found")
        return f"MIG-of-{handle}"


def test_the_library_too_tells_the_slice_that_cuda_sees() -> None:
    accelerator = found(nvml(Sliced()))
    assert [device.uuid for device in accelerator.devices] == ["MIG-of-GPU-0"]
    assert accelerator.product == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert accelerator.devices[0].visible_as == "MIG-of-GPU-0"


# --- when the driver does not answer ---------------------------------------------------------


class Hanging(FakeNvml):
    over = threading.Event()

    def nvmlInit(self) -> None:  # noqa: N802
        self.over.wait()


def test_a_library_that_hangs_is_left_for_the_tool() -> None:
    probe = NvidiaProbe(run=lambda _: H100, load=lambda _: Hanging(), limit_s=0.05)
    accelerator = found(probe)
    assert accelerator.source == "nvidia-smi"
    # It is not waited for again.
    probe = NvidiaProbe(run=lambda _: None, load=lambda _: Hanging(), limit_s=60.0)
    assert probe.memory_in_use(accelerator) is None
    Hanging.over.set()


#: The driver's own file, one a card (README of the Linux driver, "The /proc Filesystem Interface").
INFORMATION = """\
Model: \t\t NVIDIA GeForce RTX 4090
IRQ:   \t\t 171
GPU UUID: \t GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee
Video BIOS: \t 95.02.3c.40.90
Bus Type: \t PCIe
Bus Location: \t 0000:01:00.0
GPU Excluded:\t No
"""


def proc(directory: Path, text: str) -> Path:
    card = directory / "gpus" / "0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text(text)
    return card.parent


def test_the_drivers_files_are_better_than_nothing(tmp_path: Path) -> None:
    probe = NvidiaProbe(run=lambda _: None, load=no_binding, proc=proc(tmp_path, INFORMATION))
    accelerator = found(probe)
    device = accelerator.devices[0]
    assert (accelerator.source, device.product) == ("procfs", "NVIDIA GeForce RTX 4090")
    assert device.uuid == "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    assert (device.memory_bytes, probe.memory_in_use(accelerator)) == (None, None)
    assert probe.find({"CUDA_VISIBLE_DEVICES": ""}) is None


def test_a_lost_card_does_not_hide_the_others() -> None:
    class Lost(FakeNvml):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            return self.handle if name.endswith("HandleByIndex") else super().__getattr__(name)

        @staticmethod
        def handle(index: int) -> str:
            if index == 0:
                raise NvmlError("GPU is lost")
            return f"GPU-{index}"

    assert [device.uuid for device in found(nvml(Lost())).devices] == ["GPU-1"]


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_is_a_device(text: str) -> None:
    assert devices_from_rows(parse_csv(text)) == []
    assert parse_slices(text, devices_from_rows(parse_csv(H100))) == {}
    assert parse_memory_used(text, ["GPU-x"]) is None


def test_no_file_is_a_device(tmp_path: Path) -> None:
    assert devices_from_proc(proc(tmp_path, "nonsense\n\0: x\n")) == []
