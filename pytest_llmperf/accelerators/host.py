"""The host and its processor, as far as this process may use them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from .base import RunTool, read_text, run_tool, whole

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
_KIB = 1024
_MODEL_FIELDS = ("model name", "Model Name", "cpu model", "Model")


def machine_id() -> str:
    """Short, stable for this machine, and telling nothing about it."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        text = read_text(path)
        if text:
            break
    else:
        text = socket.gethostname()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the control groups of this process allow; ``None`` for no limit.

    ``cpus`` is a number of CPUs and need not be whole.
    """

    cpus: float | None
    memory_bytes: int | None


def cpu_model(run: RunTool = run_tool, proc: Path = _PROC) -> str:
    """The processor's name; on Arm, where the kernel gives only numbers, as ``lscpu`` knows it."""
    fields = _fields(read_text(proc / "cpuinfo") or "")
    named = next((fields[name] for name in _MODEL_FIELDS if fields.get(name)), "")
    if not named:
        named = _fields(run(["lscpu"]) or "").get("Model name", "")
    if not named:
        named = (run(["sysctl", "-n", "machdep.cpu.brand_string"]) or "").strip()
    return named or f"{platform.machine()} processor"


def memory_total(proc: Path = _PROC) -> int:
    """Bytes of the host's memory."""
    amount = _fields(read_text(proc / "meminfo") or "").get("MemTotal", "")
    if match := re.match(r"(\d+) kB", amount):
        return int(match[1]) * _KIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores_allowed() -> tuple[int, ...]:
    """The CPUs that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def threads_per_core(cpus: Path = _CPUS) -> int | None:
    """Hardware threads of the first core; ``None`` where the kernel does not tell."""
    siblings = _expand(read_text(cpus / "cpu0" / "topology" / "thread_siblings_list") or "")
    return len(siblings) or None


def governor(cpus: Path = _CPUS) -> str | None:
    """How the first CPU's clock is governed; ``None`` in most virtual machines."""
    return read_text(cpus / "cpu0" / "cpufreq" / "scaling_governor")


def limits(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Limits:
    """The tightest limits from this process's control groups up to the root, version 1 or 2."""
    cpus: list[float] = []
    memory: list[int] = []
    for line in (read_text(proc / "self" / "cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, place = rest.partition(":")
        if not colon or not number.isdecimal():
            continue
        root = cgroups / controllers if controllers else cgroups
        for group in _upwards(root, place):
            cpus += _cpu_limit(group)
            memory += _memory_limit(group)
    total = memory_total(proc)
    bounds = [amount for amount in memory if amount < total]
    return Limits(cpus=min(cpus, default=None), memory_bytes=min(bounds, default=None))


def _upwards(root: Path, place: str) -> list[Path]:
    # In a container the place may be the host's, which is not mounted here: the root is.
    group = root / place.lstrip("/")
    return [path for path in (group, *group.parents) if path.is_relative_to(root)]


def _cpu_limit(group: Path) -> list[float]:
    if text := read_text(group / "cpu.max"):
        words = text.split()
    else:
        words = [
            read_text(group / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    # "max" in version 2 and -1 in version 1 are no limit.
    quota, period = (whole(word) for word in (*words, "", "")[:2])
    return [quota / period] if quota and period else []


def _memory_limit(group: Path) -> list[int]:
    limit = whole(read_text(group / "memory.max") or read_text(group / "memory.limit_in_bytes"))
    return [] if limit is None else [limit]


def _fields(text: str) -> dict[str, str]:
    """The first value of each "name : value" line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _expand(cpu_list: str) -> list[int]:
    """ "0-2,8" as [0, 1, 2, 8]."""
    numbers: list[int] = []
    for part in cpu_list.split(","):
        first, _, last = part.partition("-")
        begin, end = whole(first), whole(last or first)
        if begin is not None and end is not None:
            numbers += range(begin, end + 1)
    return numbers
