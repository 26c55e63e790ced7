from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators import host
from pytest_llmperf.accelerators.base import run_tool
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.accelerators.cpu import CpuProbe
from pytest_llmperf.accelerators.detect import detect, memory_in_use, watching
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor


@dataclass
class Canned:
    """A probe with a given answer that counts how often it is asked."""

    vendor: Vendor
    product: str | None = None
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        self.asked.append(env)
        return made(self.vendor, self.product) if self.product else None

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        return accelerator.count

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:
        look = Condition(uuid=accelerator.devices[0].uuid)
        return nullcontext(Watcher(look=lambda: [look], period_s=0.01))


def made(vendor: Vendor, product: str, *details: Mapping[str, Scalar]) -> Accelerator:
    devices = tuple(
        Device(
            vendor=vendor,
            product=product,
            index=index,
            uuid=f"{vendor}-{index}",
            memory_bytes=80 << 30,
            details=detail,
        )
        for index, detail in enumerate(details or ({},))
    )
    return Accelerator(devices=devices, source="test")


def test_the_first_that_answers_is_taken() -> None:
    chain = [Canned("nvidia"), Canned("amd", "AMD Instinct MI300X"), Canned("cpu", "AMD EPYC")]
    assert detect(env={}, among=chain).product == "AMD Instinct MI300X"
    assert not chain[2].asked


def test_probes_see_the_servers_environment() -> None:
    probe = Canned("cpu", "AMD EPYC")
    detect(env={"CUDA_VISIBLE_DEVICES": "3"}, among=[probe])
    assert probe.asked == [{"CUDA_VISIBLE_DEVICES": "3"}]


@pytest.mark.parametrize(
    ("word", "product"), [("cpu", "AMD EPYC"), ("CPU", "AMD EPYC"), ("cuda", "NVIDIA L4")]
)
def test_a_vendor_that_is_asked_for_is_taken(word: str, product: str) -> None:
    chain = [Canned("nvidia", "NVIDIA L4"), Canned("cpu", "AMD EPYC")]
    assert detect(word, env={}, among=chain).product == product


def test_asking_for_what_is_absent_says_what_is_here() -> None:
    chain = [Canned("nvidia", "NVIDIA L4"), Canned("amd"), Canned("cpu", "AMD EPYC")]
    with pytest.raises(UsageMistake) as caught:
        detect("rocm", env={"HIP_VISIBLE_DEVICES": ""}, among=chain)
    said = str(caught.value)
    assert "asked for the accelerator 'rocm', but no amd device was found here" in said
    assert "(HIP_VISIBLE_DEVICES may hide some)" in said
    assert "found: 1× NVIDIA L4 and 1× AMD EPYC." in said


def test_an_unknown_word_is_a_mistake() -> None:
    with pytest.raises(UsageMistake, match="unknown accelerator 'tpu'; write one of cpu, nvidia"):
        detect("tpu", env={}, among=[])


def test_memory_in_use_asks_the_vendor() -> None:
    chain = [Canned("nvidia", "NVIDIA L4"), Canned("amd", "AMD Instinct MI300X")]
    assert memory_in_use(made("amd", "AMD Instinct MI300X", {}, {}), among=chain) == 2
    assert memory_in_use(made("cpu", "AMD EPYC")) is None
    assert memory_in_use(made("remote", "SambaNova SN40L")) is None


def test_the_vendor_is_watched_and_nobody_else() -> None:
    chain = [Canned("nvidia", "NVIDIA L4"), Canned("amd", "AMD Instinct MI300X")]
    with watching(made("amd", "AMD Instinct MI300X"), among=chain) as watcher:
        assert watcher is not None
        assert [condition.uuid for condition in watcher.look()] == ["amd-0"]
    with watching(made("remote", "SambaNova SN40L")) as watcher:
        assert watcher is None


def test_this_hosts_processor_is_always_found() -> None:
    first, again = detect("cpu"), detect("cpu")
    assert first == again
    assert first.vendor == "cpu"
    assert first.devices[0].uuid.startswith("CPU-")
    assert first.devices[0].memory_bytes
    assert CpuProbe().memory_in_use(first) is None


def test_detection_never_imports_torch() -> None:
    code = "import sys; from pytest_llmperf.accelerators.detect import detect; detect(); " + (
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tool_that_fails_or_is_absent_is_no_answer() -> None:
    assert run_tool(["no-such-tool-anywhere"]) is None
    assert run_tool([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert run_tool([sys.executable, "-c", "print('fine')"]) == "fine\n"


# --- the host --------------------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    directory = tmp_path / "proc"
    (directory / "self").mkdir(parents=True)
    (directory / "meminfo").write_text("MemTotal:       67108864 kB\nMemFree:  1 kB\n")
    (directory / "self" / "cgroup").write_text("0::/user.slice/job\n")
    return directory


def group(root: Path, place: str, **files: str) -> None:
    directory = root / place
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n")


def test_the_processors_name_is_read(proc: Path) -> None:
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Intel(R) Xeon(R) 6979P\n")
    assert host.cpu_model(lambda _: None, proc) == "Intel(R) Xeon(R) 6979P"


def test_on_arm_another_tool_knows_the_name(proc: Path) -> None:
    (proc / "cpuinfo").write_text("processor\t: 0\nCPU implementer\t: 0x48\n")
    said = "Architecture: aarch64\nModel name:   Kunpeng-920\n"
    assert host.cpu_model(lambda argv: said if argv == ["lscpu"] else None, proc) == "Kunpeng-920"
    assert host.cpu_model(lambda _: None, proc).endswith(" processor")


def test_the_tightest_limit_of_the_groups_counts(proc: Path, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, "user.slice", cpu__max="150000 100000", memory__max=str(32 << 30))
    group(root, "user.slice/job", cpu__max="max 100000", memory__max=str(48 << 30))
    bounds = host.limits(proc, root)
    assert (bounds.cpus, bounds.memory_bytes) == (1.5, 32 << 30)


def test_no_limit_is_none(proc: Path, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root, "user.slice/job", cpu__max="max 100000", memory__max="max")
    assert host.limits(proc, root) == host.Limits(cpus=None, memory_bytes=None)


def test_groups_of_version_one_are_understood(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n")
    root = tmp_path / "cgroup"
    group(root, "cpu,cpuacct/box", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    group(root, "cpu,cpuacct", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    group(root, "memory/box", memory__limit_in_bytes="9223372036854771712")
    assert host.limits(proc, root) == host.Limits(cpus=4.0, memory_bytes=None)


def test_in_a_container_the_root_group_is_its_own(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/docker/0123abcd\n")
    root = tmp_path / "cgroup"
    group(root, ".", cpu__max="200000 100000", memory__max="max")
    assert host.limits(proc, root).cpus == 2.0


def test_threads_per_core_and_governor(tmp_path: Path) -> None:
    (tmp_path / "cpu0" / "topology").mkdir(parents=True)
    (tmp_path / "cpu0" / "topology" / "thread_siblings_list").write_text("0,64\n")
    (tmp_path / "cpu0" / "cpufreq").mkdir()
    (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text("performance\n")
    assert host.threads_per_core(tmp_path) == 2
    assert host.governor(tmp_path) == "performance"
    assert host.threads_per_core(tmp_path / "absent") is None


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(), st.text(alphabet="0123456789max- \n"), st.text(alphabet="0123456789max-"))
def test_no_file_of_the_kernel_breaks_it(
    proc: Path, tmp_path: Path, cgroup: str, cpu: str, memory: str
) -> None:
    root = tmp_path / "cgroup"
    (proc / "self" / "cgroup").write_text(f"0::/\n{cgroup}\n", errors="replace")
    (proc / "cpuinfo").write_text(cgroup, errors="replace")
    group(root, ".", cpu__max=cpu, memory__max=memory)
    bounds = host.limits(proc, root)
    assert bounds.cpus is None or bounds.cpus > 0
    assert host.cpu_model(lambda _: None, proc)
