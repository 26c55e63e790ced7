"""What it costs to watch devices during a run, as a share of one core.

NVML is made up: each question goes through ctypes into the C library and back, as a binding's does,
and is answered with a constant, so this is all of the cost but the driver's own. With --real it is
asked of the devices that are here. Samples are taken through the thread that measured runs have,
as fast as they come; the CPU time of that thread over the number of samples, over the period of one
second between two, is the share. What is done with the samples after the run is told apart, for a
run of so many samples.

Prints JSON. Fails when a share is above the bound.

    python -m benchmarks.telemetry_cost
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from pytest_llmperf.accelerators.conditions import Watcher
from pytest_llmperf.accelerators.nvidia import NvidiaProbe
from pytest_llmperf.metrics.energy import Window
from pytest_llmperf.metrics.telemetry import reduce_looks
from pytest_llmperf.records import Accelerator, Device
from pytest_llmperf.session import watching

BOUND = 0.005
PERIOD_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--real", action="store_true", help="ask the devices that are here")
    chosen = parser.parse_args()
    found = list(measured(chosen))
    json.dump({"bound": BOUND, "period_s": PERIOD_S, "measured": found}, sys.stdout, indent=2)
    print()
    if any(entry["share_of_a_core"] > BOUND for entry in found):
        sys.exit(f"watching costs more than {BOUND:.1%} of a core")


def measured(chosen: argparse.Namespace) -> Any:
    if chosen.real:
        probe = NvidiaProbe()
        here = probe.find({})
        if here is None:
            sys.exit("there is no NVIDIA device here")
        yield entry(here, probe, chosen)
        return
    for count in chosen.devices:
        yield entry(cards(count), NvidiaProbe(load=lambda _: made_up()), chosen)


def entry(accelerator: Accelerator, probe: NvidiaProbe, chosen: argparse.Namespace) -> Any:
    """The median over repeats."""
    shares, after = [], []
    for _ in range(chosen.repeats):
        seen = watch(accelerator, probe, chosen.samples)
        shares.append(seen.cpu_s / len(seen.samples) / PERIOD_S)
        begun = time.process_time()
        stamps = [look[0].at_ns or 0 for look in seen.samples]
        window = Window(start_ns=stamps[1], end_ns=stamps[-2])
        reduce_looks(accelerator, seen.samples, window)
        after.append(time.process_time() - begun)
    return {
        "devices": accelerator.count,
        "source": "nvml" if chosen.real else "made up",
        "samples": chosen.samples,
        "share_of_a_core": round(statistics.median(shares), 6),
        "most": round(max(shares), 6),
        "after_the_run_s": round(statistics.median(after), 4),
    }


def watch(accelerator: Accelerator, probe: NvidiaProbe, samples: int) -> watching.Seen:
    """Through the thread of measured runs, without its rests."""
    enough = threading.Event()

    @contextmanager
    def hurried(_: Accelerator) -> Any:
        with probe.watching(accelerator) as watcher:
            if watcher is None:
                sys.exit("NVML does not answer")
            taken = iter(range(samples))

            def look() -> Any:
                if next(taken, None) is None:
                    enough.set()
                return watcher.look()

            yield Watcher(look=look, period_s=1e-6, source=watcher.source)

    with mock.patch.object(watching, "watching", hurried):
        with watching.watched(accelerator, list) as seen:
            enough.wait()
        return seen


# --- made up ---------------------------------------------------------------------------------


def cards(count: int) -> Accelerator:
    devices = (
        Device(vendor="nvidia", product="made up", index=index, uuid=f"GPU-{index:036d}")
        for index in range(count)
    )
    return Accelerator(devices=tuple(devices), source="nvml")


class _Value(ctypes.Union):
    _fields_ = (("uiVal", ctypes.c_uint), ("ullVal", ctypes.c_ulonglong))


class _Field(ctypes.Structure):
    _fields_ = (("fieldId", ctypes.c_uint), ("nvmlReturn", ctypes.c_uint), ("value", _Value))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Process(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_uint), ("usedGpuMemory", ctypes.c_ulonglong))


def made_up() -> Any:
    """NVML as far as it is asked; every question is one call into the C library."""
    library = ctypes.CDLL(None)

    def asks(answer: Callable[[], Any]) -> Callable[..., Any]:
        def ask(*_: Any) -> Any:
            kept = answer()
            # memset(it, 0, size): writes an answer where the caller has room for it
            library.memset(ctypes.byref(kept), 0, ctypes.sizeof(kept))
            return kept

        return ask

    def number(value: int) -> Callable[..., int]:
        ask = asks(ctypes.c_ulonglong)
        return lambda *_: int(ask().value) + value

    names: dict[str, Any] = {
        "NVMLError": type("NVMLError", (Exception,), {}),
        "NVML_SUCCESS": 0,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetCurrentClocksEventReasons": number(4),
        "nvmlDeviceGetClockInfo": number(1980),
        "nvmlDeviceGetTemperature": number(60),
        "nvmlDeviceGetPowerUsage": number(650_000),
        "nvmlDeviceGetTotalEnergyConsumption": number(10**9),
        "nvmlDeviceGetMemoryInfo": asks(_Memory),
        "nvmlDeviceGetUtilizationRates": asks(_Rates),
        "nvmlDeviceGetComputeRunningProcesses": asks(_Process * 4),
        "nvmlDeviceGetFieldValues": asks(_Field * 1),
    }
    return SimpleNamespace(**names)


if __name__ == "__main__":
    main()
