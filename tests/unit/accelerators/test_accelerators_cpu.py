"""What the host's processor says of itself: energy, heat, clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf import clock
from pytest_llmperf.accelerators import cpu_conditions
from pytest_llmperf.accelerators.cpu import CpuProbe
from pytest_llmperf.accelerators.cpu_conditions import Processor


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of which every reading is a second after the one before."""
    readings = iter(range(1_000_000_000, 10**12, 1_000_000_000))
    monkeypatch.setattr(clock, "now_ns", lambda: next(readings))


def write(root: Path, **files: int | str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


def package(root: Path, number: int, microjoules: int) -> Path:
    zone = root / "powercap" / f"intel-rapl:{number}"
    write(zone, name=f"package-{number}", energy_uj=microjoules, max_energy_range_uj=1_000_000_000)
    return zone


def processor(root: Path, *cores: int) -> Processor:
    return Processor(
        uuid="CPU-0",
        cores=cores or (0, 1),
        powercap=root / "powercap",
        cpus=root / "cpu",
        hwmon=root / "hwmon",
    )


@pytest.mark.usefixtures("ticks")
def test_energy_is_that_of_all_packages(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 10_000_000), package(tmp_path, 1, 0)
    write(tmp_path / "powercap" / "intel-rapl:0:0", name="core", energy_uj=77)
    write(tmp_path / "powercap" / "intel-rapl:2", name="psys", energy_uj=77)
    seen = processor(tmp_path)
    assert seen.tells
    assert seen.look()[0].power_w is None
    write(first, energy_uj=40_000_000)
    write(second, energy_uj=20_000_000)
    (one,) = seen.look()
    assert (one.energy_j, one.power_w, one.power_over_s) == (50.0, 50.0, 1.0)
    assert one.power_derived


@pytest.mark.usefixtures("ticks")
def test_a_counter_that_runs_over_goes_on(tmp_path: Path) -> None:
    zone = package(tmp_path, 0, 990_000_000)
    seen = processor(tmp_path)
    seen.look()
    write(zone, energy_uj=5_000_000)
    assert seen.look()[0].energy_j == pytest.approx(15.0)


def test_energy_that_only_root_may_read_is_unknown(tmp_path: Path) -> None:
    zone = package(tmp_path, 0, 1)
    (zone / "energy_uj").unlink()
    assert not processor(tmp_path).tells
    assert processor(tmp_path).look()[0].energy_j is None


def test_heat_that_slows_a_core_is_counted(tmp_path: Path) -> None:
    for core, whole in ((0, 0), (1, 0), (2, 1)):
        write(
            tmp_path / "cpu" / f"cpu{core}",
            thermal_throttle__core_throttle_count=3,
            thermal_throttle__package_throttle_count=5,
            topology__physical_package_id=whole,
            cpufreq__scaling_cur_freq=2_800_000,
        )
    seen = processor(tmp_path, 0, 1)
    assert seen.look()[0].slowed == ()
    assert seen.look()[0].slowed == ()
    write(tmp_path / "cpu" / "cpu1", thermal_throttle__core_throttle_count=4)
    (one,) = seen.look()
    assert (one.slowed, one.clock_mhz) == (("thermal throttling",), 2800.0)
    # Of a core that is not ours, nothing.
    write(tmp_path / "cpu" / "cpu2", thermal_throttle__core_throttle_count=9)
    assert seen.look()[0].slowed == ()


@pytest.mark.parametrize("driver", ["coretemp", "k10temp"])
def test_the_processors_sensor_is_found_among_others(tmp_path: Path, driver: str) -> None:
    write(tmp_path / "hwmon" / "hwmon0", name="nvme", temp1_input=30_000)
    write(tmp_path / "hwmon" / "hwmon1", name=driver, temp1_input=71_500)
    assert processor(tmp_path).look()[0].temperature_c == 71.5


@pytest.mark.parametrize("told", [True, False])
def test_a_processor_that_tells_nothing_is_not_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    if told:
        package(tmp_path, 0, 1)
    monkeypatch.setattr(
        cpu_conditions, "Processor", lambda uuid, cores: processor(tmp_path, *cores)
    )
    probe = CpuProbe(run=lambda _: None)
    accelerator = probe.find({})
    assert accelerator is not None
    with probe.watching(accelerator) as watcher:
        assert (watcher is not None) is told
