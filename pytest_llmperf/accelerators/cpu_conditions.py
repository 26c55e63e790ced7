"""What the host's processor says of itself under load, as far as the kernel lets one read it.

Energy is that of all packages (RAPL), which since Linux 5.10 only root may read and most virtual
machines do not have. Cores count how often heat slowed them (``thermal_throttle``, on Intel).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf import clock

from . import host
from .base import read_number, read_text
from .conditions import Condition

PERIOD_S = 1.0
_POWERCAP, _CPUS = Path("/sys/class/powercap"), Path("/sys/devices/system/cpu")
_HWMON = Path("/sys/class/hwmon")
#: The sensors of a processor: of Intel's, and of AMD's.
_SENSORS = frozenset({"coretemp", "k10temp", "zenpower"})


@dataclass(slots=True, kw_only=True)
class Processor:
    """The processor's counters; the parameters are replaced in tests."""

    uuid: str
    cores: Sequence[int]
    powercap: Path = _POWERCAP
    cpus: Path = _CPUS
    hwmon: Path = _HWMON
    _joules: float = 0.0
    _last: dict[Path, int] = field(default_factory=dict)
    _at_ns: int | None = None
    _counted: int | None = None
    _counters: Sequence[Path] | None = None

    @property
    def tells(self) -> bool:
        """Whether there is anything to look at for."""
        return self._energy() is not None or self._throttles() is not None

    def look(self) -> list[Condition]:
        at_ns, before_j = clock.now_ns(), self._joules
        energy_j = self._energy()
        spent_s = 0.0 if self._at_ns is None else (at_ns - self._at_ns) / 1e9
        counted, earlier = self._throttles(), self._counted
        hotter = counted is not None and earlier is not None and counted > earlier
        self._at_ns, self._counted = at_ns, counted
        power_w = None
        if energy_j is not None and spent_s > 0:
            power_w = (energy_j - before_j) / spent_s
        return [
            Condition(
                uuid=self.uuid,
                slowed=("thermal throttling",) if hotter else (),
                energy_j=energy_j,
                power_w=power_w,
                power_over_s=0.0 if power_w is None else spent_s,
                power_derived=power_w is not None,
                temperature_c=self._temperature(),
                clock_mhz=self._clock(),
                at_ns=at_ns,
            )
        ]

    def _energy(self) -> float | None:
        """Joules since the first look. The counters run over within minutes under load."""
        zones = [zone for zone in self.powercap.glob("intel-rapl:*") if zone.name.count(":") == 1]
        packages = [
            zone for zone in zones if (read_text(zone / "name") or "").startswith("package")
        ]
        if not packages:
            return None
        for zone in packages:
            now = read_number(zone / "energy_uj")
            if now is None:
                return None
            grown = now - self._last.get(zone, now)
            if grown < 0:
                grown += read_number(zone / "max_energy_range_uj") or 0
            self._joules += max(grown, 0) / 1e6
            self._last[zone] = now
        return self._joules

    def _throttles(self) -> int | None:
        """How often the cores and packages were slowed since the machine started."""
        if self._counters is None:
            self._counters = [
                file for file in self._all_counters() if read_number(file) is not None
            ]
        counts = [read_number(file) or 0 for file in self._counters]
        return sum(counts) if counts else None

    def _all_counters(self) -> Iterator[Path]:
        packages: set[str | None] = set()
        for core in self.cores:
            yield self._of(core, "thermal_throttle/core_throttle_count")
            package = read_text(self._of(core, "topology/physical_package_id"))
            if package not in packages:
                # All cores of a package tell the same.
                packages.add(package)
                yield self._of(core, "thermal_throttle/package_throttle_count")

    def _temperature(self) -> float | None:
        for sensors in sorted(self.hwmon.glob("hwmon*")):
            if read_text(sensors / "name") in _SENSORS:
                value = read_number(sensors / "temp1_input")
                return None if value is None else value / 1000
        return None

    def _clock(self) -> float | None:
        """That of the first core that we may use; asking all of a large machine costs too much."""
        value = read_number(self._of(self.cores[0], "cpufreq/scaling_cur_freq"))
        return None if value is None else value / 1000

    def _of(self, core: int, name: str) -> Path:
        return self.cpus / f"cpu{core}" / name


def looker(uuid: str) -> Callable[[], list[Condition]] | None:
    """Looks at this host's processor; ``None`` where it tells nothing."""
    processor = Processor(uuid=uuid, cores=host.cores_allowed())
    return processor.look if processor.tells else None
